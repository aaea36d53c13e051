//! One group of a representation: its bounds, and its chaining value.

use std::fmt;

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::digest::Blake3Digest;

/// The length of a group in bytes. The last group of a representation may be shorter.
pub const GROUP_BYTES: u64 = 1 << 20;

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
    pub(super) fn of(group: &Hasher) -> Self {
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

/// A group whose bytes come piece by piece, in order. Give it pieces of 16 KiB or more.
#[derive(Clone, Debug)]
pub struct GroupHasher {
    index: u64,
    hasher: Box<Hasher>,
}

impl GroupHasher {
    /// No bytes yet of the group with this number; `None` when there can be no such group.
    pub fn new(index: u64) -> Option<Self> {
        let hasher = Box::new(hasher_at(index.checked_mul(GROUP_BYTES)?));
        Some(Self { index, hasher })
    }

    /// The number of the group.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The number of bytes so far.
    pub fn length(&self) -> u64 {
        self.hasher.count()
    }

    /// Takes the bytes that follow.
    ///
    /// # Panics
    /// When they do not belong to this group any more.
    pub fn update(&mut self, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        assert!(length <= GROUP_BYTES.saturating_sub(self.length()), "a group has 1 MiB");
        self.hasher.update(bytes);
    }

    /// The chaining value; `None` when no byte came.
    pub(super) fn value(&self) -> Option<ChainingValue> {
        (self.length() > 0).then(|| ChainingValue::of(&self.hasher))
    }

    /// The digest, if this is all there is of the representation.
    pub(super) fn root(&self) -> Blake3Digest {
        self.hasher.finalize().into()
    }
}

/// A hasher of the group at `offset`. Always a new one: `Hasher::reset` forgets to take the offset
/// of the last group back, and `set_input_offset` panics then (blake3 1.8.7).
pub(super) fn hasher_at(offset: u64) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
    hasher
}

/// Whether these bytes are the group number `index` that has this chaining value.
pub fn verify_group(index: u64, bytes: &[u8], value: &ChainingValue) -> bool {
    group_chaining_value(index, bytes).as_ref() == Some(value)
}
