//! Reads a range of the bytes of one upload. What is in the page cache is read where it is asked
//! for, and so is the file opened ([`super::pace`]); what is not, is read on a thread that may wait
//! for the disk, and one piece ahead. While there are many readers pieces are small and none is
//! read ahead, so that thousands of them that stall take little memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use tokio::task::coop::consume_budget;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Shared;
use super::buffers::{BUFFER_BYTES, Buffer};
use crate::protocol::id::UploadId;
use crate::protocol::upload::Placement;
use crate::storage::pace::Waits;
use crate::storage::{DataReader, Failure, StorageError, StoreFuture};

/// The bytes that are read at once while there are many readers.
const SMALL_PIECE_BYTES: usize = 32 << 10;
/// So many readers may have large pieces; together they take 64 MiB at most.
const MANY_READERS: usize = 128;

/// What an error says it was doing.
const READING: &str = "reading the data";

/// A read that is under way.
type Asked = JoinHandle<io::Result<Answered>>;

/// What was read.
struct Answered {
    piece: Buffer,
    /// Whether the disk was not needed for it.
    was_cached: bool,
}

pub(super) struct FileReader {
    shared: Arc<Shared>,
    _count: Count,
    id: UploadId,
    placement: Placement,
    /// What has not been asked of the disk yet.
    range: Range<u64>,
    open: Option<Open>,
    /// What was read to see that the bytes are there.
    first: Option<Bytes>,
    ahead: Option<Asked>,
    /// After a failure the bytes behind it are never given out in place of those that it had.
    has_failed: bool,
}

/// An open file, and which bytes of the upload it has.
#[derive(Clone)]
struct Open {
    file: Arc<File>,
    range: Range<u64>,
}

impl FileReader {
    /// Opens the bytes and reads the first piece.
    pub(super) async fn open(
        shared: Arc<Shared>,
        id: UploadId,
        placement: Placement,
        range: Range<u64>,
    ) -> Result<Self, StorageError> {
        let (open, first, ahead, has_failed) = (None, None, None, false);
        let _count = Count::one_more(&shared);
        let mut reader =
            Self { shared, _count, id, placement, range, open, first, ahead, has_failed };
        reader.first = Some(reader.next().await?);
        Ok(reader)
    }

    fn has_many_beside_it(&self) -> bool {
        self.shared.readers.load(Ordering::Relaxed) > MANY_READERS
    }

    /// Where the byte at the beginning of the range lies: a file, and which bytes it has.
    fn place(&self) -> (PathBuf, Range<u64>) {
        let mut begin = 0_u64;
        if let Placement::Parts { lengths, .. } = &self.placement {
            for (number, length) in lengths.iter().enumerate() {
                let end = begin.saturating_add(*length);
                if (begin..end).contains(&self.range.start) {
                    return (self.shared.part_path(self.id, number), begin..end);
                }
                begin = end;
            }
        }
        (self.shared.path(self.id), 0..u64::MAX)
    }

    /// The length of the next piece, of a file that has these bytes; `None` at the end of the
    /// range.
    fn next_length(&self, place: &Range<u64>) -> Option<usize> {
        let most = if self.has_many_beside_it() { SMALL_PIECE_BYTES } else { BUFFER_BYTES };
        let left = self.range.end.min(place.end).saturating_sub(self.range.start);
        let length = usize::try_from(left).unwrap_or(most).min(most);
        (length > 0).then_some(length)
    }

    /// The file that has the next byte; `None` at the end of the range.
    async fn open_next(&mut self) -> Result<Option<Open>, StorageError> {
        let offset = self.range.start;
        if self.range.is_empty() {
            return Ok(None);
        }
        if let Some(open) = self.open.as_ref().filter(|open| open.range.contains(&offset)) {
            return Ok(Some(open.clone()));
        }
        let ((path, place), end) = (self.place(), self.range.end);
        let whole = self.shared.path(self.id);
        let pace = Arc::clone(&self.shared.pace);
        let open = move || open_part(path, place, whole)?.with_bytes_up_to(end);
        let opened = pace.run(Waits::Seldom, open).await;
        let opened = opened.ok_or_else(|| self.fail(Failure::Closed))?;
        self.open = Some(opened.map_err(|source| self.told(source))?);
        Ok(self.open.clone())
    }

    /// The next piece, if it can be had without waiting.
    fn next_cached(&mut self, open: &Open) -> Option<Bytes> {
        let mut piece = self.shared.buffers.take(self.next_length(&open.range)?);
        if !piece.fill_from_cache(&open.file, open.at(self.range.start)) {
            return None;
        }
        self.advance(piece.as_ref().len());
        Some(piece.into_bytes())
    }

    fn advance(&mut self, length: usize) {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.range.start = self.range.start.saturating_add(length);
    }

    /// Asks for the next piece on another thread; `None` at the end of what this file has of the
    /// range.
    fn ask(&mut self, open: Open) -> Option<Asked> {
        let length = self.next_length(&open.range)?;
        let at = open.at(self.range.start);
        self.advance(length);
        let shared = Arc::clone(&self.shared);
        Some(spawn_blocking(move || {
            let mut piece = shared.buffers.take(length);
            let was_cached = piece.fill_from_cache(&open.file, at);
            if !was_cached {
                piece.fill(&open.file, at)?;
            }
            Ok(Answered { piece, was_cached })
        }))
    }

    async fn next(&mut self) -> Result<Bytes, StorageError> {
        // What is cached never waits: a loop over it would hold its thread up to the end.
        consume_budget().await;
        if self.has_failed {
            return Err(self.fail(Failure::Closed));
        }
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let read = self.next_piece().await;
        self.has_failed |= read.is_err();
        read
    }

    async fn next_piece(&mut self) -> Result<Bytes, StorageError> {
        if self.ahead.is_none() {
            let Some(open) = self.open_next().await? else { return Ok(Bytes::new()) };
            if let Some(piece) = self.next_cached(&open) {
                return Ok(piece);
            }
            self.ahead = self.ask(open);
        }
        // It stays here while it is waited for: who drops this future loses no piece.
        let Some(asked) = &mut self.ahead else { return Ok(Bytes::new()) };
        let answered = asked.await;
        self.ahead = None;
        let answered = answered.map_err(|_| self.fail(Failure::Closed))?;
        let Answered { piece, was_cached } = answered.map_err(|source| self.told(source))?;
        let open = self.open.clone().filter(|open| open.range.contains(&self.range.start));
        if !was_cached
            && !self.has_many_beside_it()
            && let Some(open) = open
        {
            self.ahead = self.ask(open);
        }
        Ok(piece.into_bytes())
    }

    fn told(&self, source: io::Error) -> StorageError {
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => self.fail(Failure::Missing),
            _ => StorageError::io(READING, Some(self.id), source),
        }
    }

    fn fail(&self, failure: Failure) -> StorageError {
        StorageError::new(READING, Some(self.id), failure)
    }
}

/// Counts a reader for as long as it is there.
struct Count(Arc<Shared>);

impl Count {
    fn one_more(shared: &Arc<Shared>) -> Self {
        shared.readers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Open {
    /// Where in the file this byte of the upload lies.
    fn at(&self, offset: u64) -> u64 {
        offset.saturating_sub(self.range.start)
    }

    /// This file, if it has the bytes of its range up to `end`: it is better to know before the
    /// first of them is sent.
    fn with_bytes_up_to(self, end: u64) -> io::Result<Self> {
        let needed = end.min(self.range.end).saturating_sub(self.range.start);
        if self.file.metadata()?.len() < needed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self)
    }
}

impl DataReader for FileReader {
    fn read(&mut self) -> StoreFuture<'_, Bytes> {
        Box::pin(self.next())
    }
}

/// Opens a part, or the whole when the parts were joined meanwhile.
fn open_part(path: PathBuf, range: Range<u64>, whole: PathBuf) -> io::Result<Open> {
    match File::open(path) {
        Ok(file) => Ok(Open { file: Arc::new(file), range }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Open { file: Arc::new(File::open(whole)?), range: 0..u64::MAX })
        }
        Err(error) => Err(error),
    }
}

pub(super) fn read_exact_at(file: &File, offset: u64, count: u64) -> io::Result<Vec<u8>> {
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
