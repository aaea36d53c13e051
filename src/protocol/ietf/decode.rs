//! A request's head to an operation.

use http::header::{CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method};

use super::{CONTENT_MEDIA_TYPE, Spoken, UPLOAD_LENGTH, UPLOAD_OFFSET, item};
use crate::protocol::checksum::Algorithm;
use crate::protocol::digest::Blake3Digest;
use crate::protocol::digest_fields::{CONTENT_DIGEST, REPR_DIGEST, parse_digests};
use crate::protocol::disposition::parse_disposition_name;
use crate::protocol::head::{RequestHead, Target, is_media_type, joined_lines, single};
use crate::protocol::limits::Limits;
use crate::protocol::metadata::Metadata;
use crate::protocol::operation::{Append, Completion, Creation, ExpectedChecksum, Operation};
use crate::protocol::refusal::Refusal;
use crate::protocol::repr_digests::{BLAKE3_KEY, ReprDigests};
use crate::protocol::tus;
use crate::protocol::upload::Kind;

/// Understands a request. Its method is what counts, see [`tus::effective_method`].
///
/// # Errors
///
/// `NotFound`, `MethodNotAllowed`, `UnsupportedMediaType`, `Field`, `LengthMismatch`, `TooLong`,
/// `TooShort`, `AppendTooLong`, `AppendTooShort`.
pub fn decode(
    head: &RequestHead<'_>,
    spoken: Spoken,
    limits: &Limits,
) -> Result<Operation, Refusal> {
    let id = match head.target {
        _ if *head.method == Method::OPTIONS => return Ok(Operation::Discover),
        // Any method with content would do (RUFH §Upload Creation); these two mean a creation.
        Target::Collection if matches!(*head.method, Method::POST | Method::PUT) => {
            return decode_creation(head, spoken, limits).map(Box::new).map(Operation::Create);
        }
        Target::Collection => return Err(not_allowed(head.method, tus::COLLECTION_METHODS)),
        Target::Upload(None) => return Err(Refusal::NotFound),
        Target::Upload(Some(id)) => id,
    };
    match *head.method {
        Method::PATCH => {
            decode_append(head, spoken, limits).map(|append| Operation::Append(id, append.into()))
        }
        Method::HEAD => without_state(head, spoken).map(|()| Operation::RetrieveOffset(id)),
        Method::GET => Ok(Operation::Read(id)),
        Method::DELETE => without_state(head, spoken).map(|()| Operation::Cancel(id)),
        _ => Err(not_allowed(head.method, tus::UPLOAD_METHODS)),
    }
}

fn not_allowed(method: &Method, allowed: &'static str) -> Refusal {
    Refusal::MethodNotAllowed { method: method.to_string(), allowed }
}

/// In older versions a request that changes no offset may not tell one.
fn without_state(head: &RequestHead<'_>, spoken: Spoken) -> Result<(), Refusal> {
    let completion = spoken.version.completion;
    let told = [(UPLOAD_OFFSET, "Upload-Offset"), (completion.name(), completion.shown())];
    let found = told.into_iter().find(|(name, _)| head.headers.contains_key(name));
    match found {
        Some((_, field)) if spoken.version.refuses_state => {
            Err(Refusal::malformed(field, "must not stand in such a request; leave it out"))
        }
        Some(_) | None => Ok(()),
    }
}

/// RUFH §Upload Creation.
fn decode_creation(
    head: &RequestHead<'_>,
    spoken: Spoken,
    limits: &Limits,
) -> Result<Creation, Refusal> {
    let is_last = is_last(head.headers, spoken)?;
    let content = content(head, (0, is_last), spoken, limits)?;
    match content.length {
        Some(length) if length > limits.length_ceiling() => {
            return Err(Refusal::TooLong { max: limits.length_ceiling() });
        }
        Some(length) if length < limits.min_length => {
            return Err(Refusal::TooShort { min: limits.min_length });
        }
        Some(_) | None => {}
    }
    let metadata = decode_metadata(head.headers, limits)?;
    Ok(Creation {
        kind: Kind::Single,
        length: content.length,
        declared: decode_declared(head.headers, &metadata),
        metadata,
        content: Some(content),
    })
}

/// RUFH §Upload Append.
fn decode_append(
    head: &RequestHead<'_>,
    spoken: Spoken,
    limits: &Limits,
) -> Result<Append, Refusal> {
    let given = single(head.headers, &CONTENT_TYPE, "Content-Type")?;
    let is_right = given.is_some_and(|given| is_media_type(given, CONTENT_MEDIA_TYPE));
    if spoken.has_media_type() && !is_right {
        let given = given.map(str::to_owned);
        return Err(Refusal::UnsupportedMediaType { given, expected: CONTENT_MEDIA_TYPE });
    }
    let is_last = is_last(head.headers, spoken)?;
    let Some(offset) = integer(head.headers, &UPLOAD_OFFSET) else {
        let problem = "is missing, or is no Integer that is not negative (RFC 9651 §3.3.1)";
        return Err(Refusal::malformed("Upload-Offset", problem));
    };
    content(head, (offset, is_last), spoken, limits)
}

/// Whether the content is the last of the upload. Without the field a creation is none of this
/// dialect, and an append must not complete anything.
fn is_last(headers: &HeaderMap, spoken: Spoken) -> Result<bool, Refusal> {
    let field = spoken.version.completion;
    let problem = "is missing, or is no Boolean: ?1 or ?0 (RFC 9651 §3.3.6)";
    field.read(headers).ok_or_else(|| Refusal::malformed(field.shown(), problem))
}

fn content(
    head: &RequestHead<'_>,
    (offset, is_last): (u64, bool),
    spoken: Spoken,
    limits: &Limits,
) -> Result<Append, Refusal> {
    let bytes = head.content_length;
    if let Some(max) = limits.max_append.filter(|max| bytes.is_some_and(|bytes| bytes > *max)) {
        return Err(Refusal::AppendTooLong { max });
    }
    let min = limits.min_append;
    if !is_last && bytes.is_some_and(|bytes| 0 < bytes && bytes < min) {
        return Err(Refusal::AppendTooShort { min });
    }
    Ok(Append {
        offset,
        length: length(head, offset, is_last)?,
        content_length: bytes,
        completion: match is_last {
            true => Completion::AtEnd,
            false if spoken.version.completes_at_length => Completion::AtLength,
            false => Completion::Later,
        },
        checksum: decode_checksum(head.headers),
        max_bytes: limits.max_append,
    })
}

/// RUFH §Length: told by `Upload-Length`, and by the last content's own length; both must agree.
fn length(head: &RequestHead<'_>, offset: u64, is_last: bool) -> Result<Option<u64>, Refusal> {
    let told = integer(head.headers, &UPLOAD_LENGTH);
    let shown = head.content_length.filter(|_| is_last);
    let shown = shown.and_then(|bytes| offset.checked_add(bytes));
    match (told, shown) {
        (Some(length), Some(provided)) if length != provided => {
            Err(Refusal::LengthMismatch { length, provided })
        }
        (told, shown) => Ok(told.or(shown)),
    }
}

fn integer(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    item(headers, name)?.as_unsigned()
}

/// RUFH §Content Digests. What is malformed, or of no algorithm that is known here, is as if it
/// were not there (RFC 9530 §2).
fn decode_checksum(headers: &HeaderMap) -> Option<ExpectedChecksum> {
    let digests = parse_digests(&joined_lines(headers, &CONTENT_DIGEST)?)?;
    // One says it all; this one is the fastest to compute.
    let is_fastest = |algorithm| algorithm == Algorithm::Sha256;
    let fastest = digests.iter().find(|digest| is_fastest(digest.algorithm()));
    fastest.or(digests.first()).cloned().map(ExpectedChecksum::Given)
}

/// RUFH §Representation Digests, and the BLAKE3 of the metadata, which that field cannot tell. What
/// is none is ignored, as in the field.
fn decode_declared(headers: &HeaderMap, metadata: &Metadata) -> ReprDigests {
    let blake3 = metadata.value(BLAKE3_KEY);
    let blake3 = blake3.as_deref().and_then(|value| str::from_utf8(value).ok());
    let field = joined_lines(headers, &REPR_DIGEST).map(|field| ReprDigests::from_field(&field));
    ReprDigests::from(blake3.and_then(Blake3Digest::parse)).or(field.unwrap_or_default())
}

/// What the representation is (RUFH §Upload Creation, "Representation metadata"): its media type
/// and its name, kept under the keys that tus clients use. tus-js-client tells them by
/// `Upload-Metadata` in this protocol too; that is believed where it can be read.
fn decode_metadata(headers: &HeaderMap, limits: &Limits) -> Result<Metadata, Refusal> {
    let told = headers.get(tus::UPLOAD_METADATA).and_then(|field| field.to_str().ok());
    let told = told.filter(|field| field.len() <= limits.max_metadata_bytes);
    if let Some(metadata) = told.and_then(|field| Metadata::parse(field).ok()) {
        return Ok(metadata);
    }
    let media_type = single(headers, &CONTENT_TYPE, "Content-Type")?
        // That is the type of the message, not of what is uploaded.
        .filter(|given| !is_media_type(given, CONTENT_MEDIA_TYPE));
    let disposition = headers.get(CONTENT_DISPOSITION);
    let name = disposition.and_then(|field| parse_disposition_name(field.as_bytes()));
    // The data stays coded (RUFH §Content Codings), so a download has to say so.
    let coding = joined_lines(headers, &CONTENT_ENCODING);
    let pairs = [
        ("filename", name.as_deref()),
        ("filetype", media_type),
        ("contentEncoding", coding.as_deref()),
    ];
    let metadata = Metadata::from_pairs(pairs);
    if metadata.as_str().len() > limits.max_metadata_bytes {
        let max = limits.max_metadata_bytes;
        let problem = format!("and Content-Type are too long; they may take {max} bytes in base64");
        return Err(Refusal::malformed("Content-Disposition", problem));
    }
    Ok(metadata)
}
