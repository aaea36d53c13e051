//! Appends to the file of one upload.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Shared;
use super::ahead::Ahead;
use super::blocks::{Blocks, are_fast};
use crate::protocol::id::UploadId;
use crate::storage::folder::sync_folder;
use crate::storage::pace::Waits;
use crate::storage::positioned::{Cached, write_all_at};
use crate::storage::{DataWriter, Durability, Failure, StorageError, StoreFuture};

/// To cut off more than this may take long.
const QUICKLY_CUT_BYTES: u64 = 8 << 20;
/// When more files are open, none is kept open for the next write: with uploads that trickle there
/// would be two descriptors for each.
const MANY_OPEN: usize = 256;

impl Shared {
    /// Whether none is kept open.
    pub(super) fn are_many_open(&self) -> bool {
        self.writers.load(Ordering::Relaxed) > MANY_OPEN
    }
}

pub(super) struct FileWriter {
    id: UploadId,
    /// Away while a thread works on it. A failure other than a lack of room, or a future that is
    /// dropped meanwhile, does not bring it back: what is on the disk is not known then.
    work: Option<Work>,
    ahead: Ahead,
}

/// A file that is open for writing, and counted.
struct Open {
    file: Arc<File>,
    shared: Arc<Shared>,
}

impl Open {
    fn new(file: File, shared: &Arc<Shared>) -> Self {
        shared.writers.fetch_add(1, Ordering::Relaxed);
        Self { file: Arc::new(file), shared: Arc::clone(shared) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.writers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What moves to the thread that writes, and back.
struct Work {
    shared: Arc<Shared>,
    id: UploadId,
    /// Closed at first, while the peer stalls, and between two writes when many are open.
    file: Option<Open>,
    /// Where the next byte goes.
    end: u64,
    blocks: Blocks,
    is_cut: bool,
    /// Whether the folder may not know the file yet, should the power fail.
    needs_folder_sync: bool,
    needs_sync: bool,
    /// The last write found no room, and what was written before it stands.
    lacked_room: bool,
}

impl FileWriter {
    pub(super) fn new(shared: Arc<Shared>, id: UploadId, offset: u64) -> Self {
        let work = Work {
            shared,
            id,
            file: None,
            end: offset,
            blocks: Blocks::default(),
            is_cut: false,
            needs_folder_sync: offset == 0,
            needs_sync: false,
            lacked_room: false,
        };
        Self { id, work: Some(work), ahead: Ahead::default() }
    }

    async fn run<T: Send + 'static>(
        &mut self,
        waits: Waits,
        job: impl FnOnce(&mut Work) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let closed = || StorageError::new("writing the data", Some(self.id), Failure::Closed);
        let mut work = self.work.take().ok_or_else(closed)?;
        let pace = Arc::clone(&work.shared.pace);
        let done = pace.run(waits, move || (job(&mut work), work)).await;
        let (done, work) = done.ok_or_else(closed)?;
        self.work = (done.is_ok() || work.lacked_room).then_some(work);
        done
    }

    /// Writes where it is asked for, unless so much has to be cut off first that it takes long.
    async fn write_quickly(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        let quickly = move |work: &mut Work| match work.open(Waits::Seldom)? {
            true => work.write(pieces).map(|()| None),
            false => Ok(Some(pieces)),
        };
        let Some(pieces) = self.run(Waits::Seldom, quickly).await? else { return Ok(()) };
        self.run(Waits::ForTheDisk, move |work| work.write(pieces)).await
    }

    /// Nothing is known of the disk after a sync that failed.
    fn synced(&mut self, synced: io::Result<()>) -> Result<(), StorageError> {
        synced.map_err(|source| {
            self.work = None;
            StorageError::io("syncing the data", Some(self.id), source)
        })
    }
}

impl DataWriter for FileWriter {
    fn expect(&mut self, end: u64) {
        if let Some(work) = &mut self.work {
            work.blocks.expect(end, &work.shared);
        }
    }

    fn write(&mut self, pieces: Vec<Bytes>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let bytes = count(&pieces);
            self.write_quickly(pieces).await?;
            let Some(work) = &self.work else { return Ok(()) };
            if work.shared.are_many_open() {
                // As when the peer stalls.
                return self.rest().await;
            }
            let Some(file) = work.file_to_sync() else { return Ok(()) };
            let written = work.end.saturating_sub(bytes)..work.end;
            let synced = self.ahead.wrote(file, written, &work.shared.ahead).await;
            self.synced(synced)
        })
    }

    fn commit(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            if self.work.as_ref().is_none_or(Work::has_to_sync) {
                self.run(Waits::ForTheDisk, Work::commit).await?;
            }
            let synced = std::mem::take(&mut self.ahead).ended().await;
            self.synced(synced)
        })
    }

    fn write_and_commit(&mut self, pieces: Vec<Bytes>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let durability = self.work.as_ref().map(|work| work.shared.durability);
            if durability == Some(Durability::Process) {
                // There is nothing to commit.
                self.write_quickly(pieces).await?;
            } else {
                let write = move |work: &mut Work| {
                    work.write(pieces)?;
                    work.commit()
                };
                self.run(Waits::ForTheDisk, write).await?;
            }
            let synced = std::mem::take(&mut self.ahead).ended().await;
            self.synced(synced)?;
            if self.work.as_ref().is_none_or(|work| !work.blocks.are_beyond(work.end)) {
                return Ok(());
            }
            self.run(Waits::Seldom, |work| {
                work.give_back_blocks();
                Ok(())
            })
            .await
        })
    }

    fn rest(&mut self) -> StoreFuture<'_, ()> {
        if self.work.as_ref().is_none_or(|work| work.file.is_none()) {
            return Box::pin(async { Ok(()) });
        }
        Box::pin(async move {
            // Bytes that are not synced yet are synced through any descriptor of the file, and one
            // that is opened later is told of a write-back that failed before; unless the system
            // forgot the file meanwhile, as it may once nothing of it has to be written. What the
            // system wrote by itself shares that; what was begun here is seen through, and waits
            // for its turn, since nobody waits for it.
            if self.ahead.has_begun()
                && let Some(work) = &self.work
            {
                let _turn = Arc::clone(&work.shared.ahead).acquire_owned().await;
                self.commit().await?;
            }
            let close = |work: &mut Work| {
                work.give_back_blocks();
                work.file = None;
                Ok(())
            };
            self.run(Waits::Seldom, close).await
        })
    }
}

impl Work {
    fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        let bytes = count(&pieces);
        let id = self.id;
        let io = |source| StorageError::io("writing the data", Some(id), source);
        // What is cut off gives room back.
        self.open(Waits::ForTheDisk)?;
        if !are_fast(bytes) {
            self.give_back_blocks();
        }
        let Some(Open { file, .. }) = &self.file else { return Err(self.fail(Failure::Closed)) };
        let next = self.end..self.end.saturating_add(bytes);
        let taken = self.blocks.take_room(&self.shared, file, &next);
        // Uploads are often read at once, by what looks for viruses or makes pictures smaller.
        let write = |()| write_all_at(file, &pieces, next.start, Cached::Kept).map(|_| ());
        let written = taken.and_then(write).map_err(io);
        self.lacked_room = written.as_ref().is_err_and(StorageError::is_full);
        if self.lacked_room {
            self.give_back_blocks();
        }
        written?;
        self.end = next.end;
        self.needs_sync = true;
        Ok(())
    }

    /// Gives back the blocks that were taken for what has not come.
    fn give_back_blocks(&mut self) {
        let Some(Open { file, .. }) = &self.file else { return };
        if self.blocks.are_beyond(self.end)
            && let Err(error) = self.blocks.give_back(&self.shared, file, self.end)
        {
            tracing::warn!(upload = %self.id, %error, "room for what has not come stays taken");
        }
    }

    fn fail(&self, failure: Failure) -> StorageError {
        StorageError::new("writing the data", Some(self.id), failure)
    }

    /// Opens the file, and the first time cuts off what lies behind the offset. Does nothing of it
    /// and tells false when that may take long, and `waits` is not for that.
    fn open(&mut self, waits: Waits) -> Result<bool, StorageError> {
        if self.file.is_some() {
            return Ok(true);
        }
        let path = self.shared.path(self.id);
        let is_new = self.end == 0 && !self.is_cut;
        let opened = if is_new {
            self.make(&path, waits)
        } else {
            OpenOptions::new().write(true).open(&path).map(Some)
        };
        let file = match opened {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(false),
            // Without its folder, the disk may not be there.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && self.shared.shard(self.id).is_dir() =>
            {
                return Err(self.fail(Failure::Missing));
            }
            Err(error) => return Err(StorageError::io("opening the data", Some(self.id), error)),
        };
        if !self.is_cut && !is_new && !self.cut(&file, waits)? {
            return Ok(false);
        }
        self.is_cut = true;
        self.file = Some(Open::new(file, &self.shared));
        Ok(true)
    }

    /// Makes a new file. One that is there already is not used: it has nothing that counts, its
    /// bytes may be those of another upload as well, and after a failed sync its name may not be on
    /// the disk. `None` when it is long.
    fn make(&self, path: &Path, waits: Waits) -> io::Result<Option<File>> {
        let mut new = OpenOptions::new();
        new.write(true).create_new(true);
        match new.open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if is_long(fs::symlink_metadata(path)?.len(), waits) {
                    return Ok(None);
                }
                fs::remove_file(path)?;
                // The room that this gave back is to be seen at once.
                *self.shared.room.lock() = None;
                new.open(path).map(Some)
            }
            made => made.map(Some),
        }
    }

    /// Whether what lies behind the offset is cut off; it is left when it is long.
    fn cut(&self, file: &File, waits: Waits) -> Result<bool, StorageError> {
        let doing = "cutting the data to its offset";
        let io = |source| StorageError::io(doing, Some(self.id), source);
        let found = file.metadata().map_err(io)?;
        let length = found.len();
        if length < self.end {
            return Err(self.fail(Failure::Missing));
        }
        if is_long(length.saturating_sub(self.end), waits) {
            return Ok(false);
        }
        if length > self.end || Blocks::are_left(&found, &self.shared) {
            file.set_len(self.end).map_err(io)?;
            // It is to be seen at once.
            *self.shared.room.lock() = None;
        }
        Ok(true)
    }

    fn file_to_sync(&self) -> Option<&Arc<File>> {
        self.file.as_ref().map(|open| &open.file).filter(|_| self.has_to_sync())
    }

    fn has_to_sync(&self) -> bool {
        self.needs_sync && self.shared.durability == Durability::PowerLoss
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        if !self.has_to_sync() {
            return Ok(());
        }
        self.lacked_room = false;
        self.open(Waits::ForTheDisk)?;
        let Some(Open { file, .. }) = &self.file else { return Err(self.fail(Failure::Closed)) };
        let io = |source| StorageError::io("syncing the data", Some(self.id), source);
        file.sync_data().map_err(io)?;
        if self.needs_folder_sync {
            sync_folder(&self.shared.shard(self.id)).map_err(io)?;
            self.needs_folder_sync = false;
        }
        self.needs_sync = false;
        Ok(())
    }
}

/// Whether cutting off so much takes too long here.
fn is_long(bytes: u64, waits: Waits) -> bool {
    waits == Waits::Seldom && bytes > QUICKLY_CUT_BYTES
}

fn count(pieces: &[Bytes]) -> u64 {
    u64::try_from(pieces.iter().map(Bytes::len).sum::<usize>()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::file::FileStore;

    #[tokio::test]
    async fn what_is_on_its_way_to_the_disk_is_synced_before_the_file_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let (beside, pace) = Default::default();
        let durability = Durability::PowerLoss;
        let store = FileStore::open_at(folder.path().into(), beside, pace, durability, 0).unwrap();
        let shared = Arc::clone(&store.shared);
        let mut writer = FileWriter::new(store.shared, UploadId::from_bytes([1; 16]), 0);
        let state = |writer: &FileWriter| {
            writer.work.as_ref().map(|work| (work.file.is_some(), work.needs_sync)).unwrap()
        };
        for (bytes, needs_sync) in [(1, true), (1 << 20, false), (1, true)] {
            writer.write(vec![vec![7; bytes].into()]).await.unwrap();
            assert_eq!(state(&writer), (true, true));
            writer.rest().await.unwrap();
            assert_eq!(state(&writer), (false, needs_sync), "{bytes}");
        }
        writer.write(vec![vec![7; 1 << 20].into()]).await.unwrap();
        shared.writers.fetch_add(MANY_OPEN, Ordering::Relaxed);
        writer.write(vec![vec![7; 1].into()]).await.unwrap();
        assert_eq!(state(&writer), (false, false));
    }
}
