//! Opens the database: waits for a process that is still ending, takes a panic for damage, and has
//! kept room for opening it when the disk is full (sled 0.34.7 writes when it opens).

use std::fs::{self, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};

use super::failure;
use crate::storage::{Failure, StorageError};

/// sled's cache in bytes; its default is 1 GiB.
const CACHE_BYTES: u64 = 64 << 20;
/// How long the lock of a process that was just killed may take to be free.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether it is.
const INTERVAL: Duration = Duration::from_millis(20);
/// The room that is given up for opening the records on a full disk, in bytes: sled writes, and the
/// newest file of the journal is copied.
pub(super) const BALLAST_BYTES: u64 = 32 << 20;

pub(super) fn open(folder: &Path) -> Result<sled::Db, StorageError> {
    remove_unfinished(folder)?;
    open_with(|| {
        let config = sled::Config::new()
            .path(folder)
            .cache_capacity(CACHE_BYTES)
            // Nothing is saved but by the one thread, which flushes what it saves.
            .flush_every_ms(None);
        catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|_| Failure::Damaged("opening it ended in a panic".to_owned()))?
            .map_err(failure)
    })
}

/// Removes what a process that died while it opened the database has left: sled takes it for
/// finished, and cannot read it.
fn remove_unfinished(folder: &Path) -> Result<(), StorageError> {
    let io = |source| StorageError::io("opening the records", None, source);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io)?,
    };
    for entry in entries {
        let entry = entry.map_err(io)?;
        if entry.file_name().to_string_lossy().ends_with(".generating") {
            fs::remove_file(entry.path()).map_err(io)?;
        }
    }
    Ok(())
}

fn open_with<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, StorageError> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(opened) => return Ok(opened),
            Err(Failure::Io(error)) if is_locked(&error) && begin.elapsed() < PATIENCE => {
                thread::sleep(INTERVAL);
            }
            Err(failure) => {
                return Err(StorageError::new("opening the records", None, failure));
            }
        }
    }
}

/// Opens something, on a full disk with the room that was kept for that; then keeps it again.
pub(super) fn with_room_kept<T>(
    records: &Path,
    mut attempt: impl FnMut() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let opened = match attempt() {
        // Where nothing was kept, the second attempt would tell the same.
        Err(StorageError { failure: Failure::Full(_), .. })
            if fs::remove_file(ballast(records)).is_ok() =>
        {
            tracing::warn!("the disk is full; giving up what was kept for opening the records");
            attempt()
        }
        opened => opened,
    };
    if opened.is_ok() {
        keep_ballast(records);
    }
    opened
}

/// Beside the database, which may be set aside or removed as a whole.
fn ballast(records: &Path) -> PathBuf {
    records.with_extension("ballast")
}

/// Makes the ballast if it is not there. Where there is no room for it, there is none.
fn keep_ballast(records: &Path) {
    let path = ballast(records);
    if fs::metadata(&path).is_ok_and(|found| found.len() == BALLAST_BYTES) {
        return;
    }
    let made = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
    let filled = made.and_then(|file| {
        fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES).map_err(io::Error::from)
    });
    if let Err(error) = filled {
        tracing::warn!(%error, "no room is kept for opening the records when the disk is full");
        let _ = fs::remove_file(path);
    }
}

/// sled puts the reason of a lock that is held into a text.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}
