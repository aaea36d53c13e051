//! Appends frames to the newest file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::chain::Chain;
use super::frame::Payload;
use super::reader::{Frames, Step};
use super::{FileKind, FileName, MAGIC, SEGMENT_BYTES};
use crate::storage::Durability;
use crate::storage::folder::sync_folder;

/// Zeros are written ahead in pieces of this size, so that the sync of a frame need not make a new
/// length of the file durable as well.
const AHEAD_BYTES: u64 = 1 << 20;
/// A base is due when the frames since the last one take this much, and as much as that one.
const BASE_DUE_BYTES: u64 = 64 << 20;

/// The end of the journal.
pub(in crate::storage) struct Journal {
    folder: PathBuf,
    durability: Durability,
    /// That of the newest file.
    generation: u32,
    /// The number of the next frame.
    next: u64,
    segment: Option<Segment>,
    /// What the frames since the last base take.
    bytes_since_base: u64,
    base_bytes: u64,
    /// The least that the frames since a base take when another is due.
    pub(in crate::storage) base_due_bytes: u64,
    /// So many syncs fail, after the write.
    #[cfg(test)]
    pub(in crate::storage) failing_syncs: u32,
}

struct Segment {
    file: File,
    /// The end of the last frame.
    end: u64,
    /// The end of the zeros behind it.
    allocated: u64,
}

/// A place for a base: what all frames before `first` came to.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage) struct BasePoint {
    pub(super) generation: u32,
    pub(super) first: u64,
}

impl BasePoint {
    /// For a base of all records there are, behind frame number `last` of a chain that nobody writes.
    pub(in crate::storage) fn behind(chain: &Chain, last: u64) -> Self {
        let generation = chain.newest().map_or(0, |name| name.generation).saturating_add(1);
        Self { generation, first: last.saturating_add(1) }
    }
}

impl Journal {
    /// Goes on behind the last frame, number `last`, of a chain that was read. Makes the folder if it
    /// is not there.
    pub(in crate::storage) fn open(
        chain: &Chain,
        last: u64,
        durability: Durability,
    ) -> io::Result<Self> {
        let folder = chain.folder().to_owned();
        fs::create_dir_all(&folder)?;
        let newest = chain.newest();
        let generation = newest.map_or(0, |name| name.generation);
        let segment = match newest {
            Some(name) if name.kind == FileKind::Log => {
                Some(Segment::reopen(&folder.join(name.to_string()), last, durability)?)
            }
            Some(_) | None => None,
        };
        if durability == Durability::PowerLoss {
            sync_folder(&folder)?;
            folder.parent().map_or(Ok(()), sync_folder)?;
        }
        let (base_bytes, bytes_since_base) = chain.bytes();
        Ok(Self {
            folder,
            durability,
            generation,
            next: last.saturating_add(1),
            segment,
            bytes_since_base,
            base_bytes,
            base_due_bytes: BASE_DUE_BYTES,
            #[cfg(test)]
            failing_syncs: 0,
        })
    }

    /// Appends a frame, and tells its number. Durable when it returns.
    ///
    /// After an error nothing of it counts, and the next call may do better.
    pub(in crate::storage) fn append(&mut self, payload: Payload) -> io::Result<u64> {
        let frame = payload.seal(self.next);
        let is_long = |segment: &Segment| segment.end >= SEGMENT_BYTES;
        if self.segment.as_ref().is_none_or(is_long) {
            self.begin_segment()?;
        }
        if let Err(error) = self.write(&frame) {
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return Err(error);
            }
            // What of the file is on the disk is not known now; a sync that says so when it is
            // asked again cannot be believed. The frame has to be written anew, elsewhere.
            tracing::warn!(%error, "the journal of the records could not be written; trying a new file");
            self.begin_segment()?;
            if let Err(error) = self.write(&frame) {
                self.segment = None;
                return Err(error);
            }
        }
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.bytes_since_base = self.bytes_since_base.saturating_add(frame.len() as u64);
        Ok(number)
    }

    /// The number of the last frame.
    pub(in crate::storage) fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let closed = || io::Error::other("no file of the journal is open");
        let segment = self.segment.as_mut().ok_or_else(closed)?;
        #[cfg(test)]
        if self.failing_syncs > 0 {
            self.failing_syncs = self.failing_syncs.saturating_sub(1);
            segment.file.write_all_at(frame, segment.end)?;
            return Err(io::Error::other("planned"));
        }
        segment.append(frame, self.durability)
    }

    /// Makes the first file, without a frame. Durable when it returns.
    pub(in crate::storage) fn begin(&mut self) -> io::Result<()> {
        self.begin_segment()
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        // A number that was tried and failed is not used again: a file may be there in part.
        self.generation = self.generation.saturating_add(1);
        self.segment = None;
        let name = FileName { generation: self.generation, kind: FileKind::Log, first: self.next };
        let path = self.folder.join(name.to_string());
        let made = Segment::make(&path, self.durability).and_then(|segment| {
            match self.durability {
                Durability::PowerLoss => sync_folder(&self.folder)?,
                Durability::Process => {}
            }
            Ok(segment)
        });
        match made {
            Ok(segment) => self.segment = Some(segment),
            Err(error) => {
                // While the disk fails, files that are of no use must not pile up.
                let _ = fs::remove_file(&path);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether the frames have grown so many that a base is worth its while.
    pub(in crate::storage) fn is_base_due(&self) -> bool {
        self.bytes_since_base > self.base_due_bytes.max(self.base_bytes)
    }

    /// Begins a new file, and tells which base may be made: of all records as they are now or later.
    pub(in crate::storage) fn begin_base(&mut self) -> io::Result<BasePoint> {
        self.begin_segment()?;
        Ok(BasePoint { generation: self.generation, first: self.next })
    }

    /// A base could not be made; it is tried again after as much more.
    pub(in crate::storage) fn base_has_failed(&mut self) {
        self.bytes_since_base = 0;
    }

    /// A base of so many bytes was made.
    pub(in crate::storage) fn base_is_made(&mut self, bytes: u64) {
        self.base_bytes = bytes;
        self.bytes_since_base = 0;
    }
}

impl Segment {
    fn make(path: &Path, durability: Durability) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all_at(MAGIC, 0)?;
        if durability == Durability::PowerLoss {
            file.sync_all()?;
        }
        let end = MAGIC.len() as u64;
        Ok(Self { file, end, allocated: end })
    }

    /// Opens the newest file behind its last whole frame. What was read of it may be in the
    /// kernel's memory only, when a sync failed before: so it is written anew.
    fn reopen(path: &Path, last: u64, durability: Durability) -> io::Result<Self> {
        let mut frames = Frames::open(path)?;
        let mut end = MAGIC.len() as u64;
        while let Step::Frame { number, .. } = frames.next()?
            && number <= last
        {
            end = frames.end();
        }
        let part = path.with_extension("part");
        {
            let new = File::create(&part)?;
            let mut old = io::Read::take(frames.into_file(), end);
            io::Seek::rewind(old.get_mut())?;
            io::copy(&mut old, &mut &new)?;
            new.write_all_at(MAGIC, 0)?;
            if durability == Durability::PowerLoss {
                new.sync_all()?;
            }
        }
        fs::rename(&part, path)?;
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Self { file, end, allocated: end })
    }

    fn append(&mut self, frame: &[u8], durability: Durability) -> io::Result<()> {
        let end = self.end.saturating_add(frame.len() as u64);
        if durability == Durability::PowerLoss && end > self.allocated {
            let ahead = end.saturating_add(AHEAD_BYTES);
            let zeros = vec![0; usize::try_from(ahead.saturating_sub(self.allocated)).unwrap_or(0)];
            self.file.write_all_at(&zeros, self.allocated)?;
            self.allocated = ahead;
        }
        self.file.write_all_at(frame, self.end)?;
        if durability == Durability::PowerLoss {
            self.file.sync_data()?;
        }
        self.end = end;
        Ok(())
    }
}
