//! What a later run has to know to go on with an upload: one small file each, in the person's state
//! folder (`$XDG_STATE_HOME/resumed/put`).
//!
//! A session is written before the first byte is sent to a URL, and removed when the upload is
//! complete. Its file is replaced as a whole, so it is the old one or the new one whatever happens.
//! The URLs in it let one append to the uploads: only the owner may read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use url::Url;

use super::source::Stamp;
use crate::client::failure::Failure;
use crate::client::open_locked;
use crate::clock::Clock;
use crate::protocol::digest::Blake3Digest;
use crate::protocol::units::Timestamp;

/// The form of the files; another one is not read.
const FORM: u32 = 1;
/// Sessions that nobody touched for so long are forgotten.
const KEPT: Duration = Duration::from_secs(90 * 86_400);

/// What is written down of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    form: u32,
    /// The local file, for a person who looks.
    pub file: String,
    /// Where its uploads are created.
    pub endpoint: String,
    /// What the file was.
    pub stamp: Stamp,
    /// Its digest.
    pub blake3: Option<Blake3Digest>,
    /// The uploads, in order: one for the whole file, or several to be joined.
    pub parts: Vec<Part>,
    /// The upload that joins them.
    pub joined: Option<Url>,
}

/// One upload of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Where its bytes begin in the file.
    pub begin: u64,
    /// Where they end.
    pub end: u64,
    /// Where it is, once it was created.
    pub url: Option<Url>,
}

impl Session {
    /// A session in which nothing was created yet.
    pub fn new(
        (file, endpoint): (String, String),
        stamp: Stamp,
        blake3: Option<Blake3Digest>,
        borders: Vec<(u64, u64)>,
    ) -> Self {
        let part = |(begin, end)| Part { begin, end, url: None };
        let parts = borders.into_iter().map(part).collect();
        Self { form: FORM, file, endpoint, stamp, blake3, parts, joined: None }
    }

    /// Reads a session.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let session: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if session.form != FORM {
            return Err(format!("it has the form {}, not {FORM}", session.form));
        }
        let mut begin = 0;
        for part in &session.parts {
            if part.begin != begin || part.end < part.begin {
                return Err("its parts do not follow each other".to_owned());
            }
            begin = part.end;
        }
        if session.parts.is_empty() || begin != session.stamp.length {
            return Err("its parts are not the file".to_owned());
        }
        Ok(session)
    }
}

/// The folder of all sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    folder: PathBuf,
}

/// The one session of this key; while it lives no other process has it.
#[derive(Debug)]
pub struct Slot {
    path: PathBuf,
    /// Locked.
    _lock: File,
}

impl Sessions {
    /// Where the person's state lies by the XDG Base Directory Specification, from these two
    /// variables; `None` when neither is of use.
    pub fn default_folder(state_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
        let is_absolute = |path: &PathBuf| path.is_absolute();
        let home_state = || home.filter(is_absolute).map(|home| home.join(".local/state"));
        let state = state_home.filter(is_absolute).or_else(home_state)?;
        Some(state.join("resumed/put"))
    }

    /// Opens the folder, which is created for its owner alone, and forgets what is very old.
    ///
    /// # Errors
    /// `Disk`.
    pub fn open(folder: PathBuf, clock: &Clock) -> Result<Self, Failure> {
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        created.map_err(|error| Failure::disk("create", &folder, error))?;
        forget_old(&folder, clock.now());
        Ok(Self { folder })
    }

    /// The session of these facts, whose file and endpoint and metadata it is: a change of any makes
    /// it another upload.
    ///
    /// # Errors
    /// `Usage` when another process has it; `Disk`.
    pub fn slot(&self, facts: &[&[u8]]) -> Result<Slot, Failure> {
        let mut hasher = blake3::Hasher::new();
        for fact in facts {
            let length = u64::try_from(fact.len()).unwrap_or(u64::MAX);
            hasher.update(&length.to_le_bytes()).update(fact);
        }
        let name = hasher.finalize().to_hex();
        let path = self.folder.join(format!("{name}.json"));
        let lock_path = self.folder.join(format!("{name}.lock"));
        let cannot = |error| Failure::disk("lock", &lock_path, error);
        let opened = open_locked(&lock_path, |path| {
            OpenOptions::new().create(true).append(true).mode(0o600).open(path)
        });
        match opened.map_err(cannot)? {
            Some(lock) => Ok(Slot { path, _lock: lock }),
            None => Err(Failure::usage("another process sends this file there; let it finish")),
        }
    }
}

impl Slot {
    /// What an earlier run wrote down.
    ///
    /// # Errors
    /// In words, when there is something that cannot be used.
    pub fn load(&self) -> Result<Option<Session>, String> {
        match fs::read(&self.path) {
            Ok(text) => Session::parse(&text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes the session down; it is on the disk when this returns.
    ///
    /// # Errors
    /// `Disk`.
    pub fn save(&self, session: &Session) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(session).expect("a session is made of plain values");
        replace(&self.path, &text).map_err(|error| Failure::disk("write", &self.path, error))
    }

    /// Forgets it. Failing to costs a look at an upload that is complete.
    pub fn remove(&self) {
        for path in [&self.path, &self.path.with_extension("lock")] {
            let _ = fs::remove_file(path);
        }
    }
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Whatever cannot be looked at stays, and what a process has locked. Should one lock it in this very
/// moment, two processes may send the same file: the server takes the bytes of one of them.
fn forget_old(folder: &Path, now: Timestamp) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let since_epoch = modified.map(|time| time.duration_since(SystemTime::UNIX_EPOCH));
        let Ok(Ok(since_epoch)) = since_epoch else { continue };
        if Timestamp(0).after(since_epoch).after(KEPT) >= now {
            continue;
        }
        let is_locked = path.extension().is_some_and(|extension| extension == "lock")
            && File::open(&path).is_ok_and(|file| file.try_lock().is_err());
        if !is_locked {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let stamp = Stamp { length: 10, ..Stamp::default() };
        let named = ("/home/me/file".to_owned(), "http://host/files/".to_owned());
        Session::new(named, stamp, Some(Blake3Digest::of(b"0123456789")), vec![(0, 4), (4, 10)])
    }

    #[test]
    fn a_session_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(folder.path().join("put"), &Clock::System).unwrap();
        let slot = sessions.slot(&[b"file", b"endpoint"]).unwrap();
        assert_eq!(slot.load(), Ok(None));
        let mut written = session();
        slot.save(&written).unwrap();
        assert_eq!(slot.load().unwrap().as_ref(), Some(&written));
        written.parts[1].url = Some(Url::parse("http://host/files/1").unwrap());
        slot.save(&written).unwrap();
        assert_eq!(slot.load().unwrap(), Some(written));
        let mode = fs::metadata(&slot.path).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
        slot.remove();
        assert_eq!(slot.load(), Ok(None));
    }

    #[test]
    fn facts_do_not_run_into_each_other_and_one_process_has_a_session() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(folder.path().to_owned(), &Clock::System).unwrap();
        let one = sessions.slot(&[b"ab", b"c"]).unwrap();
        let other = sessions.slot(&[b"a", b"bc"]).unwrap();
        assert_ne!(one.path, other.path);
        assert!(sessions.slot(&[b"ab", b"c"]).is_err());
        drop(one);
        assert!(sessions.slot(&[b"ab", b"c"]).is_ok());
    }

    #[test]
    fn what_is_damaged_is_no_session() {
        let text = serde_json::to_string(&session()).unwrap();
        assert!(Session::parse(text.as_bytes()).is_ok());
        for (right, wrong) in [
            ("\"form\":1", "\"form\":2"),
            ("\"begin\":4", "\"begin\":5"),
            ("\"end\":10", "\"end\":9"),
            ("\"url\":null", "\"url\":\"no url\""),
            ("}", ""),
        ] {
            assert!(Session::parse(text.replacen(right, wrong, 1).as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn very_old_sessions_are_forgotten_and_those_in_use_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let clock = Clock::manual(Clock::System.now());
        let sessions = Sessions::open(path.clone(), &clock).unwrap();
        let slot = sessions.slot(&[b"a"]).unwrap();
        slot.save(&session()).unwrap();
        clock.advance(KEPT - Duration::from_secs(60));
        Sessions::open(path.clone(), &clock).unwrap();
        assert!(slot.load().unwrap().is_some());
        clock.advance(Duration::from_secs(120));
        Sessions::open(path, &clock).unwrap();
        assert_eq!(slot.load(), Ok(None));
        assert!(sessions.slot(&[b"a"]).is_err(), "the lock is still there");
    }

    #[test]
    fn the_folder_is_where_the_system_keeps_state() {
        let folder = |state: &str, home: &str| {
            let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
            Sessions::default_folder(path(state), path(home))
        };
        assert_eq!(folder("/state", "/home/me"), Some("/state/resumed/put".into()));
        assert_eq!(folder("", "/home/me"), Some("/home/me/.local/state/resumed/put".into()));
        assert_eq!(folder("state", "/home/me"), Some("/home/me/.local/state/resumed/put".into()));
        assert_eq!(folder("", ""), None);
    }
}
