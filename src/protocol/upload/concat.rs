//! Partial and final uploads: what an upload is for, how the bytes of a final one lie, and the
//! transitions of a final one.
//!
//! - tus 1.0 "Concatenation"

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{State, Upload};
use crate::protocol::id::UploadId;
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::units::Timestamp;

/// What an upload is for (tus 1.0 "Concatenation").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Itself.
    #[default]
    Single,
    /// To be a part of final uploads.
    Partial,
    /// To be made of parts.
    Final(Final),
}

/// What a final upload is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Final {
    /// The uploads whose bytes it has, in order; one may stand there more than once.
    pub parts: Arc<[UploadId]>,
    /// `Upload-Concat` as the client sent it, which is how it is given back.
    pub as_sent: Arc<str>,
}

/// How the bytes of an upload lie in the data store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// In one piece.
    #[default]
    Whole,
    /// As the parts they came in, until they are joined.
    Parts {
        /// The bytes of each part.
        lengths: Arc<[u64]>,
        /// When they are to be joined.
        join_at: Timestamp,
    },
}

impl Kind {
    pub(super) fn is_single(&self) -> bool {
        matches!(self, Self::Single)
    }
}

impl Placement {
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole)
    }
}

impl Upload {
    /// The new upload for another purpose than itself. A final one takes no content.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Self {
        if matches!(kind, Kind::Final(_)) {
            let check_at = self.0.created;
            self.record_mut().state = State::Finishing { length: None, check_at };
        }
        self.record_mut().kind = kind;
        self
    }

    /// The final upload that waits for its parts, with what is known of its length.
    ///
    /// # Panics
    ///
    /// If it is not finishing.
    #[must_use]
    pub fn waiting(mut self, length: Option<u64>, check_at: Timestamp) -> Self {
        assert!(matches!(self.0.state, State::Finishing { .. }), "only a final upload waits");
        self.record_mut().state = State::Finishing { length, check_at };
        self
    }

    /// The final upload that has hold of its parts' bytes, and is not complete before they were
    /// compared with the digest that was declared. It can be looked at at once.
    ///
    /// # Panics
    ///
    /// If it is not finishing.
    #[must_use]
    pub fn holding(mut self, lengths: Arc<[u64]>, now: Timestamp) -> Self {
        let length = lengths.iter().copied().fold(0, u64::saturating_add);
        self.record_mut().placement = Placement::Parts { lengths, join_at: now };
        self.waiting(Some(length), now)
    }

    /// The final upload that has hold of its parts' bytes. It is complete.
    ///
    /// # Panics
    ///
    /// If it is not finishing.
    #[must_use]
    pub fn concatenated(mut self, lengths: Arc<[u64]>, now: Timestamp) -> Self {
        assert!(matches!(self.0.state, State::Finishing { .. }), "only a final upload has parts");
        let length = lengths.iter().copied().fold(0, u64::saturating_add);
        let record = self.record_mut();
        record.state = State::Complete { length, digest: None, sha256: None, at: now };
        record.placement = Placement::Parts { lengths, join_at: now };
        record.expires = None;
        self
    }

    /// The upload without bytes of its own that was given hold of those of a complete one that has
    /// the digests it declared. It is complete.
    ///
    /// # Panics
    ///
    /// If bytes arrived, or its length is not known.
    #[must_use]
    pub fn given(mut self, digests: ReprDigests, now: Timestamp) -> Self {
        let State::Receiving { offset: 0, length: Some(length), .. } = self.0.state else {
            unreachable!("only a new upload is given the bytes of another");
        };
        assert_eq!(self.0.declared.disagrees(&digests), None, "it declared other digests");
        let ReprDigests { blake3: digest, sha256 } = digests;
        let record = self.record_mut();
        record.state = State::Complete { length, digest, sha256, at: now };
        record.placement = Placement::Parts { lengths: [length].into(), join_at: now };
        record.expires = None;
        self
    }

    /// The complete upload with the digests that were computed; those that were known stay.
    #[must_use]
    pub fn digested(mut self, computed: impl Into<ReprDigests>) -> Self {
        let known = self.digests().or(computed.into());
        if let State::Complete { digest, sha256, .. } = &mut self.record_mut().state {
            (*digest, *sha256) = (known.blake3, known.sha256);
        }
        self
    }

    /// The complete upload whose parts were joined, with the digests that were computed.
    #[must_use]
    pub fn joined(self, computed: impl Into<ReprDigests>) -> Self {
        let mut joined = self.digested(computed);
        if joined.is_complete() {
            joined.record_mut().placement = Placement::Whole;
        }
        joined
    }

    /// The complete upload whose parts could not be joined, for now.
    #[must_use]
    pub fn to_be_joined(mut self, at: Timestamp) -> Self {
        if let Placement::Parts { join_at, .. } = &mut self.record_mut().placement {
            *join_at = at;
        }
        self
    }
}
