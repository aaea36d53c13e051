//! An outcome or a refusal to a response's head, and the heads of interim responses.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, StatusCode};

use super::{
    CONTENT_MEDIA_TYPE, INTEROP_VERSION, Spoken, UPLOAD_LENGTH, UPLOAD_LIMIT, UPLOAD_OFFSET,
    Version,
};
use crate::protocol::fields::{BareItem, Dictionary, Item};
use crate::protocol::head::ResponseHead;
use crate::protocol::id::UploadId;
use crate::protocol::limits::Limits;
use crate::protocol::operation::Outcome;
use crate::protocol::problem::{PROBLEM_MEDIA_TYPE, Problem};
use crate::protocol::refusal::Refusal;
use crate::protocol::tus;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::Upload;

/// 104 (Upload Resumption Supported).
const INTERIM_STATUS: u16 = 104;
/// RFC 5789 §3.1.
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The problem types of RUFH §Problem Types, with their titles.
const MISMATCHING_OFFSET: (&str, &str) = (
    "https://iana.org/assignments/http-problem-types#mismatching-upload-offset",
    "offset from request does not match offset of resource",
);
const COMPLETED_UPLOAD: (&str, &str) = (
    "https://iana.org/assignments/http-problem-types#completed-upload",
    "upload is already completed",
);
const INCONSISTENT_LENGTH: (&str, &str) = (
    "https://iana.org/assignments/http-problem-types#inconsistent-upload-length",
    "inconsistent length values for upload",
);

/// Tells what came of an operation. `location` makes the URL of an upload, which is also that of the
/// complete representation.
pub fn encode(
    spoken: Spoken,
    outcome: &Outcome,
    location: &dyn Fn(UploadId) -> String,
    (limits, now): (&Limits, Timestamp),
) -> ResponseHead {
    let head = |status, upload: &Upload| {
        let mut head = ResponseHead::with_status(status);
        set_completion(&mut head, spoken.version, upload.is_complete());
        set_integer(&mut head, UPLOAD_OFFSET, upload.offset());
        set_limits(&mut head, spoken.version, limits, (Some(upload), now));
        head
    };
    match outcome {
        Outcome::Discovered => {
            let mut head = ResponseHead::with_status(StatusCode::NO_CONTENT);
            add_discovery(&mut head, limits);
            head
        }
        Outcome::Created { upload, .. } => {
            let mut head = head(StatusCode::CREATED, upload);
            head.set(LOCATION, &location(upload.id()));
            head
        }
        // What a creation with all of the content would have been answered; repeated as often as
        // the last append is (RUFH §Upload Append).
        Outcome::Appended(upload) if upload.is_complete() => {
            let mut head = head(StatusCode::CREATED, upload);
            head.set(LOCATION, &location(upload.id()));
            head
        }
        Outcome::Appended(upload) => head(StatusCode::NO_CONTENT, upload),
        Outcome::Offset(upload) => {
            let mut head = head(StatusCode::NO_CONTENT, upload);
            set_integer(&mut head, UPLOAD_LENGTH, upload.length());
            head.set_static(CACHE_CONTROL, "no-store");
            head
        }
        Outcome::Cancelled => ResponseHead::with_status(StatusCode::NO_CONTENT),
    }
}

/// Adds where an upload stands to an answer that is not of this dialect alone: a GET or HEAD that
/// names no protocol (RUFH §Offset Retrieval).
pub fn add_state(headers: &mut HeaderMap, upload: &Upload, limits: (&Limits, Timestamp)) {
    let version = Spoken::UNNAMED.version;
    let mut head = ResponseHead::with_status(StatusCode::OK);
    set_completion(&mut head, version, upload.is_complete());
    set_integer(&mut head, UPLOAD_OFFSET, upload.offset());
    set_integer(&mut head, UPLOAD_LENGTH, upload.length());
    set_limits(&mut head, version, limits.0, (Some(upload), limits.1));
    for (name, value) in &head.headers {
        headers.insert(name, value.clone());
    }
}

/// Adds what an OPTIONS tells of this dialect (RUFH §Limits; RFC 5789 §3.1).
pub fn add_discovery(head: &mut ResponseHead, limits: &Limits) {
    // No upload to tell the remaining time of, so the time does not matter.
    set_limits(head, Spoken::UNNAMED.version, limits, (None, Timestamp(0)));
    let patches = format!("{CONTENT_MEDIA_TYPE}, {}", tus::CONTENT_MEDIA_TYPE);
    head.set(ACCEPT_PATCH, &patches);
}

/// The head of a 104 (Upload Resumption Supported): with a location the first one to a creation,
/// else one that tells how far the content came.
pub fn encode_interim(
    spoken: Spoken,
    upload: &Upload,
    location: Option<&str>,
    (limits, now): (&Limits, Timestamp),
) -> ResponseHead {
    let status = StatusCode::from_u16(INTERIM_STATUS).unwrap_or(StatusCode::PROCESSING);
    let mut head = ResponseHead::with_status(status);
    head.set(INTEROP_VERSION, &spoken.version.number.to_string());
    match location {
        Some(location) => {
            head.set(LOCATION, location);
            set_limits(&mut head, spoken.version, limits, (Some(upload), now));
        }
        None => set_integer(&mut head, UPLOAD_OFFSET, upload.offset()),
    }
    head
}

/// Tells why an operation was not carried out: the head, and the content that goes with it.
pub fn encode_refusal(
    spoken: Spoken,
    refusal: &Refusal,
    limits: &Limits,
) -> (ResponseHead, Problem) {
    let version = spoken.version;
    let status = status_of(refusal);
    let mut head = ResponseHead::refusing(status, refusal);
    let mut members = Vec::new();
    if let Refusal::OffsetMismatch { offset, provided } = refusal {
        set_integer(&mut head, UPLOAD_OFFSET, Some(*offset));
        members = vec![("expected-offset", *offset), ("provided-offset", *provided)];
    }
    if is_about_limits(refusal) {
        set_limits(&mut head, version, limits, (None, Timestamp(0)));
    }
    // RFC 5789 §2.2.
    if let Refusal::UnsupportedMediaType { expected, .. } = refusal {
        head.set(ACCEPT_PATCH, expected);
    }
    // Only this one is about the whole representation: all of it came, and to go on is of no use.
    let is_final = matches!(refusal, Refusal::DigestMismatch(_));
    set_completion(&mut head, version, is_final);
    head.set_static(CONTENT_TYPE, PROBLEM_MEDIA_TYPE);
    let kind = kind_of(refusal, version);
    (head, Problem { kind, status, detail: refusal.to_string(), members })
}

fn is_about_limits(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::TooLong { .. }
            | Refusal::TooShort { .. }
            | Refusal::AppendTooLong { .. }
            | Refusal::AppendTooShort { .. }
    )
}

/// Tells that the server could not do it.
pub fn encode_failure(spoken: Spoken, text: &str) -> (ResponseHead, Problem) {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let mut head = ResponseHead::with_status(status);
    set_completion(&mut head, spoken.version, false);
    head.set_static(CACHE_CONTROL, "no-store");
    head.set_static(CONTENT_TYPE, PROBLEM_MEDIA_TYPE);
    (head, Problem { kind: None, status, detail: text.to_owned(), members: Vec::new() })
}

fn kind_of(refusal: &Refusal, version: &Version) -> Option<(&'static str, &'static str)> {
    match refusal {
        Refusal::OffsetMismatch { .. } => Some(MISMATCHING_OFFSET),
        Refusal::AlreadyComplete { .. } if version.has_completed_problem => Some(COMPLETED_UPLOAD),
        Refusal::AlreadyComplete { .. }
        | Refusal::LengthMismatch { .. }
        | Refusal::LengthBelowOffset { .. }
        | Refusal::ShortOfLength { .. }
        | Refusal::BeyondLength { .. } => Some(INCONSISTENT_LENGTH),
        Refusal::NotFound
        | Refusal::Gone(_)
        | Refusal::UnsupportedVersion { .. }
        | Refusal::MixedProtocols { .. }
        | Refusal::MethodNotAllowed { .. }
        | Refusal::UnsupportedMediaType { .. }
        | Refusal::Field { .. }
        | Refusal::TooLong { .. }
        | Refusal::TooShort { .. }
        | Refusal::AppendTooLong { .. }
        | Refusal::AppendTooShort { .. }
        | Refusal::NoRoom
        | Refusal::NotComplete { .. }
        | Refusal::FinalUpload
        | Refusal::ChecksumMismatch(_)
        | Refusal::DigestMismatch(_)
        | Refusal::Checksum(_)
        | Refusal::Part { .. }
        | Refusal::ContentCut
        | Refusal::ContentTimeout
        | Refusal::Superseded
        | Refusal::Busy
        | Refusal::ShuttingDown => None,
    }
}

/// The status is that of tus, except where this dialect asks for another: there is no 460 here, 412
/// is about preconditions, and inconsistent lengths are 400.
fn status_of(refusal: &Refusal) -> StatusCode {
    let is_other = matches!(
        refusal,
        Refusal::ChecksumMismatch(_)
            | Refusal::DigestMismatch(_)
            | Refusal::UnsupportedVersion { .. }
            | Refusal::BeyondLength { .. }
            | Refusal::AlreadyComplete { .. }
    );
    if is_other { StatusCode::BAD_REQUEST } else { tus::status_of(refusal) }
}

fn set_completion(head: &mut ResponseHead, version: &Version, is_complete: bool) {
    head.set_static(version.completion.name(), version.completion.value(is_complete));
}

/// Sets a field that is an Integer; what is too large for one cannot be told.
fn set_integer(head: &mut ResponseHead, name: HeaderName, number: Option<u64>) {
    let item = number.and_then(BareItem::unsigned).map(Item::from);
    if let Some(field) = item.and_then(|item| item.to_field()) {
        head.set(name, &field);
    }
}

/// RUFH §Limits. An upload's remaining time is counted from now; before there is one, it is the
/// time that a new one would have.
fn set_limits(
    head: &mut ResponseHead,
    version: &Version,
    limits: &Limits,
    (upload, now): (Option<&Upload>, Timestamp),
) {
    let Some(lifetime) = version.lifetime else { return };
    let positive = |number: u64| Some(number).filter(|number| *number > 0);
    let left_s = match upload {
        Some(upload) => upload.expires().map(|at| at.0.saturating_sub(now.0).div_euclid(1000)),
        None => limits.max_age.map(|age| age.as_secs()),
    };
    let all = [
        ("max-size", limits.max_length),
        ("min-size", positive(limits.min_length)),
        ("max-append-size", limits.max_append),
        ("min-append-size", positive(limits.min_append)),
        (lifetime, left_s),
    ];
    let mut dictionary = Dictionary::default();
    for (key, limit) in all {
        // One that is too large to be told is none.
        if let Some(limit) = limit.and_then(BareItem::unsigned) {
            dictionary.insert(key, limit);
        }
    }
    if dictionary.is_empty() {
        dictionary.insert("min-size", BareItem::Integer(0));
    }
    if let Some(field) = dictionary.to_field() {
        head.set(UPLOAD_LIMIT, &field);
    }
}
