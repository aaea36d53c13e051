//! The second look while a server runs: a finding counts only if the record is the same before and
//! behind both looks at the files, and the server cannot be about to put it right.

use std::time::Duration;

use super::finding::Finding;
use super::walk::Record;
use super::{CheckError, Store, compare_record, load};
use crate::protocol::id::UploadId;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::State;
use crate::storage::file::survey::Lying;
use crate::storage::{StorageError, Version};

/// The uploads that are looked at again together. The records are read anew once for all.
const SUSPECTS: usize = 16 << 10;
/// Content under a checksum has no record before all of it came, and what is no longer needed is
/// removed a little later. So what is too much counts only when nothing happened to it for this
/// long.
const QUIET: Duration = Duration::from_secs(15 * 60);

/// Uploads at which something was found, to be looked at again.
#[derive(Default)]
pub(super) struct Suspects {
    pending: Vec<Suspect>,
}

struct Suspect {
    id: UploadId,
    seen: Seen,
    findings: Vec<Finding>,
    /// Whether a look at the files alone finds the same.
    is_shallow: bool,
}

/// As much of a record as tells whether it changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    None,
    Damaged,
    Stored(Version),
}

impl Seen {
    fn of(record: &Record) -> Self {
        match record {
            Record::None => Self::None,
            Record::Damaged(_) => Self::Damaged,
            Record::Stored(stored) => Self::Stored(stored.version),
        }
    }
}

/// What the second look gave.
#[derive(Default)]
pub(super) struct Settled {
    pub(super) certain: Vec<(UploadId, Finding)>,
    /// The uploads that somebody is at work on.
    pub(super) left_out: u64,
}

impl Suspects {
    pub(super) fn push(
        &mut self,
        id: UploadId,
        record: &Record,
        findings: Vec<Finding>,
        is_shallow: bool,
    ) {
        self.pending.push(Suspect { id, seen: Seen::of(record), findings, is_shallow });
    }

    pub(super) fn are_many(&self) -> bool {
        self.pending.len() >= SUSPECTS
    }

    /// Looks at all of them again. `refresh` makes the records those of now.
    pub(super) fn settle(
        &mut self,
        store: &Store<'_>,
        refresh: &dyn Fn() -> Result<(), StorageError>,
        now: Timestamp,
    ) -> Result<Settled, CheckError> {
        let mut settled = Settled::default();
        if self.pending.is_empty() {
            return Ok(settled);
        }
        let looked = self.pending.iter().map(|suspect| store.survey.look(suspect.id));
        let looked: Vec<_> = looked.collect::<Result<_, _>>().map_err(CheckError::Survey)?;
        refresh().map_err(CheckError::Records)?;
        for (suspect, lying) in self.pending.drain(..).zip(looked) {
            let record = load(store, suspect.id)?;
            if suspect.is_confirmed(&record, lying.as_ref(), now) {
                let id = suspect.id;
                settled.certain.extend(suspect.findings.into_iter().map(|finding| (id, finding)));
            } else {
                settled.left_out = settled.left_out.saturating_add(1);
            }
        }
        Ok(settled)
    }
}

impl Suspect {
    fn is_confirmed(&self, record: &Record, lying: Option<&Lying>, now: Timestamp) -> bool {
        let expected: &[Finding] = if self.is_shallow { &self.findings } else { &[] };
        let is_too_much = |finding: &Finding| match finding {
            Finding::NoRecord { .. } | Finding::DataOfGone { .. } | Finding::PartsLeft { .. } => {
                true
            }
            Finding::RecordDamaged { .. }
            | Finding::DataMissing { .. }
            | Finding::DataShort { .. }
            | Finding::PartMissing { .. }
            | Finding::DataLong { .. }
            | Finding::DigestDiffers { .. }
            | Finding::TreeDiffers { .. }
            | Finding::Unreadable { .. } => false,
        };
        Seen::of(record) == self.seen
            && compare_record(record, lying).findings == expected
            && (!self.findings.iter().any(is_too_much) || is_quiet(record, lying, now))
    }
}

fn is_quiet(record: &Record, lying: Option<&Lying>, now: Timestamp) -> bool {
    let changed = lying.and_then(|lying| lying.changed);
    let gone = match record {
        Record::Stored(stored) => match stored.upload.state() {
            State::Gone { at, .. } => Some(*at),
            State::Receiving { .. } | State::Finishing { .. } | State::Complete { .. } => None,
        },
        Record::None | Record::Damaged(_) => None,
    };
    changed.max(gone).is_none_or(|last| last.after(QUIET) <= now)
}
