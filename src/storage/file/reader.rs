//! Reads a range of the file of one upload, one piece ahead.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::protocol::id::UploadId;
use crate::storage::{DataReader, Failure, StorageError, StoreFuture};

/// The bytes that are read at once. Pieces of 4 KiB are 11 to 18 times slower; beyond 256 KiB
/// little is gained.
const PIECE_BYTES: u64 = 256 << 10;

/// A read that is under way: the file it opened, and what it read.
type Asked = JoinHandle<io::Result<(Arc<File>, Vec<u8>)>>;

pub(super) struct FileReader {
    path: PathBuf,
    id: UploadId,
    /// What has not been asked of the disk yet.
    range: Range<u64>,
    file: Option<Arc<File>>,
    ahead: Option<Asked>,
}

impl FileReader {
    pub(super) fn new(path: PathBuf, id: UploadId, range: Range<u64>) -> Self {
        Self { path, id, range, file: None, ahead: None }
    }

    /// Asks the disk for the next piece; `None` at the end of the range.
    fn ask(&mut self) -> Option<Asked> {
        let count = self.range.end.saturating_sub(self.range.start).min(PIECE_BYTES);
        if count == 0 {
            return None;
        }
        let offset = self.range.start;
        self.range.start = offset.saturating_add(count);
        let file = self.file.clone();
        let path = self.path.clone();
        Some(spawn_blocking(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(File::open(path)?),
            };
            let piece = read_exact_at(&file, offset, count)?;
            Ok((file, piece))
        }))
    }

    async fn next(&mut self) -> Result<Bytes, StorageError> {
        let Some(asked) = self.ahead.take().or_else(|| self.ask()) else {
            return Ok(Bytes::new());
        };
        let doing = "reading the data";
        let read =
            asked.await.map_err(|_| StorageError::new(doing, Some(self.id), Failure::Closed))?;
        let (file, piece) = read.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                StorageError::new(doing, Some(self.id), Failure::Missing)
            }
            _ => StorageError::io(doing, Some(self.id), source),
        })?;
        self.file = Some(file);
        self.ahead = self.ask();
        Ok(piece.into())
    }
}

impl DataReader for FileReader {
    fn read(&mut self) -> StoreFuture<'_, Bytes> {
        Box::pin(self.next())
    }
}

fn read_exact_at(file: &File, offset: u64, count: u64) -> io::Result<Vec<u8>> {
    let count = usize::try_from(count).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut piece = Vec::with_capacity(count);
    while piece.len() < count {
        let at = offset.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        match rustix::io::pread(file, spare_capacity(&mut piece), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    piece.truncate(count);
    Ok(piece)
}
