//! What is there before the first byte is fetched: a journal, a part file, an older file.
//!
//! All of this blocks; it is run on threads that may.

use std::path::{Path, PathBuf};

use super::journal::{self, Subject};
use super::names;
use super::part::{PartFile, journal_path, part_path};
use super::plan::{Plan, Spans};
use super::source::RangeFailure;
use super::verify::matching_groups;
use super::{Destination, Download};
use crate::protocol::tree::VerifiedGroups;

/// What an earlier run left, as far as one can know before the server was asked.
pub(super) struct Left {
    pub(super) subject: Subject,
    /// Where the first byte is missing.
    pub(super) start: u64,
}

/// Looks for a journal where the file will probably be.
pub(super) fn left(download: &Download) -> Option<Left> {
    let Destination::Path(given) = &download.to else { return None };
    let guess = guess(download, given.as_deref())?;
    if !part_path(&guess).exists() {
        return None;
    }
    let (subject, there) = journal::load(&journal_path(&guess))?;
    let plan = Plan::new(subject.length, false, there);
    // When nothing is missing, one byte is asked for to see that it is still the same file.
    let start = plan.first_gap().unwrap_or_else(|| subject.length.saturating_sub(1));
    Some(Left { subject, start })
}

/// Where the file will be, unless the server has another name for it.
pub(super) fn guess(download: &Download, given: Option<&Path>) -> Option<PathBuf> {
    let named = || download.urls.first().and_then(names::name_in);
    match given {
        Some(folder) if folder.is_dir() => Some(folder.join(named()?)),
        Some(file) => Some(file.to_owned()),
        None => named().map(PathBuf::from),
    }
}

/// How the local files serve as a start.
pub(super) struct Start {
    /// What is there and right.
    pub(super) present: Spans,
    /// What to tell about it.
    pub(super) note: Option<String>,
}

/// Finds out what is there of the file, and makes room for the rest.
pub(super) fn start(
    target: &Path,
    part: &PartFile,
    subject: &Subject,
    groups: Option<&VerifiedGroups>,
    no_restart: bool,
) -> Result<Start, RangeFailure> {
    let length = part.length()?;
    let journal = journal::load(&journal_path(target)).filter(|_| length > 0);
    let mut note = None;
    match journal {
        Some((left, present)) if left.is_same(subject) && length == subject.length => {
            return Ok(Start { present, note });
        }
        Some((left, present)) if present.total() > 0 => {
            let how = if left.length == subject.length {
                "the file is not provably the one that an earlier run began to fetch".to_owned()
            } else {
                let (then, now) = (left.length, subject.length);
                format!(
                    "the file had {then} bytes when an earlier run began to fetch it, and has {now} now"
                )
            };
            if no_restart {
                return Err(RangeFailure::Changed(how));
            }
            note = Some(format!("{how}: starting again"));
        }
        _ => {}
    }
    part.allocate(subject.length)?;
    let Some(groups) = groups else { return Ok(Start { present: Spans::default(), note }) };
    let mut present = Spans::default();
    if length > 0 {
        present = matching_groups(groups, part.path(), None)?;
    }
    if present.total() == 0 && target.is_file() {
        present = matching_groups(groups, target, Some(part))?;
    }
    if present.total() > 0 {
        note = Some(format!("{} bytes of a local file are right, and kept", present.total()));
    }
    Ok(Start { present, note })
}
