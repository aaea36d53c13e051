//! Bytes that came reach the file, and groups are verified. All of this blocks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Shared;
use crate::client::failure::Failure;
use crate::download::plan::ClaimId;
use crate::protocol::tree::{GROUP_BYTES, GroupHasher};

/// A group that came wrong so often will come wrong again.
const MAX_WRONG: u32 = 3;

/// Some servers send a chunk for each few bytes.
const MANY_PIECES: usize = 1024;

/// Whose bytes they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) claim: ClaimId,
    /// The number of the source that sends them.
    pub(super) source: usize,
}

/// Bytes of one claim that go to the file at once, and the hash of their group so far.
#[derive(Debug)]
pub(super) struct Batch {
    at: u64,
    bytes: u64,
    began: Instant,
    pieces: Vec<Bytes>,
    has_groups: bool,
    /// Of the group that `at` is in, if all of it came this way.
    hasher: Option<GroupHasher>,
}

impl Batch {
    /// An empty one, whose first byte will be the one at this offset.
    pub(super) fn new(at: u64, has_groups: bool) -> Self {
        let (pieces, began) = (Vec::new(), Instant::now());
        Self { at, bytes: 0, began, pieces, has_groups, hasher: None }
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if self.pieces.is_empty() {
            self.began = Instant::now();
        }
        self.bytes = self.bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        self.pieces.push(piece);
    }

    /// Lets go of what lies beyond its first `bytes` bytes.
    fn cut(&mut self, bytes: u64) {
        while self.bytes > bytes
            && let Some(mut last) = self.pieces.pop()
        {
            let length = u64::try_from(last.len()).unwrap_or(u64::MAX);
            self.bytes = self.bytes.saturating_sub(length);
            if self.bytes < bytes {
                last.truncate(usize::try_from(bytes - self.bytes).unwrap_or(usize::MAX));
                self.push(last);
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the memory for the pieces is no longer little beside that for their bytes.
    pub(super) fn is_in_many_pieces(&self) -> bool {
        self.pieces.len() >= MANY_PIECES
    }

    /// How long the first byte has been waiting.
    pub(super) fn age(&self) -> Duration {
        if self.bytes == 0 { Duration::ZERO } else { self.began.elapsed() }
    }

    pub(super) fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes)
    }

    /// The end of the group that its next byte belongs to: no batch reaches beyond.
    pub(super) fn limit(&self) -> u64 {
        (self.end() / GROUP_BYTES).saturating_add(1).saturating_mul(GROUP_BYTES)
    }

    /// Hashes what it holds, as far as that is of use.
    fn hash(&mut self) {
        if self.has_groups && self.at.is_multiple_of(GROUP_BYTES) {
            self.hasher = GroupHasher::new(self.at / GROUP_BYTES);
        }
        if let Some(hasher) = &mut self.hasher {
            self.pieces.iter().for_each(|piece| hasher.update(piece));
        }
    }

    /// Goes on behind what it held.
    fn empty(&mut self) {
        (self.at, self.bytes) = (self.end(), 0);
        self.pieces.clear();
        if self.at.is_multiple_of(GROUP_BYTES) {
            self.hasher = None;
        }
    }
}

impl Shared {
    /// Writes a batch to the file, counts it and empties it; of a claim that was taken over nothing
    /// is written. A group that turns out wrong is left to be fetched again.
    pub(super) fn store(&self, from: Origin, batch: &mut Batch) -> Result<(), Failure> {
        let stored = self.store_held(from, batch);
        // Also after a failure: nothing is stored twice.
        batch.empty();
        stored
    }

    fn store_held(&self, from: Origin, batch: &mut Batch) -> Result<(), Failure> {
        let id = from.claim;
        let Some(mine) = self.plan.lock().writing(id, batch.bytes) else { return Ok(()) };
        batch.cut(mine);
        let begin = Instant::now();
        self.part.write(batch.at, &batch.pieces)?;
        let took_us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.writing_us.fetch_add(took_us, Ordering::Relaxed);
        batch.hash();
        let complete = {
            let mut plan = self.plan.lock();
            let before = plan.present_bytes();
            let complete = plan.advance(id, batch.bytes, self.now());
            self.progress.add(plan.present_bytes().saturating_sub(before));
            complete
        };
        for index in complete {
            // What was hashed on the way need not be read again. If it was wrong, or not all of it,
            // the file decides.
            let hasher = batch.hasher.as_ref().filter(|hasher| hasher.index() == index);
            let is_right = match (hasher, &self.groups) {
                (Some(hasher), Some(groups)) if groups.verify_hashed(hasher) => true,
                _ => self.is_right_in_file(index)?,
            };
            if is_right {
                self.plan.lock().verified(index);
                continue;
            }
            let bytes = self.plan.lock().rejected(index);
            self.progress.take_back(bytes);
            let came_whole = hasher.is_some() && batch.end() == self.group_end(index);
            self.came_wrong(index, came_whole.then_some(from.source))?;
        }
        Ok(())
    }

    fn group_end(&self, index: u64) -> u64 {
        index.saturating_add(1).saturating_mul(GROUP_BYTES).min(self.length)
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

    /// `source` is who sent all of the group, if one did: that one is not asked any more as long as
    /// there are others.
    fn came_wrong(&self, index: u64, source: Option<usize>) -> Result<(), Failure> {
        let start = index.saturating_mul(GROUP_BYTES);
        let what = format!("group {index} (bytes {start} to {})", self.group_end(index) - 1);
        let left_out = |number| self.leave_out(number, &format!("it sent wrong bytes as {what}"));
        if source.is_some_and(left_out) {
            return Ok(());
        }
        let times = {
            let mut wrong = self.wrong.lock();
            let times = wrong.entry(index).or_insert(0_u32);
            *times = times.saturating_add(1);
            *times
        };
        if times >= MAX_WRONG {
            return Err(Failure::verification(format!(
                "{what} is not what the digest promises, and came wrong {times} times; \
                 everything else that is here is kept"
            )));
        }
        let message = format!("{what} came wrong, and is fetched again");
        self.progress.note(&message);
        Ok(())
    }
}
