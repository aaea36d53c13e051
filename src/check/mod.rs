//! The check of a store: records against data, and what can be repaired without a doubt.
//!
//! What is found is decided by a pure comparison of one record with what lies there of its upload
//! (`compare`); the rest goes through all of them in bounded memory (`walk`), reads bytes when that
//! is asked for (`deep`), repairs (`repair`) and tells (`report`). Blocks; not for a server.
//!
//! While a server runs, a finding counts only if a second look shows the same and the record did
//! not change meanwhile (`online`). Whoever repairs has the data folder for himself.

mod compare;
mod deep;
mod finding;
mod online;
mod repair;
mod report;
mod walk;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use self::compare::{Compared, compare};
use self::deep::Read;
pub use self::finding::{Finding, Remedy};
use self::online::{Settled, Suspects};
use self::report::Outcome;
pub use self::report::{Form, Report, Summary};
use self::walk::{Record, Step, walk};
use crate::protocol::id::UploadId;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::State;
use crate::storage::blocking::BlockingRecords;
use crate::storage::file::survey::{Lying, Survey};
use crate::storage::{Failure, StorageError};

/// What is checked.
pub struct Store<'a> {
    /// The records.
    pub records: &'a BlockingRecords,
    /// The data.
    pub survey: &'a Survey,
}

/// How it is checked.
pub struct Options<'a> {
    /// Whether the bytes are read and compared with the digests.
    pub is_deep: bool,
    /// The time when the check begins.
    pub now: Timestamp,
    /// What else is known or to be done.
    pub mode: Mode<'a>,
}

/// What a check may rely on, and what it is to do.
pub enum Mode<'a> {
    /// A server runs meanwhile: look only, and twice.
    Online {
        /// Makes the records those of now; they may be those of an earlier time until then.
        refresh: &'a dyn Fn() -> Result<(), StorageError>,
    },
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
         records lost? Make them anew with --rebuild, or add --force to set that data aside all \
         the same"
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
    options: &Options<'_>,
    report: &mut Report<'_>,
) -> Result<Summary, CheckError> {
    if let Mode::Repair { is_forced: false, .. } = options.mode {
        repair::refuse_if_most_is_missing(store)?;
    }
    let verified_bytes = options.is_deep.then_some(0);
    let mut summary = Summary { verified_bytes, ..Summary::default() };
    let mut suspects = Suspects::default();
    walk(store.records, store.survey, |step| match step {
        Step::Stranger(path) => {
            summary.strangers = summary.strangers.saturating_add(1);
            report.stranger(path).map_err(CheckError::Output)
        }
        Step::Upload(id, record, lying) => {
            summary.count(&record);
            let (findings, is_shallow) = look(store, options, (&record, lying), &mut summary);
            match options.mode {
                _ if findings.is_empty() => {}
                Mode::Online { .. } => suspects.push(id, &record, findings, is_shallow),
                Mode::Offline | Mode::Repair { .. } => {
                    for finding in findings {
                        let outcome = repair::repair(store, options, (id, &record), &finding)?;
                        summary.tell(report, (id, &finding), outcome)?;
                    }
                }
            }
            if suspects.are_many() {
                settle(store, options, &mut suspects, (&mut summary, report))?;
            }
            Ok(())
        }
    })?;
    settle(store, options, &mut suspects, (&mut summary, report))?;
    report.summary(&summary).map_err(CheckError::Output)?;
    Ok(summary)
}

/// Looks again at what was found while a server runs, and tells what is certain.
fn settle(
    store: &Store<'_>,
    options: &Options<'_>,
    suspects: &mut Suspects,
    (summary, report): (&mut Summary, &mut Report<'_>),
) -> Result<(), CheckError> {
    let Mode::Online { refresh } = options.mode else { return Ok(()) };
    let Settled { certain, left_out } = suspects.settle(store, refresh, options.now)?;
    summary.left_out = summary.left_out.saturating_add(left_out);
    for (id, finding) in &certain {
        summary.tell(report, (*id, finding), Outcome::Told)?;
    }
    Ok(())
}

/// What is wrong with one upload, and whether that was found without reading its bytes.
fn look(
    store: &Store<'_>,
    options: &Options<'_>,
    (record, lying): (&Record, Option<&Lying>),
    summary: &mut Summary,
) -> (Vec<Finding>, bool) {
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
    (findings, is_shallow)
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

    fn tell(
        &mut self,
        report: &mut Report<'_>,
        (id, finding): (UploadId, &Finding),
        outcome: Outcome,
    ) -> Result<(), CheckError> {
        self.findings = self.findings.saturating_add(1);
        if matches!(outcome, Outcome::Repaired(_)) {
            self.repaired = self.repaired.saturating_add(1);
        }
        report.finding(id, finding, outcome).map_err(CheckError::Output)
    }

    fn verify(&mut self, bytes: u64) {
        let verified = self.verified_bytes.unwrap_or(0);
        self.verified_bytes = Some(verified.saturating_add(bytes));
    }
}

#[cfg(test)]
mod tests;
