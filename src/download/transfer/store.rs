//! Bytes that came reach the file, and groups are verified. All of this blocks.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Shared;
use crate::client::failure::Failure;
use crate::download::plan::ClaimId;
use crate::protocol::tree::{GROUP_BYTES, GroupHasher};

/// A group that came wrong so often will come wrong again.
const MAX_WRONG: u32 = 3;

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

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
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
    /// Writes a batch to the file, counts it and empties it. A group that turns out wrong is left to
    /// be fetched again.
    pub(super) fn store(&self, id: ClaimId, batch: &mut Batch) -> Result<(), Failure> {
        let stored = self.store_held(id, batch);
        // Also after a failure: nothing is stored twice.
        batch.empty();
        stored
    }

    fn store_held(&self, id: ClaimId, batch: &mut Batch) -> Result<(), Failure> {
        self.part.write(batch.at, &batch.pieces)?;
        batch.hash();
        let complete = {
            let mut plan = self.plan.lock();
            let before = plan.present_bytes();
            let complete = plan.advance(id, batch.bytes, self.now());
            self.progress.add(plan.present_bytes().saturating_sub(before));
            complete
        };
        for index in complete {
            let is_right = match (&batch.hasher, &self.groups) {
                // What was hashed on the way need not be read again. If it was wrong, or not all of
                // it, the file decides.
                (Some(hasher), Some(groups)) if hasher.index() == index => {
                    groups.verify_hashed(hasher) || self.is_right_in_file(index)?
                }
                _ => self.is_right_in_file(index)?,
            };
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
