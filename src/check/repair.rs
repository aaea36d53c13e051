//! Repairs what one finding tells of. Nothing here takes away a byte that a record tells of: what
//! has no place in the store is moved to `lost+found`.

use std::io;

use super::finding::{Finding, Remedy};
use super::report::Outcome;
use super::walk::{Record, Step, walk};
use super::{CheckError, Mode, Options, Store, compare_record};
use crate::protocol::id::UploadId;
use crate::protocol::upload::GoneReason;

/// Fewer uploads than this are not taken for a missing disk, unless all data is missing.
const MANY: u64 = 10;

/// Refuses to repair a store of which most seems to be missing.
pub(super) fn refuse_if_most_is_missing(store: &Store<'_>) -> Result<(), CheckError> {
    let (mut expected, mut missing, mut found, mut without) = (0_u64, 0_u64, 0_u64, 0_u64);
    walk(store.records, store.survey, |step| {
        let Step::Upload(_, record, lying) = step else { return Ok(()) };
        let findings = compare_record(&record, lying).findings;
        let has = |is: fn(&Finding) -> bool| u64::from(findings.iter().any(is));
        if let Record::Stored(stored) = &record {
            expected += u64::from(stored.upload.offset().is_some_and(|bytes| bytes > 0));
            missing += has(|finding| matches!(finding, Finding::DataMissing { .. }));
        }
        found += u64::from(lying.is_some());
        without += has(|finding| matches!(finding, Finding::NoRecord { .. }));
        Ok(())
    })?;
    let is_most = |some: u64, all: u64| {
        let is_half = some.saturating_mul(2) > all;
        some > 0 && (some == all || (some >= MANY && is_half))
    };
    if is_most(missing, expected) {
        return Err(CheckError::MostDataMissing { missing, expected });
    }
    if is_most(without, found) {
        return Err(CheckError::MostRecordsMissing { without, found });
    }
    Ok(())
}

/// Repairs it, if that is asked for and can be done.
pub(super) fn repair(
    store: &Store<'_>,
    options: &Options<'_>,
    (id, record): (UploadId, &Record),
    finding: &Finding,
) -> Result<Outcome, CheckError> {
    let (Mode::Repair { lost_and_found, .. }, Some(remedy)) = (&options.mode, finding.remedy())
    else {
        return Ok(Outcome::Told);
    };
    let failed = |source: io::Error| CheckError::Repair { upload: id, source };
    let survey = store.survey;
    match (remedy, record) {
        (Remedy::SetAside, _) => survey.set_aside(id, lost_and_found).map_err(failed)?,
        (Remedy::RemoveParts, _) => survey.remove_parts(id, lost_and_found).map_err(failed)?,
        (Remedy::Remove, _) => survey.remove(id, lost_and_found).map_err(failed)?,
        (Remedy::Cut, Record::Stored(stored)) => {
            survey.cut(id, stored.upload.offset().unwrap_or(u64::MAX)).map_err(failed)?;
        }
        (Remedy::Lose, Record::Stored(stored)) => {
            // First: the sweep would remove what is left of a lost upload.
            survey.set_aside(id, lost_and_found).map_err(failed)?;
            let lost = stored.upload.clone().gone(GoneReason::Lost, options.now);
            store.records.save(lost, Some(stored.version)).map_err(CheckError::Records)?;
        }
        (Remedy::Cut | Remedy::Lose, Record::None | Record::Damaged(_)) => {
            return Ok(Outcome::Told);
        }
    }
    Ok(Outcome::Repaired(remedy))
}
