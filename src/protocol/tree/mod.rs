//! The BLAKE3 tree of a representation, cut into groups of 1 MiB.
//!
//! Pure: it is told bytes in order; where chaining values are kept is the caller's matter.
//!
//! # Theory
//!
//! BLAKE3 hashes 1 KiB chunks and merges the results pairwise into a binary tree whose left
//! subtrees are always full: the left one takes the largest power of two of chunks that leaves
//! something for the right (BLAKE3 paper §2.1). As 1 MiB is a power of two of chunks, each group
//! is one subtree of that tree. A group's *chaining value* depends on its bytes and its index,
//! and on nothing else; so values can be computed in any order, and kept.
//!
//! ```text
//!                      root
//!                 /            \
//!              (0 1)            \
//!             /     \            \
//!         group 0  group 1     group 2 (the open one, 1 byte to 1 MiB)
//! ```
//!
//! The root is computed with a flag that no other node has. So a value that was made without the
//! flag can't become the root later, and one must know *before* the last merge that it is the
//! last. Two rules follow:
//!
//! - a group stays *open* until a byte after it comes, even when it is full; only then it is
//!   merged with its neighbours on the left. The last merge always has the open group in it.
//! - a representation of at most one group has no merge at all. Its root is the plain hash, which
//!   the chaining value of that group does not give; whoever resumes needs the bytes.
//!
//! Of the groups before the open one it is enough to hold the [`Frontier`]: one value for each set
//! bit of their number, at most 43 for the longest representation.

mod frontier;
mod group;
mod list;
mod stretches;

pub use self::frontier::{Frontier, RunningRoot, root_of};
pub use self::group::{
    ChainingValue, GROUP_BYTES, GroupHasher, group_chaining_value, groups_of, resume_offset,
    verify_group,
};
pub use self::list::{
    GroupList, GroupListError, HEADER_BYTES, VerifiedGroups, list_bytes, list_header,
};
pub use self::stretches::in_stretches;
use crate::protocol::digest::Blake3Digest;

/// Chaining values of consecutive full groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompletedGroups {
    /// The index of the group that the first value belongs to.
    pub first: u64,
    /// One value a group.
    pub values: Vec<ChainingValue>,
}

/// The tree over the bytes so far. A clone is a checkpoint to go back to: it takes at most some KiB, as
/// the tree does, whatever the length.
#[derive(Clone, Debug)]
pub struct Tree {
    /// All groups before the open one.
    frontier: Frontier,
    /// The open group: empty only at length zero, and left full until the next byte comes.
    open: GroupHasher,
    completed: CompletedGroups,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The tree of no bytes.
    pub fn new() -> Self {
        Self::open_after(Frontier::default())
    }

    /// The tree over the full groups in `frontier` and the bytes of the group after them:
    /// those from [`resume_offset`] on. If they are a full group, its chaining value is among the
    /// completed ones once more.
    ///
    /// # Panics
    /// When `open_group` is empty after a frontier with groups, or longer than [`GROUP_BYTES`].
    pub fn resume(frontier: Frontier, open_group: &[u8]) -> Self {
        let bytes = u64::try_from(open_group.len()).unwrap_or(u64::MAX);
        assert!(bytes > 0 || frontier.groups() == 0, "the bytes of the last group are needed");
        assert!(bytes <= GROUP_BYTES, "{bytes} bytes are more than one group");
        let mut tree = Self::open_after(frontier);
        tree.update(open_group);
        tree
    }

    fn open_after(frontier: Frontier) -> Self {
        let open = GroupHasher::of_group(frontier.groups());
        let completed = CompletedGroups { first: frontier.groups(), values: Vec::new() };
        Self { frontier, open, completed }
    }

    /// Takes the bytes that follow. Give it pieces of 16 KiB or more, as [`GroupHasher`].
    pub fn update(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.room() == 0 {
                self.start_next_group();
            }
            let taken =
                usize::try_from(self.room()).map_or(rest.len(), |room| room.min(rest.len()));
            let (now, later) = rest.split_at(taken);
            self.open.update(now);
            if self.room() == 0 {
                self.completed.values.extend(self.open.value());
            }
            rest = later;
        }
    }

    /// The number of bytes that the open group still takes.
    fn room(&self) -> u64 {
        GROUP_BYTES.saturating_sub(self.open.length())
    }

    fn start_next_group(&mut self) {
        let full = self.open.value().expect("the group is full");
        self.frontier.push(full);
        self.open = GroupHasher::of_group(self.frontier.groups());
    }

    /// The number of bytes so far.
    pub fn length(&self) -> u64 {
        self.frontier.length().saturating_add(self.open.length())
    }

    /// The digest of the bytes so far, as [`blake3::hash`] gives it. More bytes may follow.
    pub fn root(&self) -> Blake3Digest {
        self.last_group()
            .and_then(|last| self.frontier.root_with(last))
            .unwrap_or_else(|| self.open.root())
    }

    /// The full groups before the open one: with the bytes from [`resume_offset`] on this is all
    /// that [`Tree::resume`] needs.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// The chaining value of the last group, as if no byte followed; `None` at length zero.
    pub fn last_group(&self) -> Option<ChainingValue> {
        self.open.value()
    }

    /// The chaining values of the groups that became full since the last call. They take 32 bytes
    /// a MiB here until they are taken. Write each to the place of its index: after a
    /// [`Tree::resume`] the first may have been there before.
    #[must_use]
    pub fn take_completed(&mut self) -> CompletedGroups {
        let next = CompletedGroups { first: self.length() / GROUP_BYTES, values: Vec::new() };
        std::mem::replace(&mut self.completed, next)
    }
}

#[cfg(test)]
mod tests;
