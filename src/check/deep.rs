//! Reads the bytes of one upload and compares them with what was computed when they came.

use std::io;

use super::finding::Finding;
use crate::protocol::tree::{
    ChainingValue, CompletedGroups, Frontier, GROUP_BYTES, GroupList, HEADER_BYTES, Tree, groups_of,
};
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
        Ok(()) => compare(upload, recorded, &tree, survey),
        Err(error) => Read::Differs(unreadable(&error, tree.length())),
    }
}

fn compare(upload: &Upload, recorded: u64, tree: &Tree, survey: &Survey) -> Read {
    match (upload.digest(), upload.frontier()) {
        (Some(digest), _) if digest != tree.root() => {
            let group = first_bad_group(survey, upload, recorded);
            Read::Differs(Finding::DigestDiffers { recorded: digest, found: tree.root(), group })
        }
        (None, Some(frontier)) if frontier != tree.frontier() => {
            let group = first_bad_group(survey, upload, recorded);
            Read::Differs(Finding::TreeDiffers { recorded, group })
        }
        (Some(_), _) | (None, _) => Read::Same(recorded),
    }
}

/// The first group whose chaining value is not the one in the list, if the list is the one that
/// the record vouches for. Reads the bytes once more.
fn first_bad_group(survey: &Survey, upload: &Upload, length: u64) -> Option<u64> {
    if length <= GROUP_BYTES {
        return Some(0);
    }
    let expected = vouched_for(&survey.tree_list(upload.id()).ok()?, upload)?;
    let mut tree = Tree::new();
    let mut bad = None;
    let is_bad = |index: u64, value: &ChainingValue| {
        let expected = usize::try_from(index).ok().and_then(|index| expected.get(index));
        expected.is_some_and(|expected| expected != value)
    };
    let taken = survey.read(upload.id(), upload.placement(), length, |piece| {
        tree.update(piece);
        let CompletedGroups { first, values } = tree.take_completed();
        let mut groups = (first..).zip(&values);
        let found = groups.find(|(index, value)| is_bad(*index, value));
        bad = bad.or(found.map(|(index, _)| index));
    });
    taken.ok()?;
    let last = groups_of(length).saturating_sub(1);
    let is_last_bad = tree.last_group().is_some_and(|value| is_bad(last, &value));
    bad.or(is_last_bad.then_some(last))
}

/// The chaining values in a list, if the record has the root or the frontier over them.
fn vouched_for(list: &[u8], upload: &Upload) -> Option<Vec<ChainingValue>> {
    if let Some(root) = upload.digest() {
        let list = GroupList::decode(list).ok()?;
        let values = list.values().to_vec();
        return list.check(root).ok().map(|_| values);
    }
    let frontier = upload.frontier()?;
    let (values, _) = list.get(HEADER_BYTES..)?.as_chunks();
    let values = values.get(..usize::try_from(frontier.groups()).ok()?)?;
    let values: Vec<_> = values.iter().copied().map(ChainingValue::from_bytes).collect();
    (values.iter().copied().collect::<Frontier>() == *frontier).then_some(values)
}

fn unreadable(error: &io::Error, offset: u64) -> Finding {
    Finding::Unreadable { why: format!("{error}, at byte {offset} or behind it") }
}
