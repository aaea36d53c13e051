//! The representation of a complete upload: GET and HEAD, whole or in ranges.
//!
//! - RFC 9110 §8 (representation fields), §9.3.1 (GET), §9.3.2 (HEAD), §13, §14, §15.3.7, §15.4.5,
//!   §15.5.13, §15.5.17

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::ResponseBody;
use super::digests;
use crate::engine::Engine;
use crate::protocol::disposition::{content_coding, disposition, media_type};
use crate::protocol::precondition::{Precondition, Validators};
use crate::protocol::range::{ByteRange, Multipart, Selection, select, unsatisfied_content_range};
use crate::protocol::upload::{State, Upload};
use crate::storage::{DataReader, StorageError};

/// What clients name a file in the metadata, most telling first.
pub(super) const NAME_KEYS: [&str; 2] = ["filename", "name"];
/// What clients name its media type.
const TYPE_KEYS: [&str; 3] = ["filetype", "contentType", "type"];
/// What the IETF dialect names its content codings.
const CODING_KEYS: [&str; 1] = ["contentEncoding"];

/// Answers a GET or HEAD of a complete upload.
///
/// # Errors
///
/// The first bytes cannot be read: that can still be told, other than what comes behind them.
pub(super) async fn respond(
    engine: &Arc<Engine>,
    upload: &Upload,
    parts: &Parts,
) -> Result<Response<ResponseBody>, StorageError> {
    let mut validators = validators(upload);
    // Who goes on with what the id stood for compares the tags of its answers.
    if parts.headers.get(IF_RANGE).is_some_and(|tag| tag == validators.alias.as_str()) {
        std::mem::swap(&mut validators.etag, &mut validators.alias);
    }
    let mut response = Response::new(ResponseBody::empty());
    digests::tell(upload, &parts.headers, response.headers_mut());
    if !is_wanted(&validators, parts, &mut response) {
        return Ok(response);
    }
    let length = upload.length().unwrap_or_default();
    set_representation(response.headers_mut(), upload);
    digests::describe(upload, response.headers_mut());
    let is_get = parts.method == Method::GET;
    let selection = if is_get && validators.allow_range(&parts.headers, engine.now()) {
        select(&parts.headers, length)
    } else {
        Selection::Whole
    };
    let segments = choose(&mut response, &selection, length);
    if is_get {
        *response.body_mut() = stream(engine, upload, segments).await?;
    }
    Ok(response)
}

/// Sets the validators of what is sent, and whether it is to be sent at all (RFC 9110 §13.2).
pub(super) fn is_wanted(
    validators: &Validators,
    parts: &Parts,
    response: &mut Response<ResponseBody>,
) -> bool {
    let headers = response.headers_mut();
    set(headers, &ETAG, &validators.etag);
    set(headers, &LAST_MODIFIED, &validators.last_modified.to_imf_fixdate());
    // A complete upload never changes, but it may be cancelled: ask each time, by its tag.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let status = match validators.evaluate(&parts.headers) {
        Precondition::Passed => return true,
        Precondition::NotModified => StatusCode::NOT_MODIFIED,
        Precondition::Failed => StatusCode::PRECONDITION_FAILED,
    };
    *response.status_mut() = status;
    false
}

/// The digest of the bytes is their tag. Without a tree the id serves: what is complete never
/// changes.
pub(super) fn validators(upload: &Upload) -> Validators {
    let id = upload.id().to_string();
    let tag = upload.digest().map_or_else(|| id.clone(), |digest| digest.to_string());
    let last_modified = match *upload.state() {
        State::Complete { at, .. } => at,
        State::Receiving { .. } | State::Finishing { .. } | State::Gone { .. } => upload.created(),
    };
    // A final upload is tagged by its id until its digest is known; who began to download it then
    // goes on.
    Validators { etag: format!("\"{tag}\""), alias: format!("\"{id}\""), last_modified }
}

fn set_representation(headers: &mut HeaderMap, upload: &Upload) {
    let (content_type, is_inline) = media_type(upload.metadata().first_of(&TYPE_KEYS).as_deref());
    let name = upload.metadata().first_of(&NAME_KEYS);
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_DISPOSITION, disposition(name.as_deref(), is_inline));
    let coding = upload.metadata().first_of(&CODING_KEYS);
    if let Some(coding) = content_coding(coding.as_deref()) {
        headers.insert(CONTENT_ENCODING, coding);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
}

/// Sets what depends on the selection, and tells what the content is made of.
fn choose(
    response: &mut Response<ResponseBody>,
    selection: &Selection,
    length: u64,
) -> Vec<Segment> {
    let (status, content_length, segments) = match selection {
        Selection::Whole => (StatusCode::OK, length, vec![Segment::Range(0..length)]),
        Selection::Unsatisfiable => {
            let headers = response.headers_mut();
            // What follows is no longer the representation.
            headers.remove(CONTENT_DISPOSITION);
            headers.remove(CONTENT_TYPE);
            headers.remove(CONTENT_ENCODING);
            set(headers, &CONTENT_RANGE, &unsatisfied_content_range(length));
            (StatusCode::RANGE_NOT_SATISFIABLE, 0, Vec::new())
        }
        Selection::Ranges(ranges) => match ranges.as_slice() {
            [range] => {
                set(response.headers_mut(), &CONTENT_RANGE, &range.content_range(length));
                let segments = vec![Segment::Range(range.to_range())];
                (StatusCode::PARTIAL_CONTENT, range.length(), segments)
            }
            ranges => {
                let (content_length, segments) = several(response.headers_mut(), ranges, length);
                (StatusCode::PARTIAL_CONTENT, content_length, segments)
            }
        },
    };
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(content_length));
    segments
}

/// Several ranges: a `multipart/byteranges` content.
fn several(headers: &mut HeaderMap, ranges: &[ByteRange], length: u64) -> (u64, Vec<Segment>) {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // Random, so that nobody can have uploaded a content that has it in it.
    let boundary =
        crate::engine::random_id().map_or_else(|_| "resumed".into(), |id| id.to_string());
    let content_type = content_type.unwrap_or("application/octet-stream").to_owned();
    let multipart = Multipart { boundary: &boundary, content_type: &content_type, length };
    let parts = ranges.iter().flat_map(|range| {
        [Segment::Text(multipart.part_head(*range).into()), Segment::Range(range.to_range())]
    });
    let segments = parts.chain([Segment::Text(multipart.end().into())]).collect();
    set(headers, &CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
    // What is coded are the parts, not what they are put in.
    headers.remove(CONTENT_ENCODING);
    (multipart.content_length(ranges), segments)
}

fn set(headers: &mut HeaderMap, name: &http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name.clone(), value);
    }
}

/// A piece of the content of a response.
enum Segment {
    /// Text around bytes of the upload.
    Text(Bytes),
    /// Bytes of the upload.
    Range(Range<u64>),
    /// Bytes of the upload that are being read already.
    Open(Box<dyn DataReader>),
}

/// Where the sending of segments stands.
struct Sending {
    engine: Arc<Engine>,
    upload: Upload,
    /// In reverse: the next one is the last.
    segments: Vec<Segment>,
    reader: Option<Box<dyn DataReader>>,
}

async fn stream(
    engine: &Arc<Engine>,
    upload: &Upload,
    mut segments: Vec<Segment>,
) -> Result<ResponseBody, StorageError> {
    for segment in &mut segments {
        if let Segment::Range(range) = segment
            && !range.is_empty()
        {
            *segment = Segment::Open(engine.read(upload, range.clone()).await?);
            break;
        }
    }
    segments.reverse();
    let (engine, upload) = (Arc::clone(engine), upload.clone());
    Ok(ResponseBody::from_reads(Sending { engine, upload, segments, reader: None }, next))
}

async fn next(mut sending: Sending) -> Result<Option<(Bytes, Sending)>, StorageError> {
    loop {
        if let Some(reader) = &mut sending.reader {
            let bytes = reader.read().await?;
            if !bytes.is_empty() {
                return Ok(Some((bytes, sending)));
            }
            sending.reader = None;
        }
        match sending.segments.pop() {
            None => return Ok(None),
            Some(Segment::Text(text)) => return Ok(Some((text, sending))),
            Some(Segment::Open(reader)) => sending.reader = Some(reader),
            Some(Segment::Range(range)) => {
                sending.reader = Some(sending.engine.read(&sending.upload, range).await?);
            }
        }
    }
}
