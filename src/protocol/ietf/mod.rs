//! The IETF dialect, "Resumable Uploads for HTTP" (RUFH): a request's head to an operation, an
//! outcome or refusal to a response's head, and the heads of interim responses.
//!
//! The text is still a draft. Clients tell by a number, the interop version, which one they were
//! made for; what differs between them is the table [`VERSIONS`], and nothing else.
//!
//! - draft-ietf-httpbis-resumable-upload, the text after -11 (interop version 8): §State,
//!   §Upload Creation, §Offset Retrieval, §Upload Append, §Upload Cancellation, §Problem Types,
//!   §Integrity Digests, §Draft Version Identification

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderName};

pub use self::decode::decode;
pub use self::encode::{
    add_discovery, add_state, encode, encode_failure, encode_interim, encode_refusal,
};
use super::fields::{BareItem, Item};
use super::head::only_line;

/// The media type of an append's content.
pub const CONTENT_MEDIA_TYPE: &str = "application/partial-upload";

pub(super) const INTEROP_VERSION: HeaderName =
    HeaderName::from_static("upload-draft-interop-version");
const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
const UPLOAD_INCOMPLETE: HeaderName = HeaderName::from_static("upload-incomplete");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_LIMIT: HeaderName = HeaderName::from_static("upload-limit");

/// How a request or response says whether the upload is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CompletionField {
    /// `Upload-Complete: ?1`.
    Complete,
    /// `Upload-Incomplete: ?0`, the same the other way round.
    Incomplete,
}

impl CompletionField {
    const ALL: [Self; 2] = [Self::Complete, Self::Incomplete];

    const fn name(self) -> HeaderName {
        match self {
            Self::Complete => UPLOAD_COMPLETE,
            Self::Incomplete => UPLOAD_INCOMPLETE,
        }
    }

    const fn shown(self) -> &'static str {
        match self {
            Self::Complete => "Upload-Complete",
            Self::Incomplete => "Upload-Incomplete",
        }
    }

    const fn value(self, is_complete: bool) -> &'static str {
        match (self, is_complete) {
            (Self::Complete, true) | (Self::Incomplete, false) => "?1",
            (Self::Complete, false) | (Self::Incomplete, true) => "?0",
        }
    }

    /// What a head says; `None` without the field, and with one that is no Boolean, which is to be
    /// ignored as a whole (RUFH §Completeness).
    fn read(self, headers: &HeaderMap) -> Option<bool> {
        let value = item(headers, &self.name())?.as_boolean()?;
        Some(match self {
            Self::Complete => value,
            Self::Incomplete => !value,
        })
    }
}

/// What one version of the draft asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Version {
    /// Its interop version.
    number: u64,
    completion: CompletionField,
    /// Whether the content of an append has a media type of its own.
    has_media_type: bool,
    /// Whether `Upload-Offset` or the completion field makes an offset retrieval or a cancellation
    /// a bad request.
    refuses_state: bool,
    /// Whether interim responses tell how far the content came.
    tells_progress: bool,
    /// What `Upload-Limit` calls the remaining lifetime; `None`: it has no such field.
    lifetime: Option<&'static str>,
    /// Whether content for a complete upload is a problem of its own type.
    has_completed_problem: bool,
    /// Whether the last byte of a length that was told completes the upload, though the client says
    /// that more comes: tus-js-client says so of files in Node, and then takes them for complete.
    completes_at_length: bool,
}

/// All versions that clients in the field send, the newest last.
const VERSIONS: [Version; 5] = [
    // -01: URLSession of iOS 17.
    Version {
        number: 3,
        completion: CompletionField::Incomplete,
        has_media_type: false,
        refuses_state: true,
        tells_progress: false,
        lifetime: None,
        has_completed_problem: false,
        completes_at_length: false,
    },
    // -02.
    Version {
        number: 4,
        completion: CompletionField::Complete,
        has_media_type: false,
        refuses_state: true,
        tells_progress: false,
        lifetime: None,
        has_completed_problem: false,
        completes_at_length: false,
    },
    // -03: tus-js-client's `ietf-draft-03`, URLSession of iOS 18.0.
    Version {
        number: 5,
        completion: CompletionField::Complete,
        has_media_type: false,
        refuses_state: true,
        tells_progress: true,
        lifetime: None,
        has_completed_problem: false,
        completes_at_length: true,
    },
    // -04, -05: tus-js-client's `ietf-draft-05`, URLSession of iOS 18.1 and later, tusd.
    Version {
        number: 6,
        completion: CompletionField::Complete,
        has_media_type: true,
        refuses_state: true,
        tells_progress: true,
        lifetime: Some("expires"),
        has_completed_problem: true,
        completes_at_length: true,
    },
    // -09 and later. (7 was -06 to -08, which no client is known to have.)
    Version {
        number: 8,
        completion: CompletionField::Complete,
        has_media_type: true,
        refuses_state: false,
        tells_progress: true,
        lifetime: Some("max-age"),
        has_completed_problem: false,
        completes_at_length: false,
    },
];

/// The version whose rules hold for a request that names none, or one that is not known here.
pub const NEWEST: &Version = &VERSIONS[VERSIONS.len().saturating_sub(1)];

/// The version that a request is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// Whose rules hold.
    version: &'static Version,
    /// Whether the request named it. Only then may an interim response be sent (RUFH §Draft
    /// Version Identification); all else holds without.
    is_named: bool,
}

impl Spoken {
    /// The version of a request whose head says nothing of one.
    pub const UNNAMED: Self = Self { version: NEWEST, is_named: false };

    /// Finds the version by its number, or by the field that only the oldest has.
    pub fn of(headers: &HeaderMap) -> Self {
        let number = item(headers, &INTEROP_VERSION).and_then(|item| item.as_unsigned());
        let named = VERSIONS.iter().find(|version| Some(version.number) == number);
        if let Some(version) = named {
            return Self { version, is_named: true };
        }
        let says = |field: CompletionField| field.read(headers).is_some();
        let is_oldest = says(CompletionField::Incomplete) && !says(CompletionField::Complete);
        if is_oldest { Self { version: &VERSIONS[0], is_named: false } } else { Self::UNNAMED }
    }

    /// Whether interim responses may be sent to who sent this.
    pub fn hears_interim(self) -> bool {
        self.is_named
    }

    /// Whether interim responses tell how far the content came.
    pub fn tells_progress(self) -> bool {
        self.version.tells_progress
    }

    /// Whether an append has the media type [`CONTENT_MEDIA_TYPE`].
    pub(super) fn has_media_type(self) -> bool {
        self.version.has_media_type
    }
}

/// The name of what in a head makes it one of this dialect; `None` when nothing does.
pub(super) fn marker(headers: &HeaderMap) -> Option<&'static str> {
    if headers.contains_key(&INTEROP_VERSION) {
        return Some("Upload-Draft-Interop-Version");
    }
    let said = CompletionField::ALL.into_iter().find(|field| field.read(headers).is_some());
    said.map(CompletionField::shown)
}

/// The value of a field that is an Item; `None` when it is none, and has to be ignored as a whole.
/// Several lines are one value (RFC 9651 §4.2), and no Item.
fn item(headers: &HeaderMap, name: &HeaderName) -> Option<BareItem> {
    Some(Item::parse(only_line(headers, name)?.to_str().ok()?)?.bare)
}
