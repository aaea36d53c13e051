//! The file that bytes arrive in: `NAME.part`, until all of it is there and right.
//!
//! All of this blocks; it is run on threads that may.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::fs::{
    FallocateFlags, OFlags, RenameFlags, fallocate, fstatfs, fstatvfs, renameat_with,
};
use rustix::io::Errno;

use crate::client::failure::Failure;
use crate::client::open_locked;
use crate::storage::positioned::{Cached, write_all_at};

/// A longer file may leave the page cache ([`PartFile::let_go`]).
const MOST_KEPT_BYTES: u64 = 64 << 20;
/// Few enough that they are still in the core's cache, which makes half of the cost (1 GiB over
/// loopback: handing batches of 1 MiB to another thread took twice the processor time).
const BATCH_BYTES: u64 = 128 << 10;
/// Each write that is not kept is sent to the disk by itself (1 GiB from nginx onto ext4: 0.88 s,
/// 0.76 s of it in the kernel; by 128 KiB 1.17 and 1.03).
const LONG_BATCH_BYTES: u64 = 1 << 20;
/// The type of tmpfs (Linux: `linux/magic.h`).
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// What `st_blocks` counts, in bytes (`stat(3type)`).
const BLOCK_BYTES: u64 = 512;

/// The path of the file that `target` arrives in.
pub fn part_path(target: &Path) -> PathBuf {
    beside(target, ".part")
}

/// The path of the journal beside it.
pub fn journal_path(target: &Path) -> PathBuf {
    beside(target, ".part.journal")
}

/// The path of a file beside another one: its name with something behind it.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// A file that is being written, by this process alone.
#[derive(Debug)]
pub struct PartFile {
    file: File,
    path: PathBuf,
    /// Whether what is written need not stay in the page cache.
    lets_go: AtomicBool,
}

impl PartFile {
    /// Opens the part file of `target`, or makes it.
    ///
    /// # Errors
    /// The disk, or another process that writes it.
    pub fn open(target: &Path) -> Result<Self, Failure> {
        let path = part_path(target);
        let shown = path.display();
        // A link that somebody else made there would have any file of ours written.
        let only_here = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let opened = open_locked(&path, |path| {
            let mut open = OpenOptions::new();
            open.read(true).write(true).create(true).truncate(false).custom_flags(only_here);
            open.open(path)
        });
        match opened {
            Ok(Some(file)) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => {
                Ok(Self { file, path, lets_go: AtomicBool::new(false) })
            }
            Ok(Some(_)) => Err(Failure::usage(format!("{shown} is in the way; remove it"))),
            Ok(None) => Err(Failure::usage(format!("another process is downloading to {shown}"))),
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                Err(Failure::usage(format!("{shown} is a link, and in the way; remove it")))
            }
            Err(error) => Err(Failure::disk("open", &path, error)),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes now.
    ///
    /// # Errors
    /// The disk.
    pub fn length(&self) -> Result<u64, Failure> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(|error| Failure::disk("look at", &self.path, error))?.len())
    }

    /// Gives it this length, and the room for it: a full disk is noticed now.
    ///
    /// # Errors
    /// The disk.
    pub fn allocate(&self, length: u64) -> Result<(), Failure> {
        let before = self.length()?;
        self.make_room(length).and_then(|()| self.file.set_len(length)).map_err(|error| {
            // Some file systems keep what they found.
            let _ = self.file.set_len(before);
            let mib = length.div_ceil(1 << 20);
            Failure::disk(&format!("make room for {mib} MiB in"), &self.path, error)
        })
    }

    fn make_room(&self, length: u64) -> io::Result<()> {
        if length == 0 || (self.is_in_memory() && self.has_plenty(length)?) {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            // Some file systems cannot.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether making room would cost as much as filling it: tmpfs clears it then, a quarter of the
    /// time that a fast download takes.
    fn is_in_memory(&self) -> bool {
        fstatfs(&self.file).is_ok_and(|found| found.f_type == TMPFS_MAGIC)
    }

    /// Whether there is twice the room that is lacking: others may need some meanwhile.
    fn has_plenty(&self, length: u64) -> io::Result<bool> {
        let there = self.file.metadata()?.blocks().saturating_mul(BLOCK_BYTES);
        let found = fstatvfs(&self.file)?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        // One without a limit says that it has no blocks.
        Ok(found.f_blocks == 0 || free / 2 >= length.saturating_sub(there))
    }

    /// Cuts it to this length.
    ///
    /// # Errors
    /// The disk.
    pub fn cut(&self, length: u64) -> Result<(), Failure> {
        self.file.set_len(length).map_err(|error| Failure::disk("cut", &self.path, error))
    }

    /// Empties it.
    ///
    /// # Errors
    /// The disk.
    pub fn clear(&self) -> Result<(), Failure> {
        self.cut(0)
    }

    /// Removes it, if nothing was written to it.
    pub fn discard_empty(self) {
        if self.length().is_ok_and(|length| length == 0) {
            // An empty file is in nobody's way.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Has what is written from now on leave the page cache, if the file is a long one: it would
    /// take the place of what others need, and the sync at the end would find all of it.
    pub fn let_go(&self, length: u64) {
        self.lets_go.store(length > MOST_KEPT_BYTES, Ordering::Relaxed);
    }

    /// How many bytes are best written at once, by one who may hold back this many.
    pub fn batch_bytes(&self, share: u64) -> u64 {
        match self.caching() {
            Cached::Kept => BATCH_BYTES,
            Cached::Dropped => share.clamp(BATCH_BYTES, LONG_BATCH_BYTES),
        }
    }

    fn caching(&self) -> Cached {
        if self.lets_go.load(Ordering::Relaxed) { Cached::Dropped } else { Cached::Kept }
    }

    /// Writes these pieces one after the other from `offset` on.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, offset: u64, pieces: &[Bytes]) -> Result<(), Failure> {
        let written = write_all_at(&self.file, pieces, offset, self.caching());
        if written.map_err(|error| Failure::disk("write", &self.path, error))? == Cached::Kept {
            self.lets_go.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads as many bytes as `buffer` has.
    ///
    /// # Errors
    /// The disk, and the end of the file.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|error| Failure::disk("read", &self.path, error))
    }

    /// Returns when what was written is on stable storage.
    ///
    /// # Errors
    /// The disk.
    pub fn sync(&self) -> Result<(), Failure> {
        self.file.sync_data().map_err(|error| Failure::disk("sync", &self.path, error))
    }

    /// Gives the complete file its name. What had that name is replaced only with `replaces`.
    ///
    /// # Errors
    /// The disk, or a file with that name.
    pub fn publish(&self, target: &Path, replaces: bool) -> Result<(), Failure> {
        self.sync()?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => in_the_way(target, &self.path),
            _ => Failure::disk("give its name to", target, error),
        };
        let flags = if replaces { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let here = rustix::fs::CWD;
        match renameat_with(here, &self.path, here, target, flags) {
            Ok(()) => {}
            // A file system without such a rename; the name was free a moment ago.
            Err(Errno::INVAL | Errno::NOSYS) => {
                if !replaces && target.symlink_metadata().is_ok() {
                    return Err(failed(io::ErrorKind::AlreadyExists.into()));
                }
                std::fs::rename(&self.path, target).map_err(failed)?;
            }
            Err(error) => return Err(failed(error.into())),
        }
        sync_folder_of(target).map_err(|error| Failure::disk("sync the folder of", target, error))
    }
}

/// A file that was not there when the download began.
fn in_the_way(target: &Path, part: &Path) -> Failure {
    let (target, part) = (target.display(), part.display());
    Failure::usage(format!("{target} exists by now; --force replaces it. All is in {part}"))
}

/// Makes a new name outlive the loss of power.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
