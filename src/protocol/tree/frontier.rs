//! The merged subtrees of full groups, and the root over them (theory: see the module above).

use serde::{Deserialize, Serialize};

use super::group::{ChainingValue, GROUP_BYTES, merged};
use crate::protocol::digest::Blake3Digest;
use crate::protocol::units::MAX_LENGTH;

/// The root over the chaining values of *all* groups of a representation, in order and with the
/// last one, which may be shorter; `None` for fewer than two groups, whose root is the plain hash
/// of the bytes. Memory does not grow with the number of groups.
pub fn root_of(values: impl IntoIterator<Item = ChainingValue>) -> Option<Blake3Digest> {
    let mut running = RunningRoot::default();
    values.into_iter().for_each(|value| running.push(value));
    running.root()
}

/// What [`root_of`] computes, for values that come piece by piece.
#[derive(Clone, Debug, Default)]
pub struct RunningRoot {
    frontier: Frontier,
    last: Option<ChainingValue>,
}

impl RunningRoot {
    /// Takes the value of the next group.
    pub fn push(&mut self, value: ChainingValue) {
        if let Some(last) = self.last.replace(value) {
            self.frontier.push(last);
        }
    }

    /// The root over all values so far; `None` for fewer than two.
    pub fn root(&self) -> Option<Blake3Digest> {
        self.frontier.root_with(self.last?)
    }
}

/// What has to be known of full groups that have something to their right: the chaining values of
/// the largest full subtrees over them, from left to right, one for each set bit of their number.
///
/// Its serde form is small enough to be saved with every checkpoint: `{"groups": 5, "subtrees":
/// ["…", "…"]}`, at most 43 times 64 digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenFrontier")]
pub struct Frontier {
    groups: u64,
    subtrees: Vec<ChainingValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFrontier {
    groups: u64,
    subtrees: Vec<ChainingValue>,
}

impl TryFrom<WrittenFrontier> for Frontier {
    type Error = &'static str;

    fn try_from(written: WrittenFrontier) -> Result<Self, Self::Error> {
        if usize::try_from(written.groups.count_ones()) != Ok(written.subtrees.len()) {
            return Err("a frontier has one subtree for each set bit of its number of groups");
        }
        if written.groups > MAX_LENGTH / GROUP_BYTES {
            return Err("a frontier has fewer groups than the longest representation");
        }
        Ok(Self { groups: written.groups, subtrees: written.subtrees })
    }
}

impl Frontier {
    /// The number of full groups that are merged in it.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// The number of bytes that are merged in it.
    pub fn length(&self) -> u64 {
        self.groups.saturating_mul(GROUP_BYTES)
    }

    /// Adds the next full group. Two subtrees of equal height merge, as bits carry when one counts.
    pub(super) fn push(&mut self, value: ChainingValue) {
        let mut merged = value;
        for _ in 0..self.groups.trailing_ones() {
            let left = self.subtrees.pop().expect("one subtree for each set bit");
            merged = ChainingValue::merge(&left, &merged);
        }
        self.subtrees.push(merged);
        self.groups = self.groups.checked_add(1).expect("fewer groups than bytes");
    }

    /// The root, when `last` is the group after these and the last one. `None` without a group.
    pub(super) fn root_with(&self, last: ChainingValue) -> Option<Blake3Digest> {
        let (first, others) = self.subtrees.split_first()?;
        Some(ChainingValue::merge_to_root(first, &merged(others, last)))
    }
}

/// The frontier over the chaining values of full groups, from the first on, all of them to the
/// left of [`resume_offset`].
impl FromIterator<ChainingValue> for Frontier {
    fn from_iter<I: IntoIterator<Item = ChainingValue>>(values: I) -> Self {
        let mut frontier = Self::default();
        values.into_iter().for_each(|value| frontier.push(value));
        frontier
    }
}
