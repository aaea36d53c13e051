//! Why a client may not do what it asked for, with the facts that tell it what to do next.
//!
//! A refusal changes nothing. Its text is for a person: what happened, the numbers, what to do.
//! It never repeats metadata values or shows a path of the server. Which status a refusal has is
//! the dialect's business.

use thiserror::Error;

use super::checksum::{Algorithm, ChecksumError};
use super::upload::GoneReason;

/// What was wrong with a field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FieldFault {
    /// It has to be there.
    #[error("is missing")]
    Missing,
    /// It may stand there once only.
    #[error("stands there more than once")]
    Repeated,
    /// It cannot be read; the text says what is allowed.
    #[error("{0}")]
    Malformed(String),
}

/// A request that is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is nothing at this URL.
    #[error("there is no upload at this URL; create one with POST on the collection")]
    NotFound,
    /// There was an upload at this URL.
    #[error("this upload is gone: {0}; create a new one")]
    Gone(GoneReason),
    /// `Tus-Resumable` is missing or names a version that is not spoken here.
    #[error("Tus-Resumable {}; this server speaks 1.0.0", match given { Some(version) => format!("is {version:?}"), None => "is missing".to_owned() })]
    UnsupportedVersion {
        /// The version that the request named.
        given: Option<String>,
    },
    /// The request says that it is of both protocols.
    #[error(
        "{tus} is of tus 1.0 and {ietf} is of the IETF protocol for resumable uploads; send a request of one of them"
    )]
    MixedProtocols {
        /// What says that it is tus.
        tus: &'static str,
        /// What says that it is not.
        ietf: &'static str,
    },
    /// The method means nothing on this resource.
    #[error("{method} is not allowed here; allowed are {allowed}")]
    MethodNotAllowed {
        /// The method of the request.
        method: String,
        /// The value of `Allow`.
        allowed: &'static str,
    },
    /// The content has another media type than the method takes.
    #[error("Content-Type is {}; send the content of an append as {expected}", match given { Some(given) => format!("{given:?}"), None => "missing".to_owned() })]
    UnsupportedMediaType {
        /// What the request said.
        given: Option<String>,
        /// What has to be said.
        expected: &'static str,
    },
    /// A header field is missing, repeated or malformed.
    #[error("{field} {fault}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        fault: FieldFault,
    },
    /// The append starts elsewhere than where the upload ends.
    #[error(
        "upload offset is {offset} but the request says {provided}; ask with HEAD and resume there"
    )]
    OffsetMismatch {
        /// The recorded offset in bytes.
        offset: u64,
        /// The offset in the request.
        provided: u64,
    },
    /// The length was told before, and it was another one.
    #[error(
        "upload length is {length} but the request says {provided}; a length never changes once it is told"
    )]
    LengthMismatch {
        /// The recorded length in bytes.
        length: u64,
        /// The length in the request.
        provided: u64,
    },
    /// The length told late is less than what has already arrived.
    #[error("upload offset is already {offset}, so the length cannot be {provided}")]
    LengthBelowOffset {
        /// The recorded offset in bytes.
        offset: u64,
        /// The length in the request.
        provided: u64,
    },
    /// The upload would be longer than this server allows.
    #[error("an upload may have {max} bytes here at most")]
    TooLong {
        /// The limit in bytes.
        max: u64,
    },
    /// The upload would be shorter than this server allows.
    #[error("an upload has to have {min} bytes here at least")]
    TooShort {
        /// The limit in bytes.
        min: u64,
    },
    /// One request brings more than this server allows.
    #[error("one request may bring {max} bytes here at most; send the content in several")]
    AppendTooLong {
        /// The limit in bytes.
        max: u64,
    },
    /// One request brings less than this server allows.
    #[error("one request has to bring {min} bytes here at least, unless it completes the upload")]
    AppendTooShort {
        /// The limit in bytes.
        min: u64,
    },
    /// The content was said to complete the upload and ends before its length.
    #[error(
        "upload length is {length} bytes and the content ends at {offset}, so it does not complete the upload; send the rest"
    )]
    ShortOfLength {
        /// The upload's length in bytes.
        length: u64,
        /// Where the content ends, in bytes.
        offset: u64,
    },
    /// The content reaches beyond the upload's length.
    #[error("upload length is {length} bytes and the content reaches beyond it; it is refused")]
    BeyondLength {
        /// The upload's length in bytes.
        length: u64,
    },
    /// The storage has not enough room for the upload.
    #[error("there is not enough room for this upload; try again later")]
    NoRoom,
    /// A complete upload takes no more content.
    #[error("this upload is complete with {length} bytes and takes no more")]
    AlreadyComplete {
        /// The upload's length in bytes.
        length: u64,
    },
    /// A download was asked of an upload that is not complete.
    #[error("this upload is not complete: {offset} bytes have arrived; download it when it is")]
    NotComplete {
        /// The recorded offset in bytes.
        offset: u64,
    },
    /// A final upload is made of its parts alone.
    #[error("this is a final upload: it is made of its parts and cannot be appended to")]
    FinalUpload,
    /// The content does not have the checksum that the client told; none of it was taken.
    #[error(
        "the {0} checksum of the content is another one than the request says; nothing of it was taken: send it again"
    )]
    ChecksumMismatch(Algorithm),
    /// The whole representation does not have the digest that was declared when it was created.
    #[error(
        "the {0} digest of the whole upload is another one than was declared when it was created; the upload is gone: another file was sent, or it changed meanwhile"
    )]
    DigestMismatch(Algorithm),
    /// The checksum cannot be read, or its algorithm is not known here.
    #[error("Upload-Checksum: {0}")]
    Checksum(#[from] ChecksumError),
    /// A part of a final upload is not there, or not a partial upload.
    #[error("part {number} of Upload-Concat is {fault}")]
    Part {
        /// Which one, counted from 1.
        number: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The content ended before it was whole.
    #[error("the content was cut off; ask with HEAD how much of it was kept, and resume there")]
    ContentCut,
    /// The content stalled, or came slower than this server waits for.
    #[error("the content came too slowly; ask with HEAD how much of it was kept, and resume there")]
    ContentTimeout,
    /// Another request for the same upload took over.
    #[error("another request for this upload took over; ask with HEAD and resume there")]
    Superseded,
    /// The append that is under way does not end.
    #[error("this upload is busy with another request that does not end; try again in a moment")]
    Busy,
    /// The server stops.
    #[error("the server is shutting down; ask with HEAD in a moment, and resume there")]
    ShuttingDown,
}

impl Refusal {
    /// The refusal of a field that has to be there.
    pub fn missing(field: &'static str) -> Self {
        Self::Field { field, fault: FieldFault::Missing }
    }

    /// The refusal of a field that cannot be read; `allowed` says what can.
    pub fn malformed(field: &'static str, allowed: impl Into<String>) -> Self {
        Self::Field { field, fault: FieldFault::Malformed(allowed.into()) }
    }
}
