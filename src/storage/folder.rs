//! The data folder, and the lock that lets one process have it.
//!
//! ```text
//! <data-dir>/lock             held while a server runs; the holder's process id is in it
//! <data-dir>/journal/         every save of an upload record
//! <data-dir>/journal.damaged/ that from before a rebuilding; journal.damaged-new until it is done
//! <data-dir>/records/         upload records (sled), an index of the journal
//! <data-dir>/records.state    how that was left, and whether it can be believed
//! <data-dir>/records.ballast  room that is given up for a start on a full disk
//! <data-dir>/records.damaged/ a database that was made anew from the journal
//! <data-dir>/records.new/     one that a rebuilding makes
//! <data-dir>/uploads/         bytes, one file an upload
//! <data-dir>/identity         and that in uploads/: which records and bytes belong together
//! <data-dir>/lost+found/      bytes that a repair found no place for
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::pace::Pace;
use super::{Failure, StorageError, identity};

/// How long a holder that was just killed may take to be gone: the kernel lets go of its locks
/// only when all its threads have ended.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether it is.
const INTERVAL: Duration = Duration::from_millis(20);

/// A data folder that this process has for itself, until this is dropped.
#[derive(Debug)]
pub struct DataFolder {
    layout: Layout,
    pace: Arc<Pace>,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if it is not there, and takes its lock. Blocks for up to 2 s.
    ///
    /// # Errors
    ///
    /// [`Failure::Held`] names the process that has it; [`Failure::Mismatched`] when the bytes in
    /// it are not those of its records; [`Failure::Io`] what the system said.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let io =
            |doing: &'static str| move |source: io::Error| StorageError::io(doing, None, source);
        make(path).map_err(io("making the data folder"))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(io("opening the lock of the data folder"))?;
        take(&mut lock)?;
        // Written over the old one, which needs no room: a full disk is no reason not to start.
        let holder = format!("{}\n", std::process::id());
        lock.rewind()
            .and_then(|()| lock.write_all(holder.as_bytes()))
            .and_then(|()| lock.set_len(u64::try_from(holder.len()).unwrap_or(u64::MAX)))
            .map_err(io("writing the lock of the data folder"))?;
        identity::check(path, &path.join("uploads"))?;
        Ok(Self { layout: Layout::of(path), pace: Arc::default(), _lock: lock })
    }

    /// That of its disk: what is done on it by all of this process shares the threads that must not
    /// all wait.
    pub(super) fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    /// Where everything in it is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where the journal of the records is.
    pub fn journal(&self) -> PathBuf {
        self.layout.journal()
    }

    /// Where the records are.
    pub fn records(&self) -> PathBuf {
        self.layout.records()
    }

    /// Where the bytes are.
    pub fn uploads(&self) -> PathBuf {
        self.layout.uploads()
    }
}

/// Where everything is in a data folder, for who only looks: another process may have it.
#[derive(Clone, Debug)]
pub struct Layout {
    path: PathBuf,
}

impl Layout {
    /// The layout of this data folder, which need not be there.
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where the journal of the records is.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where the records are.
    pub fn records(&self) -> PathBuf {
        self.path.join("records")
    }

    /// Where the bytes are.
    pub fn uploads(&self) -> PathBuf {
        self.path.join("uploads")
    }

    /// Where a repair puts bytes that have no place among the uploads; not there before.
    pub fn lost_and_found(&self) -> PathBuf {
        self.path.join("lost+found")
    }
}

fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

fn take(lock: &mut File) -> Result<(), StorageError> {
    let begin = Instant::now();
    loop {
        match flock(&*lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if begin.elapsed() < PATIENCE => {
                thread::sleep(INTERVAL);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // What is not readable is not named; the lock is held all the same.
                let _ = lock.rewind().and_then(|()| lock.read_to_string(&mut holder));
                let holder = holder.trim().parse().ok();
                return Err(StorageError::new(
                    "locking the data folder",
                    None,
                    Failure::Held { holder },
                ));
            }
            Err(errno) => {
                return Err(StorageError::io("locking the data folder", None, errno.into()));
            }
        }
    }
}

/// Makes a change in a folder outlive the loss of power.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_told_who_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::open(folder.path()).unwrap();
        let second = DataFolder::open(folder.path()).unwrap_err();
        assert!(
            matches!(second.failure, Failure::Held { holder: Some(id) } if id == std::process::id()),
            "{second}"
        );
        drop(first);
        DataFolder::open(folder.path()).unwrap();
    }
}
