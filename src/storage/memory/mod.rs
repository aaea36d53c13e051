//! Records and bytes in memory, on a simulated disk that can lose power and can fail. For tests.
//!
//! Every call of a store is one step, and the machine can crash at any of them: count the steps of
//! a run with [`MemoryStore::calls`], then do the run again once for each with
//! [`MemoryStore::crash_at`]. A call that the crash meets never returns anything but an error, and
//! whether it had its effect is up to the seed of [`MemoryStore::crash`].

mod data;
mod disk;
mod lists;
mod parts;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use self::disk::{DiskFile, Random};
use super::{Failure, List, RecordStore, StorageError, StoreFuture, Stored, Version};
use crate::protocol::id::UploadId;
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::Upload;

/// What a store is called for; faults are planned for one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A record is loaded.
    Load,
    /// A record is saved.
    Save,
    /// A record is deleted.
    Delete,
    /// Records that are due are looked for, or records are listed.
    Look,
    /// Bytes are opened for appending.
    Open,
    /// Bytes are appended.
    Write,
    /// Bytes are made durable.
    Commit,
    /// A range of bytes is opened, or its next bytes are read.
    Read,
    /// A list is written or read.
    List,
    /// Parts are taken hold of.
    Adopt,
    /// An upload is given the bytes of another.
    Share,
    /// Parts are joined.
    Join,
    /// Bytes are freed.
    Remove,
    /// The room that is left is asked for.
    Room,
}

/// How a planned call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No room is left.
    Full,
    /// The disk has an error.
    Io,
    /// Bytes are not there.
    Missing,
    /// What is there cannot be read.
    Damaged,
}

impl Fault {
    fn failure(self) -> Failure {
        match self {
            Self::Full => Failure::Full(io::ErrorKind::StorageFull.into()),
            Self::Io => Failure::Io(io::Error::other("the disk has an error (planned)")),
            Self::Missing => Failure::Missing,
            Self::Damaged => Failure::Damaged("planned".to_owned()),
        }
    }
}

/// Both stores in memory. A clone is another handle of the same machine; a handle is of no more
/// use once the machine has crashed.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    machine: Arc<Mutex<Machine>>,
    /// The start of the machine that this handle belongs to.
    boot: u64,
}

#[derive(Debug)]
struct Machine {
    /// What is durable. Nothing else is ever shown.
    records: BTreeMap<UploadId, Stored>,
    /// Changes that failed: after a crash they are there or they are not.
    uncertain: BTreeMap<UploadId, Option<Stored>>,
    /// After a failed change nothing is built on the records, as in any store that cannot know
    /// what its disk holds.
    are_records_closed: bool,
    files: BTreeMap<UploadId, DiskFile>,
    /// The parts that uploads have hold of.
    parts: BTreeMap<UploadId, Vec<Bytes>>,
    /// The lists beside the bytes of uploads.
    lists: BTreeMap<(UploadId, List), Vec<u8>>,
    /// The bytes that can still be written.
    room: u64,
    faults: Vec<Planned>,
    calls: u64,
    crash_at: Option<u64>,
    is_down: bool,
    boots: u64,
}

#[derive(Clone, Copy, Debug)]
struct Planned {
    operation: Operation,
    /// How many more calls of that kind succeed.
    after: u64,
    fault: Fault,
}

/// Why a call is not carried out.
enum Stop {
    /// The machine was down before it.
    Down,
    /// It meets a crash or a planned fault: its effect is uncertain.
    Hit(Failure),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Down => Self::Closed,
            Stop::Hit(failure) => failure,
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// A store with nothing in it, and with room for anything.
    pub fn new() -> Self {
        let machine = Machine {
            records: BTreeMap::new(),
            uncertain: BTreeMap::new(),
            are_records_closed: false,
            files: BTreeMap::new(),
            parts: BTreeMap::new(),
            lists: BTreeMap::new(),
            room: u64::MAX,
            faults: Vec::new(),
            calls: 0,
            crash_at: None,
            is_down: false,
            boots: 0,
        };
        Self { machine: Arc::new(Mutex::new(machine)), boot: 0 }
    }

    /// The calls so far. They are counted anew after a crash.
    pub fn calls(&self) -> u64 {
        self.machine.lock().calls
    }

    /// Lets call number `call` (the first is 1) and all after it fail with [`Failure::Closed`],
    /// until [`Self::crash`].
    pub fn crash_at(&self, call: u64) {
        self.machine.lock().crash_at = Some(call);
    }

    /// Lets one call of a kind fail, after `after` more of them that succeed.
    pub fn fail(&self, operation: Operation, after: u64, fault: Fault) {
        self.machine.lock().faults.push(Planned { operation, after, fault });
    }

    /// Sets the bytes that can still be written. A write that needs more takes what fits and
    /// fails; freeing bytes gives room back.
    pub fn set_room(&self, bytes: u64) {
        self.machine.lock().room = bytes;
    }

    /// The power fails, and the machine is started again: what was not synced is lost or torn, as
    /// the seed will have it. The store after that is returned; this one stays closed, so that
    /// whatever still runs from before cannot touch it.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut machine = self.machine.lock();
        let mut random = Random(seed);
        for (id, change) in std::mem::take(&mut machine.uncertain) {
            if random.coin() {
                machine.set(id, change);
            }
        }
        machine.files.values_mut().for_each(|file| file.crash(&mut random));
        machine
            .lists
            .retain(|(_, list), bytes| *list == List::Sha256 || lists::crash(bytes, &mut random));
        machine.are_records_closed = false;
        machine.faults.clear();
        machine.calls = 0;
        machine.crash_at = None;
        machine.is_down = false;
        machine.boots = machine.boots.saturating_add(1);
        Self { machine: Arc::clone(&self.machine), boot: machine.boots }
    }

    /// Makes one call: lets other tasks run first, as every store does.
    async fn call<T>(
        &self,
        operation: Operation,
        doing: &'static str,
        upload: Option<UploadId>,
        work: impl FnOnce(&mut Machine, Result<(), Stop>) -> Result<T, Failure>,
    ) -> Result<T, StorageError> {
        tokio::task::yield_now().await;
        let mut machine = self.machine.lock();
        let entered = machine.enter(self.boot, operation);
        work(&mut machine, entered).map_err(|failure| StorageError::new(doing, upload, failure))
    }
}

impl Machine {
    fn enter(&mut self, boot: u64, operation: Operation) -> Result<(), Stop> {
        if self.is_down || boot != self.boots {
            return Err(Stop::Down);
        }
        self.calls = self.calls.saturating_add(1);
        if self.crash_at.is_some_and(|call| call <= self.calls) {
            self.is_down = true;
            return Err(Stop::Hit(Failure::Closed));
        }
        let mut hit = None;
        self.faults.retain_mut(|planned| {
            let is_hit = planned.operation == operation && planned.after == 0 && hit.is_none();
            if is_hit {
                hit = Some(planned.fault);
            } else if planned.operation == operation {
                planned.after = planned.after.saturating_sub(1);
            }
            !is_hit
        });
        hit.map_or(Ok(()), |fault| Err(Stop::Hit(fault.failure())))
    }

    /// Changes a record, unless another version is there.
    fn change(
        &mut self,
        entered: Result<(), Stop>,
        id: UploadId,
        expected: Option<Version>,
        next: Option<Stored>,
    ) -> Result<(), Failure> {
        if self.are_records_closed {
            return Err(Failure::Closed);
        }
        let stop = entered.err();
        if let Some(Stop::Down) = stop {
            return Err(Failure::Closed);
        }
        if self.records.get(&id).map(|stored| stored.version) != expected {
            return Err(Failure::Conflict);
        }
        if let Some(Stop::Hit(failure)) = stop {
            self.uncertain.insert(id, next);
            self.are_records_closed = true;
            return Err(failure);
        }
        self.set(id, next);
        Ok(())
    }

    fn set(&mut self, id: UploadId, next: Option<Stored>) {
        match next {
            Some(next) => drop(self.records.insert(id, next)),
            None => drop(self.records.remove(&id)),
        }
    }
}

impl RecordStore for MemoryStore {
    fn load(&self, id: UploadId) -> StoreFuture<'_, Option<Stored>> {
        let doing = "loading the record";
        Box::pin(self.call(Operation::Load, doing, Some(id), move |machine, entered| {
            entered?;
            Ok(machine.records.get(&id).cloned())
        }))
    }

    fn save(&self, upload: Upload, expected: Option<Version>) -> StoreFuture<'_, Version> {
        let id = upload.id();
        let version = Version(expected.map_or(1, |version| version.0.saturating_add(1)));
        let doing = "saving the record";
        Box::pin(self.call(Operation::Save, doing, Some(id), move |machine, entered| {
            machine.change(entered, id, expected, Some(Stored { upload, version }))?;
            Ok(version)
        }))
    }

    fn delete(&self, id: UploadId, expected: Version) -> StoreFuture<'_, ()> {
        let doing = "deleting the record";
        Box::pin(self.call(Operation::Delete, doing, Some(id), move |machine, entered| {
            if !machine.records.contains_key(&id) {
                return Ok(entered?);
            }
            machine.change(entered, id, Some(expected), None)
        }))
    }

    fn due(&self, now: Timestamp, max: usize) -> StoreFuture<'_, Vec<UploadId>> {
        let doing = "looking for what is due";
        Box::pin(self.call(Operation::Look, doing, None, move |machine, entered| {
            entered?;
            let wakes = machine.records.iter().filter_map(|(id, stored)| {
                stored.upload.wake().filter(|wake| *wake <= now).map(|wake| (wake, *id))
            });
            let mut due: Vec<_> = wakes.collect();
            due.sort_unstable();
            Ok(due.into_iter().take(max).map(|(_, id)| id).collect())
        }))
    }

    fn alike(&self, digests: ReprDigests, max: usize) -> StoreFuture<'_, Vec<UploadId>> {
        let doing = "looking for equal uploads";
        Box::pin(self.call(Operation::Look, doing, None, move |machine, entered| {
            entered?;
            let is_alike = |stored: &Stored| {
                let found = stored.upload.digests();
                match digests.blake3 {
                    Some(_) => found.blake3 == digests.blake3,
                    None => digests.sha256.is_some() && found.sha256 == digests.sha256,
                }
            };
            let alike = machine.records.iter().filter(|(_, stored)| is_alike(stored));
            Ok(alike.take(max).map(|(id, _)| *id).collect())
        }))
    }

    fn list(&self, after: Option<UploadId>, max: usize) -> StoreFuture<'_, Vec<Stored>> {
        let doing = "listing the records";
        Box::pin(self.call(Operation::Look, doing, None, move |machine, entered| {
            entered?;
            let behind = machine.records.iter().filter(|(id, _)| Some(**id) > after);
            Ok(behind.take(max).map(|(_, stored)| stored.clone()).collect())
        }))
    }
}

#[cfg(test)]
mod tests;
