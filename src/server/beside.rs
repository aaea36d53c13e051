//! The resources beside an upload, which no protocol knows: the list of its chaining values
//! (`docs/tree-format.md`), a Metalink 4 file (RFC 5854), and what takes a proof of possession
//! (`docs/instant-upload.md`).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::body::ResponseBody;
use super::download::{is_wanted, validators};
use super::location::{Beside, Locations};
use super::{digests, handle, metalink};
use crate::engine::{Engine, Fault};
use crate::protocol::digest_fields::REPR_DIGEST;
use crate::protocol::head::RETRY_AFTER_S;
use crate::protocol::id::UploadId;
use crate::protocol::possession::Proof;
use crate::protocol::precondition::Validators;
use crate::protocol::refusal::Refusal;
use crate::protocol::tree::list_bytes;
use crate::protocol::upload::Upload;
use crate::storage::StorageError;

const READABLE: &str = "GET, HEAD, OPTIONS";
const PROVABLE: &str = "POST, OPTIONS";
const UPLOAD_CHALLENGE: HeaderName = HeaderName::from_static("upload-challenge");
const UPLOAD_PROOF: HeaderName = HeaderName::from_static("upload-proof");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// The media type of a list of chaining values.
const TREE_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.resumed.tree");

/// Answers a request for a resource beside an upload.
///
/// # Errors
///
/// `NotFound`, `Gone`, `NotComplete`, `MethodNotAllowed`, and what the stores could not do.
pub(super) async fn answer(
    engine: &Arc<Engine>,
    locations: &Locations,
    (id, beside): (UploadId, Beside),
    parts: &Parts,
) -> Result<Response<ResponseBody>, Fault> {
    let (allowed, is_allowed) = match beside {
        Beside::Tree | Beside::Metalink => {
            (READABLE, parts.method == Method::GET || parts.method == Method::HEAD)
        }
        Beside::Proof => (PROVABLE, parts.method == Method::POST),
    };
    if parts.method == Method::OPTIONS {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return Ok(response);
    }
    if !is_allowed {
        let method = parts.method.to_string();
        return Err(Refusal::MethodNotAllowed { method, allowed }.into());
    }
    if beside == Beside::Proof {
        return prove(engine, id, parts).await;
    }
    let upload = engine.look(id).await?;
    if !upload.is_complete() {
        return Err(Refusal::NotComplete { offset: upload.offset().unwrap_or_default() }.into());
    }
    match beside {
        Beside::Tree => tree(engine, upload, parts).await,
        Beside::Metalink | Beside::Proof => {
            let url = locations.location(&parts.uri, &parts.headers, id);
            Ok(metalink::respond(engine, upload, &url, parts).await?)
        }
    }
}

/// Tells the client of a new upload what it may prove in place of sending the bytes.
pub(super) fn challenge(engine: &Engine, upload: &Upload, response: &mut HeaderMap) {
    let field = engine.challenge(upload).and_then(|challenge| challenge.to_field());
    if let Some(value) = field.and_then(|field| HeaderValue::try_from(field).ok()) {
        response.insert(UPLOAD_CHALLENGE, value);
    }
}

/// Takes a proof (`docs/instant-upload.md`). A wrong one and one of bytes that are not here are
/// answered alike.
async fn prove(
    engine: &Arc<Engine>,
    id: UploadId,
    parts: &Parts,
) -> Result<Response<ResponseBody>, Fault> {
    let field = parts.headers.get(UPLOAD_PROOF).and_then(|value| value.to_str().ok());
    let Some(proof) = field.and_then(Proof::parse) else {
        let problem = "has to be a Byte Sequence of 32 bytes, as in `:…:`";
        return Err(Refusal::malformed("Upload-Proof", problem).into());
    };
    let Some(upload) = engine.prove(id, proof).await? else {
        let message = "the bytes have to be sent";
        return Ok(handle::plain(StatusCode::FORBIDDEN, message));
    };
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    digests::tell(&upload, &parts.headers, headers);
    headers.insert(UPLOAD_OFFSET, HeaderValue::from(upload.offset().unwrap_or_default()));
    Ok(response)
}

async fn tree(
    engine: &Arc<Engine>,
    upload: Upload,
    parts: &Parts,
) -> Result<Response<ResponseBody>, Fault> {
    let Some(root) = upload.digest() else { return Ok(without_tree(engine, &upload)) };
    let validators = Validators {
        etag: format!("\"{root}.tree\""),
        alias: String::new(),
        last_modified: validators(&upload).last_modified,
    };
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    digests::tell(&upload, &parts.headers, headers);
    headers.remove(REPR_DIGEST);
    if !is_wanted(&validators, parts, &mut response) {
        return Ok(response);
    }
    if !engine.tree_is_ready(&upload).await? {
        return Ok(later("the list is being made anew; ask again in a moment"));
    }
    let end = list_bytes(upload.length().unwrap_or_default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TREE_TYPE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(end));
    if parts.method == Method::GET {
        *response.body_mut() = stream_tree(Arc::clone(engine), upload, end);
    }
    Ok(response)
}

fn stream_tree(engine: Arc<Engine>, upload: Upload, end: u64) -> ResponseBody {
    let upload = Arc::new(upload);
    ResponseBody::from_reads(0, move |at| {
        let (engine, upload) = (Arc::clone(&engine), Arc::clone(&upload));
        async move { next_of_tree(&engine, &upload, at, end).await }
    })
}

async fn next_of_tree(
    engine: &Engine,
    upload: &Upload,
    at: u64,
    end: u64,
) -> Result<Option<(Bytes, u64)>, StorageError> {
    if at >= end {
        return Ok(None);
    }
    let bytes = engine.read_tree(upload, at..end).await?;
    let next = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    Ok(Some((bytes, next)))
}

/// There is no digest that a list could be checked against: not yet, or not at all.
fn without_tree(engine: &Engine, upload: &Upload) -> Response<ResponseBody> {
    if engine.is_digest_to_come(upload) {
        return later("the digest of this upload is still being computed; ask again in a moment");
    }
    let problem = "this upload was received without a tree (setting `tree`)";
    handle::plain(StatusCode::NOT_FOUND, problem)
}

fn later(message: &str) -> Response<ResponseBody> {
    let mut response = handle::plain(StatusCode::SERVICE_UNAVAILABLE, message);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    response
}
