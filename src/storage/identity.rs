//! Whether the folder of the bytes is that of the records: it is often a disk of its own, and one that is
//! not mounted looks like an empty folder. Served or repaired so, every upload would be lost.
//!
//! ```text
//! <data-dir>/identity            a random text
//! <data-dir>/uploads/identity    the same
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::folder::sync_folder;
use super::{Failure, StorageError};

/// The name of the files.
pub(super) const IDENTITY: &str = "identity";

/// Compares the two texts, and makes those that were never made.
///
/// # Errors
///
/// [`Failure::Mismatched`] when the bytes belong to other records, or are not there.
pub(super) fn check(data_folder: &Path, uploads: &Path) -> Result<(), StorageError> {
    let doing = "comparing the identities of records and uploads";
    let io = |source| StorageError::io(doing, None, source);
    let of_records = read(data_folder).map_err(io)?;
    let of_uploads = read(uploads).map_err(io)?;
    match (of_records, of_uploads) {
        (Some(records), Some(uploads)) if records == uploads => Ok(()),
        // New, or from before there were identities, or not finished.
        (None, Some(uploads)) => write(data_folder, &uploads).map_err(io),
        (None, None) => {
            let mut text = [0; 16];
            getrandom::fill(&mut text).map_err(|error| io(error.into()))?;
            let text = format!("{:032x}\n", u128::from_be_bytes(text));
            fs::create_dir_all(uploads).map_err(io)?;
            // In this order: records that have one have uploads that have it.
            write(uploads, &text)
                .and_then(|()| sync_folder(data_folder))
                .and_then(|()| write(data_folder, &text))
                .map_err(io)
        }
        (Some(_), _) => {
            let failure = Failure::Mismatched {
                uploads: uploads.join(IDENTITY),
                records: data_folder.join(IDENTITY),
            };
            Err(StorageError::new("opening the data", None, failure))
        }
    }
}

fn read(folder: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(folder.join(IDENTITY)) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(folder: &Path, text: &str) -> io::Result<()> {
    let part = folder.join("identity.part");
    let mut file = File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(part, folder.join(IDENTITY))?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_that_are_not_there_are_not_taken_for_lost() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = folder.path().join("uploads");
        check(folder.path(), &uploads).unwrap();
        check(folder.path(), &uploads).unwrap();
        // The disk is not mounted, or another one is.
        fs::rename(&uploads, folder.path().join("away")).unwrap();
        let absent = check(folder.path(), &uploads).unwrap_err().to_string();
        assert!(absent.contains("mounted"), "{absent}");
        fs::create_dir(&uploads).unwrap();
        assert!(check(folder.path(), &uploads).is_err());
        fs::write(uploads.join(IDENTITY), "another\n").unwrap();
        assert!(check(folder.path(), &uploads).is_err());
        // A person says that it is all right.
        fs::remove_file(folder.path().join(IDENTITY)).unwrap();
        check(folder.path(), &uploads).unwrap();
        check(folder.path(), &uploads).unwrap();
    }
}
