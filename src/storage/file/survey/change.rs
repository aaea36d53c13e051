//! What a repair does to the files of uploads. The server does not run meanwhile.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Name, Survey, unless_gone};
use crate::protocol::id::UploadId;
use crate::storage::List;
use crate::storage::folder::sync_folder;

impl Survey {
    /// Makes the names of an upload's files outlive the loss of power.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn sync(&self, id: UploadId) -> io::Result<()> {
        sync_folder(&self.folder_of(id))
    }

    /// Writes the list of an upload's chaining values. Nobody waits for it to be durable.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn write_tree_list(&self, id: UploadId, list: &[u8]) -> io::Result<()> {
        fs::write(self.list_path(id, List::Tree), list)
    }

    /// Cuts off what lies in an upload's file behind `length`. Durable when it returns.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn cut(&self, id: UploadId, length: u64) -> io::Result<()> {
        let file = File::options().write(true).open(self.path(id))?;
        if file.metadata()?.len() > length {
            file.set_len(length)?;
        }
        file.sync_all()
    }

    /// Removes the parts of an upload. What no store put among them is moved to another folder, as by
    /// [`Self::set_aside`]. Durable when it returns.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn remove_parts(&self, id: UploadId, aside: &Path) -> io::Result<()> {
        let mut strangers = Vec::new();
        self.look_at_parts(id, &mut strangers)?;
        for stranger in &strangers {
            let name = stranger.file_name().unwrap_or_default().to_string_lossy();
            fs::create_dir_all(aside)?;
            move_to(stranger, &free_name(aside, &format!("{id}.parts.{name}"))?)?;
        }
        if !strangers.is_empty() {
            sync_folder(aside)?;
            aside.parent().map_or(Ok(()), sync_folder)?;
        }
        unless_gone(fs::remove_dir_all(self.parts_path(id)))?;
        unless_gone(sync_folder(&self.folder_of(id))).map(|_| ())
    }

    /// Removes all that lies there of an upload, the parts as by [`Self::remove_parts`]. Durable when
    /// it returns.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn remove(&self, id: UploadId, aside: &Path) -> io::Result<()> {
        unless_gone(fs::remove_file(self.path(id)))?;
        for list in List::ALL {
            unless_gone(fs::remove_file(self.list_path(id, list)))?;
        }
        self.remove_parts(id, aside)
    }

    /// Moves all that lies there of an upload to another folder, which is made when it is not there,
    /// and never over what lies there. On another file system it is copied. Durable when it returns.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn set_aside(&self, id: UploadId, to: &Path) -> io::Result<()> {
        let mut has_moved = false;
        for name in Name::all(id) {
            let from = self.path_of(name);
            let Some(file_name) = from.file_name().and_then(|name| name.to_str()) else { continue };
            if unless_gone(fs::symlink_metadata(&from))?.is_some() {
                fs::create_dir_all(to)?;
                move_to(&from, &free_name(to, file_name)?)?;
                has_moved = true;
            }
        }
        if has_moved {
            sync_folder(to)?;
            to.parent().map_or(Ok(()), sync_folder)?;
            sync_folder(&self.folder_of(id))?;
        }
        Ok(())
    }
}

/// Moves a file or a folder. Where it has to be copied, it is removed once the copy is durable.
fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
        moved => return moved,
    }
    copy(from, to)?;
    to.parent().map_or(Ok(()), sync_folder)?;
    if from.is_dir() { fs::remove_dir_all(from) } else { fs::remove_file(from) }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        fs::copy(from, to)?;
        return File::open(to)?.sync_all();
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    sync_folder(to)
}

/// A name in this folder that nothing has: this one, or else with a number behind it.
fn free_name(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let numbered = (1..u32::MAX).map(|number| folder.join(format!("{name}.{number}")));
    for path in std::iter::once(folder.join(name)).chain(numbered) {
        if unless_gone(fs::symlink_metadata(&path))?.is_none() {
            return Ok(path);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::surveyed;
    use super::*;

    /// Here as well as where the kernel cannot move it.
    #[test]
    fn what_is_moved_is_whole_on_another_file_system_too() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir_in("/dev/shm");
        let here = tempfile::tempdir().unwrap();
        let places = [Some(here), other.ok()];
        for (number, place) in places.iter().flatten().enumerate() {
            let parts = folder.path().join(format!("{number}.parts"));
            fs::create_dir(&parts).unwrap();
            fs::write(parts.join("000001"), b"bytes").unwrap();
            let to = place.path().join("parts");
            move_to(&parts, &to).unwrap();
            assert!(!parts.exists());
            assert_eq!(fs::read(to.join("000001")).unwrap(), b"bytes");
            move_to(&to.join("000001"), &folder.path().join(format!("{number}"))).unwrap();
            assert_eq!(fs::read(folder.path().join(format!("{number}"))).unwrap(), b"bytes");
            assert!(!to.join("000001").exists());
        }
    }

    #[test]
    fn what_is_foreign_among_parts_is_set_aside_when_they_are_removed() {
        let (folder, _store, survey) = surveyed();
        let id = UploadId::from_bytes([5; 16]);
        let parts = survey.parts_path(id);
        fs::create_dir(&parts).unwrap();
        fs::write(parts.join("000001"), b"part").unwrap();
        fs::write(parts.join("notes.txt"), b"mine").unwrap();
        let aside = folder.path().join("lost+found");
        survey.remove(id, &aside).unwrap();
        assert!(!parts.exists());
        assert_eq!(fs::read(aside.join(format!("{id}.parts.notes.txt"))).unwrap(), b"mine");
        assert_eq!(fs::read_dir(&aside).unwrap().count(), 1);
        survey.remove(id, &aside).unwrap();
    }

    #[test]
    fn what_is_set_aside_is_put_over_nothing() {
        let (folder, _store, survey) = surveyed();
        let id = UploadId::from_bytes([5; 16]);
        let aside = folder.path().join("lost+found");
        for bytes in [b"1", b"2"] {
            fs::write(survey.path(id), bytes).unwrap();
            survey.set_aside(id, &aside).unwrap();
        }
        assert_eq!(survey.look(id).unwrap(), None);
        assert_eq!(fs::read(aside.join(id.to_string())).unwrap(), b"1");
        assert_eq!(fs::read(aside.join(format!("{id}.1"))).unwrap(), b"2");
    }
}
