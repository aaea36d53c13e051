//! The heads of messages, as far as the dialects need them.
//!
//! - RFC 9110 §5 (fields), §6 (messages)

use http::header::{ALLOW, CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::id::UploadId;
use super::refusal::{FieldFault, Refusal};

/// When a client may ask again for what cannot be had now, in seconds.
pub const RETRY_AFTER_S: &str = "5";

/// What the URL of a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The collection, where uploads are created.
    Collection,
    /// An upload; `None` when the last segment is no id of ours.
    Upload(Option<UploadId>),
}

/// The head of a request, as far as the dialects need it.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method on the request line; see [`super::tus::effective_method`].
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

impl ResponseHead {
    /// A head without fields, with room for those of most answers to what is no browser.
    pub(super) fn with_status(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::with_capacity(6) }
    }

    /// A head that tells of a refusal, with what every protocol tells of it.
    pub(super) fn refusing(status: StatusCode, refusal: &Refusal) -> Self {
        let mut head = Self::with_status(status);
        if let Refusal::MethodNotAllowed { allowed, .. } = refusal {
            head.set_static(ALLOW, allowed);
        }
        if *refusal == Refusal::ShuttingDown {
            head.set_static(RETRY_AFTER, RETRY_AFTER_S);
        }
        head.set_static(CACHE_CONTROL, "no-store");
        head
    }

    /// Sets a field to what is always the same.
    pub(super) fn set_static(&mut self, name: HeaderName, value: &'static str) {
        self.headers.insert(name, HeaderValue::from_static(value));
    }

    /// Sets a field to a number.
    pub(super) fn set_number(&mut self, name: HeaderName, value: u64) {
        self.headers.insert(name, HeaderValue::from(value));
    }

    /// Sets a field; a value that cannot stand in a header is left out.
    pub(super) fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }
}

/// The line of a field that stands there once; `None` when it is missing or repeated.
pub(super) fn only_line<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

/// The lines of a field as one value (RFC 9110 §5.3); `None` when there are none, or one has
/// characters other than visible ASCII.
pub fn joined_lines(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().ok());
    let lines: Vec<&str> = lines.collect::<Option<_>>()?;
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// The value of a field that may stand there once.
///
/// # Errors
///
/// `Field` when it stands there more often, or has characters other than visible ASCII.
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    field: &'static str,
) -> Result<Option<&'a str>, Refusal> {
    let mut lines = headers.get_all(name).iter();
    let Some(value) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Refusal::Field { field, fault: FieldFault::Repeated });
    }
    let malformed = |_| Refusal::malformed(field, "has characters other than visible ASCII");
    value.to_str().map(Some).map_err(malformed)
}

/// Whether a `Content-Type` names this media type: compared without regard to case (RFC 9110
/// §8.3.1), and without parameters.
pub(super) fn is_media_type(given: &str, media_type: &str) -> bool {
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type)
}
