//! Upload records in sled.
//!
//! What sled 0.34.7 does wrong, and what is done about it here:
//!
//! - Seven or more `flush_async` at once hang for ever. One thread writes for all: it takes the
//!   saves that wait, applies them as one batch and flushes once (group commit).
//! - `flush` ends in `sync_file_range`, which the loss of power can undo. [`Log`] syncs by itself.
//! - Reads see a batch before it is durable. [`Recent`] shows what was there before until it is.
//! - Opening panics on some damage. That is caught and told as an error.
//! - It cannot be opened on a full disk. Some room is kept for that.
//!
//! One tree holds both kinds of keys, so that one batch changes a record and its index entry:
//!
//! ```text
//! 'u' id(16)                   → the record (codec)
//! 'w' wake in ms(8, BE) id(16) → nothing; the wake index
//! ```

mod committer;
mod log;
mod open;
mod recent;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use self::committer::{Change, Committer, Request};
use self::log::Log;
use self::recent::Recent;
use super::{Durability, Failure, RecordStore, StorageError, StoreFuture, Stored, Version, codec};
use crate::protocol::id::UploadId;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::Upload;

/// The saves that may wait for the thread that writes; further ones wait to be taken in.
const QUEUE: usize = 1024;

/// Upload records in a sled database.
pub struct SledStore {
    tree: sled::Tree,
    recent: Arc<Recent>,
    /// Taken when the store is dropped, which ends the thread.
    requests: Option<mpsc::Sender<Request>>,
    committer: Option<thread::JoinHandle<()>>,
}

impl SledStore {
    /// Opens the database in this folder, or makes it. Blocks, for up to 2 s when a process that
    /// was killed still has it.
    ///
    /// # Errors
    ///
    /// [`Failure::Damaged`] when it cannot be read, [`Failure::Full`] and [`Failure::Io`].
    pub fn open(folder: &Path, durability: Durability) -> Result<Self, StorageError> {
        let database = open::open(folder)?;
        let log = match durability {
            Durability::PowerLoss => Some(Log::open(folder).map_err(|source| {
                StorageError::io("syncing what the records were opened with", None, source)
            })?),
            Durability::Process => None,
        };
        Self::start(database, log)
    }

    fn start(database: sled::Db, log: Option<Log>) -> Result<Self, StorageError> {
        let recent = Arc::new(Recent::default());
        let (requests, queue) = mpsc::channel(QUEUE);
        let tree = (*database).clone();
        let committer = Committer::new(database, log, Arc::clone(&recent));
        let committer = thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || committer.run(queue))
            .map_err(|source| StorageError::io("starting the writer of records", None, source))?;
        Ok(Self { tree, recent, requests: Some(requests), committer: Some(committer) })
    }

    async fn commit(&self, change: Change) -> Result<Version, StorageError> {
        let (doing, id) = (change.doing(), change.id());
        let closed = || StorageError::new(doing, Some(id), Failure::Closed);
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(closed)?;
        requests.send(Request { change, answer }).await.map_err(|_| closed())?;
        let committed = answered.await.map_err(|_| closed())?;
        committed.map_err(|failure| StorageError::new(doing, Some(id), failure))
    }

    /// Runs a look into the database on a thread for it.
    async fn look<T: Send + 'static>(
        &self,
        doing: &'static str,
        look: impl FnOnce(sled::Tree, Arc<Recent>) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (tree, recent) = (self.tree.clone(), Arc::clone(&self.recent));
        let died = |_| StorageError::new(doing, None, Failure::Closed);
        spawn_blocking(move || look(tree, recent)).await.map_err(died)?
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the writer of records had died");
        }
    }
}

impl RecordStore for SledStore {
    fn load(&self, id: UploadId) -> StoreFuture<'_, Option<Stored>> {
        if let Some(known) = self.recent.find(id) {
            return Box::pin(async { Ok(known) });
        }
        let doing = "loading the record";
        Box::pin(self.look(doing, move |tree, recent| load(&tree, &recent, id, doing)))
    }

    fn save(&self, upload: Upload, expected: Option<Version>) -> StoreFuture<'_, Version> {
        Box::pin(self.commit(Change::Save { upload: Box::new(upload), expected }))
    }

    fn delete(&self, id: UploadId, expected: Version) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.commit(Change::Delete { id, expected }).await.map(|_| ()) })
    }

    fn due(&self, now: Timestamp, max: usize) -> StoreFuture<'_, Vec<UploadId>> {
        let doing = "looking for what is due";
        Box::pin(self.look(doing, move |tree, _| {
            let end = wake_key(Timestamp(now.0.saturating_add(1)), UploadId::from_bytes([0; 16]));
            let keys = tree.range([WAKE].as_slice()..end.as_slice()).keys().take(max);
            let ids = keys.map(|key| id_at_end(&key.map_err(failure)?));
            ids.collect::<Result<_, _>>().map_err(|failure| StorageError::new(doing, None, failure))
        }))
    }

    fn list(&self, after: Option<UploadId>, max: usize) -> StoreFuture<'_, Vec<Stored>> {
        let doing = "listing the records";
        Box::pin(self.look(doing, move |tree, recent| {
            let after =
                after.map_or_else(|| vec![RECORD], |id| [record_key(id).as_slice(), &[0]].concat());
            let mut found = Vec::new();
            for key in tree.range(after..vec![RECORD + 1]).keys() {
                if found.len() >= max {
                    break;
                }
                let id = key.map_err(failure).and_then(|key| id_at_end(&key));
                let id = id.map_err(|failure| StorageError::new(doing, None, failure))?;
                // A record that is being made is not there yet.
                found.extend(load(&tree, &recent, id, doing)?);
            }
            Ok(found)
        }))
    }
}

const RECORD: u8 = b'u';
const WAKE: u8 = b'w';

fn record_key(id: UploadId) -> [u8; 17] {
    let mut key = [RECORD; 17];
    key[1..].copy_from_slice(&id.to_bytes());
    key
}

fn wake_key(wake: Timestamp, id: UploadId) -> [u8; 25] {
    let mut key = [WAKE; 25];
    key[1..9].copy_from_slice(&wake.0.to_be_bytes());
    key[9..].copy_from_slice(&id.to_bytes());
    key
}

fn id_at_end(key: &[u8]) -> Result<UploadId, Failure> {
    let id = key.last_chunk().copied().map(UploadId::from_bytes);
    id.ok_or_else(|| Failure::Damaged("a key is too short".to_owned()))
}

fn load(
    tree: &sled::Tree,
    recent: &Recent,
    id: UploadId,
    doing: &'static str,
) -> Result<Option<Stored>, StorageError> {
    let loaded = recent.load(id, || read(tree, id));
    loaded.map_err(|failure| StorageError::new(doing, Some(id), failure))
}

fn read(tree: &sled::Tree, id: UploadId) -> Result<Option<Stored>, Failure> {
    let Some(bytes) = tree.get(record_key(id)).map_err(failure)? else { return Ok(None) };
    let stored = codec::decode(&bytes)?;
    if stored.upload.id() != id {
        let other = stored.upload.id();
        return Err(Failure::Damaged(format!("it is the record of upload {other}")));
    }
    Ok(Some(stored))
}

/// What sled said, told apart by whether it means that no room is left.
fn failure(error: sled::Error) -> Failure {
    match error {
        sled::Error::Io(source) => match StorageError::io("", None, source).failure {
            Failure::Full(source) => Failure::Full(source),
            other => other,
        },
        sled::Error::Corruption { .. } => Failure::Damaged(error.to_string()),
        other => Failure::Io(io::Error::other(other)),
    }
}

#[cfg(test)]
mod tests;
