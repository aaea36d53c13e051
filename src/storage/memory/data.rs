//! The bytes of uploads in memory.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Fault, Machine, MemoryStore, Operation, Stop};
use crate::protocol::id::UploadId;
use crate::protocol::upload::Placement;
use crate::storage::{DataReader, DataStore, DataWriter, Failure, List, StorageError, StoreFuture};

/// The bytes that one read gives at most; few, so that tests see more than one.
const PIECE_BYTES: usize = 64 << 10;

impl DataStore for MemoryStore {
    fn writer(&self, id: UploadId, offset: u64) -> StoreFuture<'_, Box<dyn DataWriter>> {
        let store = self.clone();
        let doing = "opening the data";
        Box::pin(self.call(Operation::Open, doing, Some(id), move |machine, entered| {
            entered?;
            machine.cut(id, offset)?;
            Ok(Box::new(MemoryWriter { store, id, is_usable: true }) as Box<dyn DataWriter>)
        }))
    }

    fn reader(
        &self,
        id: UploadId,
        placement: &Placement,
        range: Range<u64>,
    ) -> StoreFuture<'_, Box<dyn DataReader>> {
        let store = self.clone();
        let placement = placement.clone();
        let doing = "opening the data";
        Box::pin(self.call(Operation::Read, doing, Some(id), move |machine, entered| {
            entered?;
            let rest = match placement {
                Placement::Whole => machine.bytes(id, range)?,
                Placement::Parts { .. } => machine.bytes_of_parts(id, range)?,
            };
            Ok(Box::new(MemoryReader { store, id, rest }) as Box<dyn DataReader>)
        }))
    }

    fn adopt(&self, id: UploadId, parts: Vec<(UploadId, u64)>) -> StoreFuture<'_, ()> {
        let doing = "linking the parts";
        Box::pin(async move {
            let adopted = self.call(Operation::Adopt, doing, Some(id), |machine, entered| {
                entered?;
                Ok(machine.adopt(id, &parts))
            });
            adopted.await?.map_err(|(part, failure)| StorageError::new(doing, Some(part), failure))
        })
    }

    fn share(&self, id: UploadId, with: UploadId) -> StoreFuture<'_, ()> {
        let doing = "sharing the data";
        Box::pin(self.call(Operation::Share, doing, Some(id), move |machine, entered| {
            entered?;
            // Both have the same bytes before and after, whatever a crash leaves.
            let live = |id| machine.files.get(&id).and_then(|file| file.live());
            match live(id).zip(live(with)) {
                Some((own, other)) if own == other => Ok(()),
                Some(_) => Err(Failure::Damaged("unequal uploads cannot share".to_owned())),
                None => Err(Failure::Missing),
            }
        }))
    }

    fn join(&self, id: UploadId, lengths: Arc<[u64]>) -> StoreFuture<'_, ()> {
        let doing = "joining the parts";
        Box::pin(self.call(Operation::Join, doing, Some(id), move |machine, entered| {
            entered?;
            machine.join(id, &lengths)
        }))
    }

    fn write_list(
        &self,
        id: UploadId,
        list: List,
        pieces: Vec<(u64, Vec<u8>)>,
        end: Option<u64>,
    ) -> StoreFuture<'_, ()> {
        let doing = "writing a list";
        Box::pin(self.call(Operation::List, doing, Some(id), move |machine, entered| {
            // What a failed sync leaves can be read, until it is lost.
            if matches!((&entered, list), (Ok(()), _) | (Err(Stop::Hit(_)), List::Sha256)) {
                machine.write_list(id, list, &pieces, end)?;
            }
            Ok(entered?)
        }))
    }

    fn read_list(&self, id: UploadId, list: List, range: Range<u64>) -> StoreFuture<'_, Bytes> {
        let doing = "reading a list";
        Box::pin(self.call(Operation::List, doing, Some(id), move |machine, entered| {
            entered?;
            machine.read_list(id, list, range)
        }))
    }

    fn release_parts(&self, id: UploadId) -> StoreFuture<'_, ()> {
        let doing = "removing the parts";
        Box::pin(self.call(Operation::Remove, doing, Some(id), move |machine, entered| {
            entered?;
            machine.parts.remove(&id);
            Ok(())
        }))
    }

    fn remove(&self, id: UploadId) -> StoreFuture<'_, ()> {
        let doing = "removing the data";
        Box::pin(self.call(Operation::Remove, doing, Some(id), move |machine, entered| {
            entered?;
            machine.parts.remove(&id);
            List::ALL.iter().for_each(|list| drop(machine.lists.remove(&(id, *list))));
            if let Some(file) = machine.files.get_mut(&id) {
                let freed = count(file.live().unwrap_or_default());
                file.remove();
                machine.room = machine.room.saturating_add(freed);
            }
            Ok(())
        }))
    }

    fn take_room(&self, bytes: u64) -> StoreFuture<'_, u64> {
        let doing = "looking at the free space";
        Box::pin(self.call(Operation::Room, doing, None, move |machine, entered| {
            entered?;
            machine.room = machine.room.checked_sub(bytes).ok_or_else(|| Fault::Full.failure())?;
            Ok(machine.room)
        }))
    }
}

impl Machine {
    fn cut(&mut self, id: UploadId, offset: u64) -> Result<(), Failure> {
        let offset = usize::try_from(offset).map_err(|_| Failure::Missing)?;
        let file = self.files.entry(id).or_default();
        let before = count(file.live().unwrap_or_default());
        file.cut(offset)?;
        let after = count(file.live().unwrap_or_default());
        self.room = self.room.saturating_add(before.saturating_sub(after));
        Ok(())
    }

    pub(super) fn bytes(&self, id: UploadId, range: Range<u64>) -> Result<Bytes, Failure> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let position = |at: u64| usize::try_from(at).map_err(|_| Failure::Missing);
        let (start, end) = (position(range.start)?, position(range.end)?);
        let live = self.files.get(&id).and_then(|file| file.live());
        let bytes = live.and_then(|live| live.get(start..end)).ok_or(Failure::Missing)?;
        Ok(Bytes::copy_from_slice(bytes))
    }

    /// Appends what there is room for.
    fn append(&mut self, id: UploadId, pieces: &[Bytes]) -> Result<(), Failure> {
        let file = self.files.entry(id).or_default();
        for piece in pieces {
            let fits = usize::try_from(self.room).unwrap_or(usize::MAX).min(piece.len());
            let taken = piece.get(..fits).unwrap_or_default();
            file.append(taken);
            self.room = self.room.saturating_sub(count(taken));
            if fits < piece.len() {
                return Err(super::Fault::Full.failure());
            }
        }
        Ok(())
    }
}

struct MemoryWriter {
    store: MemoryStore,
    id: UploadId,
    is_usable: bool,
}

impl MemoryWriter {
    /// Makes one call, after which the writer is usable only if that succeeded, or was a write that
    /// lacked room.
    async fn call(
        &mut self,
        operation: Operation,
        doing: &'static str,
        work: impl FnOnce(&mut Machine, Result<(), Stop>) -> Result<(), Failure>,
    ) -> Result<(), StorageError> {
        let was_usable = std::mem::replace(&mut self.is_usable, false);
        if !was_usable {
            return Err(StorageError::new(doing, Some(self.id), Failure::Closed));
        }
        let done = self.store.call(operation, doing, Some(self.id), work).await;
        let lacked_room = done.as_ref().is_err_and(StorageError::is_full);
        self.is_usable = done.is_ok() || (lacked_room && operation == Operation::Write);
        done
    }
}

impl DataWriter for MemoryWriter {
    fn write(&mut self, mut pieces: Vec<Bytes>) -> StoreFuture<'_, ()> {
        let id = self.id;
        Box::pin(self.call(Operation::Write, "writing the data", move |machine, entered| {
            match entered {
                Ok(()) => machine.append(id, &pieces),
                Err(Stop::Down) => Err(Failure::Closed),
                Err(Stop::Hit(failure)) => {
                    // The half of it that was written counts for nothing.
                    pieces.truncate(pieces.len().div_ceil(2));
                    if let Some(last) = pieces.last_mut() {
                        last.truncate(last.len() / 2);
                    }
                    machine.append(id, &pieces)?;
                    Err(failure)
                }
            }
        }))
    }

    fn commit(&mut self) -> StoreFuture<'_, ()> {
        let id = self.id;
        Box::pin(self.call(Operation::Commit, "syncing the data", move |machine, entered| {
            entered?;
            if let Some(file) = machine.files.get_mut(&id) {
                file.sync();
            }
            Ok(())
        }))
    }
}

struct MemoryReader {
    store: MemoryStore,
    id: UploadId,
    rest: Bytes,
}

impl DataReader for MemoryReader {
    fn read(&mut self) -> StoreFuture<'_, Bytes> {
        let rest = &mut self.rest;
        Box::pin(self.store.call(
            Operation::Read,
            "reading the data",
            Some(self.id),
            move |_, entered| {
                entered?;
                Ok(rest.split_to(rest.len().min(PIECE_BYTES)))
            },
        ))
    }
}

pub(super) fn count(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
