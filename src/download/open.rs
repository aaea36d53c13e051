//! What is there before the first byte is fetched: a journal, a part file, an older file.
//!
//! All of this blocks; it is run on threads that may.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::journal::{self, Subject, Validator};
use super::names;
use super::part::{PartFile, journal_path, part_path};
use super::plan::{Plan, Spans};
use super::source::{Facts, RangeFailure};
use super::verify::matching_groups;
use super::{Destination, Download};
use crate::client::failure::Failure;
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

/// Sees that the folder of the file that was asked for is there. None is made: one that is missing
/// was likely meant to be another.
///
/// # Errors
/// It is missing, or no folder, or the disk.
pub(super) fn look_for_folder(given: &Path) -> Result<(), Failure> {
    let folder = match given.as_os_str().as_encoded_bytes().ends_with(b"/") {
        true => given,
        false => given.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")),
    };
    match folder.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::no_folder(folder)),
        Err(error) if error.kind() != ErrorKind::NotADirectory => {
            Err(Failure::disk("look at", folder, error))
        }
        _ => Err(Failure::usage(format!("{} is no folder", folder.display()))),
    }
}

/// Refuses a part file that has something and no journal: other programs use that name, too.
///
/// # Errors
/// It is one, or the disk.
pub(super) fn refuse_foreign(target: &Path, part: &PartFile) -> Result<(), Failure> {
    if part.length()? == 0 || journal_path(target).symlink_metadata().is_ok() {
        return Ok(());
    }
    let part = part.path().display();
    let message = format!("{part} is there, and not from an earlier run; --force replaces it");
    Err(Failure::usage(message))
}

/// How the local files serve as a start.
pub(super) struct Start {
    /// What is there and right.
    pub(super) present: Spans,
    /// What to tell about it.
    pub(super) note: Option<String>,
}

/// What is done when the file is not the one that an earlier run began to fetch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnChange {
    /// Nothing: it is a failure.
    Fail,
    /// It is told, and fetched from its beginning.
    Tell,
    /// The same, but it was told before.
    GoOn,
}

/// Finds out what is there of the file, and makes room for the rest.
pub(super) fn start(
    target: &Path,
    part: &PartFile,
    subject: &Subject,
    (groups, on_change): (Option<&VerifiedGroups>, OnChange),
    stop: &AtomicBool,
) -> Result<Start, RangeFailure> {
    let length = part.length()?;
    let journal = journal::load(&journal_path(target)).filter(|_| length > 0);
    let mut note = None;
    match (journal, groups) {
        (Some((left, _)), Some(groups))
            if left.is_same(subject) && length == subject.length && left.root.is_none() =>
        {
            // What an earlier run took was not verified as it came.
            let mut present = Spans::default();
            matching_groups(groups, part.path(), (None, &mut present), stop)?;
            part.allocate(length)?;
            return Ok(Start { note: kept(&present), present });
        }
        (Some((left, present)), _) if left.is_same(subject) && length == subject.length => {
            part.allocate(length)?;
            return Ok(Start { present, note });
        }
        (Some((left, present)), _) if present.total() > 0 => {
            let how =
                change(&left, Some(subject.length), &subject.validator).unwrap_or_else(|| {
                    "nothing tells that the file is the one that an earlier run began to fetch"
                        .into()
                });
            match on_change {
                OnChange::Fail => return Err(RangeFailure::Changed(how)),
                OnChange::Tell => note = Some(format!("{how}; starting again")),
                OnChange::GoOn => {}
            }
        }
        _ => {}
    }
    journal::empty(&journal_path(target))?;
    make_room(target, part, subject.length)?;
    let Some(groups) = groups else { return Ok(Start { present: Spans::default(), note }) };
    let mut present = Spans::default();
    if length > 0 {
        matching_groups(groups, part.path(), (None, &mut present), stop)?;
    }
    if present.total() < subject.length && target.is_file() {
        matching_groups(groups, target, (Some(part), &mut present), stop)?;
    }
    Ok(Start { note: kept(&present).or(note), present })
}

fn kept(present: &Spans) -> Option<String> {
    let bytes = present.total();
    (bytes > 0).then(|| format!("{bytes} bytes of a local file are right, and kept"))
}

/// How the file changed since an earlier run began to fetch it, if it is known to have.
fn change(left: &Subject, length: Option<u64>, validator: &Validator) -> Option<String> {
    let how = match length.filter(|now| *now != left.length) {
        Some(now) => Some(format!("it had {} bytes, and has {now} now", left.length)),
        None => left.validator.change(validator),
    };
    how.map(|how| {
        format!("the file changed on the server since an earlier run began to fetch it: {how}")
    })
}

/// Makes the part file ready for all of the bytes, from the first one on.
pub(super) fn anew(
    target: &Path,
    part: &PartFile,
    facts: &Facts,
    on_change: OnChange,
) -> Result<(), RangeFailure> {
    let journal = journal_path(target);
    let fails = on_change == OnChange::Fail;
    let left = journal::load(&journal).filter(|(_, present)| fails && present.total() > 0);
    if let Some(how) = left.and_then(|(left, _)| change(&left, facts.length, &facts.validator)) {
        return Err(RangeFailure::Changed(how));
    }
    journal::empty(&journal)?;
    part.clear()?;
    Ok(facts.length.map_or(Ok(()), |length| make_room(target, part, length))?)
}

/// The file has its name: its journal is not needed any more. If there is a part file, that is of
/// another process that fetches it anew, and so is the journal.
pub(super) fn forget_journal(target: &Path) {
    if !part_path(target).exists() {
        journal::forget(&journal_path(target));
    }
}

/// Nothing is left behind for which there was no room.
fn make_room(target: &Path, part: &PartFile, length: u64) -> Result<(), Failure> {
    part.allocate(length).inspect_err(|_| {
        if part.length().is_ok_and(|length| length == 0) {
            let _ = fs::remove_file(part.path());
            journal::forget(&journal_path(target));
        }
    })
}
