//! What a request asks for, in words that every dialect shares.

use super::checksum::Checksum;
use super::id::UploadId;
use super::metadata::Metadata;
use super::repr_digests::ReprDigests;
use super::upload::{Kind, Upload};

/// A request that a dialect has understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Tell what this server can do (OPTIONS).
    Discover,
    /// Make a new upload, perhaps with its first content.
    Create(Box<Creation>),
    /// Append content to an upload.
    Append(UploadId, Box<Append>),
    /// Tell the offset (offset retrieval), ending an append that is under way.
    RetrieveOffset(UploadId),
    /// Cancel the upload and free what it holds.
    Cancel(UploadId),
    /// Serve the representation of a complete upload, or its head alone.
    Read(UploadId),
}

impl Operation {
    /// Whether the content of the request is for an upload.
    pub fn takes_content(&self) -> bool {
        match self {
            Self::Create(creation) => creation.content.is_some(),
            Self::Append(..) => true,
            Self::Discover | Self::RetrieveOffset(_) | Self::Cancel(_) | Self::Read(_) => false,
        }
    }
}

/// What a client says of an upload when it makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// What the upload is for.
    pub kind: Kind,
    /// The length in bytes, unless it is told later.
    pub length: Option<u64>,
    /// What the client says about the upload.
    pub metadata: Metadata,
    /// The digests that the whole representation will have, as the client says.
    pub declared: ReprDigests,
    /// The append that the request's content is; `None` when it has none.
    pub content: Option<Append>,
}

/// The content of a request, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Where the client believes the upload ends, in bytes.
    pub offset: u64,
    /// The upload's length in bytes, when the request tells it.
    pub length: Option<u64>,
    /// The content's length in bytes, when the request tells it.
    pub content_length: Option<u64>,
    /// When the upload is complete.
    pub completion: Completion,
    /// What the content is checked against before any of it counts.
    pub checksum: Option<ExpectedChecksum>,
    /// The most bytes that the content may have, where its protocol has such a limit.
    pub max_bytes: Option<u64>,
}

/// Where the checksum of a content is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedChecksum {
    /// In the head of the request.
    Given(Checksum),
    /// Behind the content, as the head of the request announced.
    InTrailer,
}

/// When an append completes the upload: nearly the whole difference between the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// As soon as the offset is the length (tus).
    AtLength,
    /// When this content has ended (`Upload-Complete: ?1`).
    AtEnd,
    /// Not by this append (`Upload-Complete: ?0`).
    Later,
}

/// What came of an operation that was carried out. Every record in it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What this server can do is told.
    Discovered,
    /// A new upload is there.
    Created {
        /// The upload.
        upload: Upload,
        /// Whether the request had content for it.
        has_content: bool,
    },
    /// The content was appended.
    Appended(Upload),
    /// This is where the upload stands.
    Offset(Upload),
    /// The upload is gone.
    Cancelled,
}

impl Outcome {
    /// The upload that it tells of.
    pub fn upload(&self) -> Option<&Upload> {
        match self {
            Self::Created { upload, .. } | Self::Appended(upload) | Self::Offset(upload) => {
                Some(upload)
            }
            Self::Discovered | Self::Cancelled => None,
        }
    }
}
