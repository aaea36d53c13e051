//! The tus 1.0.0 dialect: a request's head to an operation, an outcome or refusal to a response's
//! head. Words that only tus knows stay in this file.
//!
//! - tus 1.0 "Core Protocol", "Creation", "Creation With Upload", "Checksum", "Termination"

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::checksum::{Algorithm, Checksum};
use super::id::UploadId;
use super::limits::Limits;
use super::metadata::Metadata;
use super::operation::{Append, Completion, Creation, ExpectedChecksum, Operation, Outcome};
use super::refusal::{FieldFault, Refusal};
use super::units::parse_bytes;
use super::upload::Upload;

/// The version that is spoken here.
pub const VERSION: &str = "1.0.0";
/// The media type of an append's content.
pub const CONTENT_MEDIA_TYPE: &str = "application/offset+octet-stream";
/// The methods of an upload resource, as `Allow` names them.
pub const UPLOAD_METHODS: &str = "GET, HEAD, PATCH, DELETE, OPTIONS";
/// The methods of the collection, as `Allow` names them.
pub const COLLECTION_METHODS: &str = "POST, OPTIONS";
/// The extensions, without spaces: TUSKit splits at the comma and does not trim.
const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,termination,\
                          checksum,checksum-trailer";
/// How long a client is asked to wait for a server that restarts, in seconds.
const RETRY_AFTER_S: &str = "5";

const TUS_RESUMABLE: &str = "tus-resumable";
const UPLOAD_LENGTH: &str = "upload-length";
const UPLOAD_OFFSET: &str = "upload-offset";
const UPLOAD_METADATA: &str = "upload-metadata";
const UPLOAD_DEFER_LENGTH: &str = "upload-defer-length";
const UPLOAD_CHECKSUM: &str = "upload-checksum";
const METHOD_OVERRIDE: &str = "x-http-method-override";

/// What the URL of a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The collection, where uploads are created.
    Collection,
    /// An upload; `None` when the last segment is no id of ours.
    Upload(Option<UploadId>),
}

/// The head of a request, as far as the dialect needs it.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method on the request line; see [`effective_method`].
    pub method: &'a Method,
    /// What the URL names.
    pub target: Target,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The length of the content in bytes, 0 when there is none; `None` when only its end tells.
    pub content_length: Option<u64>,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
}

/// The method that counts: the value of `X-HTTP-Method-Override` if there is one, whatever the
/// request line says (tus 1.0 "Headers").
///
/// # Errors
///
/// `Field` when the value is no method.
pub fn effective_method(method: &Method, headers: &HeaderMap) -> Result<Method, Refusal> {
    const FIELD: &str = "X-HTTP-Method-Override";
    match single(headers, METHOD_OVERRIDE, FIELD)? {
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
    let version = single(head.headers, TUS_RESUMABLE, "Tus-Resumable")?;
    if version.is_some_and(|version| version != VERSION) {
        return Err(Refusal::UnsupportedVersion { given: version.map(str::to_owned) });
    }
    let is_tus = version.is_some();
    let id = match head.target {
        Target::Collection if method == Method::POST => {
            require_version(is_tus)?;
            return decode_creation(head, limits).map(Operation::Create);
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
            decode_append(head).map(|append| Operation::Append(id, append))
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
    let length = bytes_field(head.headers, UPLOAD_LENGTH, "Upload-Length")?;
    match (length, single(head.headers, UPLOAD_DEFER_LENGTH, "Upload-Defer-Length")?) {
        (Some(_), None) | (None, Some("1")) => {}
        (_, Some(other)) if other != "1" => {
            return Err(Refusal::malformed("Upload-Defer-Length", "can only be 1"));
        }
        (Some(_), Some(_)) => {
            let problem = "and Upload-Defer-Length exclude each other; send one of them";
            return Err(Refusal::malformed("Upload-Length", problem));
        }
        (None, _) => {
            let problem = "is missing; send it, or Upload-Defer-Length: 1 to tell it later";
            return Err(Refusal::malformed("Upload-Length", problem));
        }
    }
    if length.is_some_and(|length| length > limits.length_ceiling()) {
        return Err(Refusal::TooLong { max: limits.length_ceiling() });
    }
    let metadata = decode_metadata(head.headers, limits)?;
    let content = match media_type(head.headers)? {
        Some(media_type) if is_content_media_type(media_type) => Some(Append {
            offset: 0,
            length,
            content_length: head.content_length,
            completion: Completion::AtLength,
            checksum: decode_checksum(head.headers)?,
        }),
        _ if head.content_length == Some(0) => None,
        given => return Err(wrong_media_type(given)),
    };
    Ok(Creation { length, metadata, content })
}

fn decode_metadata(headers: &HeaderMap, limits: &Limits) -> Result<Metadata, Refusal> {
    const FIELD: &str = "Upload-Metadata";
    let Some(field) = single(headers, UPLOAD_METADATA, FIELD)? else {
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

/// tus 1.0 "PATCH".
fn decode_append(head: &RequestHead<'_>) -> Result<Append, Refusal> {
    match media_type(head.headers)? {
        Some(media_type) if is_content_media_type(media_type) => {}
        given => return Err(wrong_media_type(given)),
    }
    let Some(offset) = bytes_field(head.headers, UPLOAD_OFFSET, "Upload-Offset")? else {
        return Err(Refusal::missing("Upload-Offset"));
    };
    Ok(Append {
        offset,
        length: bytes_field(head.headers, UPLOAD_LENGTH, "Upload-Length")?,
        content_length: head.content_length,
        completion: Completion::AtLength,
        checksum: decode_checksum(head.headers)?,
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
        .any(|name| name.trim().eq_ignore_ascii_case(UPLOAD_CHECKSUM));
    match single(headers, UPLOAD_CHECKSUM, FIELD)? {
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
    let field = single(trailers, UPLOAD_CHECKSUM, "Upload-Checksum")?;
    Ok(field.map(Checksum::parse).transpose()?)
}

fn media_type(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    single(headers, CONTENT_TYPE.as_str(), "Content-Type")
}

/// Media types compare without regard to case (RFC 9110 §8.3.1); parameters say nothing here.
fn is_content_media_type(given: &str) -> bool {
    let essence = given.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(CONTENT_MEDIA_TYPE)
}

fn wrong_media_type(given: Option<&str>) -> Refusal {
    Refusal::UnsupportedMediaType { given: given.map(str::to_owned), expected: CONTENT_MEDIA_TYPE }
}

/// The value of a field that may stand there once.
fn single<'a>(
    headers: &'a HeaderMap,
    name: &str,
    field: &'static str,
) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Field { field, fault: FieldFault::Repeated });
    }
    let malformed = |_| Refusal::malformed(field, "has characters other than visible ASCII");
    value.to_str().map(Some).map_err(malformed)
}

/// A field that is a number of bytes.
fn bytes_field(
    headers: &HeaderMap,
    name: &str,
    field: &'static str,
) -> Result<Option<u64>, Refusal> {
    let Some(value) = single(headers, name, field)? else {
        return Ok(None);
    };
    let problem = "is not a number of bytes: decimal digits only, at most 9223372036854775807";
    parse_bytes(value).map(Some).ok_or_else(|| Refusal::malformed(field, problem))
}

/// Tells what came of an operation. `location` is the URL of the upload.
pub fn encode(outcome: &Outcome, location: &str, limits: &Limits) -> ResponseHead {
    match outcome {
        Outcome::Discovered => {
            let mut head = ResponseHead::new(StatusCode::OK);
            head.set("tus-version", VERSION);
            head.set("tus-extension", EXTENSIONS);
            head.set("tus-checksum-algorithm", Algorithm::NAMES);
            if let Some(max) = limits.max_length {
                head.set("tus-max-size", &max.to_string());
            }
            head
        }
        Outcome::Created { upload, has_content } => {
            let mut head = ResponseHead::new(StatusCode::CREATED);
            head.set(LOCATION.as_str(), location);
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
        Some(length) => head.set(UPLOAD_LENGTH, &length.to_string()),
        None => head.set(UPLOAD_DEFER_LENGTH, "1"),
    }
    if !upload.metadata().is_empty() {
        head.set(UPLOAD_METADATA, upload.metadata().as_str());
    }
    head.set_expires(upload);
    head.set(CACHE_CONTROL.as_str(), "no-store");
    head
}

/// Tells why an operation was not carried out; the text for a person is the refusal's own.
pub fn encode_refusal(refusal: &Refusal) -> ResponseHead {
    let mut head = ResponseHead::new(status_of(refusal));
    match refusal {
        Refusal::UnsupportedVersion { .. } => head.set("tus-version", VERSION),
        Refusal::MethodNotAllowed { allowed, .. } => head.set(ALLOW.as_str(), allowed),
        Refusal::OffsetMismatch { offset, .. } => head.set(UPLOAD_OFFSET, &offset.to_string()),
        Refusal::ShuttingDown => head.set(RETRY_AFTER.as_str(), RETRY_AFTER_S),
        Refusal::NotFound
        | Refusal::Gone(_)
        | Refusal::UnsupportedMediaType { .. }
        | Refusal::Field { .. }
        | Refusal::LengthMismatch { .. }
        | Refusal::LengthBelowOffset { .. }
        | Refusal::TooLong { .. }
        | Refusal::BeyondLength { .. }
        | Refusal::NoRoom
        | Refusal::AlreadyComplete { .. }
        | Refusal::NotComplete { .. }
        | Refusal::FinalUpload
        | Refusal::ChecksumMismatch(_)
        | Refusal::Checksum(_)
        | Refusal::ContentCut
        | Refusal::ContentTimeout
        | Refusal::Superseded
        | Refusal::Busy => {}
    }
    head.set(CACHE_CONTROL.as_str(), "no-store");
    head
}

fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::Gone(_) => StatusCode::GONE,
        Refusal::UnsupportedVersion { .. } => StatusCode::PRECONDITION_FAILED,
        Refusal::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::Field { .. }
        | Refusal::LengthMismatch { .. }
        | Refusal::LengthBelowOffset { .. }
        | Refusal::Checksum(_)
        | Refusal::ContentCut => StatusCode::BAD_REQUEST,
        Refusal::ChecksumMismatch(_) => checksum_mismatch(),
        // A tus client that is told 409 asks with HEAD and goes on; any other 4xx ends it.
        Refusal::OffsetMismatch { .. } | Refusal::NotComplete { .. } | Refusal::Superseded => {
            StatusCode::CONFLICT
        }
        Refusal::TooLong { .. }
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
        let mut head = Self { status, headers: HeaderMap::with_capacity(8) };
        head.set(TUS_RESUMABLE, VERSION);
        head
    }

    fn set_offset(&mut self, upload: &Upload) {
        if let Some(offset) = upload.offset() {
            self.set(UPLOAD_OFFSET, &offset.to_string());
        }
    }

    /// tus 1.0 "Expiration".
    fn set_expires(&mut self, upload: &Upload) {
        if let Some(expires) = upload.expires() {
            self.set("upload-expires", &expires.to_imf_fixdate());
        }
    }

    /// Sets a field; a value that cannot stand in a header is left out.
    fn set(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
    }
}
