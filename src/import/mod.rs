//! Takes over the uploads of another server, finished or not; their clients go on at the same ids.
//!
//! An upload that can still be appended to is copied: whoever has the other name of a linked file
//! could write to it. A finished one is linked, where that can be done. The bytes and their name are
//! durable before the record is saved, and what has a record is left alone: an import that is done
//! again takes what is missing.

mod bytes;
mod tusd;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use self::bytes::Way;
use self::bytes::{Digests, bring};
use self::tusd::{Bytes, Info, Plan};
use crate::engine::Policy;
use crate::protocol::id::UploadId;
use crate::protocol::operation::Completion;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::{Admission, Kind, State, Upload};
use crate::storage::StorageError;
use crate::storage::blocking::BlockingRecords;
use crate::storage::file::survey::{Survey, modified};

/// Where uploads are taken to, and how.
pub struct Import<'a> {
    /// The records of the store.
    pub records: &'a BlockingRecords,
    /// The data of the store, whose folders are there.
    pub survey: &'a Survey,
    /// Where data goes that lies in the way and has no record.
    pub lost_and_found: PathBuf,
    /// What is kept of uploads, and for how long.
    pub policy: &'a Policy,
    /// Where clients find uploads.
    pub base_path: String,
    /// How finished uploads get into the store.
    pub way: Way,
    /// The bytes that the store may still take up.
    pub room: &'a dyn Fn() -> Result<u64, StorageError>,
    /// The time when the import begins.
    pub now: Timestamp,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Finished uploads that were taken over.
    pub finished: u64,
    /// Unfinished ones.
    pub unfinished: u64,
    /// How many of all have their bytes by a link.
    pub linked: u64,
    /// Those that the store had already.
    pub known: u64,
    /// Those that could not be taken over, each with its reason in the output.
    pub skipped: u64,
}

/// Why an import ended before its end.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The store could not.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was done cannot be told.
    #[error("writing the report: {0}")]
    Output(#[source] io::Error),
}

/// Why one upload is not taken over; the store is in order.
enum Stop {
    Skip(String),
    Fail(ImportError),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Skip(why)
    }
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Fail(error.into())
    }
}

/// Takes over all uploads of a folder of tusd, and of the folders in it. Says on `output` which
/// ones it does not, and why.
///
/// # Errors
///
/// [`ImportError`]; what was taken over until then stays.
pub fn from_tusd(
    import: &Import<'_>,
    folder: &Path,
    output: &mut dyn Write,
) -> Result<Summary, ImportError> {
    let mut summary = Summary::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        let unreadable = |source| ImportError::Folder { path: inner.clone(), source };
        for entry in fs::read_dir(&inner).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            if entry.file_type().map_err(unreadable)?.is_dir() {
                // Ids with a slash make folders.
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "info") {
                match import.take(folder, &path, &mut summary, output) {
                    Ok(()) => {}
                    Err(Stop::Skip(why)) => {
                        summary.skipped = summary.skipped.saturating_add(1);
                        let shown = path.display();
                        writeln!(output, "skipped {shown}: {why}").map_err(ImportError::Output)?;
                    }
                    Err(Stop::Fail(error)) => return Err(error),
                }
            }
        }
    }
    Ok(summary)
}

impl Import<'_> {
    fn take(
        &self,
        folder: &Path,
        info_path: &Path,
        summary: &mut Summary,
        output: &mut dyn Write,
    ) -> Result<(), Stop> {
        let doing = |doing: &str, error: &io::Error| format!("{doing}: {error}");
        let text = fs::read(info_path).map_err(|error| doing("reading it", &error))?;
        let info = Info::parse(&text)?;
        let id = info.id()?;
        let expected = folder.join(format!("{id}.info"));
        if expected != info_path {
            return Err(Stop::Skip(format!("it is not where the info file of {id} has to be")));
        }
        if self.records.load(id)?.is_some() {
            summary.known = summary.known.saturating_add(1);
            return Ok(());
        }
        see_that_it_is_free(&folder.join(format!("{id}.lock")))?;
        let data = find_data(&info, folder)?;
        let found = fs::metadata(&data).map_err(|error| doing("looking at its data", &error))?;
        let plan = info.plan(found.len(), &self.base_path)?;
        for name in &plan.left_out {
            let note = "left out, since no Upload-Metadata can have it";
            writeln!(output, "note: {id}: the metadata {name:?} is {note}")
                .map_err(|error| Stop::Fail(ImportError::Output(error)))?;
        }
        let created = fs::metadata(info_path).ok().as_ref().and_then(modified);
        let times = (created.unwrap_or(self.now), modified(&found).unwrap_or(self.now));
        let (upload, is_linked) = self.bring(plan, &data, times)?;
        let is_complete = upload.is_complete();
        self.records.save(self.with_expiry(upload), None)?;
        let counted = if is_complete { &mut summary.finished } else { &mut summary.unfinished };
        *counted = counted.saturating_add(1);
        summary.linked = summary.linked.saturating_add(u64::from(is_linked));
        Ok(())
    }

    /// Brings the bytes into the store; the record of them, and whether they are linked.
    fn bring(
        &self,
        plan: Plan,
        data: &Path,
        (created, changed): (Timestamp, Timestamp),
    ) -> Result<(Upload, bool), Stop> {
        let Plan { id, kind, metadata, bytes, .. } = plan;
        let has_digests = !matches!(bytes, Bytes::OfParts(_));
        let mut digests = Digests::new(
            self.policy.keeps_tree && has_digests,
            self.policy.keeps_sha256 && has_digests,
        );
        let (offset, length, way) = match bytes {
            Bytes::All(length) => (length, Some(length), self.way),
            Bytes::UpTo { offset, length } => (offset, length, Way::Copy),
            Bytes::OfParts(length) => {
                let new = Upload::new(id, None, metadata, created).of_kind(kind);
                return Ok((new.waiting(Some(length), self.now), false));
            }
        };
        let is_linked = offset > 0 && self.place((id, data), offset, way, &mut digests)?;
        let new = Upload::new(id, length, metadata, created);
        let is_complete = matches!(bytes, Bytes::All(_));
        if let Some(list) = digests.list(is_complete) {
            // One that is not there is made anew when it is needed.
            let _ = self.survey.write_tree_list(id, &list);
        }
        if let Kind::Final(_) = &kind {
            let whole = new.of_kind(kind).concatenated([offset].into(), changed);
            return Ok((whole.joined(digests.of_all()), is_linked));
        }
        let (frontier, sha256) = digests.saved();
        let completion = Completion::AtLength;
        let admission =
            Admission { offset: 0, ceiling: offset, length, completion, max_bytes: None };
        let upload = new.of_kind(kind).received(&admission, offset, frontier, sha256);
        let upload = if is_complete { upload.completed(digests.of_all(), changed) } else { upload };
        Ok((upload, is_linked))
    }

    /// Puts the bytes of a file where those of the upload have to be.
    fn place(
        &self,
        (id, data): (UploadId, &Path),
        length: u64,
        way: Way,
        digests: &mut Digests,
    ) -> Result<bool, Stop> {
        let said = |error: &io::Error| format!("bringing its data: {error}");
        // From an import that was cut off; or from this store, before it lost its records.
        self.survey.set_aside(id, &self.lost_and_found).map_err(|error| said(&error))?;
        let to = self.survey.path(id);
        let is_linked = way.link(data, &to).map_err(|error| Stop::Skip(said(&error)))?;
        if !is_linked && length > (self.room)()? {
            return Err(Stop::Skip(format!("there is no room for its {length} bytes")));
        }
        let brought = bring(data, &to, length, is_linked, digests)
            .and_then(|()| self.survey.sync(id))
            .and_then(|()| fs::metadata(data));
        match brought {
            Ok(found) if found.len() == length => Ok(is_linked),
            failed => {
                // Bytes without a record are in the way of the next import.
                self.survey.remove(id, &self.lost_and_found).map_err(|error| said(&error))?;
                Err(Stop::Skip(match failed {
                    Err(error) => said(&error),
                    Ok(_) => "its data changed meanwhile; stop tusd first".to_owned(),
                }))
            }
        }
    }

    fn with_expiry(&self, upload: Upload) -> Upload {
        let keep = match upload.state() {
            State::Receiving { .. } | State::Finishing { .. } => self.policy.expire_after,
            State::Complete { .. } => self.policy.expire_complete_after,
            State::Gone { .. } => None,
        };
        upload.expiring(keep.map(|keep| self.now.after(keep).round_up_to_second()))
    }
}

/// Refuses an upload whose lock a process has: tusd writes its process id into it.
fn see_that_it_is_free(lock: &Path) -> Result<(), String> {
    let Ok(holder) = fs::read_to_string(lock) else { return Ok(()) };
    let holder = holder.trim();
    let is_number = !holder.is_empty() && holder.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && Path::new("/proc").join(holder).exists() {
        let shown = lock.display();
        return Err(format!(
            "process {holder} has it locked; stop tusd, or remove {shown} if that is not tusd"
        ));
    }
    Ok(())
}

/// The data file, by its real name: a link to a symbolic link would be one, too.
fn find_data(info: &Info, folder: &Path) -> Result<PathBuf, String> {
    let paths = info.data_paths(folder)?;
    let real = paths.iter().filter_map(|path| fs::canonicalize(path).ok());
    real.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let looked: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        match looked.as_slice() {
            [] => "its data is outside of this folder, relative to where tusd ran".to_owned(),
            looked => format!("its data is not there; looked for {}", looked.join(" and ")),
        }
    })
}
