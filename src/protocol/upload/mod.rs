//! The record of an upload, its states and all transitions.
//!
//! # Theory
//!
//! The record, not the file, says how many bytes exist. Bytes in the data file past the recorded
//! offset are scratch. Every promise to anyone is made from a record that is already durable, so
//! a crash can undo nothing that was promised.
//!
//! ```text
//!            create               append, checkpoint
//!              │                    ┌────┐
//!              ▼                    ▼    │
//!         ┌───────────┐  last byte  ┌────┴──────┐
//!         │ Receiving ├────────────►│ Complete  │
//!         └─────┬─────┘             └────┬──────┘
//!               │ cancel, expire,        │ cancel, expire
//!               ▼ lose                   ▼
//!         ┌──────────────────────────────────────┐  swept
//!         │ Gone (answers 410)                   ├────────► no record (404)
//!         └──────────────────────────────────────┘
//! ```
//!
//! A final upload (tus "Concatenation") begins as Finishing while its parts are not all complete,
//! and is Complete as soon as they are: it is given hold of their bytes as they lie. (With a digest
//! declared it is Finishing, and has hold of them, until they were compared.) That they are
//! joined to one file later is the store's matter ([`Placement`]) and nobody sees it.
//!
//! A transition consumes the record and gives the next one; whoever calls it saves the result
//! before telling anybody. What a client asks for is first admitted ([`Upload::admit`]), which is
//! where a [`Refusal`] comes from; after that a transition that does not fit is a mistake in this
//! program and panics.

mod admission;
mod concat;
mod validity;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::admission::Admission;
pub use self::concat::{Final, Kind, Placement};
use super::digest::Blake3Digest;
use super::id::UploadId;
use super::metadata::Metadata;
use super::repr_digests::{ReprDigests, SavedSha256, Sha256Digest};
use super::tree::Frontier;
use super::units::Timestamp;

/// How long a gone upload still answers 410 before it is forgotten.
pub const GONE_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// One upload: the unit of the store.
///
/// Whoever works on it, waits for it to be saved, or shows it holds a clone. So that costs no more
/// than a pointer, and a transition copies the record only when others hold it, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Upload(Arc<Record>);

/// What is recorded of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    id: UploadId,
    #[serde(default, skip_serializing_if = "Kind::is_single")]
    kind: Kind,
    state: State,
    metadata: Metadata,
    /// What the client said that its digests will be.
    #[serde(default, skip_serializing_if = "ReprDigests::is_empty")]
    declared: ReprDigests,
    created: Timestamp,
    expires: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Placement::is_whole")]
    placement: Placement,
}

/// Where an upload stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum State {
    /// It can be appended to.
    Receiving {
        /// The bytes that exist.
        offset: u64,
        /// The bytes there will be, once known.
        length: Option<u64>,
        /// The tree over the full groups of those bytes; `None` when none is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frontier: Option<Frontier>,
        /// The SHA-256 of those bytes, to go on with; `None` when none is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<SavedSha256>,
    },
    /// A final upload whose parts are not all complete, or not compared with its digest yet.
    Finishing {
        /// The bytes there will be, once the lengths of all parts are known.
        length: Option<u64>,
        /// When it is to be looked at again.
        check_at: Timestamp,
    },
    /// All bytes are there. It never changes; it can only become gone.
    Complete {
        /// The bytes of the representation.
        length: u64,
        /// Their digest, when a tree was kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Blake3Digest>,
        /// Their SHA-256, when it was kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Sha256Digest>,
        /// When it was completed.
        at: Timestamp,
    },
    /// It answers 410 until it is swept.
    Gone {
        /// Why.
        why: GoneReason,
        /// Since when.
        at: Timestamp,
    },
}

/// Why an upload is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GoneReason {
    /// A client asked for it.
    Cancelled,
    /// Its time was over.
    Expired,
    /// Its bytes, or those of a part of it, are no longer there.
    Lost,
    /// Its parts turned out longer than an upload may be.
    Overrun,
    /// Its bytes did not have the digest that was declared when it was created.
    DigestMismatch,
    /// Its client sent more than the length that it had told.
    BeyondLength,
}

impl fmt::Display for GoneReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cancelled => "a client cancelled it",
            Self::Expired => "it expired",
            Self::Lost => "its content, or that of a part, is no longer there",
            Self::Overrun => "its parts are longer together than an upload may be",
            Self::DigestMismatch => "its content does not have the digest that was declared",
            Self::BeyondLength => "more was sent for it than the length that was told",
        })
    }
}

impl Upload {
    /// The memory that one takes, beside what clients make long.
    pub const BYTES: usize = size_of::<Record>();

    /// A new upload without content. One of length 0 is not complete yet: an append of nothing
    /// makes it so, as it would any other (tus 1.0 "Creation": it is complete at once).
    pub fn new(id: UploadId, length: Option<u64>, metadata: Metadata, now: Timestamp) -> Self {
        let state = State::Receiving { offset: 0, length, frontier: None, sha256: None };
        Self(Arc::new(Record {
            id,
            kind: Kind::Single,
            state,
            metadata,
            declared: ReprDigests::default(),
            created: now,
            expires: None,
            placement: Placement::Whole,
        }))
    }

    /// The record, to go on with.
    fn record_mut(&mut self) -> &mut Record {
        Arc::make_mut(&mut self.0)
    }

    /// The new upload with a tree over its bytes, or without one.
    ///
    /// # Panics
    ///
    /// If it has bytes already.
    #[must_use]
    pub fn with_tree(mut self, tree: Option<Frontier>) -> Self {
        let State::Receiving { offset: 0, frontier, .. } = &mut self.record_mut().state else {
            unreachable!("a tree is begun with the upload");
        };
        *frontier = tree;
        self
    }

    /// The new upload whose representation will have these digests, or else is refused.
    #[must_use]
    pub fn declaring(mut self, declared: ReprDigests) -> Self {
        self.record_mut().declared = declared;
        self
    }

    /// The new upload with a SHA-256 over its bytes, or without one.
    ///
    /// # Panics
    ///
    /// If it has bytes already.
    #[must_use]
    pub fn with_sha256(mut self, running: Option<SavedSha256>) -> Self {
        let State::Receiving { offset: 0, sha256, .. } = &mut self.record_mut().state else {
            unreachable!("a digest is begun with the upload");
        };
        *sha256 = running;
        self
    }

    /// The complete upload; its length is the offset that was reached.
    ///
    /// # Panics
    ///
    /// If it was not receiving, or its length is another.
    #[must_use]
    pub fn completed(mut self, digests: impl Into<ReprDigests>, now: Timestamp) -> Self {
        let State::Receiving { offset, length, .. } = self.0.state else {
            unreachable!("only an upload that is receiving can become complete");
        };
        assert!(length.is_none_or(|length| length == offset), "{length:?} {offset}");
        let ReprDigests { blake3: digest, sha256 } = digests.into();
        let record = self.record_mut();
        record.state = State::Complete { length: offset, digest, sha256, at: now };
        record.expires = None;
        self
    }

    /// The upload with the time after which it is no longer there.
    #[must_use]
    pub fn expiring(mut self, expires: Option<Timestamp>) -> Self {
        // Most often it stays as it is, and is held by others.
        if self.0.expires != expires {
            self.record_mut().expires = expires;
        }
        self
    }

    /// The gone upload. One that is gone already stays as it is, with its first reason.
    #[must_use]
    pub fn gone(mut self, why: GoneReason, now: Timestamp) -> Self {
        match self.0.state {
            State::Receiving { .. } | State::Finishing { .. } | State::Complete { .. } => {
                let record = self.record_mut();
                record.state = State::Gone { why, at: now };
                record.expires = None;
                record.kind = Kind::Single;
                record.metadata = Metadata::default();
                record.declared = ReprDigests::default();
                record.placement = Placement::Whole;
            }
            State::Gone { .. } => {}
        }
        self
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.0.expires.is_some_and(|expires| expires <= now)
    }

    /// When the sweep has to look at this upload next: at its expiry, when its parts are to be
    /// looked at or joined, or when a gone one is forgotten.
    pub fn wake(&self) -> Option<Timestamp> {
        let earliest = |at: Timestamp| self.0.expires.map_or(at, |expires| expires.min(at));
        match self.0.state {
            State::Receiving { .. } => self.0.expires,
            State::Finishing { check_at, .. } => Some(earliest(check_at)),
            State::Complete { .. } => match &self.0.placement {
                Placement::Whole => self.0.expires,
                Placement::Parts { join_at, .. } => Some(earliest(*join_at)),
            },
            State::Gone { at, .. } => Some(at.after(GONE_RETENTION)),
        }
    }

    /// The upload's id.
    pub fn id(&self) -> UploadId {
        self.0.id
    }

    /// What it is for.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// How its bytes lie in the data store.
    pub fn placement(&self) -> &Placement {
        &self.0.placement
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.0.state
    }

    /// The bytes that exist and will not go away again; `None` when the upload is gone, and for a
    /// final one that is not concatenated yet.
    pub fn offset(&self) -> Option<u64> {
        match self.0.state {
            State::Receiving { offset, .. } => Some(offset),
            State::Complete { length, .. } => Some(length),
            State::Finishing { .. } | State::Gone { .. } => None,
        }
    }

    /// The bytes there will be, once known.
    pub fn length(&self) -> Option<u64> {
        match self.0.state {
            State::Receiving { length, .. } | State::Finishing { length, .. } => length,
            State::Complete { length, .. } => Some(length),
            State::Gone { .. } => None,
        }
    }

    /// The tree over the full groups of what arrived, when one is kept.
    pub fn frontier(&self) -> Option<&Frontier> {
        match &self.0.state {
            State::Receiving { frontier, .. } => frontier.as_ref(),
            State::Finishing { .. } | State::Complete { .. } | State::Gone { .. } => None,
        }
    }

    /// The digest of a complete upload, when it is known.
    pub fn digest(&self) -> Option<Blake3Digest> {
        match self.0.state {
            State::Complete { digest, .. } => digest,
            State::Receiving { .. } | State::Finishing { .. } | State::Gone { .. } => None,
        }
    }

    /// The SHA-256 of what arrived, to go on with, when it is kept.
    pub fn saved_sha256(&self) -> Option<&SavedSha256> {
        match &self.0.state {
            State::Receiving { sha256, .. } => sha256.as_ref(),
            State::Finishing { .. } | State::Complete { .. } | State::Gone { .. } => None,
        }
    }

    /// The digests of a complete upload, as far as they are known.
    pub fn digests(&self) -> ReprDigests {
        match self.0.state {
            State::Complete { digest, sha256, .. } => ReprDigests { blake3: digest, sha256 },
            State::Receiving { .. } | State::Finishing { .. } | State::Gone { .. } => {
                ReprDigests::default()
            }
        }
    }

    /// The digests that its client declared when it made it.
    pub fn declared(&self) -> ReprDigests {
        self.0.declared
    }

    /// Whether all bytes are there.
    pub fn is_complete(&self) -> bool {
        matches!(self.0.state, State::Complete { .. })
    }

    /// What the client said about it.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// When it was created.
    pub fn created(&self) -> Timestamp {
        self.0.created
    }

    /// After which it is no longer there.
    pub fn expires(&self) -> Option<Timestamp> {
        self.0.expires
    }
}

#[cfg(test)]
mod tests;
