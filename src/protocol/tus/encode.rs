//! An outcome or a refusal to a response's head.

use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{
    EXPIRATION, EXTENSIONS, TUS_CHECKSUM_ALGORITHM, TUS_EXTENSION, TUS_MAX_SIZE, TUS_RESUMABLE,
    TUS_VERSION, UPLOAD_CONCAT, UPLOAD_DEFER_LENGTH, UPLOAD_EXPIRES, UPLOAD_LENGTH,
    UPLOAD_METADATA, UPLOAD_OFFSET, VERSION,
};
use crate::protocol::checksum::Algorithm;
use crate::protocol::head::ResponseHead;
use crate::protocol::id::UploadId;
use crate::protocol::limits::Limits;
use crate::protocol::operation::Outcome;
use crate::protocol::refusal::Refusal;
use crate::protocol::upload::{Kind, Upload};

/// Tells what came of an operation. `location` makes the URL of an upload.
pub fn encode(
    outcome: &Outcome,
    location: &dyn Fn(UploadId) -> String,
    limits: &Limits,
) -> ResponseHead {
    match outcome {
        Outcome::Discovered => {
            let mut head = ResponseHead::new(StatusCode::OK);
            head.set_static(TUS_VERSION, VERSION);
            let expiration = if limits.max_age.is_some() { EXPIRATION } else { "" };
            head.set(TUS_EXTENSION, &format!("{EXTENSIONS}{expiration}"));
            head.set_static(TUS_CHECKSUM_ALGORITHM, Algorithm::NAMES);
            if let Some(max) = limits.max_length {
                head.set_number(TUS_MAX_SIZE, max);
            }
            head
        }
        Outcome::Created { upload, has_content } => {
            let mut head = ResponseHead::new(StatusCode::CREATED);
            head.set(LOCATION, &location(upload.id()));
            if *has_content {
                head.set_offset(upload);
            }
            head.set_expires(upload);
            head
        }
        Outcome::Appended(upload) => {
            let mut head = ResponseHead::new(StatusCode::NO_CONTENT);
            head.set_offset(upload);
            head.set_expires(upload);
            head
        }
        Outcome::Offset(upload) => encode_offset(upload),
        Outcome::Cancelled => ResponseHead::new(StatusCode::NO_CONTENT),
    }
}

/// tus 1.0 "HEAD": the answer has no `Content-Length`, which would be taken for that of a GET.
fn encode_offset(upload: &Upload) -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::OK);
    head.set_offset(upload);
    match upload.length() {
        Some(length) => head.set_number(UPLOAD_LENGTH, length),
        // A final upload has a length as soon as its parts have; nobody can tell it.
        None if matches!(upload.kind(), Kind::Final(_)) => {}
        None => head.set_static(UPLOAD_DEFER_LENGTH, "1"),
    }
    match upload.kind() {
        Kind::Single => {}
        Kind::Partial => head.set_static(UPLOAD_CONCAT, "partial"),
        Kind::Final(made_of) => head.set(UPLOAD_CONCAT, &made_of.as_sent),
    }
    if !upload.metadata().is_empty() {
        head.set(UPLOAD_METADATA, upload.metadata().as_str());
    }
    head.set_expires(upload);
    head.set_static(CACHE_CONTROL, "no-store");
    head
}

/// Tells why an operation was not carried out; the text for a person is the refusal's own.
pub fn encode_refusal(refusal: &Refusal) -> ResponseHead {
    let mut head = ResponseHead::refusing(status_of(refusal), refusal);
    head.set_static(TUS_RESUMABLE, VERSION);
    if let Refusal::UnsupportedVersion { .. } = refusal {
        head.set_static(TUS_VERSION, VERSION);
    }
    if let Refusal::OffsetMismatch { offset, .. } = refusal {
        head.set_number(UPLOAD_OFFSET, *offset);
    }
    head
}

/// The head of the answer when the server could not do it.
pub fn encode_failure() -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::INTERNAL_SERVER_ERROR);
    head.set_static(CACHE_CONTROL, "no-store");
    head
}

/// Sets `Tus-Resumable` where the request had it: a download has it too then, and what is nowhere
/// (tus 1.0 "Headers").
pub fn mark(request: &HeaderMap, response: &mut HeaderMap) {
    if request.contains_key(&TUS_RESUMABLE) {
        response.insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
    }
}

/// The status of a refusal; other protocols begin with this one.
pub(in crate::protocol) fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::Gone(_) => StatusCode::GONE,
        Refusal::UnsupportedVersion { .. } => StatusCode::PRECONDITION_FAILED,
        Refusal::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::Field { .. }
        | Refusal::MixedProtocols { .. }
        | Refusal::TooShort { .. }
        | Refusal::AppendTooShort { .. }
        | Refusal::ShortOfLength { .. }
        | Refusal::LengthMismatch { .. }
        | Refusal::LengthBelowOffset { .. }
        | Refusal::Checksum(_)
        | Refusal::Part { .. }
        | Refusal::ContentCut => StatusCode::BAD_REQUEST,
        Refusal::ChecksumMismatch(_) | Refusal::DigestMismatch(_) => checksum_mismatch(),
        // A tus client that is told 409 asks with HEAD and goes on; any other 4xx ends it.
        Refusal::OffsetMismatch { .. } | Refusal::NotComplete { .. } | Refusal::Superseded => {
            StatusCode::CONFLICT
        }
        Refusal::TooLong { .. }
        | Refusal::AppendTooLong { .. }
        | Refusal::BeyondLength { .. }
        | Refusal::AlreadyComplete { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Busy => StatusCode::LOCKED,
        Refusal::NoRoom => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::FinalUpload => StatusCode::FORBIDDEN,
        Refusal::ContentTimeout => StatusCode::REQUEST_TIMEOUT,
        Refusal::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// 460 (Checksum Mismatch), which only tus has (tus 1.0 "Checksum").
fn checksum_mismatch() -> StatusCode {
    StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST)
}

impl ResponseHead {
    /// A head with `Tus-Resumable`, which every response has (tus 1.0 "Headers").
    fn new(status: StatusCode) -> Self {
        let mut head = Self::with_status(status);
        head.set_static(TUS_RESUMABLE, VERSION);
        head
    }

    fn set_offset(&mut self, upload: &Upload) {
        if let Some(offset) = upload.offset() {
            self.set_number(UPLOAD_OFFSET, offset);
        }
    }

    /// tus 1.0 "Expiration".
    fn set_expires(&mut self, upload: &Upload) {
        if let Some(expires) = upload.expires() {
            self.set(UPLOAD_EXPIRES, &expires.to_imf_fixdate());
        }
    }
}
