//! What is wrong with one upload: its record against what lies in the data folder. Pure.

use super::finding::Finding;
use crate::protocol::upload::{Placement, State, Upload};
use crate::storage::file::survey::Lying;

/// What a look at one upload gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// The bytes behind what is recorded of an upload that can be appended to. They are normal:
    /// the next append cuts them off.
    pub scratch_bytes: u64,
}

/// Compares a record with what lies there of its upload.
pub(super) fn compare(record: Option<&Upload>, lying: Option<&Lying>) -> Compared {
    let nothing = Lying::default();
    let lying = lying.unwrap_or(&nothing);
    let is_anything_there = *lying != nothing;
    let mut compared = Compared::default();
    let Some(upload) = record else {
        if is_anything_there {
            compared.findings.push(Finding::NoRecord { bytes: lying.bytes() });
        }
        return compared;
    };
    match (upload.state(), upload.placement()) {
        (State::Receiving { offset, .. }, _) => {
            compared.findings.extend(missing(*offset, lying).or_else(|| parts_left(lying)));
            compared.scratch_bytes = lying.whole.unwrap_or(0).saturating_sub(*offset);
        }
        // It may have been given hold of its parts right before a crash; that is done again.
        (State::Finishing { .. }, Placement::Whole) => {}
        (State::Finishing { .. }, Placement::Parts { lengths, .. }) => {
            compared.findings.extend(missing_part(lengths, lying));
        }
        (State::Complete { length, .. }, Placement::Whole) => {
            compared.findings.extend(missing(*length, lying).or_else(|| parts_left(lying)));
            let found = lying.whole.unwrap_or(0);
            if found > *length {
                compared.findings.push(Finding::DataLong { recorded: *length, found });
            }
        }
        (State::Complete { length, .. }, Placement::Parts { lengths, .. }) => {
            // Joined and not recorded yet, or to be joined; what was begun of that is done again.
            if lying.whole != Some(*length) {
                compared.findings.extend(missing_part(lengths, lying));
            }
        }
        (State::Gone { .. }, _) => {
            if is_anything_there {
                compared.findings.push(Finding::DataOfGone { bytes: lying.bytes() });
            }
        }
    }
    compared
}

/// Whether fewer bytes are there than recorded. Of no bytes there need not be a file.
fn missing(recorded: u64, lying: &Lying) -> Option<Finding> {
    match lying.whole {
        None if recorded > 0 => Some(Finding::DataMissing { recorded }),
        Some(found) if found < recorded => Some(Finding::DataShort { recorded, found }),
        None | Some(_) => None,
    }
}

fn missing_part(lengths: &[u64], lying: &Lying) -> Option<Finding> {
    let Some(parts) = &lying.parts else {
        let recorded = lengths.iter().copied().fold(0, u64::saturating_add);
        return missing(recorded, lying);
    };
    let mut parts =
        lengths.iter().enumerate().map(|(number, recorded)| (number, *recorded, &parts.lengths));
    parts.find_map(|(number, recorded, found)| {
        let found = found.get(&number).copied().unwrap_or(0);
        (found < recorded).then_some(Finding::PartMissing { number, recorded, found })
    })
}

fn parts_left(lying: &Lying) -> Option<Finding> {
    let parts = lying.parts.as_ref()?;
    Some(Finding::PartsLeft { parts: parts.lengths.len() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::id::UploadId;
    use crate::protocol::metadata::Metadata;
    use crate::protocol::operation::Completion;
    use crate::protocol::units::Timestamp;
    use crate::protocol::upload::{Admission, Final, GoneReason, Kind};
    use crate::storage::file::survey::LyingParts;

    const NOW: Timestamp = Timestamp(1);

    fn new() -> Upload {
        Upload::new(UploadId::from_bytes([1; 16]), None, Metadata::default(), NOW)
    }

    fn receiving(offset: u64) -> Upload {
        let completion = Completion::AtLength;
        let admission =
            Admission { offset: 0, ceiling: 100, length: None, completion, max_bytes: None };
        new().received(&admission, offset, None, None)
    }

    fn complete(length: u64) -> Upload {
        receiving(length).completed(None, NOW)
    }

    fn waiting() -> Upload {
        let none: [UploadId; 0] = [];
        new().of_kind(Kind::Final(Final { parts: none.into(), as_sent: "final;".into() }))
    }

    fn holding(lengths: &[u64]) -> Upload {
        waiting().holding(Arc::from(lengths), NOW)
    }

    fn in_parts(lengths: &[u64]) -> Upload {
        waiting().concatenated(Arc::from(lengths), NOW)
    }

    fn whole(length: u64) -> Lying {
        Lying { whole: Some(length), ..Lying::default() }
    }

    fn parts(lengths: &[(usize, u64)], half_made: Option<u64>) -> Lying {
        let parts = LyingParts { lengths: lengths.iter().copied().collect(), half_made };
        Lying { parts: Some(parts), ..Lying::default() }
    }

    fn with_parts(lying: Lying, lengths: &[(usize, u64)]) -> Lying {
        Lying { parts: parts(lengths, None).parts, ..lying }
    }

    #[test]
    fn what_may_be_there_is_no_finding() {
        let cases = [
            (receiving(0), Lying::default()),
            (receiving(0), whole(0)),
            (receiving(5), whole(5)),
            (receiving(5), whole(9)),
            (complete(0), Lying::default()),
            (complete(0), whole(0)),
            (complete(5), whole(5)),
            (waiting(), Lying::default()),
            (waiting(), parts(&[(0, 3)], None)),
            (holding(&[3, 4]), parts(&[(0, 3), (1, 4)], None)),
            (in_parts(&[3, 4]), parts(&[(0, 3), (1, 4)], None)),
            (in_parts(&[3, 4]), parts(&[(0, 3), (1, 9)], Some(2))),
            (in_parts(&[3, 0, 4]), parts(&[(0, 3), (2, 4)], None)),
            (in_parts(&[3, 4]), whole(7)),
            (in_parts(&[3, 4]), with_parts(whole(7), &[(1, 4)])),
            (in_parts(&[0]), Lying::default()),
            (new().gone(GoneReason::Cancelled, NOW), Lying::default()),
        ];
        for (upload, lying) in cases {
            let compared = compare(Some(&upload), Some(&lying));
            assert_eq!(compared.findings, [], "{upload:?} {lying:?}");
        }
        assert_eq!(compare(None, None), Compared::default());
        assert_eq!(compare(Some(&receiving(0)), None), Compared::default());
    }

    #[test]
    fn bytes_behind_the_offset_are_scratch_only_while_more_may_come() {
        assert_eq!(compare(Some(&receiving(5)), Some(&whole(9))).scratch_bytes, 4);
        assert_eq!(compare(Some(&complete(5)), Some(&whole(9))).scratch_bytes, 0);
    }

    #[test]
    fn what_is_not_as_recorded_is_found() {
        use Finding::*;
        let gone = new().gone(GoneReason::Expired, NOW);
        let cases = [
            (receiving(5), Lying::default(), DataMissing { recorded: 5 }),
            (receiving(5), whole(4), DataShort { recorded: 5, found: 4 }),
            (receiving(5), whole(0), DataShort { recorded: 5, found: 0 }),
            (receiving(5), with_parts(whole(5), &[]), PartsLeft { parts: 0 }),
            (complete(5), Lying::default(), DataMissing { recorded: 5 }),
            (complete(5), whole(4), DataShort { recorded: 5, found: 4 }),
            (complete(5), whole(6), DataLong { recorded: 5, found: 6 }),
            (complete(0), whole(6), DataLong { recorded: 0, found: 6 }),
            (complete(5), with_parts(whole(5), &[(0, 5)]), PartsLeft { parts: 1 }),
            // What is left may be all there is of it: it is not called left over.
            (complete(5), with_parts(whole(4), &[(0, 5)]), DataShort { recorded: 5, found: 4 }),
            (complete(5), parts(&[(0, 5)], None), DataMissing { recorded: 5 }),
            (
                holding(&[3, 4]),
                parts(&[(0, 3)], None),
                PartMissing { number: 1, recorded: 4, found: 0 },
            ),
            (in_parts(&[3, 4]), Lying::default(), DataMissing { recorded: 7 }),
            (in_parts(&[3, 4]), whole(6), DataShort { recorded: 7, found: 6 }),
            (
                in_parts(&[3, 4]),
                parts(&[(0, 3)], None),
                PartMissing { number: 1, recorded: 4, found: 0 },
            ),
            (
                in_parts(&[3, 4]),
                parts(&[(0, 2), (1, 4)], Some(7)),
                PartMissing { number: 0, recorded: 3, found: 2 },
            ),
            (gone.clone(), whole(0), DataOfGone { bytes: 0 }),
            (gone, with_parts(whole(1), &[(0, 2)]), DataOfGone { bytes: 3 }),
        ];
        for (upload, lying, expected) in cases {
            let compared = compare(Some(&upload), Some(&lying));
            assert_eq!(compared.findings, [expected], "{upload:?} {lying:?}");
        }
        let lying = Lying { lists: 1, ..whole(3) };
        assert_eq!(compare(None, Some(&lying)).findings, [NoRecord { bytes: 3 }]);
    }
}
