//! The records that were used last.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::protocol::id::UploadId;
use crate::protocol::upload::Kind;
use crate::storage::{Failure, Stored};

/// Locks are spread so that requests for different uploads rarely meet.
const SHARDS: usize = 16;
/// The bytes of one shard in each of its two generations; 16 MiB in all. Typical records are some
/// hundred bytes long.
const GENERATION_BYTES: usize = 512 << 10;
/// What a record takes beside what clients made long.
const RECORD_BYTES: usize = 1 << 10;

/// Records in memory.
#[derive(Debug, Default)]
pub(super) struct Recent {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// Records that were used since the last change of generations.
    young: HashMap<UploadId, Stored>,
    /// The bytes of those.
    young_bytes: usize,
    /// Records that were used before that, and go next.
    old: HashMap<UploadId, Stored>,
    /// Counts the commits, so that a read that began before one is not kept.
    commits: u64,
    /// Records whose next state may be seen by some and not by all yet: what is read meanwhile is not
    /// kept, or it could be shown behind that.
    under_way: usize,
}

impl Recent {
    fn shard(&self, id: UploadId) -> &Mutex<Shard> {
        &self.shards[usize::from(id.to_bytes()[0]) % SHARDS]
    }

    /// What may be shown of a record, if that is known without the database.
    pub(super) fn find(&self, id: UploadId) -> Option<Option<Stored>> {
        self.shard(id).lock().find(id)
    }

    /// What may be shown of a record; `read` asks the database.
    pub(super) fn load(
        &self,
        id: UploadId,
        read: impl FnOnce() -> Result<Option<Stored>, Failure>,
    ) -> Result<Option<Stored>, Failure> {
        let commits = {
            let mut shard = self.shard(id).lock();
            if let Some(known) = shard.find(id) {
                return Ok(known);
            }
            shard.commits
        };
        let read = read()?;
        let mut shard = self.shard(id).lock();
        // A commit may have ended meanwhile: then what was read is perhaps older than that.
        if let Some(known) = shard.find(id) {
            return Ok(known);
        }
        if let Some(stored) = &read
            && shard.commits == commits
            && shard.under_way == 0
        {
            shard.keep(stored.clone());
        }
        Ok(read)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let count = |shard: &Shard| shard.young.len().saturating_add(shard.old.len());
        self.shards.iter().map(|shard| count(&shard.lock())).sum()
    }

    /// A new state of the record is about to be seen, and [`Self::committed`] follows.
    pub(super) fn begin(&self, id: UploadId) {
        let mut shard = self.shard(id).lock();
        shard.under_way = shard.under_way.saturating_add(1);
    }

    /// Shows what is durable now.
    pub(super) fn committed(&self, id: UploadId, now: Option<Stored>) {
        let mut shard = self.shard(id).lock();
        shard.under_way = shard.under_way.saturating_sub(1);
        shard.commits = shard.commits.wrapping_add(1);
        shard.forget(id);
        if let Some(stored) = now {
            shard.keep(stored);
        }
    }
}

impl Shard {
    fn find(&mut self, id: UploadId) -> Option<Option<Stored>> {
        if let Some(stored) = self.young.get(&id) {
            return Some(Some(stored.clone()));
        }
        let stored = self.old.remove(&id)?;
        self.keep(stored.clone());
        Some(Some(stored))
    }

    fn forget(&mut self, id: UploadId) {
        let bytes = self.young.remove(&id).as_ref().map_or(0, size);
        self.young_bytes = self.young_bytes.saturating_sub(bytes);
        self.old.remove(&id);
    }

    fn keep(&mut self, stored: Stored) {
        self.forget(stored.upload.id());
        let bytes = size(&stored);
        if self.young_bytes.saturating_add(bytes) > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes = self.young_bytes.saturating_add(bytes);
        self.young.insert(stored.upload.id(), stored);
    }
}

/// About the bytes of memory that a record takes.
fn size(stored: &Stored) -> usize {
    let upload = &stored.upload;
    let long = match upload.kind() {
        Kind::Single | Kind::Partial => 0,
        // Beside its name, the id and the length of each part.
        Kind::Final(of) => of.as_sent.len().saturating_add(of.parts.len().saturating_mul(24)),
    };
    RECORD_BYTES.saturating_add(upload.metadata().as_str().len()).saturating_add(long)
}
