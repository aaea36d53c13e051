//! Files that one process at a time may use.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Opens a file and locks it for as long as it is open. `None` when another process has it. Who had it
/// before may have removed or renamed it meanwhile: then it is opened anew. This blocks.
///
/// # Errors
/// The disk.
pub fn open_locked(
    path: &Path,
    open: impl Fn(&Path) -> io::Result<File>,
) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let own = file.metadata()?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => {
                return Ok(Some(file));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_file_that_was_removed_before_it_was_locked_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let opened = Cell::new(0);
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path)?;
            opened.set(opened.get() + 1);
            if opened.get() == 1 {
                fs::remove_file(path)?;
            }
            Ok(file)
        };
        let locked = open_locked(&path, open).unwrap();
        assert!(locked.is_some() && path.exists());
        assert_eq!(opened.get(), 2);
        assert!(open_locked(&path, open).unwrap().is_none());
    }
}
