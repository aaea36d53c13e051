//! What sled's own flush leaves to the disk's mercy. It ends in `sync_file_range`, which flushes
//! neither the disk's cache nor the file's new length; and a node of more than 128 KiB (sixteen
//! records with much metadata) goes to a file of its own in `blobs/`, which it does not sync at
//! all.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::storage::folder::sync_folder;

/// sled's files, as far as they have to be synced.
pub(super) struct Log {
    file: File,
    blobs: PathBuf,
    /// The files in that folder that are durable: sled writes each of them once.
    synced: HashSet<OsString>,
}

impl Log {
    /// Makes all that the database holds durable. After a crash that is more than was flushed: a
    /// record that is only in the kernel's memory must not be shown.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let blobs = folder.join("blobs");
        let synced = names(&blobs)?;
        if !synced.is_empty() {
            // There may be many, and few of them new: one call for all.
            rustix::fs::syncfs(File::open(folder)?)?;
        }
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                File::open(entry.path())?.sync_all()?;
            }
        }
        sync_folder(&blobs)?;
        sync_folder(folder)?;
        folder.parent().map_or(Ok(()), sync_folder)?;
        Ok(Self { file: File::open(folder.join("db"))?, blobs, synced })
    }

    /// Makes durable what was flushed.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let found = names(&self.blobs)?;
        let mut is_any_new = false;
        for name in found.difference(&self.synced) {
            match File::open(self.blobs.join(name)) {
                Ok(blob) => blob.sync_all()?,
                // It is of no more use already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            is_any_new = true;
        }
        if is_any_new {
            sync_folder(&self.blobs)?;
        }
        self.synced = found;
        // Last: the log must not name what is not there.
        self.file.sync_data()
    }

    /// From now on, fails to sync.
    #[cfg(test)]
    pub(super) fn break_disk(&mut self) {
        self.file = File::open("/dev/null").unwrap();
    }

    #[cfg(test)]
    pub(super) fn has_synced(&self, name: &std::ffi::OsStr) -> bool {
        self.synced.contains(name)
    }
}

fn names(folder: &Path) -> io::Result<HashSet<OsString>> {
    fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}
