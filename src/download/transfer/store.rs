//! Bytes that came reach the file, and groups are verified. All of this blocks.

use std::ops::Range;

use bytes::Bytes;
use tokio::time::Instant;

use super::Shared;
use crate::client::failure::Failure;
use crate::download::plan::ClaimId;
use crate::protocol::tree::GROUP_BYTES;

/// A group that came wrong so often will come wrong again.
const MAX_WRONG: u32 = 3;

/// Bytes of one claim that go to the file at once.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) at: u64,
    pub(super) bytes: u64,
    pub(super) began: Instant,
    pieces: Vec<Bytes>,
}

impl Batch {
    /// An empty one, whose first byte will be the one at this offset.
    pub(super) fn new(at: u64) -> Self {
        Self { at, bytes: 0, began: Instant::now(), pieces: Vec::new() }
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if self.pieces.is_empty() {
            self.began = Instant::now();
        }
        self.bytes = self.bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        self.pieces.push(piece);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes)
    }

    /// The end of the group that its next byte belongs to: no batch reaches beyond.
    pub(super) fn limit(&self) -> u64 {
        (self.end() / GROUP_BYTES).saturating_add(1).saturating_mul(GROUP_BYTES)
    }

    fn range(&self) -> Range<u64> {
        self.at..self.end()
    }
}

impl Shared {
    /// Writes a batch to the file and counts it. A group that is wrong is left to be fetched again.
    pub(super) fn store(&self, id: ClaimId, batch: &Batch) -> Result<(), Failure> {
        // A whole group is verified before it is written: so the file has no wrong one, as far as
        // can be.
        let whole = self.groups.as_ref().and_then(|groups| {
            let index = batch.at / GROUP_BYTES;
            (groups.group_range(index)? == batch.range()).then_some((groups, index))
        });
        if let Some((groups, index)) = whole {
            let pieces = batch.pieces.iter().map(|piece| &**piece);
            if !groups.verify_pieces(index, pieces) {
                self.plan.lock().skip(id, batch.bytes, self.now());
                return self.came_wrong(index);
            }
        }
        self.part.write(batch.at, &batch.pieces)?;
        let complete = {
            let mut plan = self.plan.lock();
            let before = plan.present_bytes();
            let complete = plan.advance(id, batch.bytes, self.now());
            self.progress.add(plan.present_bytes().saturating_sub(before));
            complete
        };
        for index in complete {
            let is_right = whole.is_some_and(|(_, verified)| verified == index)
                || self.is_right_in_file(index)?;
            if is_right {
                self.plan.lock().verified(index);
            } else {
                let bytes = self.plan.lock().rejected(index);
                self.progress.take_back(bytes);
                self.came_wrong(index)?;
            }
        }
        Ok(())
    }

    fn is_right_in_file(&self, index: u64) -> Result<bool, Failure> {
        let Some((groups, range)) =
            self.groups.as_ref().and_then(|groups| Some((groups, groups.group_range(index)?)))
        else {
            return Ok(true);
        };
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or_default();
        let mut bytes = vec![0; length];
        self.part.read(range.start, &mut bytes)?;
        Ok(groups.verify(index, &bytes))
    }

    fn came_wrong(&self, index: u64) -> Result<(), Failure> {
        let times = {
            let mut wrong = self.wrong.lock();
            let times = wrong.entry(index).or_insert(0_u32);
            *times = times.saturating_add(1);
            *times
        };
        let start = index.saturating_mul(GROUP_BYTES);
        let end = start.saturating_add(GROUP_BYTES).min(self.length);
        let what = format!("group {index} (bytes {start} to {})", end.saturating_sub(1));
        if times >= MAX_WRONG {
            return Err(Failure::verification(format!(
                "{what} is not what the digest promises, and came wrong {times} times; \
                 everything else that is here is kept"
            )));
        }
        let message = format!("{what} came wrong, and is fetched again");
        self.progress.reporter().note(&self.name, &message);
        Ok(())
    }
}
