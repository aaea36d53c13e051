//! A Metalink 4 file that describes an upload, sent as it is made: with its pieces it may be long.
//!
//! - RFC 5854

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method, Response};

use super::body::ResponseBody;
use super::digests;
use super::download::NAME_KEYS;
use crate::engine::Engine;
use crate::protocol::digest_fields::REPR_DIGEST;
use crate::protocol::disposition::safe_name;
use crate::protocol::metalink::{MEDIA_TYPE, PIECES_TAIL, head, piece, pieces_head, tail};
use crate::protocol::pieces::PIECE_VALUE_BYTES;
use crate::protocol::repr_digests::Sha256Digest;
use crate::protocol::upload::Upload;
use crate::storage::StorageError;

/// Answers a GET or HEAD. What it says of the upload never changes, but the URL follows the request.
pub(super) async fn respond(
    engine: &Arc<Engine>,
    upload: Upload,
    url: &str,
    parts: &Parts,
) -> Result<Response<ResponseBody>, StorageError> {
    let name = upload.metadata().first_of(&NAME_KEYS);
    let name = name.and_then(|name| safe_name(&String::from_utf8_lossy(&name)));
    let name = name.unwrap_or_else(|| upload.id().to_string());
    let mut begin = head(&name, upload.length().unwrap_or_default(), upload.digests().sha256);
    let pieces = engine.pieces_bytes(&upload).await?;
    if pieces.is_some() {
        begin.push_str(&pieces_head());
    }
    let end = pieces.map(|_| PIECES_TAIL).unwrap_or_default().to_owned() + &tail(url);
    let count = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX);
    let pieces = pieces.unwrap_or_default();
    let line = count(&piece(Sha256Digest::from_bytes([0; 32])));
    let middle = (pieces / PIECE_VALUE_BYTES).saturating_mul(line);
    let length = middle.saturating_add(count(&begin)).saturating_add(count(&end));
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    digests::tell(&upload, &parts.headers, headers);
    headers.remove(REPR_DIGEST);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if parts.method == Method::GET {
        let (engine, upload) = (Arc::clone(engine), Arc::new(upload));
        let texts = Arc::new((Bytes::from(begin), Bytes::from(end)));
        *response.body_mut() = ResponseBody::from_reads(Place::Begin, move |place| {
            let (engine, upload) = (Arc::clone(&engine), Arc::clone(&upload));
            let texts = Arc::clone(&texts);
            async move { next(&engine, &upload, &texts, (place, pieces)).await }
        });
    }
    Ok(response)
}

/// Where the sending stands.
enum Place {
    Begin,
    /// At this byte of the kept values.
    Pieces(u64),
    Done,
}

async fn next(
    engine: &Engine,
    upload: &Upload,
    (begin, end): &(Bytes, Bytes),
    (place, pieces): (Place, u64),
) -> Result<Option<(Bytes, Place)>, StorageError> {
    match place {
        Place::Begin => Ok(Some((begin.clone(), Place::Pieces(0)))),
        Place::Pieces(at) if at < pieces => {
            let read = engine.read_pieces(upload, at..pieces).await?;
            let (values, _) = read.as_chunks();
            let lines = values.iter().map(|value| piece(Sha256Digest::from_bytes(*value)));
            let lines: String = lines.collect();
            let next = at.saturating_add(u64::try_from(read.len()).unwrap_or(u64::MAX));
            Ok(Some((lines.into(), Place::Pieces(next))))
        }
        Place::Pieces(_) => Ok(Some((end.clone(), Place::Done))),
        Place::Done => Ok(None),
    }
}
