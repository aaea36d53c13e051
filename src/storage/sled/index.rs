//! What stands in the database for the records: one batch of changes at a time.
//!
//! ```text
//! 'm'                          → the number of the last frame of the journal that is in here (8, BE)
//! 'u' id(16)                   → the record (`pieces`)
//! 'x' id(16) n(4, BE)          → a piece of it
//! 'w' wake in ms(8, BE) id(16) → nothing; the wake index
//! 'b' blake3(32) id(16)        → nothing; complete uploads by their digests
//! 's' sha256(32) id(16)        → nothing
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sled::IVec;

use super::recover::REMEDY;
use super::{failure, pieces};
use crate::protocol::id::UploadId;
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::Upload;
use crate::storage::{Failure, Stored, codec};

pub(super) const APPLIED: &[u8] = b"m";
pub(super) const RECORD: u8 = b'u';
pub(super) const WAKE: u8 = b'w';
const BLAKE3: u8 = b'b';
const SHA256: u8 = b's';

/// Changes that are made at once.
#[derive(Default)]
pub(super) struct Changes {
    records: HashMap<UploadId, RecordChange>,
    /// Keys of the indexes, and whether they will be there.
    keys: HashMap<IVec, bool>,
    /// What was put into those at least once, in bytes.
    bytes: usize,
}

/// What becomes of one record.
struct RecordChange {
    /// As it will be, and its encoded form; `None` removes it. That is as the database keeps short
    /// ones, so that who puts it there has nothing to copy.
    after: Option<(Stored, IVec)>,
    /// Whether the database has nothing of it before all these changes.
    is_new: bool,
}

impl RecordChange {
    fn stored(&self) -> Option<&Stored> {
        self.after.as_ref().map(|(stored, _)| stored)
    }
}

/// What the database has of a record before a change.
#[derive(Clone, Copy)]
pub(super) enum Before<'a> {
    Nothing,
    Record(&'a Stored),
    /// Something that is of no use.
    Unreadable,
}

impl<'a> Before<'a> {
    pub(super) fn of(stored: Option<&'a Stored>) -> Self {
        stored.map_or(Self::Nothing, Self::Record)
    }

    fn index_keys(self) -> Vec<Vec<u8>> {
        match self {
            Self::Record(stored) => index_keys(&stored.upload),
            Self::Nothing | Self::Unreadable => Vec::new(),
        }
    }
}

impl Changes {
    /// Puts a record, with its encoded form, in the place of the one before; or removes that.
    pub(super) fn set(&mut self, id: UploadId, before: Before<'_>, after: Option<(Stored, &[u8])>) {
        let old = before.index_keys();
        let new = after.as_ref().map(|(stored, _)| index_keys(&stored.upload)).unwrap_or_default();
        let after = after.map(|(stored, record)| (stored, IVec::from(record)));
        let bytes = after.as_ref().map_or(0, |(_, record)| record.len());
        self.bytes = self.bytes.saturating_add(size_of::<UploadId>()).saturating_add(bytes);
        old.iter().filter(|key| !new.contains(key)).for_each(|key| self.put(key, false));
        new.iter().filter(|key| !old.contains(key)).for_each(|key| self.index(key));
        let is_new = matches!(before, Before::Nothing);
        self.change(id, RecordChange { after, is_new });
    }

    fn change(&mut self, id: UploadId, mut change: RecordChange) {
        match self.records.entry(id) {
            Entry::Occupied(mut first) => {
                change.is_new = first.get().is_new;
                first.insert(change);
            }
            Entry::Vacant(place) => {
                place.insert(change);
            }
        }
    }

    /// The record as it will be, if it is among those that are changed.
    pub(super) fn find(&self, id: UploadId) -> Option<Option<&Stored>> {
        self.records.get(&id).map(RecordChange::stored)
    }

    /// The records as they will be.
    pub(super) fn after(&self) -> impl Iterator<Item = (UploadId, Option<&Stored>)> {
        self.records.iter().map(|(id, change)| (*id, change.stored()))
    }

    /// How many records are changed.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, records: usize) {
        self.records.reserve(records);
    }

    /// Puts a record, by one of its [`index_keys`], into the index.
    pub(super) fn index(&mut self, key: &[u8]) {
        self.put(key, true);
    }

    fn put(&mut self, key: &[u8], is_in: bool) {
        self.bytes = self.bytes.saturating_add(key.len());
        self.keys.insert(key.into(), is_in);
    }

    /// Adds changes that come after these.
    pub(super) fn merge(&mut self, later: Self) {
        self.bytes = self.bytes.saturating_add(later.bytes);
        self.keys.extend(later.keys);
        for (id, change) in later.records {
            self.change(id, change);
        }
    }

    /// The bytes of all that was put in, some perhaps more than once.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to be made.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.keys.is_empty()
    }

    /// Makes the changes, and says that the journal is in here up to this frame.
    pub(super) fn apply(&self, tree: &sled::Tree, applied: Option<u64>) -> Result<(), Failure> {
        let (mut batch, mut entries) = (sled::Batch::default(), self.keys.len());
        for (id, change) in &self.records {
            let record = change.after.as_ref().map(|(_, record)| record.clone());
            let changed = pieces::set(tree, &mut batch, *id, record, change.is_new)?;
            entries = entries.saturating_add(changed);
        }
        for (key, is_in) in &self.keys {
            if *is_in { batch.insert(key, &[]) } else { batch.remove(key) }
        }
        if let Some(applied) = applied {
            batch.insert(APPLIED, &applied.to_be_bytes());
        }
        guarded(|| {
            let made = tree.apply_batch(batch);
            free_replaced(entries);
            made
        })
    }
}

/// Frees the pages that changes of so many entries replaced: sled makes a page anew for each. It leaves
/// them to its collector, which is at work at every 128th use of the database, and takes a batch for one:
/// what a burst replaced would stay until somebody comes back (8 MB of 4,000 changes).
fn free_replaced(entries: usize) {
    /// What the collector frees at once.
    const AT_ONCE: usize = 512;
    // It takes two more until it knows that nobody reads those pages any longer.
    for _ in 0..entries.div_ceil(AT_ONCE).saturating_add(2) {
        crossbeam_epoch::pin().flush();
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
    let record = pieces::get(tree, id)?;
    record.map(|record| decode(id, &record)).transpose()
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

/// What an iterator of sled finds. It ends behind the first that cannot be read.
pub(super) fn each<I>(found: I) -> impl Iterator<Item = Result<(IVec, IVec), Failure>>
where
    I: Iterator<Item = sled::Result<(IVec, IVec)>>,
{
    let mut found = Some(found);
    iter::from_fn(move || {
        let next = guarded(|| found.as_mut().and_then(Iterator::next).transpose()).transpose();
        // What panicked is of no more use.
        found.take_if(|_| !matches!(next, Some(Ok(_))));
        next
    })
}

/// What the database has of each record ([`pieces::whole`]), in the order of their ids.
pub(super) fn entries(
    tree: &sled::Tree,
) -> impl Iterator<Item = Result<(UploadId, IVec), Failure>> + use<> {
    each(tree.scan_prefix([RECORD])).map(|found| {
        let (key, entry) = found?;
        Ok((id_at_end(&key)?, entry))
    })
}

/// All records, in the order of their ids.
pub(super) fn records(
    tree: &sled::Tree,
) -> impl Iterator<Item = Result<(UploadId, IVec), Failure>> + use<> {
    let tree = tree.clone();
    entries(&tree).filter_map(move |found| {
        let whole = found.and_then(|(id, entry)| {
            let record = pieces::whole(&tree, id, entry)?;
            Ok(record.map(|record| (id, record)))
        });
        whole.transpose()
    })
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

/// What an upload stands under in the indexes.
pub(super) fn index_keys(upload: &Upload) -> Vec<Vec<u8>> {
    let id = upload.id();
    let wake = upload.wake().map(|wake| wake_key(wake, id).to_vec());
    let digests = digest_prefixes(upload.digests()).into_iter();
    let digests = digests.map(|prefix| [&prefix[..], &id.to_bytes()].concat());
    wake.into_iter().chain(digests).collect()
}

/// What the keys of uploads with these digests begin with: with the BLAKE3 first.
pub(super) fn digest_prefixes(digests: ReprDigests) -> Vec<Vec<u8>> {
    let blake3 = digests.blake3.map(|digest| [&[BLAKE3], &digest.as_bytes()[..]].concat());
    let sha256 = digests.sha256.map(|digest| [&[SHA256], &digest.as_bytes()[..]].concat());
    blake3.into_iter().chain(sha256).collect()
}

pub(super) fn id_at_end(key: &[u8]) -> Result<UploadId, Failure> {
    let id = key.last_chunk().copied().map(UploadId::from_bytes);
    id.ok_or_else(|| Failure::Damaged("a key is too short".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_records_are_read_is_told_as_damage_and_ends_the_reading() {
        let pair = || Ok((IVec::from(b"key"), IVec::from(b"value")));
        let mut left = 2;
        let mut read = each(iter::from_fn(|| {
            left -= 1;
            assert!(left > 0, "planned");
            Some(pair())
        }));
        assert!(read.next().unwrap().is_ok());
        assert!(matches!(read.next(), Some(Err(Failure::Damaged(_)))));
        assert!(read.next().is_none());
    }
}
