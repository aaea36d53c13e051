//! A request's head to an operation.

use http::header::{CONTENT_TYPE, TRAILER};
use http::{HeaderMap, HeaderName, Method};

use super::{
    COLLECTION_METHODS, CONTENT_MEDIA_TYPE, CREATION_METHODS, METHOD_OVERRIDE, TUS_RESUMABLE,
    UPLOAD_CHECKSUM, UPLOAD_CONCAT, UPLOAD_DEFER_LENGTH, UPLOAD_LENGTH, UPLOAD_METADATA,
    UPLOAD_METHODS, UPLOAD_OFFSET, VERSION,
};
use crate::protocol::checksum::Checksum;
use crate::protocol::digest::Blake3Digest;
use crate::protocol::digest_fields::REPR_DIGEST;
use crate::protocol::head::{RequestHead, Target, is_media_type, single};
use crate::protocol::id::UploadId;
use crate::protocol::limits::Limits;
use crate::protocol::metadata::Metadata;
use crate::protocol::operation::{Append, Completion, Creation, ExpectedChecksum, Operation};
use crate::protocol::refusal::Refusal;
use crate::protocol::repr_digests::{BLAKE3_KEY, ReprDigests};
use crate::protocol::units::parse_bytes;
use crate::protocol::upload::{Final, Kind};

/// The method that counts: the value of `X-HTTP-Method-Override` if there is one, whatever the
/// request line says (tus 1.0 "Headers").
///
/// # Errors
///
/// `Field` when the value is no method.
pub fn effective_method(method: &Method, headers: &HeaderMap) -> Result<Method, Refusal> {
    const FIELD: &str = "X-HTTP-Method-Override";
    match single(headers, &METHOD_OVERRIDE, FIELD)? {
        None => Ok(method.clone()),
        Some(name) => Method::from_bytes(name.as_bytes())
            .map_err(|_| Refusal::malformed(FIELD, "is not a method, such as PATCH or DELETE")),
    }
}

/// Understands a request.
///
/// # Errors
///
/// `UnsupportedVersion`, `NotFound`, `MethodNotAllowed`, `UnsupportedMediaType`, `Field`.
pub fn decode(head: &RequestHead<'_>, limits: &Limits) -> Result<Operation, Refusal> {
    let method = effective_method(head.method, head.headers)?;
    // OPTIONS has no version: it is how a client learns which versions there are.
    if method == Method::OPTIONS {
        return Ok(Operation::Discover);
    }
    let version = single(head.headers, &TUS_RESUMABLE, "Tus-Resumable")?;
    if version.is_some_and(|version| version != VERSION) {
        return Err(Refusal::UnsupportedVersion { given: version.map(str::to_owned) });
    }
    let is_tus = version.is_some();
    let id = match head.target {
        Target::Collection if method == Method::POST => {
            require_version(is_tus)?;
            return decode_creation(head, limits).map(Box::new).map(Operation::Create);
        }
        // Of the IETF protocol it would be a creation.
        Target::Collection if method == Method::PUT => {
            require_version(is_tus)?;
            return Err(not_allowed(&method, CREATION_METHODS));
        }
        Target::Collection => return Err(not_allowed(&method, COLLECTION_METHODS)),
        Target::Upload(None) => return Err(Refusal::NotFound),
        Target::Upload(Some(id)) => id,
    };
    match method {
        // The protocol asks for no-store on a HEAD, which a download must not have: a HEAD that
        // does not say that it is tus is the head of a download.
        Method::HEAD if is_tus => Ok(Operation::RetrieveOffset(id)),
        Method::HEAD | Method::GET => Ok(Operation::Read(id)),
        Method::PATCH => {
            require_version(is_tus)?;
            decode_append(head).map(|append| Operation::Append(id, append.into()))
        }
        Method::DELETE => require_version(is_tus).map(|()| Operation::Cancel(id)),
        _ => Err(not_allowed(&method, UPLOAD_METHODS)),
    }
}

fn require_version(is_tus: bool) -> Result<(), Refusal> {
    if is_tus { Ok(()) } else { Err(Refusal::UnsupportedVersion { given: None }) }
}

fn not_allowed(method: &Method, allowed: &'static str) -> Refusal {
    Refusal::MethodNotAllowed { method: method.to_string(), allowed }
}

/// tus 1.0 "Creation", POST.
fn decode_creation(head: &RequestHead<'_>, limits: &Limits) -> Result<Creation, Refusal> {
    let kind = decode_kind(head.headers, limits)?;
    let length = decode_length(head.headers, &kind, limits)?;
    let metadata = decode_metadata(head.headers, limits)?;
    let declared = decode_declared(head.headers, &metadata)?;
    let is_final = matches!(kind, Kind::Final(_));
    let content = match media_type(head.headers)? {
        _ if is_final && head.content_length == Some(0) => None,
        given if is_final && (given.is_some() || head.content_length.is_some()) => {
            let problem = "is final, and a final upload is made of its parts; send no content";
            return Err(Refusal::malformed("Upload-Concat", problem));
        }
        Some(media_type) if is_content_media_type(media_type) => Some(Append {
            offset: 0,
            length,
            content_length: head.content_length,
            completion: Completion::AtLength,
            checksum: decode_checksum(head.headers)?,
            max_bytes: None,
        }),
        _ if head.content_length == Some(0) => None,
        // Of unknown length, and most likely empty: so it comes over HTTP/2 from some clients.
        None if head.content_length.is_none() => None,
        given => return Err(wrong_media_type(given)),
    };
    Ok(Creation { kind, length, metadata, declared, content })
}

/// `Upload-Length`, or `Upload-Defer-Length` in its place; neither for a final upload.
fn decode_length(
    headers: &HeaderMap,
    kind: &Kind,
    limits: &Limits,
) -> Result<Option<u64>, Refusal> {
    const FIELD: &str = "Upload-Length";
    let length = bytes_field(headers, &UPLOAD_LENGTH, FIELD)?;
    let deferred = single(headers, &UPLOAD_DEFER_LENGTH, "Upload-Defer-Length")?;
    if deferred.is_some_and(|deferred| deferred != "1") {
        return Err(Refusal::malformed("Upload-Defer-Length", "can only be 1"));
    }
    let problem = match (kind, length, deferred) {
        (Kind::Final(_), None, None) => None,
        (Kind::Final(_), _, _) => Some("goes without saying for a final upload; leave it out"),
        (Kind::Single | Kind::Partial, Some(_), None)
        | (Kind::Single | Kind::Partial, None, Some(_)) => None,
        (Kind::Single | Kind::Partial, Some(_), Some(_)) => {
            Some("and Upload-Defer-Length exclude each other; send one of them")
        }
        (Kind::Single | Kind::Partial, None, None) => {
            Some("is missing; send it, or Upload-Defer-Length: 1 to tell it later")
        }
    };
    if let Some(problem) = problem {
        return Err(Refusal::malformed(FIELD, problem));
    }
    match length {
        Some(length) if length > limits.length_ceiling() => {
            Err(Refusal::TooLong { max: limits.length_ceiling() })
        }
        length => Ok(length),
    }
}

/// tus 1.0 "Concatenation", Upload-Concat.
fn decode_kind(headers: &HeaderMap, limits: &Limits) -> Result<Kind, Refusal> {
    const FIELD: &str = "Upload-Concat";
    let Some(field) = single(headers, &UPLOAD_CONCAT, FIELD)? else {
        return Ok(Kind::Single);
    };
    if field == "partial" {
        return Ok(Kind::Partial);
    }
    let Some(urls) = field.strip_prefix("final;") else {
        let problem = "is neither partial nor final; followed by the URLs of the parts";
        return Err(Refusal::malformed(FIELD, problem));
    };
    let mut parts = Vec::new();
    for url in urls.split_ascii_whitespace() {
        if parts.len() == limits.max_parts {
            let max = limits.max_parts;
            return Err(Refusal::malformed(FIELD, format!("may name {max} parts at most")));
        }
        let number = parts.len().saturating_add(1);
        let fault = "no URL of an upload here";
        parts.push(id_of_url(url).ok_or(Refusal::Part { number, fault })?);
    }
    if parts.is_empty() {
        return Err(Refusal::malformed(FIELD, "names no part"));
    }
    Ok(Kind::Final(Final { parts: parts.into(), as_sent: field.into() }))
}

/// The id at the end of an absolute or relative URL. What goes before it may be what a proxy made
/// of it; the id alone names an upload.
fn id_of_url(url: &str) -> Option<UploadId> {
    UploadId::parse(url.rsplit('/').next()?)
}

fn decode_metadata(headers: &HeaderMap, limits: &Limits) -> Result<Metadata, Refusal> {
    const FIELD: &str = "Upload-Metadata";
    let Some(field) = single(headers, &UPLOAD_METADATA, FIELD)? else {
        return Ok(Metadata::default());
    };
    if field.len() > limits.max_metadata_bytes {
        let max = limits.max_metadata_bytes;
        return Err(Refusal::malformed(
            FIELD,
            format!("has {} bytes; it may have {max} at most", field.len()),
        ));
    }
    Metadata::parse(field)
        .map_err(|why| Refusal::malformed(FIELD, format!("cannot be read: {why}")))
}

/// The digests that the client declares: `blake3` in the metadata, and `Repr-Digest`.
fn decode_declared(headers: &HeaderMap, metadata: &Metadata) -> Result<ReprDigests, Refusal> {
    let blake3 = match metadata.value(BLAKE3_KEY) {
        None => None,
        Some(value) => {
            let digest = std::str::from_utf8(&value).ok().and_then(Blake3Digest::parse);
            let problem = "has a blake3 that is not a BLAKE3 digest: 64 hexadecimal digits";
            let malformed = || Refusal::malformed("Upload-Metadata", problem);
            Some(digest.ok_or_else(malformed)?)
        }
    };
    let field = single(headers, &REPR_DIGEST, "Repr-Digest")?;
    Ok(ReprDigests::from(blake3).or(field.map(ReprDigests::from_field).unwrap_or_default()))
}

/// tus 1.0 "PATCH".
fn decode_append(head: &RequestHead<'_>) -> Result<Append, Refusal> {
    match media_type(head.headers)? {
        Some(media_type) if is_content_media_type(media_type) => {}
        given => return Err(wrong_media_type(given)),
    }
    let Some(offset) = bytes_field(head.headers, &UPLOAD_OFFSET, "Upload-Offset")? else {
        return Err(Refusal::missing("Upload-Offset"));
    };
    Ok(Append {
        offset,
        length: bytes_field(head.headers, &UPLOAD_LENGTH, "Upload-Length")?,
        content_length: head.content_length,
        completion: Completion::AtLength,
        checksum: decode_checksum(head.headers)?,
        max_bytes: None,
    })
}

/// tus 1.0 "Checksum": in the head, or announced there by `Trailer`.
fn decode_checksum(headers: &HeaderMap) -> Result<Option<ExpectedChecksum>, Refusal> {
    const FIELD: &str = "Upload-Checksum";
    let is_announced = headers
        .get_all(TRAILER)
        .iter()
        .filter_map(|names| names.to_str().ok())
        .flat_map(|names| names.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case(UPLOAD_CHECKSUM.as_str()));
    match single(headers, &UPLOAD_CHECKSUM, FIELD)? {
        Some(_) if is_announced => {
            Err(Refusal::malformed(FIELD, "is both a header and an announced trailer; send one"))
        }
        Some(field) => Ok(Some(ExpectedChecksum::Given(Checksum::parse(field)?))),
        None if is_announced => Ok(Some(ExpectedChecksum::InTrailer)),
        None => Ok(None),
    }
}

/// The checksum in the trailers of a request; `None` when there is none.
///
/// # Errors
///
/// `Field` or `Checksum` when it cannot be read.
pub fn decode_trailers(trailers: &HeaderMap) -> Result<Option<Checksum>, Refusal> {
    let field = single(trailers, &UPLOAD_CHECKSUM, "Upload-Checksum")?;
    Ok(field.map(Checksum::parse).transpose()?)
}

fn media_type(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    single(headers, &CONTENT_TYPE, "Content-Type")
}

fn is_content_media_type(given: &str) -> bool {
    is_media_type(given, CONTENT_MEDIA_TYPE)
}

fn wrong_media_type(given: Option<&str>) -> Refusal {
    Refusal::UnsupportedMediaType { given: given.map(str::to_owned), expected: CONTENT_MEDIA_TYPE }
}

/// A field that is a number of bytes.
fn bytes_field(
    headers: &HeaderMap,
    name: &HeaderName,
    field: &'static str,
) -> Result<Option<u64>, Refusal> {
    let Some(value) = single(headers, name, field)? else {
        return Ok(None);
    };
    let problem = "is not a number of bytes: decimal digits only, at most 9223372036854775807";
    parse_bytes(value).map(Some).ok_or_else(|| Refusal::malformed(field, problem))
}
