//! The open database, shared by those who read it and the one who writes it.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::index::{applied, guarded};
use super::open;
use crate::storage::{Failure, StorageError};

/// How long a database that was closed only to be opened again may refuse that.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is tried meanwhile.
const INTERVAL: Duration = Duration::from_millis(50);

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

    /// Whether who uses it now would have to wait for somebody who reopens it.
    pub(super) fn is_away(&self) -> bool {
        self.open.is_locked_exclusive()
    }

    /// Has sled write to its files what it holds in memory.
    pub(super) fn flush(&self) -> Result<(), Failure> {
        self.with(|database| guarded(|| database.flush()).map(|_| ()))
    }

    /// [`reopened`], while others wait. After a failure it stays closed.
    pub(super) fn reopen(&self, records: &Path, last: u64) -> Result<(), StorageError> {
        let mut place = self.open.write();
        if let Some(database) = place.take() {
            *place = Some(reopened(database, records, last)?);
        }
        Ok(())
    }

    /// Closes it for good, once nobody uses it.
    pub(super) fn close(&self) {
        drop(self.open.write().take());
    }
}

/// Closes a database that was just flushed and opens it again, which has sled write down where each
/// page lies: from then on it notices when one is damaged. Blocks, for some seconds when it cannot
/// be opened at once.
///
/// # Errors
///
/// [`Failure::Damaged`] when it does not have the journal up to frame `last` then: sled does not tell
/// when it is closed and cannot write.
pub(super) fn reopened(
    database: sled::Db,
    records: &Path,
    last: u64,
) -> Result<sled::Db, StorageError> {
    drop(database);
    let opened = patiently(|| open::with_room_kept(records, || open::open(records)))?;
    let opening = |failure| StorageError::new("opening the records", None, failure);
    if applied(&opened).map_err(opening)? != Some(last) {
        let why = "not all of it could be written; start the server again".to_owned();
        return Err(opening(Failure::Damaged(why)));
    }
    Ok(opened)
}

/// Tries again what may do better in a moment: other parts of the server had all open files, or all
/// of the disk.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, StorageError>) -> Result<T, StorageError> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(StorageError { failure: Failure::Full(_) | Failure::Io(_), .. })
                if begin.elapsed() < PATIENCE =>
            {
                thread::sleep(INTERVAL);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_cannot_be_opened_at_once_is_tried_again_unless_it_is_damaged() {
        let mut failures = vec![
            Failure::Full(io::ErrorKind::StorageFull.into()),
            Failure::Io(rustix::io::Errno::MFILE.into()),
        ];
        let failed = |failure| StorageError::new("", None, failure);
        let opened = patiently(|| failures.pop().map_or(Ok(()), |failure| Err(failed(failure))));
        opened.unwrap();
        let mut attempts = 0;
        let damaged = patiently(|| {
            attempts += 1;
            Err::<(), _>(failed(Failure::Damaged(String::new())))
        });
        assert!(damaged.is_err() && attempts == 1);
    }
}
