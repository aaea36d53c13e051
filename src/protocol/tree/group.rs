//! One group of a representation: its bounds, and its chaining value.

use std::fmt;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blake3::{CHUNK_LEN, Hasher};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::digest::Blake3Digest;

/// The length of a group in bytes. The last group of a representation may be shorter.
pub const GROUP_BYTES: u64 = 1 << 20;

/// The length of a BLAKE3 chunk in bytes.
const CHUNK_BYTES: u64 = CHUNK_LEN as u64;

/// The number of groups of a representation of `length` bytes.
pub const fn groups_of(length: u64) -> u64 {
    length.div_ceil(GROUP_BYTES)
}

/// Where the last group of the first `length` bytes starts: the bytes from there to `length` have
/// to be read again by who resumes, at most [`GROUP_BYTES`] of them, and at least one unless
/// `length` is zero. All groups before that offset are in the [`Frontier`].
pub const fn resume_offset(length: u64) -> u64 {
    (length.saturating_sub(1) / GROUP_BYTES).saturating_mul(GROUP_BYTES)
}

/// The chaining value of a group, or of several merged ones: what the tree above needs of them.
/// It is written as 64 hexadecimal digits, but it is not the digest of anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainingValue([u8; 32]);

impl ChainingValue {
    /// The length of a chaining value in bytes.
    pub const BYTES: usize = 32;

    /// The chaining value with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes of the chaining value.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The value of the node over these two, which is not the root.
    pub(super) fn merge(left: &Self, right: &Self) -> Self {
        Self(merge_subtrees_non_root(&left.0, &right.0, Mode::Hash))
    }

    /// The digest of the whole: the last merge of a tree with two groups or more.
    pub(super) fn merge_to_root(left: &Self, right: &Self) -> Blake3Digest {
        merge_subtrees_root(&left.0, &right.0, Mode::Hash).into()
    }

    /// The value of what this hasher took, which is not nothing.
    fn of(group: &Hasher) -> Self {
        Self(group.finalize_non_root())
    }
}

impl fmt::Debug for ChainingValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Blake3Digest::from_bytes(self.0), formatter)
    }
}

impl Serialize for ChainingValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Blake3Digest::from_bytes(self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ChainingValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Blake3Digest::deserialize(deserializer).map(|written| Self(*written.as_bytes()))
    }
}

/// The chaining value of the group number `index` with these bytes; `None` when there are none or
/// more than [`GROUP_BYTES`].
pub fn group_chaining_value(index: u64, bytes: &[u8]) -> Option<ChainingValue> {
    let length = u64::try_from(bytes.len()).ok()?;
    let offset = index.checked_mul(GROUP_BYTES)?;
    if length == 0 || length > GROUP_BYTES {
        return None;
    }
    Some(ChainingValue::of(hasher_at(offset).update(bytes)))
}

/// A group whose bytes come piece by piece, in order. Give it pieces of 16 KiB or more: 1 KiB at a time
/// is four times slower (0.9 instead of 4 GB/s), as fewer chunks can be hashed side by side.
///
/// It holds no [`Hasher`], which takes 1.9 KB whatever it was given, but what one would need to know: a
/// value for each full subtree, and the chunk that is open. Few bytes take little, and 1 MiB takes 1.6 KB.
#[derive(Clone, Debug)]
pub struct GroupHasher {
    index: u64,
    /// The values of full subtrees, from left to right. Two of equal height are merged only when a byte
    /// comes after them: if none does, their merge may be the root.
    subtrees: Vec<ChainingValue>,
    /// The number of bytes under `subtrees`: whole chunks.
    hashed: u64,
    /// The chunk behind them, which stays open until a byte after it comes; perhaps none of it.
    open: Vec<u8>,
}

impl GroupHasher {
    /// No bytes yet of the group with this number; `None` when there can be no such group.
    pub fn new(index: u64) -> Option<Self> {
        index.checked_mul(GROUP_BYTES).map(|_| Self::of_group(index))
    }

    /// The same for a number that a group can have.
    pub(super) fn of_group(index: u64) -> Self {
        Self { index, subtrees: Vec::new(), hashed: 0, open: Vec::new() }
    }

    /// The number of the group.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The number of bytes so far.
    pub fn length(&self) -> u64 {
        self.hashed.saturating_add(count(&self.open))
    }

    /// Takes the bytes that follow.
    ///
    /// # Panics
    /// When they do not belong to this group any more.
    pub fn update(&mut self, bytes: &[u8]) {
        assert!(count(bytes) <= GROUP_BYTES.saturating_sub(self.length()), "a group has 1 MiB");
        let mut rest = if self.open.is_empty() { bytes } else { self.fill_chunk(bytes) };
        while rest.len() > CHUNK_LEN {
            let (subtree, behind) = rest.split_at(self.next_subtree(rest.len()));
            if behind.is_empty() && self.index == 0 && self.hashed == 0 {
                // It may be all there is, and the merge of its halves the root.
                let (left, right) = subtree.split_at(subtree.len() / 2);
                self.push(left);
                self.push(right);
            } else {
                self.push(subtree);
            }
            rest = behind;
        }
        if !rest.is_empty() {
            self.merge();
            self.add_to_chunk(rest);
        }
    }

    /// Fills the open chunk, which is closed when there are more bytes: these.
    fn fill_chunk<'bytes>(&mut self, bytes: &'bytes [u8]) -> &'bytes [u8] {
        let room = CHUNK_LEN.saturating_sub(self.open.len());
        let (now, rest) = bytes.split_at(room.min(bytes.len()));
        self.add_to_chunk(now);
        if !rest.is_empty() {
            let mut chunk = std::mem::take(&mut self.open);
            self.push(&chunk);
            chunk.clear();
            self.open = chunk;
        }
        rest
    }

    /// The room for the chunk doubles as a vector's does, but is never more than a chunk.
    fn add_to_chunk(&mut self, bytes: &[u8]) {
        let length = self.open.len().saturating_add(bytes.len());
        if length > self.open.capacity() {
            let room = length.max(self.open.capacity().saturating_mul(2)).clamp(8, CHUNK_LEN);
            self.open.reserve_exact(room.saturating_sub(self.open.len()));
        }
        self.open.extend_from_slice(bytes);
    }

    /// The bytes of the largest full subtree that begins here, of so many bytes that are more than a
    /// chunk.
    fn next_subtree(&self, bytes: usize) -> usize {
        let largest = 1 << bytes.ilog2();
        // Subtrees of a length begin at multiples of it.
        let aligned = 1 << self.hashed.trailing_zeros().min(GROUP_BYTES.ilog2());
        largest.min(aligned)
    }

    /// Adds the next full subtree.
    fn push(&mut self, subtree: &[u8]) {
        self.merge();
        self.subtrees.push(self.value_of(subtree));
        self.hashed = self.hashed.saturating_add(count(subtree));
    }

    /// Merges what a byte comes after: one value is left for each set bit of the number of chunks.
    fn merge(&mut self) {
        let chunks = self.hashed / CHUNK_BYTES;
        while self.subtrees.len() > usize::try_from(chunks.count_ones()).unwrap_or(usize::MAX) {
            let right = self.subtrees.pop().expect("more than none");
            let left = self.subtrees.pop().expect("an even number of equal subtrees");
            self.subtrees.push(ChainingValue::merge(&left, &right));
        }
    }

    /// The value of bytes that begin behind those in `subtrees`.
    fn value_of(&self, bytes: &[u8]) -> ChainingValue {
        let offset = self.index.saturating_mul(GROUP_BYTES).saturating_add(self.hashed);
        ChainingValue::of(hasher_at(offset).update(bytes))
    }

    /// The value of what is furthest right, and the subtrees to its left; `None` when no byte came.
    fn last(&self) -> Option<(ChainingValue, &[ChainingValue])> {
        if self.open.is_empty() {
            self.subtrees.split_last().map(|(last, others)| (*last, others))
        } else {
            Some((self.value_of(&self.open), &self.subtrees))
        }
    }

    /// The chaining value; `None` when no byte came.
    pub(super) fn value(&self) -> Option<ChainingValue> {
        let (last, others) = self.last()?;
        Some(merged(others, last))
    }

    /// The digest, if this is the first group and all there is of the representation.
    pub(super) fn root(&self) -> Blake3Digest {
        debug_assert_eq!(self.index, 0, "other groups are never the root");
        match self.last() {
            Some((last, [first, others @ ..])) => {
                ChainingValue::merge_to_root(first, &merged(others, last))
            }
            // At most one chunk.
            Some((_, [])) | None => Blake3Digest::of(&self.open),
        }
    }
}

/// The value over subtrees and what is right of them.
pub(super) fn merged(subtrees: &[ChainingValue], last: ChainingValue) -> ChainingValue {
    subtrees.iter().rev().fold(last, |right, left| ChainingValue::merge(left, &right))
}

fn count(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A hasher of the group at `offset`. Always a new one: `Hasher::reset` forgets to take the offset
/// of the last group back, and `set_input_offset` panics then (blake3 1.8.7).
fn hasher_at(offset: u64) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
    hasher
}

/// Whether these bytes are the group number `index` that has this chaining value.
pub fn verify_group(index: u64, bytes: &[u8], value: &ChainingValue) -> bool {
    group_chaining_value(index, bytes).as_ref() == Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_reserves_little_more_than_came() {
        let mut hasher = GroupHasher::new(0).unwrap();
        for length in 1..=CHUNK_LEN {
            hasher.update(b"x");
            let room = hasher.open.capacity();
            assert!(room <= (2 * length).clamp(8, CHUNK_LEN), "{room} bytes for {length}");
        }
    }
}
