//! The records as the journal has them, for looking on while a server runs: nothing is locked,
//! nothing is written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use super::chain::{Chain, Damage, Found};
use super::frame::Entry;
use crate::protocol::id::UploadId;
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::Upload;
use crate::storage::{Failure, RecordStore, StorageError, StoreFuture, Stored, Version, codec};

/// How often the files are looked for again when the server has just replaced them.
const ATTEMPTS: usize = 10;

/// The records in a journal as it was when it was opened or looked at last; 40 bytes of memory each.
#[derive(Clone)]
pub struct JournalView {
    state: Arc<Mutex<State>>,
}

struct State {
    files: Vec<File>,
    records: BTreeMap<UploadId, Record>,
}

#[derive(Clone, Copy)]
struct Record {
    file: u32,
    length: u32,
    at: u64,
}

impl JournalView {
    /// Reads where the records lie. Blocks.
    ///
    /// # Errors
    ///
    /// [`Failure::Damaged`] tells what of the journal cannot be read; [`Failure::Io`].
    pub fn open(folder: &Path) -> Result<Self, StorageError> {
        Ok(Self { state: Arc::new(Mutex::new(read(folder)?)) })
    }

    /// Looks at the journal again, so that later calls see what was saved meanwhile. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn refresh(&self, folder: &Path) -> Result<(), StorageError> {
        let state = read(folder)?;
        *self.state.lock() = state;
        Ok(())
    }

    async fn look<T: Send + 'static>(
        &self,
        doing: &'static str,
        look: impl FnOnce(&State) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let state = Arc::clone(&self.state);
        let died = |_| StorageError::new(doing, None, Failure::Closed);
        spawn_blocking(move || look(&state.lock())).await.map_err(died)?
    }
}

fn read(folder: &Path) -> Result<State, StorageError> {
    let doing = "reading the journal of the records";
    settled(|| read_once(folder)).map_err(|damage| match damage {
        Damage::Io(error) => StorageError::io(doing, None, error),
        damage => StorageError::new(doing, None, Failure::Damaged(damage.to_string())),
    })
}

/// Tries again what a server that runs may have caused: it puts a base in the place of older files,
/// and what it appends can be read in part. Damage is told when it is the same twice.
fn settled<T>(mut read: impl FnMut() -> Result<T, Damage>) -> Result<T, Damage> {
    let mut before = String::new();
    for _ in 1..ATTEMPTS {
        match read() {
            Err(Damage::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(Damage::Io(error)) => return Err(Damage::Io(error)),
            Err(damage) => {
                let told = damage.to_string();
                if std::mem::replace(&mut before, told.clone()) == told {
                    return Err(damage);
                }
            }
            Ok(read) => return Ok(read),
        }
    }
    read()
}

fn read_once(folder: &Path) -> Result<State, Damage> {
    let chain = Chain::open(folder)?;
    if chain.is_empty() {
        return Err(Damage::Absent);
    }
    let files = chain.paths().map(File::open).collect::<io::Result<Vec<_>>>()?;
    let mut records = BTreeMap::new();
    chain.walk(None, |found| {
        match found {
            Found::Entry(Entry::Save { id, record }, place) => {
                let file = u32::try_from(place.file).unwrap_or(u32::MAX);
                let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
                records.insert(id, Record { file, length, at: place.at });
            }
            Found::Entry(Entry::Delete { id }, _) => {
                records.remove(&id);
            }
            Found::Entry(Entry::End { .. }, _) => {}
            Found::Damage(damage) => return Err(damage),
        }
        Ok(())
    })?;
    Ok(State { files, records })
}

impl State {
    fn load(&self, id: UploadId, record: Record) -> Result<Stored, StorageError> {
        let failed = |failure| StorageError::new("loading the record", Some(id), failure);
        let file = usize::try_from(record.file).ok().and_then(|file| self.files.get(file));
        let file = file.ok_or_else(|| failed(Failure::Missing))?;
        let mut bytes = vec![0; usize::try_from(record.length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, record.at).map_err(|error| failed(Failure::Io(error)))?;
        codec::decode(&bytes).map_err(failed)
    }
}

fn read_only<T>(doing: &'static str, id: UploadId) -> Result<T, StorageError> {
    let failure = Failure::Io(io::ErrorKind::ReadOnlyFilesystem.into());
    Err(StorageError::new(doing, Some(id), failure))
}

impl RecordStore for JournalView {
    fn load(&self, id: UploadId) -> StoreFuture<'_, Option<Stored>> {
        Box::pin(self.look("loading the record", move |state| {
            state.records.get(&id).map(|record| state.load(id, *record)).transpose()
        }))
    }

    fn save(&self, upload: Upload, _: Option<Version>) -> StoreFuture<'_, Version> {
        Box::pin(async move { read_only("saving the record", upload.id()) })
    }

    fn delete(&self, id: UploadId, _: Version) -> StoreFuture<'_, ()> {
        Box::pin(async move { read_only("deleting the record", id) })
    }

    fn due(&self, now: Timestamp, max: usize) -> StoreFuture<'_, Vec<UploadId>> {
        Box::pin(self.look("looking for what is due", move |state| {
            let mut due = Vec::new();
            for (id, record) in &state.records {
                let wake = state.load(*id, *record)?.upload.wake();
                due.extend(wake.filter(|wake| *wake <= now).map(|wake| (wake, *id)));
            }
            due.sort_unstable();
            Ok(due.into_iter().take(max).map(|(_, id)| id).collect())
        }))
    }

    fn alike(&self, digests: ReprDigests, max: usize) -> StoreFuture<'_, Vec<UploadId>> {
        Box::pin(self.look("looking for equal uploads", move |state| {
            let mut alike = Vec::new();
            for (id, record) in &state.records {
                if alike.len() < max && digests.agrees(&state.load(*id, *record)?.upload.digests())
                {
                    alike.push(*id);
                }
            }
            Ok(alike)
        }))
    }

    fn list(&self, after: Option<UploadId>, max: usize) -> StoreFuture<'_, Vec<Stored>> {
        Box::pin(self.look("listing the records", move |state| {
            let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
            let found = state.records.range::<UploadId, _>(behind).take(max);
            found.map(|(id, record)| state.load(*id, *record)).collect()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_only_when_a_second_look_finds_the_same() {
        let at = |at| Damage::At { file: "log".to_owned(), at };
        let settle = |mut looks: Vec<Damage>| settled(|| looks.pop().map_or(Ok(()), Err));
        settle(vec![at(9), Damage::Io(io::ErrorKind::NotFound.into()), at(8)]).unwrap();
        settle(vec![at(8), at(8)]).unwrap_err();
    }
}
