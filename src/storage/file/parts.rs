//! The parts of a concatenation: hard links in a folder beside the upload's own file,
//! `<id>.parts/<number>`, until the kernel has copied them together. A link costs the same for any
//! length, and keeps the bytes when the part itself is cancelled.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::copy_file_range;

use super::Shared;
use crate::protocol::id::UploadId;
use crate::storage::folder::sync_folder;
use crate::storage::{Durability, Failure, StorageError};

/// The bytes that the kernel is asked to copy at once.
const COPY_BYTES: usize = 64 << 20;
/// The bytes that are copied by hand where the kernel cannot.
const BUFFER_BYTES: u64 = 1 << 20;

impl Shared {
    pub(super) fn parts_folder(&self, id: UploadId) -> PathBuf {
        self.shard(id).join(format!("{id}.parts"))
    }

    /// The file of one part; parts are numbered in their order.
    pub(super) fn part_path(&self, id: UploadId, number: usize) -> PathBuf {
        self.parts_folder(id).join(format!("{number:06}"))
    }

    pub(super) fn adopt(
        &self,
        id: UploadId,
        parts: &[(UploadId, u64)],
    ) -> Result<(), StorageError> {
        let folder = self.parts_folder(id);
        let io = |source| StorageError::io("linking the parts", Some(id), source);
        fs::create_dir_all(&folder).map_err(io)?;
        for (number, (part, length)) in parts.iter().enumerate() {
            // Nothing was ever written of an empty upload.
            if *length == 0 {
                continue;
            }
            let missing = || StorageError::new("linking the parts", Some(*part), Failure::Missing);
            let link = self.part_path(id, number);
            // First of all: who cancels the part from now on takes nothing away.
            let linked = link_over(&self.path(*part), &link).and_then(|()| fs::metadata(&link));
            let found = match linked {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
                found => found.map_err(io)?,
            };
            if found.len() < *length {
                return Err(missing());
            }
        }
        if self.durability == Durability::PowerLoss {
            sync_folder(&folder).map_err(io)?;
            sync_folder(&self.shard(id)).map_err(io)?;
        }
        Ok(())
    }

    pub(super) fn join(&self, id: UploadId, lengths: &[u64]) -> Result<(), StorageError> {
        let doing = "joining the parts";
        let io = |source| StorageError::io(doing, Some(id), source);
        let joining = self.parts_folder(id).join("whole");
        let total = lengths.iter().copied().fold(0, u64::saturating_add);
        let joined = match lengths {
            // It is whole as it is; complete uploads may share their bytes.
            [length] if *length > 0 => link_over(&self.part_path(id, 0), &joining),
            lengths => self.take_room(total).and_then(|_| self.copy_parts(id, lengths, &joining)),
        };
        if joined.is_err() {
            // Whatever was the matter: the room is needed.
            let _ = fs::remove_file(&joining);
        }
        match joined {
            // They are released one by one, and only once the whole is durable.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let whole = fs::metadata(self.path(id)).ok();
                return match whole.filter(|whole| whole.len() == total) {
                    Some(_) => Ok(()),
                    None => Err(StorageError::new(doing, Some(id), Failure::Missing)),
                };
            }
            joined => joined.map_err(io)?,
        }
        fs::rename(&joining, self.path(id)).map_err(io)?;
        if self.durability == Durability::PowerLoss {
            sync_folder(&self.shard(id)).map_err(io)?;
        }
        Ok(())
    }

    fn copy_parts(&self, id: UploadId, lengths: &[u64], to: &Path) -> io::Result<()> {
        let whole = OpenOptions::new().write(true).create(true).truncate(true).open(to)?;
        let mut end = 0;
        for (number, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let part = File::open(self.part_path(id, number))?;
            copy(&part, &whole, end, *length)?;
            end = end.saturating_add(*length);
        }
        match self.durability {
            Durability::PowerLoss => whole.sync_data(),
            Durability::Process => Ok(()),
        }
    }

    /// Puts a link to the bytes of `with` in the place of an upload's own file. Who has that one
    /// open reads on; what a loss of power leaves is one or the other.
    pub(super) fn share(&self, id: UploadId, with: UploadId) -> Result<(), StorageError> {
        let doing = "sharing the data";
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => StorageError::new(doing, Some(id), Failure::Missing),
            _ => StorageError::io(doing, Some(id), source),
        };
        let (own, other) = (self.path(id), self.path(with));
        let (was, is) =
            (fs::metadata(&own).map_err(failed)?, fs::metadata(&other).map_err(failed)?);
        if (was.dev(), was.ino()) == (is.dev(), is.ino()) {
            return Ok(());
        }
        if was.len() != is.len() {
            return Err(StorageError::new(doing, Some(id), Failure::Missing));
        }
        // Where parts lie, so that what a crash leaves is known for what it is.
        let folder = self.parts_folder(id);
        fs::create_dir_all(&folder).map_err(failed)?;
        let link = folder.join("whole");
        let shared = link_over(&other, &link).and_then(|()| fs::rename(&link, &own));
        let released = self.release_parts(id);
        *self.room.lock() = None;
        shared.and(released).map_err(failed)
    }

    pub(super) fn release_parts(&self, id: UploadId) -> io::Result<()> {
        match fs::remove_dir_all(self.parts_folder(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Links a file to a new name, which may be left over from before a crash.
fn link_over(file: &Path, link: &Path) -> io::Result<()> {
    match fs::hard_link(file, link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(link)?;
            fs::hard_link(file, link)
        }
        linked => linked,
    }
}

/// Copies a part to its place in the whole. The file system shares the blocks where it can.
fn copy(part: &File, whole: &File, to: u64, length: u64) -> io::Result<()> {
    let mut copied = 0;
    while copied < length {
        let left = usize::try_from(length.saturating_sub(copied)).unwrap_or(COPY_BYTES);
        let (mut from, mut into) = (copied, to.saturating_add(copied));
        match copy_file_range(part, Some(&mut from), whole, Some(&mut into), left.min(COPY_BYTES)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => copied = copied.saturating_add(u64::try_from(count).unwrap_or(u64::MAX)),
            Err(rustix::io::Errno::INTR) => {}
            // Old kernels, and file systems that do not have it.
            Err(
                rustix::io::Errno::NOSYS
                | rustix::io::Errno::XDEV
                | rustix::io::Errno::OPNOTSUPP
                | rustix::io::Errno::INVAL,
            ) => {
                let count = length.saturating_sub(copied).min(BUFFER_BYTES);
                let piece = super::reader::read_exact_at(part, copied, count)?;
                std::os::unix::fs::FileExt::write_all_at(whole, &piece, to.saturating_add(copied))?;
                copied = copied.saturating_add(count);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
