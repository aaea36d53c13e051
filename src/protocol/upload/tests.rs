//! The transitions against a model: the bytes that an ideal client has sent, and a disk that may
//! hold scratch behind them.

use proptest::prelude::*;

use super::*;
use crate::protocol::limits::Limits;
use crate::protocol::operation::{Append, Completion};
use crate::protocol::refusal::Refusal;
use crate::protocol::repr_digests::ReprDigests;

const NOW: Timestamp = Timestamp(1_000_000);
const MAX_LENGTH: u64 = 40;

fn limits() -> Limits {
    Limits { max_length: Some(MAX_LENGTH), ..Limits::default() }
}

fn upload(length: Option<u64>) -> Upload {
    Upload::new(UploadId::from_bytes([1; 16]), length, Metadata::default(), NOW)
}

fn append(offset: u64, content_length: Option<u64>) -> Append {
    Append {
        offset,
        length: None,
        content_length,
        completion: Completion::AtLength,
        checksum: None,
        max_bytes: None,
    }
}

fn with_bytes(length: Option<u64>, offset: u64) -> Upload {
    let empty = upload(length);
    let admission = empty.admit(&append(0, None), &limits()).unwrap();
    empty.received(&admission, offset, None, None)
}

#[test]
fn append_at_wrong_offset_is_refused() {
    for wrong in [0, 4, 6, u64::MAX] {
        assert_eq!(
            with_bytes(Some(10), 5).admit(&append(wrong, None), &limits()),
            Err(Refusal::OffsetMismatch { offset: 5, provided: wrong })
        );
    }
}

#[test]
fn append_beyond_the_length_is_refused_before_it_is_read() {
    for content_length in [6, 10, u64::MAX, i64::MAX.unsigned_abs()] {
        assert_eq!(
            with_bytes(Some(10), 5).admit(&append(5, Some(content_length)), &limits()),
            Err(Refusal::BeyondLength { length: 10 })
        );
        assert_eq!(
            with_bytes(None, 39).admit(&append(39, Some(content_length)), &limits()),
            Err(Refusal::TooLong { max: MAX_LENGTH })
        );
    }
}

#[test]
fn a_late_length_is_checked_like_an_early_one() {
    let told = |length| Append { length: Some(length), ..append(5, None) };
    let deferred = with_bytes(None, 5);
    assert_eq!(deferred.admit(&told(5), &limits()).unwrap().length, Some(5));
    assert_eq!(
        deferred.admit(&told(4), &limits()),
        Err(Refusal::LengthBelowOffset { offset: 5, provided: 4 })
    );
    assert_eq!(
        deferred.admit(&told(MAX_LENGTH + 1), &limits()),
        Err(Refusal::TooLong { max: MAX_LENGTH })
    );
    let known = with_bytes(Some(10), 5);
    assert!(known.admit(&told(10), &limits()).is_ok());
    assert_eq!(
        known.admit(&told(11), &limits()),
        Err(Refusal::LengthMismatch { length: 10, provided: 11 })
    );
}

#[test]
fn a_complete_upload_takes_an_empty_append_and_no_byte() {
    let complete = with_bytes(Some(10), 10).completed(ReprDigests::default(), NOW);
    assert!(complete.admit(&append(10, Some(0)), &limits()).is_ok());
    assert_eq!(
        complete.admit(&append(10, Some(1)), &limits()),
        Err(Refusal::AlreadyComplete { length: 10 })
    );
    assert_eq!(complete.admit(&append(10, None), &limits()).unwrap().ceiling, 10);
}

#[test]
fn a_gone_upload_keeps_its_first_reason_and_forgets_its_metadata() {
    let metadata = Metadata::parse("filename YQ==").unwrap();
    let gone = Upload::new(UploadId::from_bytes([1; 16]), Some(1), metadata, NOW)
        .gone(GoneReason::Cancelled, NOW);
    assert!(gone.metadata().is_empty());
    assert_eq!(gone.clone().gone(GoneReason::Expired, NOW), gone);
    assert_eq!(gone.admit(&append(0, None), &limits()), Err(Refusal::Gone(GoneReason::Cancelled)));
    assert_eq!(gone.wake(), Some(NOW.after(GONE_RETENTION)));
}

/// What a client or the world does next.
#[derive(Clone, Debug)]
enum Step {
    /// An append of `sent` bytes at the right offset plus `shift`; `told` is its content length,
    /// `late` the length it tells, and `arrives` of its bytes are written before it ends.
    Append {
        shift: i8,
        sent: u8,
        told: bool,
        late: Option<u8>,
        arrives: u8,
    },
    /// The process dies in the middle of an append: `scratch` bytes are behind the offset.
    Crash {
        scratch: u8,
    },
    Cancel,
}

fn step() -> impl Strategy<Value = Step> {
    let append = (-1i8..=1, 0u8..16, any::<bool>(), proptest::option::of(0u8..50), 0u8..16)
        .prop_map(|(shift, sent, told, late, arrives)| Step::Append {
            shift: if sent % 4 == 0 { shift } else { 0 },
            sent,
            told,
            late: late.filter(|late| late % 3 == 0),
            arrives: if arrives % 2 == 0 { sent } else { arrives.min(sent) },
        });
    prop_oneof![
        12 => append,
        2 => (0u8..20).prop_map(|scratch| Step::Crash { scratch }),
        1 => Just(Step::Cancel),
    ]
}

/// The upload, the bytes on the disk, and the bytes that were acknowledged.
struct World {
    upload: Upload,
    disk: Vec<u8>,
    acknowledged: Vec<u8>,
    next_byte: u8,
}

impl World {
    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let before = self.upload.clone();
        match *step {
            Step::Append { shift, sent, told, late, arrives } => {
                let offset = before.offset().unwrap_or(0).saturating_add_signed(shift.into());
                let request = Append {
                    length: late.map(u64::from),
                    ..append(offset, told.then_some(sent.into()))
                };
                if let Ok(admission) = before.admit(&request, &limits()) {
                    self.write(&before, admission, arrives);
                } else {
                    prop_assert_eq!(&self.upload, &before, "a refusal changed the upload");
                }
            }
            Step::Crash { scratch } => self.disk.extend((0..scratch).map(|_| 0xee)),
            Step::Cancel => self.upload = before.clone().gone(GoneReason::Cancelled, NOW),
        }
        self.check(&before)
    }

    fn write(&mut self, before: &Upload, admission: Admission, arrives: u8) {
        let end = admission.offset + u64::from(arrives);
        if end > admission.ceiling || before.is_complete() {
            return; // overrun: what came stays scratch and nothing is recorded
        }
        self.disk.truncate(usize::try_from(admission.offset).unwrap());
        for _ in 0..arrives {
            self.next_byte = self.next_byte.wrapping_add(1);
            self.disk.push(self.next_byte);
        }
        let received = before.clone().received(&admission, end, None, None);
        // I5: the same save again is the same record.
        assert_eq!(received, before.clone().received(&admission, end, None, None));
        let is_complete = admission.completes(end, true);
        self.upload =
            if is_complete { received.completed(ReprDigests::default(), NOW) } else { received };
        self.acknowledged.clone_from(&self.disk);
    }

    fn check(&self, before: &Upload) -> Result<(), TestCaseError> {
        let (Some(was), Some(offset)) = (before.offset(), self.upload.offset()) else {
            return Ok(());
        };
        let end = usize::try_from(offset).unwrap();
        prop_assert!(end <= self.disk.len(), "I1: the record promises bytes that are not there");
        prop_assert!(was <= offset, "I2: the offset went back");
        prop_assert_eq!(&self.disk[..end], &self.acknowledged[..], "other bytes than were sent");
        prop_assert!(self.upload.length().is_none_or(|length| offset <= length));
        prop_assert!(offset <= MAX_LENGTH);
        if before.is_complete() {
            prop_assert_eq!(&self.upload, before, "I4: a complete upload changed");
        }
        if let Some(length) = before.length() {
            prop_assert_eq!(self.upload.length(), Some(length), "a length changed");
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn any_sequence_of_requests_and_crashes_keeps_the_invariants(
        length in proptest::option::of(0u64..30),
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut world = World {
            upload: upload(length),
            disk: Vec::new(),
            acknowledged: Vec::new(),
            next_byte: 0,
        };
        for step in &steps {
            world.take(step)?;
        }
    }
}
