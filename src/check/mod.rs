//! The check of a store: records against data, and what can be repaired without a doubt.
//!
//! What is found is decided by a pure comparison of one record with what lies there of its upload
//! (`compare`); the rest goes through all of them in bounded memory (`walk`), reads bytes when that
//! is asked for (`deep`), repairs (`repair`) and tells (`report`). Blocks; not for a server.
//!
//! While a server runs, a finding counts only if a second look shows the same and the record did
//! not change meanwhile. Whoever repairs has the data folder for himself.

mod compare;
mod deep;
mod finding;
mod repair;
mod report;
mod walk;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use self::compare::{Compared, compare};
use self::deep::Read;
pub use self::finding::{Finding, Remedy};
use self::report::Outcome;
pub use self::report::{Form, Report, Summary};
use self::walk::{Record, Step, walk};
use crate::protocol::id::UploadId;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::State;
use crate::storage::blocking::BlockingRecords;
use crate::storage::file::survey::{Lying, Survey};
use crate::storage::{Failure, StorageError};

/// Content under a checksum has no record before all of it came. While a server runs, data without
/// a record counts only when nothing was written to it for this long.
const QUIET: Duration = Duration::from_secs(15 * 60);

/// What is checked.
pub struct Store<'a> {
    /// The records.
    pub records: &'a BlockingRecords,
    /// The data.
    pub survey: &'a Survey,
}

/// How it is checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the bytes are read and compared with the digests.
    pub is_deep: bool,
    /// The time when the check begins.
    pub now: Timestamp,
    /// What else is known or to be done.
    pub mode: Mode,
}

/// What a check may rely on, and what it is to do.
#[derive(Clone, Debug)]
pub enum Mode {
    /// A server runs meanwhile: look only, and twice.
    Online,
    /// Nobody writes meanwhile: look only.
    Offline,
    /// Nobody writes meanwhile: repair what can be.
    Repair {
        /// Where data goes that has no place in the store.
        lost_and_found: PathBuf,
        /// Whether to repair also when most of the store seems to be missing.
        is_forced: bool,
    },
}

/// Why a check could not be made, or not to its end.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The records cannot be read, or a repaired one not be saved.
    #[error("{0}")]
    Records(#[source] StorageError),
    /// The data folder cannot be read.
    #[error("looking through the data: {0}")]
    Survey(#[source] io::Error),
    /// A repair failed.
    #[error("repairing upload {upload}: {source}")]
    Repair {
        /// Of which upload.
        upload: UploadId,
        /// What the system said.
        source: io::Error,
    },
    /// So much data is missing that something else has to be the matter.
    #[error(
        "the data of {missing} of {expected} uploads is not there, so nothing was repaired: is a \
         disk not mounted? To make these uploads lost all the same, add --force"
    )]
    MostDataMissing {
        /// The uploads without their data.
        missing: u64,
        /// The uploads that have data by their records.
        expected: u64,
    },
    /// So many records are missing that something else has to be the matter.
    #[error(
        "{without} of {found} uploads with data have no record, so nothing was repaired: were the \
         records lost? To set that data aside all the same, add --force"
    )]
    MostRecordsMissing {
        /// The uploads with data and without a record.
        without: u64,
        /// The uploads with data.
        found: u64,
    },
    /// What was found cannot be told.
    #[error("writing the report: {0}")]
    Output(#[source] io::Error),
}

/// Checks a store.
///
/// # Errors
///
/// It could not be read, or not be repaired: see [`CheckError`]. Findings are no errors.
pub fn run(
    store: &Store<'_>,
    options: &Options,
    report: &mut Report<'_>,
) -> Result<Summary, CheckError> {
    if let Mode::Repair { is_forced: false, .. } = options.mode {
        repair::refuse_if_most_is_missing(store)?;
    }
    let verified_bytes = options.is_deep.then_some(0);
    let mut summary = Summary { verified_bytes, ..Summary::default() };
    walk(store.records, store.survey, |step| match step {
        Step::Stranger(path) => {
            summary.strangers = summary.strangers.saturating_add(1);
            report.stranger(path).map_err(CheckError::Output)
        }
        Step::Upload(id, record, lying) => {
            summary.count(&record);
            let found = look(store, options, (id, &record, lying), &mut summary)?;
            for finding in found {
                summary.findings = summary.findings.saturating_add(1);
                let outcome = repair::repair(store, options, (id, &record), &finding)?;
                if matches!(outcome, Outcome::Repaired(_)) {
                    summary.repaired = summary.repaired.saturating_add(1);
                }
                report.finding(id, &finding, outcome).map_err(CheckError::Output)?;
            }
            Ok(())
        }
    })?;
    report.summary(&summary).map_err(CheckError::Output)?;
    Ok(summary)
}

/// What is wrong with one upload, for certain.
fn look(
    store: &Store<'_>,
    options: &Options,
    (id, record, lying): (UploadId, &Record, Option<&Lying>),
    summary: &mut Summary,
) -> Result<Vec<Finding>, CheckError> {
    let Compared { mut findings, scratch_bytes } = compare_record(record, lying);
    summary.scratch_bytes = summary.scratch_bytes.saturating_add(scratch_bytes);
    let is_shallow = !findings.is_empty();
    if let (Record::Stored(stored), true, false) = (record, options.is_deep, is_shallow) {
        match deep::read(store.survey, &stored.upload) {
            Read::Same(bytes) => summary.verify(bytes),
            Read::Nothing if stored.upload.offset().is_some_and(|bytes| bytes > 0) => {
                summary.unverifiable = summary.unverifiable.saturating_add(1);
            }
            Read::Nothing => {}
            Read::Differs(finding) => findings.push(finding),
        }
    }
    if matches!(options.mode, Mode::Online) && !findings.is_empty() {
        let again = look_again(store, options.now, id, record)?;
        let shallow: &[Finding] = if is_shallow { &findings } else { &[] };
        if again.is_none_or(|again| again != shallow) {
            summary.left_out = summary.left_out.saturating_add(1);
            findings.clear();
        }
    }
    Ok(findings)
}

fn compare_record(record: &Record, lying: Option<&Lying>) -> Compared {
    match record {
        Record::None => compare(None, lying),
        Record::Stored(stored) => compare(Some(&stored.upload), lying),
        Record::Damaged(why) => Compared {
            findings: vec![Finding::RecordDamaged { why: why.clone() }],
            scratch_bytes: 0,
        },
    }
}

/// What a second look gives; `None` when somebody is at work on it.
fn look_again(
    store: &Store<'_>,
    now: Timestamp,
    id: UploadId,
    record: &Record,
) -> Result<Option<Vec<Finding>>, CheckError> {
    if load(store, id)? != *record {
        return Ok(None);
    }
    let lying = store.survey.look(id).map_err(CheckError::Survey)?;
    if load(store, id)? != *record {
        return Ok(None);
    }
    let changed = lying.as_ref().and_then(|lying| lying.changed);
    let is_quiet = changed.is_some_and(|changed| changed.after(QUIET) <= now);
    if *record == Record::None && !is_quiet {
        return Ok(None);
    }
    Ok(Some(compare_record(record, lying.as_ref()).findings))
}

fn load(store: &Store<'_>, id: UploadId) -> Result<Record, CheckError> {
    match store.records.load(id) {
        Ok(None) => Ok(Record::None),
        Ok(Some(stored)) => Ok(Record::Stored(Box::new(stored))),
        Err(StorageError { failure: Failure::Damaged(why), .. }) => Ok(Record::Damaged(why)),
        Err(error) => Err(CheckError::Records(error)),
    }
}

impl Summary {
    fn count(&mut self, record: &Record) {
        let Record::Stored(stored) = record else {
            if matches!(record, Record::Damaged(_)) {
                self.records = self.records.saturating_add(1);
            }
            return;
        };
        self.records = self.records.saturating_add(1);
        let bytes = stored.upload.offset().unwrap_or(0);
        self.recorded_bytes = self.recorded_bytes.saturating_add(bytes);
        let of_its_state = match stored.upload.state() {
            State::Receiving { .. } | State::Finishing { .. } => &mut self.unfinished,
            State::Complete { .. } => &mut self.complete,
            State::Gone { .. } => &mut self.gone,
        };
        *of_its_state = of_its_state.saturating_add(1);
    }

    fn verify(&mut self, bytes: u64) {
        let verified = self.verified_bytes.unwrap_or(0);
        self.verified_bytes = Some(verified.saturating_add(bytes));
    }
}

#[cfg(test)]
mod tests;
