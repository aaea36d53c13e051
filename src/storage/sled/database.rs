//! The open database, shared by those who read it and the one who writes it.

use std::path::Path;

use parking_lot::RwLock;

use super::index::{applied, guarded};
use super::open;
use crate::storage::{Failure, StorageError};

/// A database that can be closed, and opened again, while others use it.
pub(super) struct Database {
    open: RwLock<Option<sled::Db>>,
}

impl Database {
    pub(super) fn new(database: sled::Db) -> Self {
        Self { open: RwLock::new(Some(database)) }
    }

    /// Uses it; who reopens it waits until then.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&sled::Db) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match &*self.open.read() {
            Some(database) => work(database),
            None => Err(Failure::Closed),
        }
    }

    /// Closes it and opens it again, which has sled write down where each page lies: from then
    /// on it notices when one is damaged. Others wait meanwhile. After a failure it stays closed.
    ///
    /// # Errors
    ///
    /// [`Failure::Damaged`] when it does not have the journal up to frame `last` then: sled does not
    /// tell when it is closed and cannot write.
    pub(super) fn reopen(&self, records: &Path, last: u64) -> Result<(), StorageError> {
        let mut place = self.open.write();
        let opening = |failure| StorageError::new("opening the records", None, failure);
        if let Some(database) = place.take() {
            guarded(|| database.flush()).map_err(opening)?;
        }
        let database = open::with_room_kept(records, || open::open(records))?;
        if applied(&database).map_err(opening)? != Some(last) {
            let why = "not all of it could be written; start the server again".to_owned();
            return Err(opening(Failure::Damaged(why)));
        }
        *place = Some(database);
        Ok(())
    }

    /// Closes it for good, once nobody uses it.
    pub(super) fn close(&self) {
        drop(self.open.write().take());
    }
}
