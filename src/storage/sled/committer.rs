//! Commits records, one committer for all: changes that have to reach the disk in groups, on a
//! thread of its own, for all who wait; one that need not, where it is asked for, since that is
//! done before the thread would have been woken.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::Known;
use super::base::BaseWriter;
use super::database::Database;
use super::flusher::Flusher;
use super::index::{Before, Changes, read};
use super::trust::Mark;
use crate::protocol::id::UploadId;
use crate::protocol::upload::Upload;
use crate::storage::journal::{Entry, Journal, Payload};
use crate::storage::{Durability, Failure, StorageError, Stored, Version, codec};

/// The changes that are committed at once.
const BATCH: usize = 256;
/// The bytes after which a group takes no further change.
const BATCH_BYTES: usize = 4 << 20;

/// What is told when the database did not take what the journal has.
pub(super) const NOT_MADE: &str = "the database of the records does not take what is saved";

/// One change of one record.
pub(super) enum Change {
    Save { upload: Upload, expected: Option<Version> },
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
    /// There is something to look after, which somebody else has brought about.
    Look,
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
    /// Nothing is committed any more.
    pub(super) has_ended: bool,
    /// For the thread that writes a base; keeps the store from being dropped no longer than that.
    pub(super) messages: mpsc::WeakSender<Message>,
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
    pub(super) fn run(this: &Mutex<Self>, mut queue: mpsc::Receiver<Message>) -> Option<u64> {
        let mut is_well = true;
        while is_well && let Some(first) = queue.blocking_recv() {
            is_well = this.lock().commit_group(first, &mut queue);
        }
        // A base that is written tells of its end, and would wait for room in the queue for ever.
        drop(queue);
        this.lock().end(is_well)
    }

    /// Commits this and what waits behind it; whether all is well.
    fn commit_group(&mut self, first: Message, queue: &mut mpsc::Receiver<Message>) -> bool {
        let mut group = Group::default();
        let mut has_base_ended = self.take(first, &mut group);
        while group.waiting.len() < BATCH
            && group.payload.len() < BATCH_BYTES
            && let Ok(next) = queue.try_recv()
        {
            has_base_ended |= self.take(next, &mut group);
        }
        self.commit(group);
        if self.known.pending.is_broken() {
            tracing::error!("records can no longer be saved; the server has to be started again");
            return false;
        }
        let looked = self.look_after_base(has_base_ended);
        if let Err(error) = &looked {
            tracing::error!(%error, "the records could not be opened again; the server has to be started again");
        }
        looked.is_ok()
    }

    fn end(&mut self, is_well: bool) -> Option<u64> {
        self.has_ended = true;
        if let Some(base) = self.base.take() {
            base.cancel();
        }
        self.follower.stop();
        self.flusher.stop();
        let all_made =
            || self.known.pending.settle(&self.database).and_then(|()| self.database.flush());
        (is_well && all_made().is_ok()).then(|| self.journal.last())
    }

    /// Commits one change; gives it back when something has to be done first that takes long.
    pub(super) fn commit_one(
        &mut self,
        change: Change,
    ) -> Result<Result<Version, Failure>, Change> {
        if self.known.pending.are_many() {
            return Err(change);
        }
        let mut group = Group::default();
        let added = self.try_add(change, &mut group);
        let committed = added.and_then(|version| self.append(group).map(|_| version));
        if self.is_base_due() || self.known.pending.is_broken() {
            // When the queue is full, another one will tell.
            let _ = self.messages.upgrade().map(|queue| queue.try_send(Message::Look));
        }
        Ok(committed)
    }

    /// Takes a change into the group; true when it was told instead that a base has ended.
    fn take(&self, message: Message, group: &mut Group) -> bool {
        match message {
            Message::Request(request) => {
                self.add(request, group);
                false
            }
            Message::BaseEnded => true,
            Message::Look => false,
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
        let before = match group.changes.find(id) {
            Some(before) => before.cloned(),
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
                let after = Some((Stored { upload, version }, record.as_slice()));
                group.changes.set(id, Before::of(before.as_ref()), after);
                Ok(version)
            }
            Change::Delete { expected, .. } => match found {
                None => Ok(expected),
                Some(found) if found != expected => Err(Failure::Conflict),
                Some(_) => {
                    group.payload.push(Entry::Delete { id });
                    group.changes.set(id, Before::of(before.as_ref()), None);
                    Ok(Version(0))
                }
            },
        }
    }

    /// Commits the group, and tells all who wait for it.
    fn commit(&mut self, mut group: Group) {
        let waiting = std::mem::take(&mut group.waiting);
        match self.append(group) {
            Ok(are_many) => {
                if are_many && let Err(error) = self.known.pending.settle(&self.database) {
                    tracing::error!(%error, "{NOT_MADE}");
                }
                for (answer, version) in waiting {
                    drop(answer.send(Ok(version)));
                }
            }
            Err(failure) => {
                for (answer, _) in waiting {
                    drop(answer.send(Err(again(&failure))));
                }
            }
        }
    }

    /// Appends to the journal, which is what makes the changes durable; the database follows.
    /// Whether it is far behind.
    fn append(&mut self, group: Group) -> Result<bool, Failure> {
        let Group { payload, changes, .. } = group;
        if self.has_ended || self.known.pending.is_broken() {
            return Err(Failure::Closed);
        }
        if payload.len() == 0 {
            return Ok(false);
        }
        let number = self.journal.append(payload).map_err(|error| {
            tracing::error!(%error, "the journal of the records cannot be written");
            StorageError::io("", None, error).failure
        })?;
        let committed: Vec<_> = changes.after().map(|(id, after)| (id, after.cloned())).collect();
        committed.iter().for_each(|(id, _)| self.known.recent.begin(*id));
        let are_many = self.known.pending.add(changes, number);
        // Behind that: what is forgotten again is found there.
        for (id, after) in committed {
            self.known.recent.committed(id, after);
        }
        self.follower.wake();
        self.flusher.wake();
        Ok(are_many)
    }
}

/// The failure once more, for the next who waits for the group.
fn again(failure: &Failure) -> Failure {
    let copy = |error: &io::Error| match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    };
    match failure {
        Failure::Full(error) => Failure::Full(copy(error)),
        Failure::Io(error) => Failure::Io(copy(error)),
        _ => Failure::Closed,
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Waker};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::protocol::metadata::Metadata;
    use crate::protocol::units::Timestamp;
    use crate::storage::folder::DataFolder;
    use crate::storage::sled::base::Ending;
    use crate::storage::sled::recover::open_both;

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
            let change = Change::Save { upload: upload.clone(), expected: Some(Version(number)) };
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
        changes.set(upload.id(), Before::Nothing, None);
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
            base: Some(BaseWriter::of(thread)),
            has_ended: false,
            messages: messages.downgrade(),
        };
        // What the journal has cannot be put into it.
        database.close();
        known.pending.settle(&database).unwrap_err();
        let (ended, end) = std::sync::mpsc::channel();
        let committer = Mutex::new(committer);
        thread::spawn(move || ended.send(Committer::run(&committer, queue)));
        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(None));
    }
}
