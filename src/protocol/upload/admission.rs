//! Appends: what a client asks for is admitted here, which is where a refusal comes from, and what
//! arrived is recorded.
//!
//! - tus 1.0 "PATCH", RUFH §Upload Append

use super::{Kind, State, Upload};
use crate::protocol::limits::Limits;
use crate::protocol::operation::{Append, Completion};
use crate::protocol::refusal::Refusal;
use crate::protocol::repr_digests::SavedSha256;
use crate::protocol::tree::Frontier;

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
    /// The most bytes that the content may have.
    pub max_bytes: Option<u64>,
}

impl Admission {
    /// Whether the upload is complete when the content ended at `offset`, as a whole or cut off.
    pub fn completes(&self, offset: u64, is_whole: bool) -> bool {
        match self.completion {
            Completion::AtLength => self.length == Some(offset),
            Completion::AtEnd => is_whole && self.shortfall(offset).is_none(),
            Completion::Later => false,
        }
    }

    /// Why content that ended at `offset` does not complete the upload although it says so.
    pub fn shortfall(&self, offset: u64) -> Option<Refusal> {
        match (self.completion, self.length) {
            (Completion::AtEnd, Some(length)) if offset < length => {
                Some(Refusal::ShortOfLength { length, offset })
            }
            (Completion::AtEnd | Completion::AtLength | Completion::Later, _) => None,
        }
    }

    /// The most bytes that are taken.
    pub fn allowance(&self) -> u64 {
        let room = self.ceiling.saturating_sub(self.offset);
        self.max_bytes.map_or(room, |max| max.min(room))
    }

    /// Why no more than the allowance is taken.
    pub fn overrun(&self) -> Refusal {
        let room = self.ceiling.saturating_sub(self.offset);
        match (self.max_bytes, self.length) {
            (Some(max), _) if max < room => Refusal::AppendTooLong { max },
            (_, Some(length)) => Refusal::BeyondLength { length },
            (_, None) => Refusal::TooLong { max: self.ceiling },
        }
    }

    /// Whether content beyond the length ends the upload: so it is where a length is a client's
    /// word for what it will send (RUFH §Upload Append, "marking the upload resource invalid").
    pub fn is_void_beyond_length(&self) -> bool {
        match self.completion {
            Completion::AtLength => false,
            Completion::AtEnd | Completion::Later => true,
        }
    }
}

impl Upload {
    /// Whether and how an append may be carried out.
    ///
    /// # Errors
    ///
    /// `FinalUpload`, `Gone`, `AlreadyComplete`, `OffsetMismatch`, `LengthMismatch`,
    /// `LengthBelowOffset`, `TooLong`, `BeyondLength`, `AppendTooLong`. Nothing changes.
    pub fn admit(&self, append: &Append, limits: &Limits) -> Result<Admission, Refusal> {
        if matches!((&self.0.kind, &self.0.state), (Kind::Final(_), State::Complete { .. })) {
            return Err(Refusal::FinalUpload);
        }
        let (offset, recorded) = match self.0.state {
            State::Receiving { offset, length, .. } => (offset, length),
            State::Complete { length, .. } => (length, Some(length)),
            State::Finishing { .. } => return Err(Refusal::FinalUpload),
            State::Gone { why, .. } => return Err(Refusal::Gone(why)),
        };
        if append.offset != offset {
            return Err(Refusal::OffsetMismatch { offset, provided: append.offset });
        }
        if self.is_complete() && append.content_length.is_some_and(|bytes| bytes > 0) {
            return Err(Refusal::AlreadyComplete { length: offset });
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
        let admission =
            Admission { offset, ceiling, length, completion, max_bytes: append.max_bytes };
        let end = append.content_length.map_or(Some(offset), |bytes| offset.checked_add(bytes));
        if end.is_some_and(|end| end <= ceiling) { Ok(admission) } else { Err(admission.overrun()) }
    }

    /// The record with the content up to `offset`, the digests over it, and the length that the append
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
        sha256: Option<SavedSha256>,
    ) -> Self {
        let State::Receiving { offset: before, .. } = self.0.state else {
            unreachable!("only an upload that is receiving was admitted");
        };
        assert!(before <= offset && offset <= admission.ceiling, "{before} {offset} {admission:?}");
        self.record_mut().state =
            State::Receiving { offset, length: admission.length, frontier, sha256 };
        self
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
