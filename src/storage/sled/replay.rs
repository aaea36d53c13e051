//! Puts entries of the journal into a database.

use std::collections::HashMap;

use super::index::{Before, Changes, decode, guarded, index_keys};
use super::pieces;
use crate::protocol::id::UploadId;
use crate::storage::journal::Entry;
use crate::storage::{Failure, Stored};

/// The uploads whose records are put into the database at once, at most.
const BATCH: usize = 8192;
/// The bytes of records after which they are.
const BATCH_BYTES: usize = 8 << 20;

/// Puts entries of the journal into a database. What is there already is left as it is.
pub(super) struct Replay<'a> {
    tree: &'a sled::Tree,
    /// The last entry of each upload.
    entries: HashMap<UploadId, Option<Vec<u8>>>,
    /// The bytes of those, and of the entries before them.
    bytes: usize,
    /// The records that were none, each in words for a person. What was known before stays.
    pub(super) unreadable: Vec<String>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(tree: &'a sled::Tree) -> Self {
        Self { tree, entries: HashMap::new(), bytes: 0, unreadable: Vec::new() }
    }

    pub(super) fn take(&mut self, entry: Entry<'_>) -> Result<(), Failure> {
        let (id, record) = match entry {
            Entry::Save { id, record } => (id, Some(record.to_vec())),
            Entry::Delete { id } => (id, None),
            Entry::End { .. } => return Ok(()),
        };
        self.bytes = self.bytes.saturating_add(record.as_ref().map_or(0, Vec::len));
        self.entries.insert(id, record);
        let are_many = self.entries.len() >= BATCH || self.bytes >= BATCH_BYTES;
        if are_many { self.apply() } else { Ok(()) }
    }

    /// Makes the changes that are left.
    pub(super) fn apply(&mut self) -> Result<(), Failure> {
        let mut changes = Changes::default();
        self.bytes = 0;
        for (id, record) in self.entries.drain() {
            let after = match &record {
                None => None,
                Some(record) => match decode(id, record) {
                    Ok(after) => Some((after, record.as_slice())),
                    Err(failure) => {
                        self.unreadable.push(no_record(id, &failure));
                        continue;
                    }
                },
            };
            put(self.tree, &mut changes, id, after)?;
        }
        changes.apply(self.tree, None).map(|_| ())
    }
}

/// What a person is told of a record that cannot be read.
pub(super) fn no_record(id: UploadId, failure: &Failure) -> String {
    format!("a record of upload {id} cannot be read: {failure}")
}

/// Behind the last changes puts the number of the last frame: a database that lacks it is one that
/// was not finished.
pub(super) fn finish(tree: &sled::Tree, last: u64) -> Result<(), Failure> {
    Changes::default().apply(tree, Some(last)).map(|_| ())
}

/// Changes what is found of a record, and of its place in the index, unless it is right.
fn put(
    tree: &sled::Tree,
    changes: &mut Changes,
    id: UploadId,
    after: Option<(Stored, &[u8])>,
) -> Result<(), Failure> {
    let found = pieces::get(tree, id)?;
    // What cannot be decoded is of no use in finding what stands in the index for it. (Pieces that
    // do not belong together are damage, and end the replay.)
    let readable = || found.as_ref().and_then(|found| decode(id, found).ok());
    let Some((after, record)) = after else {
        if found.is_some() {
            let readable = readable();
            changes.set(id, readable.as_ref().map_or(Before::Unreadable, Before::Record), None);
        }
        return Ok(());
    };
    if found.as_deref() == Some(record) {
        for key in index_keys(&after.upload) {
            if !guarded(|| tree.contains_key(&key))? {
                changes.index(&key);
            }
        }
        return Ok(());
    }
    let readable = readable();
    let before = match &readable {
        // A later entry is there already, and comes again.
        Some(before) if before.version >= after.version => return Ok(()),
        Some(before) => Before::Record(before),
        None if found.is_some() => Before::Unreadable,
        None => Before::Nothing,
    };
    changes.set(id, before, Some((after, record)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use sled::{Batch, IVec};

    use super::*;
    use crate::protocol::metadata::Metadata;
    use crate::protocol::units::Timestamp;
    use crate::protocol::upload::Upload;
    use crate::storage::{Version, codec};

    #[test]
    fn of_a_long_record_that_is_none_no_piece_is_left() {
        let database = sled::Config::new().temporary(true).open().unwrap();
        let id = UploadId::from_bytes([1; 16]);
        let upload = Upload::new(id, Some(1), Metadata::default(), Timestamp(1));
        let record = codec::encode(&upload, Version(1)).unwrap();
        for (entry, entries) in
            [(Entry::Save { id, record: &record }, 1), (Entry::Delete { id }, 0)]
        {
            let mut batch = Batch::default();
            let none = Some(IVec::from(vec![b'?'; 5000]));
            pieces::set(&database, &mut batch, id, none, true).unwrap();
            database.apply_batch(batch).unwrap();
            assert!(database.len() > 2);
            let mut replay = Replay::new(&database);
            replay.take(entry).unwrap();
            replay.apply().unwrap();
            assert_eq!(database.len(), entries);
        }
    }
}
