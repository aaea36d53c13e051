//! Whether what lies in the database's files can be believed.
//!
//! sled 0.34.7 keeps its promises when its process dies, since the kernel has what it wrote. But it
//! never syncs, so after a loss of power any part of its files may be of any age; and where what it
//! wrote since it was opened last is damaged, it takes the damage for the end of that and tells older
//! records. A mark beside the files says how they were left:
//!
//! ```text
//! {"closed":{"digest":"…","since":7}}  closed; BLAKE3 of all its files
//! {"open":{"boot":"…","since":7}}      open, in this run of the machine
//! ```
//!
//! `since` is the last frame of the journal that was in it when it was last known to be sound.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::storage::Durability;
use crate::storage::folder::sync_folder;

/// The mark beside the database.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    records: PathBuf,
    durability: Durability,
}

/// How the files of a database were left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Left {
    Closed { digest: String, since: u64 },
    Open { boot: String, since: u64 },
}

/// What of a database can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The frames of the journal up to this one; what follows may be old.
    Until(u64),
    /// Nothing, since the power was lost while it was open.
    PowerLost,
    /// Nothing, since its files are not as they were left.
    Changed,
}

impl Mark {
    pub(super) fn of(records: &Path, durability: Durability) -> Self {
        Self { records: records.to_owned(), durability }
    }

    fn path(&self) -> PathBuf {
        self.records.with_extension("state")
    }

    /// Whether there is one: then there were records.
    pub(super) fn exists(&self) -> bool {
        self.path().exists()
    }

    /// How far the files can be believed. Reads all of them when they were closed.
    pub(super) fn trust(&self) -> io::Result<Trust> {
        let found = match fs::read(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Trust::PowerLost),
            found => found?,
        };
        Ok(match serde_json::from_slice(&found) {
            Ok(Left::Closed { digest, since }) if digest_of(&self.records)? == digest => {
                Trust::Until(since)
            }
            Ok(Left::Closed { .. }) => Trust::Changed,
            Ok(Left::Open { boot, since }) if this_boot().is_some_and(|this| this == boot) => {
                Trust::Until(since)
            }
            Ok(Left::Open { .. }) | Err(_) => Trust::PowerLost,
        })
    }

    /// Says that the database is open from now on, and sound up to this frame.
    pub(super) fn open(&self, since: u64) -> io::Result<()> {
        self.write(&Left::Open { boot: this_boot().unwrap_or_default(), since })
    }

    /// Says that the database is closed, with the frames up to this one.
    pub(super) fn close(&self, since: u64) -> io::Result<()> {
        if self.durability == Durability::PowerLoss {
            sync_all(&self.records)?;
        }
        self.write(&Left::Closed { digest: digest_of(&self.records)?, since })
    }

    fn write(&self, left: &Left) -> io::Result<()> {
        let path = self.path();
        let part = path.with_extension("state-part");
        let mut file = File::create(&part)?;
        file.write_all(&serde_json::to_vec(left)?)?;
        if self.durability == Durability::PowerLoss {
            file.sync_all()?;
        }
        fs::rename(&part, &path)?;
        match path.parent() {
            Some(parent) if self.durability == Durability::PowerLoss => sync_folder(parent),
            Some(_) | None => Ok(()),
        }
    }
}

/// Which run of the machine this is; `None` where the system does not tell.
fn this_boot() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(boot.trim().to_owned())
}

/// The database's files, and the folders they lie in behind what is in them.
fn visit(folder: &Path, visit_one: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    for path in paths {
        if path.is_dir() {
            visit(&path, visit_one)?;
        } else {
            visit_one(&path)?;
        }
    }
    visit_one(folder)
}

fn sync_all(folder: &Path) -> io::Result<()> {
    visit(folder, &mut |path| File::open(path)?.sync_all())
}

/// A digest of the names and the content of all files.
fn digest_of(records: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    if records.is_dir() {
        visit(records, &mut |path| {
            hasher
                .update(path.strip_prefix(records).unwrap_or(path).as_os_str().as_encoded_bytes());
            if path.is_dir() {
                return Ok(());
            }
            let file = File::open(path)?;
            hasher.update(&file.metadata()?.len().to_le_bytes());
            hasher.update_reader(file).map(|_| ())
        })?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}
