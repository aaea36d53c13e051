//! The records that were used last.

use hashlink::LinkedHashMap;
use parking_lot::Mutex;

use crate::protocol::id::UploadId;
use crate::protocol::tree::ChainingValue;
use crate::protocol::upload::{Kind, Upload};
use crate::storage::{Failure, Stored};

/// Locks are spread so that requests for different uploads rarely meet.
const SHARDS: usize = 16;
/// The bytes of one shard; 48 MiB in all, which is enough for some 100,000 typical records. To have
/// one here is worth a third of the time of a HEAD.
const MAX_BYTES: usize = 3 << 20;
/// What a record takes beside what clients made long: itself, its place in the table and in the
/// list, and what the allocator adds to each.
const RECORD_BYTES: usize = Upload::BYTES + size_of::<Stored>() + 176;
/// What the saved state of a SHA-256 takes.
const SHA256_BYTES: usize = 128;

/// Records in memory.
#[derive(Debug, Default)]
pub(super) struct Recent {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// The one that was used last is at the back.
    records: LinkedHashMap<UploadId, Stored>,
    /// The bytes of all.
    bytes: usize,
    /// Counts the commits, so that a read that began before one is not kept.
    commits: u64,
    /// Records whose next state may be seen by some and not by all yet: what is read meanwhile is
    /// not kept, or it could be shown behind that.
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
        self.shards.iter().map(|shard| shard.lock().records.len()).sum()
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
        let stored = self.records.to_back(&id)?;
        Some(Some(stored.clone()))
    }

    fn forget(&mut self, id: UploadId) {
        let bytes = self.records.remove(&id).as_ref().map_or(0, size);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn keep(&mut self, stored: Stored) {
        self.forget(stored.upload.id());
        self.bytes = self.bytes.saturating_add(size(&stored));
        while self.bytes > MAX_BYTES
            && let Some((_, oldest)) = self.records.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(size(&oldest));
        }
        self.records.insert(stored.upload.id(), stored);
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
    let subtrees = upload.frontier().map_or(0, |frontier| frontier.groups().count_ones());
    let tree = usize::try_from(subtrees).unwrap_or(0).saturating_mul(size_of::<ChainingValue>());
    let metadata = upload.metadata().as_str().len();
    let sha256 = upload.saved_sha256().map_or(0, |_| SHA256_BYTES);
    [metadata, long, tree, sha256].into_iter().fold(RECORD_BYTES, usize::saturating_add)
}
