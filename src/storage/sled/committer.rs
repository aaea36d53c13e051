//! The one thread that writes records, for all who wait: group commit.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::log::Log;
use super::recent::Recent;
use super::{failure, read, record_key, wake_key};
use crate::protocol::id::UploadId;
use crate::protocol::upload::Upload;
use crate::storage::{Failure, Stored, Version, codec};

/// The changes that are committed at once.
const BATCH: usize = 256;

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

/// A change, and who waits for it.
pub(super) struct Request {
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Result<Version, Failure>>,
}

pub(super) struct Committer {
    database: sled::Db,
    /// What sled itself does not sync, when it is to be.
    log: Option<Log>,
    recent: Arc<Recent>,
}

/// The changes that are made durable together.
#[derive(Default)]
struct Group {
    batch: sled::Batch,
    /// The records as they will be.
    after: HashMap<UploadId, Option<Stored>>,
    waiting: Vec<(oneshot::Sender<Result<Version, Failure>>, Version)>,
}

impl Committer {
    pub(super) fn new(database: sled::Db, log: Option<Log>, recent: Arc<Recent>) -> Self {
        Self { database, log, recent }
    }

    /// Commits until nobody can ask any more, or a commit failed: what the database holds in
    /// memory is ahead of the disk then, and nothing may be built on it.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = Group::default();
            self.add(first, &mut group);
            while group.waiting.len() < BATCH
                && let Ok(next) = queue.try_recv()
            {
                self.add(next, &mut group);
            }
            if let Err(stopped) = self.commit(group) {
                tracing::error!(error = %stopped, "records can no longer be saved; the server has to be started again");
                return;
            }
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
        let before = match group.after.get(&id) {
            Some(before) => before.clone(),
            None => self.recent.load(id, || read(&self.database, id))?,
        };
        let found = before.as_ref().map(|stored| stored.version);
        let after = match change {
            Change::Save { upload, expected } => {
                if expected != found {
                    return Err(Failure::Conflict);
                }
                let version = Version(found.map_or(1, |version| version.0.saturating_add(1)));
                Some(Stored { upload: *upload, version })
            }
            Change::Delete { expected, .. } => match found {
                None => return Ok(expected),
                Some(found) if found != expected => return Err(Failure::Conflict),
                Some(_) => None,
            },
        };
        let wake = |stored: &Stored| stored.upload.wake();
        let (old, new) = (before.as_ref().and_then(wake), after.as_ref().and_then(wake));
        match &after {
            Some(stored) => {
                let bytes = codec::encode(&stored.upload, stored.version)?;
                group.batch.insert(&record_key(id), bytes);
            }
            None => group.batch.remove(&record_key(id)),
        }
        if old != new {
            if let Some(old) = old {
                group.batch.remove(&wake_key(old, id));
            }
            if let Some(new) = new {
                group.batch.insert(&wake_key(new, id), &[]);
            }
        }
        if !group.after.contains_key(&id) {
            self.recent.begin(id, before);
        }
        let version = after.as_ref().map_or(Version(0), |stored| stored.version);
        group.after.insert(id, after);
        Ok(version)
    }

    fn commit(&mut self, group: Group) -> Result<(), String> {
        if group.after.is_empty() {
            for (answer, version) in group.waiting {
                drop(answer.send(Ok(version)));
            }
            return Ok(());
        }
        if let Err(failed) = self.make_durable(group.batch) {
            // `Recent` goes on showing what was there before: that alone is durable.
            let why = failed.to_string();
            let mut failed = Some(failed);
            for (answer, _) in group.waiting {
                drop(answer.send(Err(failed.take().unwrap_or(Failure::Closed))));
            }
            return Err(why);
        }
        for (id, after) in group.after {
            self.recent.committed(id, after);
        }
        for (answer, version) in group.waiting {
            drop(answer.send(Ok(version)));
        }
        Ok(())
    }

    fn make_durable(&mut self, batch: sled::Batch) -> Result<(), Failure> {
        self.database.apply_batch(batch).map_err(failure)?;
        self.database.flush().map_err(failure)?;
        match &mut self.log {
            Some(log) => log.sync().map_err(Failure::Io),
            None => Ok(()),
        }
    }
}
