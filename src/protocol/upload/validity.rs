//! Whether a record can be: what was read from a disk is believed only when its numbers fit each
//! other, so that no transition meets one that it takes for a mistake in this program.

use super::{Kind, Placement, State, Upload};
use crate::protocol::tree::{Frontier, resume_offset};
use crate::protocol::units::MAX_LENGTH;

impl Upload {
    /// Whether this record is one that the transitions can lead to, as far as its numbers tell.
    ///
    /// # Errors
    ///
    /// A text for a person, which names what does not fit.
    pub fn check(&self) -> Result<(), String> {
        let is_final = matches!(self.0.kind, Kind::Final(_));
        if let (Placement::Parts { .. }, State::Receiving { .. } | State::Gone { .. }) =
            (&self.0.placement, &self.0.state)
        {
            return Err("its bytes lie in parts and it cannot have any".to_owned());
        }
        match &self.0.state {
            State::Receiving { .. } if is_final => {
                Err("it is a final upload and receives content".to_owned())
            }
            State::Receiving { offset, length, frontier, .. } => {
                check_received(*offset, *length, frontier.as_ref())
            }
            State::Finishing { .. } if !is_final => {
                Err("it waits for parts and is no final upload".to_owned())
            }
            State::Finishing { length, .. } => {
                length.map_or(Ok(()), |length| self.check_all(length))
            }
            State::Gone { .. } => Ok(()),
            State::Complete { length, .. } => self.check_all(*length),
        }
    }

    /// All bytes, of an upload that has them or waits for them.
    fn check_all(&self, length: u64) -> Result<(), String> {
        if length > MAX_LENGTH {
            return Err(format!("its length is {length}, more than a file can have"));
        }
        let Placement::Parts { lengths, .. } = &self.0.placement else { return Ok(()) };
        let of_parts = lengths.iter().copied().fold(0, u64::saturating_add);
        if of_parts != length {
            return Err(format!("its length is {length} and that of its parts {of_parts}"));
        }
        Ok(())
    }
}

fn check_received(
    offset: u64,
    length: Option<u64>,
    frontier: Option<&Frontier>,
) -> Result<(), String> {
    if offset > MAX_LENGTH {
        return Err(format!("its offset is {offset}, more than a file can have"));
    }
    if let Some(length) = length.filter(|length| *length > MAX_LENGTH) {
        return Err(format!("its length is {length}, more than a file can have"));
    }
    if let Some(length) = length.filter(|length| *length < offset) {
        return Err(format!("its offset is {offset}, beyond its length {length}"));
    }
    let expected = resume_offset(offset);
    match frontier.map(Frontier::length) {
        Some(covered) if covered != expected => Err(format!(
            "its tree is over {covered} bytes and has to be over {expected} at offset {offset}"
        )),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::UploadId;
    use crate::protocol::metadata::Metadata;
    use crate::protocol::operation::Completion;
    use crate::protocol::tree::Tree;
    use crate::protocol::units::Timestamp;
    use crate::protocol::upload::{Admission, Final};

    fn new() -> Upload {
        Upload::new(UploadId::from_bytes([1; 16]), None, Metadata::default(), Timestamp(1))
    }

    fn received(offset: u64, frontier: Option<Frontier>) -> Upload {
        let completion = Completion::AtLength;
        let admission =
            Admission { offset: 0, ceiling: u64::MAX, length: None, completion, max_bytes: None };
        new().received(&admission, offset, frontier, None)
    }

    fn frontier(bytes: usize) -> Frontier {
        let mut tree = Tree::new();
        tree.update(&vec![7; bytes]);
        tree.frontier().clone()
    }

    #[test]
    fn a_tree_fits_the_offset_that_it_was_saved_with() {
        for bytes in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20] {
            let upload = received(u64::try_from(bytes).unwrap(), Some(frontier(bytes)));
            assert_eq!(upload.check(), Ok(()), "{bytes}");
        }
    }

    #[test]
    fn a_tree_over_other_bytes_than_the_offset_tells_is_refused() {
        for (offset, bytes) in [(0, 3 << 20), (1 << 20, 3 << 20), (3 << 20, 1 << 20)] {
            assert!(received(offset, Some(frontier(bytes))).check().is_err(), "{offset} {bytes}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_each_other_are_refused() {
        let parts: [UploadId; 0] = [];
        let made_of = Kind::Final(Final { parts: parts.into(), as_sent: "final;".into() });
        let joined = new().of_kind(made_of.clone()).concatenated([3, 4].into(), Timestamp(2));
        assert_eq!(joined.check(), Ok(()));
        let mut short = joined.clone();
        short.record_mut().state =
            State::Complete { length: 6, digest: None, sha256: None, at: Timestamp(2) };
        let mut early = new();
        early.record_mut().placement = joined.placement().clone();
        let mut waiting = new().of_kind(made_of.clone());
        assert_eq!(waiting.check(), Ok(()));
        let holding = waiting.clone().holding([3, 4].into(), Timestamp(2));
        assert_eq!(holding.check(), Ok(()));
        let long = holding.waiting(Some(8), Timestamp(2));
        waiting.record_mut().kind = Kind::Partial;
        let mut receiving = new();
        receiving.record_mut().kind = made_of;
        let mut beyond = new();
        let (frontier, sha256) = (None, None);
        beyond.record_mut().state =
            State::Receiving { offset: 2, length: Some(1), frontier, sha256 };
        let huge = received(u64::MAX, None);
        let mut endless = new();
        let (frontier, sha256) = (None, None);
        let length = Some(MAX_LENGTH + 1);
        endless.record_mut().state = State::Receiving { offset: 2, length, frontier, sha256 };
        for wrong in [short, early, waiting, receiving, beyond, huge, endless, long] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
