//! The bytes that are sent, and whether they are still the same.
//!
//! A file is read where it lies, block by block, and looked at after each block: no byte of one
//! that changed goes out as if it were of the one that was digested.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::window::Window;
use crate::client::blocking;
use crate::client::failure::Failure;
use crate::protocol::digest::Blake3Digest;

/// What is read at once.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// What tells whether a file is the same one as before, without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Its length in bytes.
    pub length: u64,
    pub(super) modified: (i64, i64),
    pub(super) changed: (i64, i64),
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Whether nothing speaks for another content, should nobody have digested it. The time of the
    /// last change of its inode counts, too: that of the content can be set.
    pub fn is_likely(&self, earlier: &Self) -> bool {
        self == earlier
    }

    /// Whether the content of the open file is the same as it was: its name and rights may have
    /// changed meanwhile.
    fn has_same_content(&self, now: &Self) -> bool {
        (self.length, self.modified) == (now.length, now.modified)
    }
}

/// A regular file.
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    path: PathBuf,
    /// What it was when it was opened.
    pub stamp: Stamp,
}

impl SourceFile {
    /// Takes an open file, which lies at this path.
    ///
    /// # Errors
    /// `Disk`.
    pub fn new(file: File, path: &Path) -> Result<Self, Failure> {
        let metadata = file.metadata().map_err(|error| Failure::disk("look at", path, error))?;
        Ok(Self { stamp: Stamp::of(&metadata), file, path: path.to_owned() })
    }

    /// Reads some of the bytes from `begin` on, before `end`. Blocks.
    ///
    /// # Errors
    /// `Disk`, or `Changed` when the file is not any more what was opened.
    pub fn read(&self, begin: u64, end: u64) -> Result<Bytes, Failure> {
        let left = usize::try_from(end.saturating_sub(begin)).unwrap_or(usize::MAX);
        let mut block = vec![0; left.min(BLOCK_BYTES)];
        match self.file.read_exact_at(&mut block, begin) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.changed());
            }
            Err(error) => return Err(Failure::disk("read", &self.path, error)),
        }
        self.see_that_it_is_the_same()?;
        Ok(block.into())
    }

    /// Computes the digest of all bytes. Blocks. `None` when `stop` became true meanwhile.
    ///
    /// # Errors
    /// As [`SourceFile::read`].
    pub fn digest(&self, stop: &AtomicBool) -> Result<Option<Blake3Digest>, Failure> {
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < self.stamp.length {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let block = self.read(offset, self.stamp.length)?;
            hasher.update(&block);
            offset += u64::try_from(block.len()).unwrap_or(u64::MAX);
        }
        Ok(Some(hasher.finalize().into()))
    }

    fn see_that_it_is_the_same(&self) -> Result<(), Failure> {
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(|error| Failure::disk("look at", &self.path, error))?;
        if self.stamp.has_same_content(&Stamp::of(&metadata)) {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn changed(&self) -> Failure {
        Failure::changed(format!("{} changed while it was read", self.path.display()))
    }
}

/// Where bytes come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    File(Arc<SourceFile>),
    Memory(Bytes),
    /// What has been read of a stream and is not yet known to be safe.
    Window(Arc<Mutex<Window>>),
}

impl Source {
    /// Some of the bytes from `begin` on, before `end`.
    ///
    /// # Errors
    /// As [`SourceFile::read`].
    pub(super) async fn read(&self, begin: u64, end: u64) -> Result<Bytes, Failure> {
        match self {
            Self::File(file) => {
                let file = Arc::clone(file);
                blocking(move || file.read(begin, end)).await
            }
            Self::Memory(bytes) => {
                let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
                let begin = at(begin).min(bytes.len());
                let end = at(end).min(bytes.len()).min(begin.saturating_add(BLOCK_BYTES));
                Ok(bytes.slice(begin..end.max(begin)))
            }
            Self::Window(window) => Ok(window.lock().read(begin, end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn open(path: &Path) -> SourceFile {
        SourceFile::new(File::open(path).unwrap(), path).unwrap()
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content = vec![7; BLOCK_BYTES + 5];
        fs::write(&path, &content).unwrap();
        let source = open(&path);
        assert_eq!(source.read(3, 10).unwrap(), content[3..10]);
        let stop = AtomicBool::new(false);
        assert_eq!(source.digest(&stop).unwrap(), Some(Blake3Digest::of(&content)));
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
        for failed in [source.read(3, 10).map(|_| ()), source.digest(&stop).map(|_| ())] {
            assert_eq!(failed.unwrap_err().kind().exit_code(), 5);
        }
        let source = open(&path);
        File::create(&path).unwrap();
        assert_eq!(source.read(0, 10).unwrap_err().kind().exit_code(), 5);
    }

    #[test]
    fn digesting_stops_when_it_is_told_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"0123").unwrap();
        assert_eq!(open(&path).digest(&AtomicBool::new(true)).unwrap(), None);
    }

    #[test]
    fn other_rights_and_another_name_are_no_other_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"0123").unwrap();
        let source = open(&path);
        fs::hard_link(&path, folder.path().join("other")).unwrap();
        assert_eq!(source.read(0, 4).unwrap(), b"0123"[..]);
    }
}
