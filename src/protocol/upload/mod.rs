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
//! A transition consumes the record and gives the next one; whoever calls it saves the result
//! before telling anybody. What a client asks for is first admitted ([`Upload::admit`]), which is
//! where a [`Refusal`] comes from; after that a transition that does not fit is a mistake in this
//! program and panics.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::digest::Blake3Digest;
use super::id::UploadId;
use super::limits::Limits;
use super::metadata::Metadata;
use super::operation::{Append, Completion};
use super::refusal::Refusal;
use super::tree::Frontier;
use super::units::Timestamp;

/// How long a gone upload still answers 410 before it is forgotten.
pub const GONE_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// One upload: the unit of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    id: UploadId,
    state: State,
    metadata: Metadata,
    created: Timestamp,
    expires: Option<Timestamp>,
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
    },
    /// All bytes are there. It never changes; it can only become gone.
    Complete {
        /// The bytes of the representation.
        length: u64,
        /// Their digest, when a tree was kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Blake3Digest>,
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
    /// Its bytes are no longer there.
    Lost,
}

impl fmt::Display for GoneReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cancelled => "a client cancelled it",
            Self::Expired => "it expired",
            Self::Lost => "its content was lost",
        })
    }
}

/// What an append may do, as [`Upload::admit`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Where its first byte goes.
    pub offset: u64,
    /// Where the upload has to end at the latest: its length, or else the largest length allowed.
    pub ceiling: u64,
    /// The length that is recorded with the append.
    pub length: Option<u64>,
    /// When the upload is complete.
    pub completion: Completion,
}

impl Admission {
    /// Whether the upload is complete when the content ended at `offset`, as a whole or cut off.
    pub fn completes(&self, offset: u64, is_whole: bool) -> bool {
        match self.completion {
            Completion::AtLength => self.length == Some(offset),
            Completion::AtEnd => is_whole,
            Completion::Later => false,
        }
    }

    /// Why no byte is taken at the ceiling.
    pub fn overrun(&self) -> Refusal {
        match self.length {
            Some(length) => Refusal::BeyondLength { length },
            None => Refusal::TooLong { max: self.ceiling },
        }
    }
}

impl Upload {
    /// A new upload without content. One of length 0 is not complete yet: an append of nothing
    /// makes it so, as it would any other (tus 1.0 "Creation": it is complete at once).
    pub fn new(id: UploadId, length: Option<u64>, metadata: Metadata, now: Timestamp) -> Self {
        let state = State::Receiving { offset: 0, length, frontier: None };
        Self { id, state, metadata, created: now, expires: None }
    }

    /// The new upload with a tree over its bytes, or without one.
    ///
    /// # Panics
    ///
    /// If it has bytes already.
    #[must_use]
    pub fn with_tree(mut self, tree: Option<Frontier>) -> Self {
        let State::Receiving { offset: 0, frontier, .. } = &mut self.state else {
            unreachable!("a tree is begun with the upload");
        };
        *frontier = tree;
        self
    }

    /// Whether and how an append may be carried out.
    ///
    /// # Errors
    ///
    /// `Gone`, `AlreadyComplete`, `OffsetMismatch`, `LengthMismatch`, `LengthBelowOffset`,
    /// `TooLong`, `BeyondLength`. Nothing changes.
    pub fn admit(&self, append: &Append, limits: &Limits) -> Result<Admission, Refusal> {
        let (offset, recorded) = match self.state {
            State::Receiving { offset, length, .. } => (offset, length),
            State::Complete { length, .. } => (length, Some(length)),
            State::Gone { why, .. } => return Err(Refusal::Gone(why)),
        };
        if append.offset != offset {
            return Err(Refusal::OffsetMismatch { offset, provided: append.offset });
        }
        let length = agreed_length(recorded, append.length)?;
        if let Some(provided) = length.filter(|length| *length < offset) {
            return Err(Refusal::LengthBelowOffset { offset, provided });
        }
        let ceiling = match (recorded, length) {
            (Some(length), _) => length,
            (None, Some(length)) if length > limits.length_ceiling() => {
                return Err(Refusal::TooLong { max: limits.length_ceiling() });
            }
            (None, Some(length)) => length,
            (None, None) => limits.length_ceiling(),
        };
        let completion = append.completion;
        let admission = Admission { offset, ceiling, length, completion };
        let end = append.content_length.map_or(Some(offset), |bytes| offset.checked_add(bytes));
        if end.is_some_and(|end| end <= ceiling) {
            return Ok(admission);
        }
        match self.state {
            State::Complete { length, .. } => Err(Refusal::AlreadyComplete { length }),
            State::Receiving { .. } | State::Gone { .. } => Err(admission.overrun()),
        }
    }

    /// The record with the content up to `offset`, the tree over it, and the length that the append
    /// told. The offset never goes back and never passes the ceiling.
    ///
    /// # Panics
    ///
    /// If the upload is not the one that was admitted.
    #[must_use]
    pub fn received(
        mut self,
        admission: &Admission,
        offset: u64,
        frontier: Option<Frontier>,
    ) -> Self {
        let State::Receiving { offset: before, .. } = self.state else {
            unreachable!("only an upload that is receiving was admitted");
        };
        assert!(before <= offset && offset <= admission.ceiling, "{before} {offset} {admission:?}");
        self.state = State::Receiving { offset, length: admission.length, frontier };
        self
    }

    /// The complete upload; its length is the offset that was reached.
    ///
    /// # Panics
    ///
    /// If it was not receiving, or its length is another.
    #[must_use]
    pub fn completed(mut self, digest: Option<Blake3Digest>, now: Timestamp) -> Self {
        let State::Receiving { offset, length, .. } = self.state else {
            unreachable!("only an upload that is receiving can become complete");
        };
        assert!(length.is_none_or(|length| length == offset), "{length:?} {offset}");
        self.state = State::Complete { length: offset, digest, at: now };
        self.expires = None;
        self
    }

    /// The upload with the time after which it is no longer there.
    #[must_use]
    pub fn expiring(mut self, expires: Option<Timestamp>) -> Self {
        self.expires = expires;
        self
    }

    /// The gone upload. One that is gone already stays as it is, with its first reason.
    #[must_use]
    pub fn gone(mut self, why: GoneReason, now: Timestamp) -> Self {
        match self.state {
            State::Receiving { .. } | State::Complete { .. } => {
                self.state = State::Gone { why, at: now };
                self.expires = None;
                self.metadata = Metadata::default();
            }
            State::Gone { .. } => {}
        }
        self
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// When the sweep has to look at this upload next: at its expiry, or when a gone one is
    /// forgotten.
    pub fn wake(&self) -> Option<Timestamp> {
        match self.state {
            State::Receiving { .. } | State::Complete { .. } => self.expires,
            State::Gone { at, .. } => Some(at.after(GONE_RETENTION)),
        }
    }

    /// The upload's id.
    pub fn id(&self) -> UploadId {
        self.id
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The bytes that exist and will not go away again; `None` when the upload is gone.
    pub fn offset(&self) -> Option<u64> {
        match self.state {
            State::Receiving { offset, .. } => Some(offset),
            State::Complete { length, .. } => Some(length),
            State::Gone { .. } => None,
        }
    }

    /// The bytes there will be, once known.
    pub fn length(&self) -> Option<u64> {
        match self.state {
            State::Receiving { length, .. } => length,
            State::Complete { length, .. } => Some(length),
            State::Gone { .. } => None,
        }
    }

    /// The tree over the full groups of what arrived, when one is kept.
    pub fn frontier(&self) -> Option<&Frontier> {
        match &self.state {
            State::Receiving { frontier, .. } => frontier.as_ref(),
            State::Complete { .. } | State::Gone { .. } => None,
        }
    }

    /// The digest of a complete upload, when it is known.
    pub fn digest(&self) -> Option<Blake3Digest> {
        match self.state {
            State::Complete { digest, .. } => digest,
            State::Receiving { .. } | State::Gone { .. } => None,
        }
    }

    /// Whether all bytes are there.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete { .. })
    }

    /// What the client said about it.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// When it was created.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// After which it is no longer there.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

/// The length that the record and the request agree on.
fn agreed_length(recorded: Option<u64>, provided: Option<u64>) -> Result<Option<u64>, Refusal> {
    match (recorded, provided) {
        (Some(length), Some(provided)) if length != provided => {
            Err(Refusal::LengthMismatch { length, provided })
        }
        (recorded, provided) => Ok(recorded.or(provided)),
    }
}

#[cfg(test)]
mod tests;
