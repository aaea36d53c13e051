//! Bytes in one plain file an upload: `<folder>/ab/<id>`, where `ab` are the id's first two digits
//! (one folder for all makes creating files slow when there are many). Beside it lie its lists.
//!
//! File work that waits for the disk runs on tokio's blocking threads; see [`super::pace`]. The
//! files are what they seem: an administrator may copy a complete one away.

mod ahead;
mod blocks;
mod buffers;
mod lists;
mod parts;
mod reader;
pub mod survey;
mod writer;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use self::buffers::Buffers;
use self::reader::FileReader;
use self::writer::FileWriter;
use super::folder::{DataFolder, sync_folder};
use super::pace::Pace;
use super::{
    DataReader, DataStore, DataWriter, Durability, Failure, List, StorageError, StoreFuture,
};
use crate::protocol::id::UploadId;
use crate::protocol::upload::Placement;

/// How long a look at the free space is good for.
const ROOM_AGE: Duration = Duration::from_millis(250);
/// The same before somebody is refused.
const LEAST_ROOM_AGE: Duration = Duration::from_millis(20);

/// The bytes of uploads in files.
#[derive(Clone, Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    durability: Durability,
    min_free_bytes: u64,
    /// What lies there takes as much room again when it is removed.
    beside: [PathBuf; 2],
    /// When it was last looked at the free space, and what was left of it since.
    room: Mutex<Option<(Instant, u64)>>,
    /// The readers that are open.
    readers: AtomicUsize,
    /// The files that are open for writing.
    writers: AtomicUsize,
    buffers: Arc<Buffers>,
    pace: Arc<Pace>,
    /// For what nobody waits for yet.
    ahead: Arc<Semaphore>,
    /// Whether files get blocks in advance.
    preallocates: AtomicBool,
}

impl FileStore {
    /// A store in its place of this folder, which is made with its 256 inner folders if it is not
    /// there. It never takes the last `min_free_bytes` of the disk, and of the rest as much as the
    /// records take: to remove an upload is to save that, and takes about as much as its creation. Blocks.
    ///
    /// # Errors
    ///
    /// [`Failure::Io`]: a folder cannot be made or synced.
    pub fn open(
        folder: &DataFolder,
        durability: Durability,
        min_free_bytes: u64,
    ) -> Result<Self, StorageError> {
        let beside = [folder.records(), folder.journal()];
        Self::open_at(folder.uploads(), beside, folder.pace(), durability, min_free_bytes)
    }

    fn open_at(
        folder: PathBuf,
        beside: [PathBuf; 2],
        pace: Arc<Pace>,
        durability: Durability,
        min_free_bytes: u64,
    ) -> Result<Self, StorageError> {
        let made = make_folders(&folder, durability);
        made.map_err(|source| StorageError::io("making the folders of the data", None, source))?;
        let (room, readers, writers, buffers) = Default::default();
        let ahead = Arc::new(Semaphore::new(ahead::MOST_AT_ONCE));
        let preallocates = blocks::is_of_use(&folder).into();
        let shared = Shared {
            folder,
            durability,
            min_free_bytes,
            beside,
            room,
            readers,
            writers,
            buffers,
            pace,
            ahead,
            preallocates,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

fn make_folders(folder: &Path, durability: Durability) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for shard in 0..=u8::MAX {
        match fs::create_dir(folder.join(format!("{shard:02x}"))) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    if durability == Durability::PowerLoss {
        // Whoever made them may have died before it came to this.
        sync_folder(folder)?;
        folder.parent().map_or(Ok(()), sync_folder)?;
    }
    Ok(())
}

impl Shared {
    fn shard(&self, id: UploadId) -> PathBuf {
        // Without room for a name it is moved as it grows, for every write.
        let bytes = self.folder.as_os_str().len().saturating_add("/ab/".len() + 32);
        let mut path = PathBuf::with_capacity(bytes);
        path.push(&self.folder);
        path.push(format!("{:02x}", id.to_bytes()[0]));
        path
    }

    fn path(&self, id: UploadId) -> PathBuf {
        let mut path = self.shard(id);
        path.push(id.to_string());
        path
    }

    /// Takes room for bytes, unless there is too little; what is left then. What all writers take
    /// between two looks counts, or together they would use up what has to stay free. Blocks.
    fn take_room(&self, bytes: u64) -> io::Result<u64> {
        let mut room = self.room.lock();
        if let Some(left) = take(&mut room, bytes) {
            return Ok(left);
        }
        // More may have been taken than was used.
        if room.is_none_or(|(at, _)| at.elapsed() >= LEAST_ROOM_AGE) {
            *room = Some((Instant::now(), self.look_at_room()?));
        }
        take(&mut room, bytes).ok_or_else(|| io::ErrorKind::StorageFull.into())
    }

    /// What may still be written. Blocks.
    fn look_at_room(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.folder)?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let beside: u64 = self.beside.iter().map(|folder| bytes_in(folder)).sum();
        Ok(free.saturating_sub(self.min_free_bytes).saturating_sub(beside))
    }
}

/// Takes bytes of the room that was found, if that is not long ago and there is enough; what is
/// left.
fn take(room: &mut Option<(Instant, u64)>, bytes: u64) -> Option<u64> {
    let (_, left) = room.as_mut().filter(|(at, _)| at.elapsed() < ROOM_AGE)?;
    *left = left.checked_sub(bytes)?;
    Some(*left)
}

/// The bytes of the files in a folder. Those that go meanwhile, as the journal's do, take none.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

impl DataStore for FileStore {
    fn writer(&self, id: UploadId, offset: u64) -> StoreFuture<'_, Box<dyn DataWriter>> {
        // The file is opened by the first write: most appends need no other call for it.
        let writer = FileWriter::new(Arc::clone(&self.shared), id, offset);
        Box::pin(async { Ok(Box::new(writer) as Box<dyn DataWriter>) })
    }

    fn reader(
        &self,
        id: UploadId,
        placement: &Placement,
        range: Range<u64>,
    ) -> StoreFuture<'_, Box<dyn DataReader>> {
        let opened = FileReader::open(Arc::clone(&self.shared), id, placement.clone(), range);
        Box::pin(async { Ok(Box::new(opened.await?) as Box<dyn DataReader>) })
    }

    fn adopt(&self, id: UploadId, parts: Vec<(UploadId, u64)>) -> StoreFuture<'_, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(blocking("linking the parts", id, move || shared.adopt(id, &parts)))
    }

    fn share(&self, id: UploadId, with: UploadId) -> StoreFuture<'_, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(blocking("sharing the data", id, move || shared.share(id, with)))
    }

    fn join(&self, id: UploadId, lengths: Arc<[u64]>) -> StoreFuture<'_, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(blocking("joining the parts", id, move || shared.join(id, &lengths)))
    }

    fn write_list(
        &self,
        id: UploadId,
        list: List,
        pieces: Vec<(u64, Vec<u8>)>,
        end: Option<u64>,
    ) -> StoreFuture<'_, ()> {
        let shared = Arc::clone(&self.shared);
        let write = move || shared.write_list(id, list, &pieces, end);
        Box::pin(run("writing a list", Some(id), write))
    }

    fn read_list(&self, id: UploadId, list: List, range: Range<u64>) -> StoreFuture<'_, Bytes> {
        let shared = Arc::clone(&self.shared);
        Box::pin(run("reading a list", Some(id), move || shared.read_list(id, list, range)))
    }

    fn release_parts(&self, id: UploadId) -> StoreFuture<'_, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(run("removing the parts", Some(id), move || shared.release_parts(id)))
    }

    fn remove(&self, id: UploadId) -> StoreFuture<'_, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(run("removing the data", Some(id), move || {
            match fs::remove_file(shared.path(id)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
            let released = shared.release_parts(id).and(shared.remove_lists(id));
            // Whoever asks next is to see the room that this gave back.
            *shared.room.lock() = None;
            released
        }))
    }

    fn take_room(&self, bytes: u64) -> StoreFuture<'_, u64> {
        let recent = self.shared.room.try_lock().and_then(|mut room| take(&mut room, bytes));
        if let Some(left) = recent {
            return Box::pin(async move { Ok(left) });
        }
        let shared = Arc::clone(&self.shared);
        Box::pin(run("looking at the free space", None, move || shared.take_room(bytes)))
    }
}

/// Runs blocking work that names its own failures on a thread for it.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    id: UploadId,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let died = |_| StorageError::new(doing, Some(id), Failure::Closed);
    spawn_blocking(work).await.map_err(died)?
}

/// Runs blocking work on a thread for it, and names it when it fails.
async fn run<T: Send + 'static>(
    doing: &'static str,
    upload: Option<UploadId>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(|source| StorageError::io(doing, upload, source)),
        Err(_) => Err(StorageError::new(doing, upload, Failure::Closed)),
    }
}

#[cfg(test)]
mod tests;
