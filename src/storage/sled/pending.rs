//! What the journal has, and the database not yet.
//!
//! sled writes out each batch that it is given, by a pool whose seven threads all wake up for it:
//! that took a third of the processor time of small uploads. What a record rests on is the journal,
//! so the database follows it by some milliseconds, with the changes of many saves in one batch.
//! Who looks into it has them made first; who wants but one record finds it here.

use std::sync::Arc;

use parking_lot::Mutex;

use super::database::Database;
use super::index::Changes;
use crate::protocol::id::UploadId;
use crate::storage::{Failure, Stored};

/// The records that wait at most.
const MAX_RECORDS: usize = 1024;
/// The bytes of them and their keys.
const MAX_BYTES: usize = 8 << 20;

/// Changes on their way to the database.
#[derive(Default)]
pub(super) struct Pending {
    state: Mutex<State>,
    /// Held by who makes changes: they are made in the order of the journal.
    turn: Mutex<()>,
}

#[derive(Default)]
struct State {
    waiting: Changes,
    /// The last frame of the journal that those are of.
    last: u64,
    /// The changes that are being made.
    being_made: Arc<Changes>,
    /// Whether the database could not take what the journal has. Then these stay here.
    is_broken: bool,
}

impl State {
    fn are_many(&self) -> bool {
        self.waiting.len() >= MAX_RECORDS || self.waiting.bytes() >= MAX_BYTES
    }
}

impl Pending {
    /// Takes over the changes of this frame of the journal; whether so many wait that they had
    /// better be made.
    pub(super) fn add(&self, changes: Changes, frame: u64) -> bool {
        let mut state = self.state.lock();
        state.waiting.merge(changes);
        state.last = frame;
        state.are_many()
    }

    /// Whether so many changes wait that they had better be made first.
    pub(super) fn are_many(&self) -> bool {
        self.state.lock().are_many()
    }

    /// The record, if it is among those that the database does not have as it is.
    pub(super) fn find(&self, id: UploadId) -> Option<Option<Stored>> {
        let state = self.state.lock();
        let found = state.waiting.find(id).or_else(|| state.being_made.find(id));
        found.map(|stored| stored.cloned())
    }

    /// Whether the database could not take a change: no more may be built on the records then.
    pub(super) fn is_broken(&self) -> bool {
        self.state.lock().is_broken
    }

    /// Keeps others from making changes.
    #[cfg(test)]
    pub(super) fn turn(&self) -> parking_lot::MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// Makes all changes that wait. Blocks.
    ///
    /// # Errors
    ///
    /// The database could not take some, now or before.
    pub(super) fn settle(&self, database: &Database) -> Result<(), Failure> {
        let _turn = self.turn.lock();
        let (changes, last) = {
            let mut state = self.state.lock();
            if state.is_broken {
                return Err(Failure::Closed);
            }
            if state.waiting.is_empty() {
                return Ok(());
            }
            let changes = Arc::new(std::mem::take(&mut state.waiting));
            // As many are to be expected again.
            state.waiting.reserve(changes.len());
            state.being_made = Arc::clone(&changes);
            (changes, state.last)
        };
        let made = database.with(|database| changes.apply(database, Some(last)));
        let mut state = self.state.lock();
        match made {
            Ok(()) => state.being_made = Arc::default(),
            Err(_) => state.is_broken = true,
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::metadata::Metadata;
    use crate::protocol::units::Timestamp;
    use crate::protocol::upload::Upload;
    use crate::storage::sled::index::{Before, applied, read};
    use crate::storage::{Version, codec};

    fn set(changes: &mut Changes, before: Before<'_>, number: u8, version: u64) -> Stored {
        let id = UploadId::from_bytes([number; 16]);
        let upload = Upload::new(id, Some(version), Metadata::default(), Timestamp(1));
        let stored = Stored { upload, version: Version(version) };
        let record = codec::encode(&stored.upload, stored.version).unwrap();
        changes.set(id, before, Some((stored.clone(), &record)));
        stored
    }

    fn database(folder: &std::path::Path) -> Database {
        Database::new(sled::open(folder).unwrap())
    }

    #[test]
    fn a_record_is_found_here_until_the_database_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let (database, pending) = (database(folder.path()), Pending::default());
        let id = UploadId::from_bytes([1; 16]);
        let mut changes = Changes::default();
        let first = set(&mut changes, Before::Nothing, 1, 1);
        pending.add(changes, 1);
        let mut changes = Changes::default();
        let second = set(&mut changes, Before::Record(&first), 1, 2);
        pending.add(changes, 2);
        assert_eq!(pending.find(id), Some(Some(second.clone())));
        pending.settle(&database).unwrap();
        assert_eq!(pending.find(id), None);
        assert_eq!(database.with(|database| read(database, id)).unwrap(), Some(second.clone()));
        let mut changes = Changes::default();
        changes.set(id, Before::Record(&second), None);
        pending.add(changes, 3);
        assert_eq!(pending.find(id), Some(None));
        pending.settle(&database).unwrap();
        assert_eq!(database.with(|database| read(database, id)).unwrap(), None);
    }

    #[test]
    fn what_the_database_cannot_take_is_found_here_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let (database, pending) = (database(folder.path()), Pending::default());
        let mut changes = Changes::default();
        let stored = set(&mut changes, Before::Nothing, 1, 1);
        pending.add(changes, 1);
        database.close();
        pending.settle(&database).unwrap_err();
        assert!(pending.is_broken());
        assert_eq!(pending.find(stored.upload.id()), Some(Some(stored)));
        pending.settle(&database).unwrap_err();
    }

    /// A record with so many bytes of metadata.
    fn stored(number: u8, version: u64, bytes: usize) -> (Stored, Vec<u8>) {
        let value = "QUJD".repeat(bytes / 4);
        let metadata = Metadata::parse(&format!("name {value}")).unwrap();
        let upload =
            Upload::new(UploadId::from_bytes([number; 16]), Some(1), metadata, Timestamp(1));
        let stored = Stored { upload, version: Version(version) };
        let record = codec::encode(&stored.upload, stored.version).unwrap();
        (stored, record)
    }

    /// Saves of a length, or a deletion, of one of three records; and making what waits.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Save(u8, usize),
        Delete(u8),
        Settle,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..3_u8, prop_oneof![Just(0), Just(1500_usize), Just(4000)])
                .prop_map(|(number, bytes)| Step::Save(number, bytes)),
            2 => (0..3_u8).prop_map(Step::Delete),
            2 => Just(Step::Settle),
        ];
        proptest::collection::vec(step, 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Neither are pieces of a record left over that is short now, or away.
        #[test]
        fn however_changes_meet_the_database_has_what_the_last_ones_say(steps in steps()) {
            let folder = tempfile::tempdir().unwrap();
            let (database, pending) = (database(folder.path()), Pending::default());
            let mut known: BTreeMap<u8, (Stored, Vec<u8>)> = BTreeMap::new();
            for (version, step) in (1..).zip(steps) {
                let mut changes = Changes::default();
                let mut set = |number: u8, next: Option<(Stored, Vec<u8>)>| {
                    let before = known.remove(&number);
                    let before = Before::of(before.as_ref().map(|(stored, _)| stored));
                    let after = next.as_ref().map(|(stored, record)| (stored.clone(), &record[..]));
                    changes.set(UploadId::from_bytes([number; 16]), before, after);
                    known.extend(next.map(|next| (number, next)));
                };
                match step {
                    Step::Save(number, bytes) => set(number, Some(stored(number, version, bytes))),
                    Step::Delete(number) => set(number, None),
                    Step::Settle => pending.settle(&database).unwrap(),
                }
                pending.add(changes, version);
            }
            pending.settle(&database).unwrap();
            let mut expected = Changes::default();
            for (number, (stored, record)) in known {
                let id = UploadId::from_bytes([number; 16]);
                expected.set(id, Before::Nothing, Some((stored, &record)));
            }
            let fresh = sled::Config::new().temporary(true).open().unwrap();
            expected.apply(&fresh, database.with(|database| applied(database)).unwrap()).unwrap();
            let all = |tree: &sled::Db| tree.iter().map(Result::unwrap).collect::<Vec<_>>();
            let found = database.with(|database| Ok(all(database))).unwrap();
            prop_assert_eq!(found, all(&fresh));
        }
    }

    #[test]
    fn many_that_wait_are_told() {
        let pending = Pending::default();
        for number in 0..=u8::MAX {
            let mut changes = Changes::default();
            set(&mut changes, Before::Nothing, number, 1);
            assert!(!pending.add(changes, 1));
        }
        let mut changes = Changes::default();
        for number in 0..MAX_RECORDS {
            let mut bytes = [0; 16];
            bytes[1..9].copy_from_slice(&(number as u64).to_le_bytes());
            changes.set(UploadId::from_bytes(bytes), Before::Nothing, None);
        }
        assert!(pending.add(changes, 2));
    }
}
