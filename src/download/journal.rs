//! What is remembered of a download: `NAME.part.journal`, beside the part file.
//!
//! A file of lines, each with the CRC-32C of its JSON before it; lines are only ever added, so a
//! write that is torn leaves those before it. The first line says what is downloaded, each other
//! one what is there of it, and the last valid one counts. It has two sets of bytes: `synced` are
//! on stable storage, and `written` are with the operating system, which keeps them for as long as
//! it runs: they count only as long as its boot id is the same. So the journal is never ahead of
//! the data: not after SIGKILL, and not after a loss of power.
//!
//! All of this blocks; it is run on threads that may.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::part::{beside, sync_folder_of};
use super::plan::Spans;
use crate::client::failure::Failure;
use crate::protocol::checksum::{Algorithm, Checksummer};
use crate::protocol::digest::Blake3Digest;

/// The form of the lines.
const VERSION: u32 = 1;
/// A journal that is longer is written anew.
const MAX_BYTES: u64 = 4 << 20;
/// What is told apart at most; no honest journal comes near.
const MAX_READ_BYTES: u64 = 64 << 20;

/// What tells one state of a file on a server from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    /// The `ETag`, weak ones too.
    pub etag: Option<String>,
    /// The `Last-Modified`.
    pub last_modified: Option<String>,
}

impl Validator {
    /// The strong entity tag (RFC 9110 §8.8.1).
    pub fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| etag.starts_with('"'))
    }

    /// Whether both are known not to be of the same state. What one of them lacks says nothing.
    pub fn differs(&self, now: &Self) -> bool {
        self.difference(now).is_some()
    }

    /// How the file changed, in words, when `now` is known to be of another state.
    pub fn change(&self, now: &Self) -> Option<String> {
        let (field, before, now) = self.difference(now)?;
        Some(format!("its {field} was {before}, and is {now} now"))
    }

    /// A field by which they differ, and its values.
    fn difference<'a>(&'a self, now: &'a Self) -> Option<(&'static str, &'a str, &'a str)> {
        let differing = |field, before: Option<&'a str>, now: Option<&'a str>| {
            Some((field, before?, now?)).filter(|(_, before, now)| before != now)
        };
        let (etag, now_etag) = (self.etag.as_deref(), now.etag.as_deref());
        match (self.strong_etag(), now.strong_etag()) {
            (Some(_), Some(_)) => differing("ETag", etag, now_etag),
            _ => differing("ETag", etag, now_etag).or_else(|| {
                let now = now.last_modified.as_deref();
                differing("Last-Modified", self.last_modified.as_deref(), now)
            }),
        }
    }
}

/// What is downloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    version: u32,
    /// Where from.
    pub url: String,
    /// Its length in bytes.
    pub length: u64,
    /// Which state of it.
    pub validator: Validator,
    /// Its root, when groups are verified.
    pub root: Option<Blake3Digest>,
}

impl Subject {
    /// This is to be downloaded.
    pub fn new(url: String, length: u64, validator: Validator, root: Option<Blake3Digest>) -> Self {
        Self { version: VERSION, url, length, validator, root }
    }

    /// Whether bytes of the one are bytes of the other. Without anything strong it takes the same
    /// URL and the same time of the last change; and without that, nothing is the same.
    pub fn is_same(&self, other: &Self) -> bool {
        if self.version != other.version || self.length != other.length {
            return false;
        }
        if let (Some(one), Some(other)) = (self.root, other.root) {
            return one == other;
        }
        match (self.validator.strong_etag(), other.validator.strong_etag()) {
            (Some(one), Some(other)) => one == other,
            _ => {
                self.url == other.url
                    && self.validator.last_modified.is_some()
                    && self.validator == other.validator
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot: String,
    synced: Spans,
    written: Spans,
}

/// A journal that is written to.
#[derive(Debug)]
pub struct Journal {
    /// `None` until there is something to write down.
    file: Option<Arc<File>>,
    path: PathBuf,
    subject: Subject,
    boot: String,
    synced: Spans,
    bytes: u64,
}

/// What a journal says, and of what. `None` when there is none that can be read.
pub fn load(path: &Path) -> Option<(Subject, Spans)> {
    if fs::metadata(path).ok()?.len() > MAX_READ_BYTES {
        return None;
    }
    read(&fs::read(path).ok()?, &boot_id())
}

fn read(bytes: &[u8], boot: &str) -> Option<(Subject, Spans)> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let subject: Subject = parse_line(lines.next()?)?;
    if subject.version != VERSION {
        return None;
    }
    let last: Option<Record> = lines.map_while(parse_line).last();
    let there = last.map(|last| {
        let same_boot = !boot.is_empty() && last.boot == boot;
        if same_boot { last.written } else { last.synced }
    });
    Some((subject, there.unwrap_or_default()))
}

fn parse_line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (sum, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let expected = format!("{} ", crc(json));
    (sum == expected.as_bytes()).then(|| serde_json::from_slice(json).ok()).flatten()
}

fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let json = serde_json::to_vec(value).expect("it is made of texts and numbers");
    let mut line = format!("{} ", crc(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    line
}

fn crc(json: &[u8]) -> String {
    let mut sum = Checksummer::new(Algorithm::Crc32c);
    sum.update(json);
    sum.finish().digest().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is another one after each start of the system; empty when the system does not tell.
fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

impl Journal {
    /// A journal that is made, in place of any other, when something is written down. `synced` is
    /// on stable storage.
    pub fn new(path: &Path, subject: Subject, synced: Spans) -> Self {
        Self { file: None, path: path.to_owned(), subject, boot: boot_id(), synced, bytes: 0 }
    }

    /// Whether it was made.
    pub fn is_begun(&self) -> bool {
        self.file.is_some()
    }

    /// These bytes are in the part file, and will be there if this process is killed.
    ///
    /// # Errors
    /// The disk.
    pub fn written(&mut self, written: Spans) -> Result<(), Failure> {
        let (boot, synced) = (self.boot.clone(), self.synced.clone());
        let text = line(&Record { boot, synced, written });
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let added = match &self.file {
            Some(file) if self.bytes.saturating_add(bytes) <= MAX_BYTES => {
                self.bytes = self.bytes.saturating_add(bytes);
                (&mut &**file).write_all(&text)
            }
            _ => self.begin(&text),
        };
        added.map_err(|error| Failure::disk("write", &self.path, error))
    }

    fn begin(&mut self, record: &[u8]) -> io::Result<()> {
        let text = [&line(&self.subject), record].concat();
        make(&self.path, &text, File::sync_data)?;
        sync_folder_of(&self.path)?;
        self.bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.file = Some(Arc::new(OpenOptions::new().append(true).open(&self.path)?));
        Ok(())
    }

    /// The bytes `synced` were synced after they were written: a loss of power leaves them. Once
    /// there is a journal that is noted in it, and durable when the work that is returned was done,
    /// for which nobody has to wait who has this journal.
    ///
    /// # Errors
    /// The disk.
    pub fn synced(
        &mut self,
        synced: Spans,
        written: Spans,
    ) -> Result<impl FnOnce() -> Result<(), Failure> + use<>, Failure> {
        self.synced = synced;
        if self.is_begun() {
            self.written(written)?;
        }
        let (file, path) = (self.file.clone(), self.path.clone());
        Ok(move || {
            let done = file.map_or(Ok(()), |file| file.sync_data());
            done.map_err(|error| Failure::disk("sync", &path, error))
        })
    }
}

/// The journal is not needed any more.
pub fn forget(path: &Path) {
    // One that is left behind is not believed without its part file.
    let _ = fs::remove_file(path);
    let _ = fs::remove_file(new_path(path));
}

/// The bytes that it tells of are about to change: what it says has to be gone before they do,
/// whatever happens then. An empty one is left, which says that the part file is no other
/// program's.
///
/// # Errors
/// The disk.
pub fn empty(path: &Path) -> Result<(), Failure> {
    let found = path.symlink_metadata();
    if found.as_ref().is_ok_and(|found| found.is_file() && found.len() == 0) {
        return Ok(());
    }
    // The name never goes, or a kill would make the part file another program's.
    let emptied = make(path, &[], |_| Ok(())).and_then(|()| match found {
        Ok(_) => sync_folder_of(path),
        Err(_) => Ok(()),
    });
    emptied.map_err(|error| Failure::disk("empty", path, error))
}

/// Makes a file with this text in place of any other; `secure` is called before it has the name.
fn make(path: &Path, text: &[u8], secure: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let new = new_path(path);
    // One that an earlier run left, or a link that somebody else made.
    let _ = fs::remove_file(&new);
    let made = File::create_new(&new).and_then(|mut file| {
        file.write_all(text)?;
        secure(&file)?;
        fs::rename(&new, path)
    });
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made
}

fn new_path(path: &Path) -> PathBuf {
    beside(path, ".new")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subject() -> Subject {
        let validator = Validator { etag: Some("\"a\"".into()), last_modified: None };
        Subject::new("http://host/x".into(), 100, validator, None)
    }

    fn spans(end: u64) -> Spans {
        Spans::from(vec![(0, end)])
    }

    #[test]
    fn an_empty_journal_takes_the_place_of_any_other_and_is_written_through_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.part.journal");
        let victim = folder.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, new_path(&path)).unwrap();
        empty(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        Journal::new(&path, subject(), spans(10)).written(spans(20)).unwrap();
        assert!(load(&path).is_some());
        for _ in 0..2 {
            empty(&path).unwrap();
            assert_eq!((fs::read(&path).unwrap(), load(&path)), (Vec::new(), None));
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        empty(&path).unwrap();
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        fs::write(new_path(&path), "").unwrap();
        forget(&path);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the victim is left");
    }

    #[test]
    fn after_a_kill_what_was_written_is_there_and_after_a_start_what_was_synced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.part.journal");
        let mut journal = Journal::new(&path, subject(), spans(10));
        assert!(!path.exists() && journal.synced(spans(10), spans(10)).is_ok());
        journal.written(spans(20)).unwrap();
        journal.synced(spans(20), spans(30)).unwrap()().unwrap();
        assert_eq!(load(&path), Some((subject(), spans(30))));
        let bytes = fs::read(&path).unwrap();
        assert_eq!(read(&bytes, "another boot"), Some((subject(), spans(20))));
        assert_eq!(read(&bytes, ""), Some((subject(), spans(20))));
    }

    #[test]
    fn it_does_not_grow_without_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.part.journal");
        let mut journal = Journal::new(&path, subject(), Spans::default());
        let many: Spans = (0..20_000).map(|at| at * 2..at * 2 + 1).collect();
        for _ in 0..40 {
            journal.written(many.clone()).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() <= MAX_BYTES);
        assert_eq!(load(&path), Some((subject(), many)));
    }

    #[test]
    fn another_state_of_the_file_is_not_the_same() {
        let with = |etag: Option<&str>, last_modified: Option<&str>, url: &str| {
            let validator = Validator {
                etag: etag.map(str::to_owned),
                last_modified: last_modified.map(str::to_owned),
            };
            Subject::new(url.to_owned(), 100, validator, None)
        };
        assert!(with(Some("\"a\""), None, "u").is_same(&with(Some("\"a\""), Some("x"), "v")));
        assert!(!with(Some("\"a\""), Some("x"), "u").is_same(&with(Some("\"b\""), Some("x"), "u")));
        assert!(with(None, Some("x"), "u").is_same(&with(None, Some("x"), "u")));
        assert!(!with(None, Some("x"), "u").is_same(&with(None, Some("x"), "v")));
        assert!(!with(None, None, "u").is_same(&with(None, None, "u")), "nothing tells them apart");
        assert!(!with(Some("W/\"a\""), None, "u").is_same(&with(Some("W/\"a\""), None, "u")));
    }

    proptest! {
        #[test]
        fn a_torn_or_damaged_journal_is_at_most_behind(
            records in 1_u64..20,
            cut in any::<proptest::sample::Index>(),
            flipped in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let mut bytes = line(&subject());
            for end in 1..=records {
                let (synced, written) = (spans(end), spans(end + 1));
                bytes.extend(line(&Record { boot: "b".into(), synced, written }));
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Some(flipped) = flipped.filter(|_| !bytes.is_empty()) {
                let at = flipped.index(bytes.len());
                bytes[at] ^= 1;
            }
            if let Some((read, there)) = read(&bytes, "c") {
                prop_assert_eq!(read, subject());
                prop_assert!(there.total() <= records);
            }
        }
    }
}
