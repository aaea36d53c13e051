//! The one thread that writes records, for all who wait: group commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use super::Known;
use super::database::Database;
use super::flusher::Flusher;
use super::index::{Changes, decode, read, records};
use super::recover::REMEDY;
use super::replay::no_record;
use super::trust::Mark;
use crate::protocol::id::UploadId;
use crate::protocol::upload::Upload;
use crate::storage::journal::{Entry, Journal, Payload, write_base};
use crate::storage::{Durability, Failure, StorageError, Stored, Version, codec};

/// The changes that are committed at once.
const BATCH: usize = 256;
/// The bytes after which a group takes no further change.
const BATCH_BYTES: usize = 4 << 20;

/// What is told when the database did not take what the journal has.
pub(super) const NOT_MADE: &str = "the database of the records does not take what is saved";

/// One change of one record.
pub(super) enum Change {
    Save { upload: Box<Upload>, expected: Option<Version> },
    Delete { id: UploadId, expected: Version },
}

impl Change {
    pub(super) fn id(&self) -> UploadId {
        match self {
            Self::Save { upload, .. } => upload.id(),
            Self::Delete { id, .. } => *id,
        }
    }

    pub(super) fn doing(&self) -> &'static str {
        match self {
            Self::Save { .. } => "saving the record",
            Self::Delete { .. } => "deleting the record",
        }
    }
}

/// What the committer is told.
pub(super) enum Message {
    Request(Request),
    /// The thread that writes a base has ended, or is about to.
    BaseEnded,
}

/// A change, and who waits for it.
pub(super) struct Request {
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Result<Version, Failure>>,
}

pub(super) struct Committer {
    pub(super) database: Arc<Database>,
    pub(super) journal: Journal,
    /// Where the journal is, and the database.
    pub(super) folder: PathBuf,
    pub(super) records: PathBuf,
    pub(super) mark: Mark,
    pub(super) durability: Durability,
    pub(super) known: Arc<Known>,
    pub(super) flusher: Flusher,
    /// Has the database follow the journal.
    pub(super) follower: Flusher,
    pub(super) base: Option<BaseWriter>,
    /// For the thread that writes a base; keeps the store from being dropped no longer than that.
    pub(super) messages: mpsc::WeakSender<Message>,
}

/// The thread that writes a base.
pub(super) struct BaseWriter {
    thread: JoinHandle<Result<u64, Failure>>,
    is_cancelled: Arc<AtomicBool>,
}

/// Tells the committer that a base has ended, however that came about: it begins no other one before.
struct Ending(mpsc::WeakSender<Message>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(messages) = self.0.upgrade() {
            // Without a committer there is nobody to tell.
            let _ = messages.blocking_send(Message::BaseEnded);
        }
    }
}

/// The changes that are made durable together.
#[derive(Default)]
struct Group {
    payload: Payload,
    changes: Changes,
    waiting: Vec<(oneshot::Sender<Result<Version, Failure>>, Version)>,
}

impl Committer {
    /// Commits until nobody can ask any more, or the database cannot take what the journal has:
    /// nothing may be built on it then. Tells the number of the last frame when all is well.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Message>) -> Option<u64> {
        let mut is_well = true;
        while let Some(first) = queue.blocking_recv() {
            let mut group = Group::default();
            let mut has_base_ended = self.take(first, &mut group);
            while group.waiting.len() < BATCH
                && group.payload.len() < BATCH_BYTES
                && let Ok(next) = queue.try_recv()
            {
                has_base_ended |= self.take(next, &mut group);
            }
            if let Err(stopped) = self.commit(group) {
                tracing::error!(error = %stopped, "records can no longer be saved; the server has to be started again");
                is_well = false;
                break;
            }
            if let Err(error) = self.look_after_base(has_base_ended) {
                tracing::error!(%error, "the records could not be opened again; the server has to be started again");
                is_well = false;
                break;
            }
        }
        // A base that is written tells of its end, and would wait for room in the queue for ever.
        drop(queue);
        if let Some(base) = self.base.take() {
            base.is_cancelled.store(true, Ordering::Relaxed);
            let _ = base.thread.join();
        }
        self.follower.stop();
        self.flusher.stop();
        let all_made =
            || self.known.pending.settle(&self.database).and_then(|()| self.database.flush());
        (is_well && all_made().is_ok()).then(|| self.journal.last())
    }

    /// Takes a change into the group; true when it was told instead that a base has ended.
    fn take(&self, message: Message, group: &mut Group) -> bool {
        match message {
            Message::Request(request) => {
                self.add(request, group);
                false
            }
            Message::BaseEnded => true,
        }
    }

    /// Takes a change into the group, or answers that it does not fit.
    fn add(&self, request: Request, group: &mut Group) {
        match self.try_add(request.change, group) {
            Ok(version) => group.waiting.push((request.answer, version)),
            // Who no longer waits need not know.
            Err(refused) => drop(request.answer.send(Err(refused))),
        }
    }

    fn try_add(&self, change: Change, group: &mut Group) -> Result<Version, Failure> {
        let id = change.id();
        let before = match group.changes.after.get(&id) {
            Some(before) => before.clone(),
            None => {
                let read = || self.database.with(|database| read(database, id));
                self.known.load(id, read)?
            }
        };
        let found = before.as_ref().map(|stored| stored.version);
        match change {
            Change::Save { upload, expected } => {
                if expected != found {
                    return Err(Failure::Conflict);
                }
                let version = Version(found.map_or(1, |version| version.0.saturating_add(1)));
                let record = codec::encode(&upload, version)?;
                group.payload.push(Entry::Save { id, record: &record });
                let after = Some((Stored { upload: *upload, version }, record.as_slice()));
                group.changes.set(id, before.as_ref(), after);
                Ok(version)
            }
            Change::Delete { expected, .. } => match found {
                None => Ok(expected),
                Some(found) if found != expected => Err(Failure::Conflict),
                Some(_) => {
                    group.payload.push(Entry::Delete { id });
                    group.changes.set(id, before.as_ref(), None);
                    Ok(Version(0))
                }
            },
        }
    }

    /// Appends to the journal, which is what makes the changes durable; the database follows.
    fn commit(&mut self, group: Group) -> Result<(), Failure> {
        let Group { payload, changes, waiting } = group;
        if payload.len() > 0 {
            if self.known.pending.is_broken() {
                return Err(Failure::Closed);
            }
            let number = match self.journal.append(payload) {
                Ok(number) => number,
                Err(error) => {
                    tracing::error!(%error, "the journal of the records cannot be written");
                    for (answer, _) in waiting {
                        drop(answer.send(Err(failed_again(&error))));
                    }
                    return Ok(());
                }
            };
            let committed = changes.after.clone();
            committed.keys().for_each(|id| self.known.recent.begin(*id));
            let are_many = self.known.pending.add(changes, number);
            // Behind that: what is forgotten again is found there.
            for (id, after) in committed {
                self.known.recent.committed(id, after);
            }
            if are_many && let Err(error) = self.known.pending.settle(&self.database) {
                tracing::error!(%error, "{NOT_MADE}");
            }
            self.follower.wake();
            self.flusher.wake();
        }
        for (answer, version) in waiting {
            drop(answer.send(Ok(version)));
        }
        Ok(())
    }

    /// Begins a base when it is time, and takes note when one is done: then the frames that have to
    /// be looked through after a crash can be fewer, too.
    fn look_after_base(&mut self, has_ended: bool) -> Result<(), StorageError> {
        if let Some(base) = self.base.take_if(|_| has_ended) {
            match base.thread.join() {
                Ok(Ok(bytes)) => {
                    self.journal.base_is_made(bytes);
                    self.make_sure()?;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the journal of the records could not be shortened");
                    self.journal.base_has_failed();
                }
                Err(_) => self.journal.base_has_failed(),
            }
        }
        if self.base.is_none() && self.journal.is_base_due() {
            match self.begin_base() {
                Ok(base) => self.base = Some(base),
                Err(error) => {
                    tracing::warn!(%error, "the journal of the records could not be shortened");
                    self.journal.base_has_failed();
                }
            }
        }
        Ok(())
    }

    /// Makes sure that the database has all up to now: less has to be looked through at the next
    /// start. An error has closed it.
    fn make_sure(&self) -> Result<(), StorageError> {
        let last = self.journal.last();
        let settled = self.known.pending.settle(&self.database);
        if let Err(error) = settled.and_then(|()| self.database.flush()) {
            tracing::warn!(%error, "the records could not be flushed; the next start may take longer");
            return Ok(());
        }
        self.database.reopen(&self.records, last)?;
        if let Err(error) = self.mark.open(last) {
            tracing::warn!(%error, "the next start may take longer");
        }
        Ok(())
    }

    fn begin_base(&mut self) -> std::io::Result<BaseWriter> {
        // It stands for all frames before it.
        self.known.pending.settle(&self.database).map_err(std::io::Error::other)?;
        let point = self.journal.begin_base()?;
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let (database, cancelled) = (Arc::clone(&self.database), Arc::clone(&is_cancelled));
        let (folder, durability) = (self.folder.clone(), self.durability);
        let ending = Ending(self.messages.clone());
        let thread = thread::Builder::new().name("records-base".to_owned()).spawn(move || {
            let _ending = ending;
            database.with(|database| {
                let records = records(database).map(|found| {
                    let (id, record) = found?;
                    if cancelled.load(Ordering::Relaxed) {
                        return Err(Failure::Closed);
                    }
                    // The frames that have it as it was saved would go.
                    decode(id, &record).map_err(|why| {
                        Failure::Damaged(format!("{}; {REMEDY}", no_record(id, &why)))
                    })?;
                    Ok((id, record))
                });
                write_base(&folder, point, records, durability)
            })
        })?;
        Ok(BaseWriter { thread, is_cancelled })
    }
}

/// The same failure for each who waits for the group.
fn failed_again(error: &std::io::Error) -> Failure {
    let copy = match error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => std::io::Error::new(error.kind(), error.to_string()),
    };
    StorageError::io("", None, copy).failure
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::*;
    use crate::protocol::metadata::Metadata;
    use crate::protocol::units::Timestamp;
    use crate::storage::folder::DataFolder;
    use crate::storage::sled::recover::open_both;

    #[test]
    fn a_base_that_ends_in_a_panic_is_told_as_ended() {
        let (messages, mut queue) = mpsc::channel(1);
        let ending = Ending(messages.downgrade());
        let base = thread::spawn(move || {
            let _ending = ending;
            panic!("planned");
        });
        assert!(base.join().is_err());
        assert!(matches!(queue.try_recv(), Ok(Message::BaseEnded)));
    }

    #[test]
    fn the_committer_ends_while_a_base_is_written_and_all_of_the_queue_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(folder.path()).unwrap();
        let (database, journal) = open_both(&folder, Durability::Process).unwrap();
        let database = Arc::new(Database::new(database));
        let (messages, queue) = mpsc::channel(BATCH * 2);
        let known = Arc::new(Known::default());
        let upload =
            Upload::new(UploadId::from_bytes([1; 16]), None, Metadata::default(), Timestamp(0));
        known
            .recent
            .committed(upload.id(), Some(Stored { upload: upload.clone(), version: Version(1) }));
        let save = |number| {
            let (answer, _) = oneshot::channel();
            let change =
                Change::Save { upload: Box::new(upload.clone()), expected: Some(Version(number)) };
            Message::Request(Request { change, answer })
        };
        let all = u64::try_from(BATCH * 4).unwrap();
        let mut waiting: Vec<_> = (1..=all).map(|n| Box::pin(messages.send(save(n)))).collect();
        for waiting in &mut waiting {
            let _ = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        let ending = Ending(messages.downgrade());
        let thread = thread::spawn(move || {
            drop(ending);
            Ok(0)
        });
        let mut changes = Changes::default();
        changes.set(upload.id(), None, None);
        known.pending.add(changes, 1);
        let committer = Committer {
            flusher: Flusher::of(Arc::clone(&database)).unwrap(),
            follower: Flusher::following(Arc::clone(&database), Arc::clone(&known)).unwrap(),
            database: Arc::clone(&database),
            journal,
            folder: folder.journal(),
            records: folder.records(),
            mark: Mark::of(&folder.records(), Durability::Process),
            durability: Durability::Process,
            known: Arc::clone(&known),
            base: Some(BaseWriter { thread, is_cancelled: Arc::default() }),
            messages: messages.downgrade(),
        };
        // What the journal has cannot be put into it.
        database.close();
        known.pending.settle(&database).unwrap_err();
        let (ended, end) = std::sync::mpsc::channel();
        thread::spawn(move || ended.send(committer.run(queue)));
        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(None));
    }
}
