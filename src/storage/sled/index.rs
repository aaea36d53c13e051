//! What stands in the database for the records: one batch of changes at a time.
//!
//! ```text
//! 'm'                          → the number of the last frame of the journal that is in here (8, BE)
//! 'u' id(16)                   → the record (codec)
//! 'w' wake in ms(8, BE) id(16) → nothing; the wake index
//! ```

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::failure;
use super::recover::REMEDY;
use crate::protocol::id::UploadId;
use crate::protocol::units::Timestamp;
use crate::storage::{Failure, Stored, codec};

pub(super) const APPLIED: &[u8] = b"m";
pub(super) const RECORD: u8 = b'u';
pub(super) const WAKE: u8 = b'w';

/// Changes that are made at once.
#[derive(Default)]
pub(super) struct Changes {
    batch: sled::Batch,
    /// The records as they will be.
    pub(super) after: HashMap<UploadId, Option<Stored>>,
}

impl Changes {
    /// Puts a record, with its encoded form, in the place of the one before; or removes that.
    pub(super) fn set(
        &mut self,
        id: UploadId,
        before: Option<&Stored>,
        after: Option<(Stored, &[u8])>,
    ) {
        let wake = |stored: &Stored| stored.upload.wake();
        let old = before.and_then(wake);
        let new = after.as_ref().and_then(|(stored, _)| wake(stored));
        match &after {
            Some((_, bytes)) => self.batch.insert(&record_key(id), *bytes),
            None => self.batch.remove(&record_key(id)),
        }
        if old != new {
            if let Some(old) = old {
                self.batch.remove(&wake_key(old, id));
            }
            if let Some(new) = new {
                self.batch.insert(&wake_key(new, id), &[]);
            }
        }
        self.after.insert(id, after.map(|(stored, _)| stored));
    }

    /// Puts a record back into the index.
    pub(super) fn index(&mut self, id: UploadId, wake: Timestamp) {
        self.batch.insert(&wake_key(wake, id), &[]);
    }

    /// Makes the changes, and says that the journal is in here up to this frame.
    pub(super) fn apply(
        mut self,
        tree: &sled::Tree,
        applied: Option<u64>,
    ) -> Result<HashMap<UploadId, Option<Stored>>, Failure> {
        if let Some(applied) = applied {
            self.batch.insert(APPLIED, &applied.to_be_bytes());
        }
        guarded(|| tree.apply_batch(self.batch))?;
        Ok(self.after)
    }
}

/// The number of the last frame of the journal that is in the database.
pub(super) fn applied(tree: &sled::Tree) -> Result<Option<u64>, Failure> {
    let Some(bytes) = guarded(|| tree.get(APPLIED))? else { return Ok(None) };
    let bytes = bytes.as_ref().try_into();
    let bytes = bytes.map_err(|_| Failure::Damaged("the count of its saves".to_owned()))?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

/// The record of an upload.
pub(super) fn read(tree: &sled::Tree, id: UploadId) -> Result<Option<Stored>, Failure> {
    let Some(bytes) = guarded(|| tree.get(record_key(id)))? else { return Ok(None) };
    decode(id, &bytes).map(Some)
}

/// A record that has to be that of this upload.
pub(super) fn decode(id: UploadId, bytes: &[u8]) -> Result<Stored, Failure> {
    let stored = codec::decode(bytes)?;
    if stored.upload.id() != id {
        let other = stored.upload.id();
        return Err(Failure::Damaged(format!("it is the record of upload {other}")));
    }
    Ok(stored)
}

/// Calls sled, which panics on some damage.
pub(super) fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|_| Failure::Damaged(format!("the database panicked; {REMEDY}")))?
        .map_err(failure)
}

pub(super) fn record_key(id: UploadId) -> [u8; 17] {
    let mut key = [RECORD; 17];
    key[1..].copy_from_slice(&id.to_bytes());
    key
}

pub(super) fn wake_key(wake: Timestamp, id: UploadId) -> [u8; 25] {
    let mut key = [WAKE; 25];
    key[1..9].copy_from_slice(&wake.0.to_be_bytes());
    key[9..].copy_from_slice(&id.to_bytes());
    key
}

pub(super) fn id_at_end(key: &[u8]) -> Result<UploadId, Failure> {
    let id = key.last_chunk().copied().map(UploadId::from_bytes);
    id.ok_or_else(|| Failure::Damaged("a key is too short".to_owned()))
}
