//! The representation of a complete upload: GET and HEAD.
//!
//! - RFC 9110 §8 (representation fields), §9.3.1 (GET), §9.3.2 (HEAD)

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG};
use http::request::Parts;
use http::{HeaderValue, Method, Response};

use super::body::ResponseBody;
use crate::engine::Engine;
use crate::protocol::id::UploadId;
use crate::protocol::upload::Upload;
use crate::storage::{DataReader, StorageError};

/// Answers a GET or HEAD of a complete upload.
pub(super) fn respond(
    engine: &Arc<Engine>,
    upload: &Upload,
    parts: &Parts,
) -> Response<ResponseBody> {
    let length = upload.length().unwrap_or_default();
    let body = if parts.method == Method::HEAD {
        ResponseBody::empty()
    } else {
        stream(engine, upload.id(), vec![Segment::Range(0..length)])
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let tag = upload.digest().map_or_else(|| upload.id().to_string(), |digest| digest.to_string());
    if let Ok(tag) = HeaderValue::try_from(format!("\"{tag}\"")) {
        headers.insert(ETAG, tag);
    }
    response
}

/// A piece of the content of a response.
enum Segment {
    /// Bytes of the upload.
    Range(Range<u64>),
}

/// Where the sending of segments stands.
struct Sending {
    engine: Arc<Engine>,
    id: UploadId,
    /// In reverse: the next one is the last.
    segments: Vec<Segment>,
    reader: Option<Box<dyn DataReader>>,
}

fn stream(engine: &Arc<Engine>, id: UploadId, mut segments: Vec<Segment>) -> ResponseBody {
    segments.reverse();
    let engine = Arc::clone(engine);
    ResponseBody::from_reads(Sending { engine, id, segments, reader: None }, next)
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
            Some(Segment::Range(range)) => {
                sending.reader = Some(sending.engine.read(sending.id, range).await?);
            }
        }
    }
}
