//! Upload records in sled, as an index of the journal.
//!
//! What sled 0.34.7 does wrong, and what is done about it here:
//!
//! - Seven or more `flush_async` at once hang for ever, and `flush` ends in `sync_file_range`, which
//!   the loss of power can undo. So no save rests on it: one thread takes the saves that wait,
//!   appends them to the journal, which is synced once for all (group commit). sled follows it, and
//!   is flushed, in the background. A base of the journal is what sled tells, though: from then on
//!   the older records are those that it had.
//! - After a loss of power, or damage, its files cannot be believed. It is made anew then, or
//!   brought up to the journal, when it is opened (`recover`).
//! - Opening and reading panic on some damage. That is caught and told as an error.
//! - It splits pages by the number of their entries, looks at the size of its cache after so many
//!   uses of pages, however large they are, and counts some tens of bytes for one of more than
//!   128 KiB. So its memory has a bound only where no entry is long, and long records are kept in
//!   pieces (`pieces`).
//! - It cannot be opened on a full disk. Some room is kept for that.

mod base;
mod committer;
mod database;
mod flusher;
mod index;
mod open;
mod pending;
mod pieces;
mod rebuild;
mod recent;
mod recover;
mod replay;
mod trust;

use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use self::committer::{Change, Committer, Message, Request};
use self::database::Database;
use self::flusher::Flusher;
use self::index::{RECORD, WAKE, digest_prefixes, each, id_at_end, record_key, wake_key};
use self::pending::Pending;
pub use self::rebuild::{Rebuilt, rebuild};
use self::recent::Recent;
pub use self::recover::REMEDY;
use self::trust::Mark;
use super::folder::DataFolder;
use super::journal::Journal;
use super::pace::{Pace, Waits};
use super::{Durability, Failure, RecordStore, StorageError, StoreFuture, Stored, Version};
use crate::protocol::id::UploadId;
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::Upload;

/// The saves that may wait for the thread that writes; further ones wait to be taken in.
const QUEUE: usize = 1024;

/// What a record takes in the journal beside its metadata, about.
const RECORD_BYTES: u64 = 512;
/// How often it lies on the disk, about: in the journal, in the journal's next base, and in sled, which
/// took 2.1 to 2.3 times as much as the journal (5000 records of 0.7, 4 and 16 KB).
const COPIES: u64 = 4;

/// What is known of records without the database.
#[derive(Default)]
struct Known {
    recent: Recent,
    pending: Pending,
}

/// Upload records in a sled database.
pub struct SledStore {
    database: Arc<Database>,
    known: Arc<Known>,
    /// Taken when the store is dropped, which ends the thread.
    requests: Option<mpsc::Sender<Message>>,
    committing: Option<thread::JoinHandle<Option<u64>>>,
    committer: Arc<Mutex<Committer>>,
    durability: Durability,
    mark: Mark,
    pace: Arc<Pace>,
}

impl SledStore {
    /// Opens the records of this folder, or makes them. Blocks, for up to 2 s when a process that
    /// was killed still has them, and for as long as it takes to make the database anew if it has
    /// to.
    ///
    /// # Errors
    ///
    /// [`Failure::Damaged`] when the journal cannot be read, and tells what repairs it;
    /// [`Failure::Full`] and [`Failure::Io`].
    pub fn open(folder: &DataFolder, durability: Durability) -> Result<Self, StorageError> {
        let (database, journal) = recover::open_both(folder, durability)?;
        Self::start(folder, database, journal, durability)
    }

    fn start(
        folder: &DataFolder,
        database: sled::Db,
        journal: Journal,
        durability: Durability,
    ) -> Result<Self, StorageError> {
        let known = Arc::new(Known::default());
        let (requests, queue) = mpsc::channel(QUEUE);
        let database = Arc::new(Database::new(database));
        let mark = Mark::of(&folder.records(), durability);
        let io = |source| StorageError::io("starting the writer of records", None, source);
        let follower = Flusher::following(Arc::clone(&database), Arc::clone(&known));
        let committer = Committer {
            follower: follower.map_err(io)?,
            flusher: Flusher::of(Arc::clone(&database)).map_err(io)?,
            database: Arc::clone(&database),
            journal,
            folder: folder.journal(),
            records: folder.records(),
            mark: mark.clone(),
            durability,
            known: Arc::clone(&known),
            base: None,
            has_ended: false,
            messages: requests.downgrade(),
        };
        let committer = Arc::new(Mutex::new(committer));
        let committing = Arc::clone(&committer);
        let committing = thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || Committer::run(&committing, queue))
            .map_err(io)?;
        let (requests, committing) = (Some(requests), Some(committing));
        let pace = folder.pace();
        Ok(Self { database, known, requests, committing, committer, durability, mark, pace })
    }

    async fn commit(&self, change: Change) -> Result<Version, StorageError> {
        let (doing, id) = (change.doing(), change.id());
        let closed = || StorageError::new(doing, Some(id), Failure::Closed);
        let queue = self.requests.as_ref().ok_or_else(closed)?;
        let failed = |failure| StorageError::new(doing, Some(id), failure);
        let change = match self.commit_here(queue, change) {
            Ok(committed) => return committed.map_err(failed),
            Err(change) => change,
        };
        let (answer, answered) = oneshot::channel();
        queue.send(Message::Request(Request { change, answer })).await.map_err(|_| closed())?;
        let committed = answered.await.map_err(|_| closed())?;
        committed.map_err(failed)
    }

    /// Commits the change on this thread; gives it back when that would take long, and when others
    /// commit: a group takes less than each by itself.
    fn commit_here(
        &self,
        queue: &mpsc::Sender<Message>,
        change: Change,
    ) -> Result<Result<Version, Failure>, Change> {
        // A sync for many takes no longer than one for one.
        let syncs = self.durability == Durability::PowerLoss;
        let others_wait = queue.capacity() < queue.max_capacity();
        // It is closed when the thread of the committer has died.
        if syncs || others_wait || queue.is_closed() {
            return Err(change);
        }
        let Some(place) = self.pace.place() else { return Err(change) };
        let Some(mut committer) = self.committer.try_lock() else { return Err(change) };
        place.run(|| committer.commit_one(change))
    }

    /// Runs a look into the whole database on a thread for it.
    async fn search<T: Send + 'static>(
        &self,
        doing: &'static str,
        look: impl FnOnce(&sled::Db, &Known) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (database, known) = (Arc::clone(&self.database), Arc::clone(&self.known));
        let died = |_| StorageError::new(doing, None, Failure::Closed);
        let looked = spawn_blocking(move || {
            // Not inside of `with`, which does not nest.
            known.pending.settle(&database)?;
            database.with(|database| Ok(look(database, &known)))
        });
        looked.await.map_err(died)?.map_err(|failure| StorageError::new(doing, None, failure))?
    }

    /// Most of the database is in memory, and a look at one record quick. It may be behind what is
    /// known.
    async fn load_from_database(&self, id: UploadId) -> Result<Option<Stored>, StorageError> {
        let (database, known) = (Arc::clone(&self.database), Arc::clone(&self.known));
        let waits = if database.is_away() { Waits::ForTheDisk } else { Waits::Seldom };
        let load = move || database.with(|database| known.load(id, || index::read(database, id)));
        let loaded = Arc::clone(&self.pace).run(waits, load).await.unwrap_or(Err(Failure::Closed));
        loaded.map_err(|failure| StorageError::new("loading the record", Some(id), failure))
    }
}

impl Known {
    fn find(&self, id: UploadId) -> Option<Option<Stored>> {
        self.recent.find(id).or_else(|| self.pending.find(id))
    }

    /// The record; `read` asks the database.
    fn load(
        &self,
        id: UploadId,
        read: impl FnOnce() -> Result<Option<Stored>, Failure>,
    ) -> Result<Option<Stored>, Failure> {
        self.recent.load(id, || self.pending.find(id).map_or_else(read, Ok))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.requests = None;
        let committed = self.committing.take().map(thread::JoinHandle::join);
        self.database.close();
        match committed {
            Some(Ok(Some(last))) => {
                if let Err(error) = self.mark.close(last) {
                    tracing::warn!(%error, "the records could not be closed; the next start may take longer");
                }
            }
            Some(Ok(None)) | None => {}
            Some(Err(_)) => tracing::error!("the writer of records had died"),
        }
    }
}

impl RecordStore for SledStore {
    fn room_of(&self, upload: &Upload) -> u64 {
        let metadata = u64::try_from(upload.metadata().as_str().len()).unwrap_or(u64::MAX);
        metadata.saturating_add(RECORD_BYTES).saturating_mul(COPIES)
    }

    fn load(&self, id: UploadId) -> StoreFuture<'_, Option<Stored>> {
        if let Some(known) = self.known.find(id) {
            return Box::pin(async { Ok(known) });
        }
        Box::pin(self.load_from_database(id))
    }

    fn save(&self, upload: Upload, expected: Option<Version>) -> StoreFuture<'_, Version> {
        Box::pin(self.commit(Change::Save { upload, expected }))
    }

    fn delete(&self, id: UploadId, expected: Version) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.commit(Change::Delete { id, expected }).await.map(|_| ()) })
    }

    fn due(&self, now: Timestamp, max: usize) -> StoreFuture<'_, Vec<UploadId>> {
        let doing = "looking for what is due";
        Box::pin(self.search(doing, move |tree, _| {
            due(tree, now, max).map_err(|failure| StorageError::new(doing, None, failure))
        }))
    }

    fn alike(&self, digests: ReprDigests, max: usize) -> StoreFuture<'_, Vec<UploadId>> {
        let doing = "looking for equal uploads";
        Box::pin(self.search(doing, move |tree, _| {
            alike(tree, digests, max).map_err(|failure| StorageError::new(doing, None, failure))
        }))
    }

    fn list(&self, after: Option<UploadId>, max: usize) -> StoreFuture<'_, Vec<Stored>> {
        let doing = "listing the records";
        Box::pin(self.search(doing, move |tree, known| {
            let after =
                after.map_or_else(|| vec![RECORD], |id| [record_key(id).as_slice(), &[0]].concat());
            let mut found = Vec::new();
            for key in each(tree.range(after..vec![RECORD + 1])) {
                if found.len() >= max {
                    break;
                }
                let id = key.and_then(|(key, _)| id_at_end(&key));
                let id = id.map_err(|failure| StorageError::new(doing, None, failure))?;
                let loaded = known.load(id, || index::read(tree, id));
                let loaded =
                    loaded.map_err(|failure| StorageError::new(doing, Some(id), failure))?;
                found.extend(loaded);
            }
            Ok(found)
        }))
    }
}

/// As with what is due, what is told may be left over by damage, or be overtaken by a save.
fn alike(tree: &sled::Tree, digests: ReprDigests, max: usize) -> Result<Vec<UploadId>, Failure> {
    let prefixes = digest_prefixes(digests);
    let Some(prefix) = prefixes.first() else { return Ok(Vec::new()) };
    each(tree.scan_prefix(prefix)).take(max).map(|key| id_at_end(&key?.0)).collect()
}

fn due(tree: &sled::Tree, now: Timestamp, max: usize) -> Result<Vec<UploadId>, Failure> {
    let end = wake_key(Timestamp(now.0.saturating_add(1)), UploadId::from_bytes([0; 16]));
    let mut due = Vec::new();
    for key in each(tree.range([WAKE].as_slice()..end.as_slice())) {
        if due.len() >= max {
            break;
        }
        let (key, _) = key?;
        let id = id_at_end(&key)?;
        let wake = index::read(tree, id)?.and_then(|stored| stored.upload.wake());
        // What was left over by damage, or was overtaken by a save, wakes nobody.
        if wake.is_some_and(|wake| wake_key(wake, id) == key.as_ref()) {
            due.push(id);
        }
    }
    Ok(due)
}

/// What sled said, told apart by whether it means that no room is left.
fn failure(error: sled::Error) -> Failure {
    match error {
        sled::Error::Io(source) => match StorageError::io("", None, source).failure {
            Failure::Full(source) => Failure::Full(source),
            other => other,
        },
        sled::Error::Corruption { .. } => Failure::Damaged(format!("{error}; {}", recover::REMEDY)),
        other => Failure::Io(io::Error::other(other)),
    }
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;
