//! Reads the bytes of one upload and compares them with what was computed when they came.

use std::io;

use super::finding::Finding;
use crate::protocol::tree::Tree;
use crate::protocol::upload::{State, Upload};
use crate::storage::file::survey::Survey;

/// What reading an upload gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// There was nothing to read, or nothing to compare it with.
    Nothing,
    /// This many bytes are those that came.
    Same(u64),
    /// They are not.
    Differs(Finding),
}

/// Reads the bytes that the record tells of, if it has something to compare them with.
pub(super) fn read(survey: &Survey, upload: &Upload) -> Read {
    let (recorded, has_tree) = match upload.state() {
        State::Receiving { offset, frontier, .. } => (*offset, frontier.is_some()),
        State::Complete { length, digest, .. } => (*length, digest.is_some()),
        State::Finishing { .. } | State::Gone { .. } => return Read::Nothing,
    };
    if !has_tree {
        return Read::Nothing;
    }
    let mut tree = Tree::new();
    let taken = survey.read(upload.id(), upload.placement(), recorded, |piece| {
        tree.update(piece);
        // They would take memory that grows with the length.
        let _ = tree.take_completed();
    });
    match taken {
        Ok(()) => compare(upload, recorded, &tree),
        Err(error) => Read::Differs(unreadable(&error, tree.length())),
    }
}

fn compare(upload: &Upload, recorded: u64, tree: &Tree) -> Read {
    let is_same = match upload.digest() {
        Some(digest) if digest != tree.root() => {
            return Read::Differs(Finding::DigestDiffers { recorded: digest, found: tree.root() });
        }
        Some(_) => true,
        None => upload.frontier().is_none_or(|frontier| frontier == tree.frontier()),
    };
    if is_same { Read::Same(recorded) } else { Read::Differs(Finding::TreeDiffers { recorded }) }
}

fn unreadable(error: &io::Error, offset: u64) -> Finding {
    Finding::Unreadable { why: format!("{error}, at byte {offset} or behind it") }
}
