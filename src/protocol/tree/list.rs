//! The list of a representation's chaining values as bytes: kept beside the data, and sent to
//! clients who want to verify each group as it arrives.
//!
//! # Form, version 1
//!
//! ```text
//! offset  bytes  what
//!      0      8  "RSMDTREE"
//!      8      1  version: 1
//!      9      1  binary logarithm of the group's length: 20
//!     10      6  zero
//!     16      8  length of the representation in bytes, little-endian
//!     24   32·n  the chaining value of each group, in order, with the last, shorter one
//! ```
//!
//! n is the number of groups when there are two or more, else 0: a single group is the whole
//! representation, and the root verifies it. Nothing follows the last value, so the length of
//! the list follows from that of the representation ([`list_bytes`]).
//!
//! The root is not in it: it has to come from someone the reader trusts (the ETag, the record).
//! [`GroupList::check`] compares; only what passed it can verify groups.

use std::ops::Range;

use super::frontier::root_of;
use super::group::{ChainingValue, GROUP_BYTES, GroupHasher, groups_of};
use crate::protocol::digest::Blake3Digest;
use crate::protocol::units::MAX_LENGTH;

/// The length of the form's header in bytes; the chaining values follow it.
pub const HEADER_BYTES: usize = 24;

const MAGIC: [u8; 8] = *b"RSMDTREE";
const VERSION: u8 = 1;
const GROUP_BYTES_LOG2: u8 = 20;

/// The header of the list of a representation of `length` bytes: for who keeps the values apart
/// and sends them after it.
pub fn list_header(length: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8] = VERSION;
    header[9] = GROUP_BYTES_LOG2;
    header[16..].copy_from_slice(&length.to_le_bytes());
    header
}

/// The number of chaining values in the list of a representation of `length` bytes.
const fn listed_values(length: u64) -> u64 {
    match groups_of(length) {
        0 | 1 => 0,
        groups => groups,
    }
}

/// The length in bytes of the list of a representation of `length` bytes.
pub const fn list_bytes(length: u64) -> u64 {
    // Nothing saturates: 2^64 bytes are 2^44 groups, whose values take 2^49 bytes.
    listed_values(length).saturating_mul(32).saturating_add(24)
}

/// A list that somebody claims to be that of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupList {
    length: u64,
    values: Vec<ChainingValue>,
}

impl GroupList {
    /// The list of a representation of `length` bytes with these chaining values: those of all
    /// groups when there are two or more, else none.
    ///
    /// # Errors
    /// [`GroupListError::TooLong`], [`GroupListError::WrongBytes`].
    pub fn new(length: u64, values: Vec<ChainingValue>) -> Result<Self, GroupListError> {
        if length > MAX_LENGTH {
            return Err(GroupListError::TooLong { length });
        }
        if u64::try_from(values.len()) != Ok(listed_values(length)) {
            let bytes = values.len().saturating_mul(ChainingValue::BYTES);
            let bytes = bytes.saturating_add(HEADER_BYTES);
            return Err(GroupListError::WrongBytes { length, expected: list_bytes(length), bytes });
        }
        Ok(Self { length, values })
    }

    /// The length of the representation in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The chaining values of all groups; none when there is but one group.
    pub fn values(&self) -> &[ChainingValue] {
        &self.values
    }

    /// The bytes of this list.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = list_header(self.length).to_vec();
        bytes.extend(self.values.iter().flat_map(ChainingValue::as_bytes));
        bytes
    }

    /// Reads a list. It takes no more memory than `bytes` does.
    ///
    /// # Errors
    /// [`GroupListError`], but not [`GroupListError::WrongRoot`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GroupListError> {
        let (header, rest) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(GroupListError::NotAList)?;
        let (magic, form) = header.split_first_chunk::<8>().ok_or(GroupListError::NotAList)?;
        if *magic != MAGIC {
            return Err(GroupListError::NotAList);
        }
        let (form, length) = form.split_last_chunk::<8>().ok_or(GroupListError::NotAList)?;
        if form != [VERSION, GROUP_BYTES_LOG2, 0, 0, 0, 0, 0, 0] {
            return Err(GroupListError::UnknownForm { version: header[8], log2: header[9] });
        }
        let length = u64::from_le_bytes(*length);
        let (values, cut) = rest.as_chunks::<{ ChainingValue::BYTES }>();
        let expected = list_bytes(length);
        if !cut.is_empty() || u64::try_from(bytes.len()) != Ok(expected) {
            return Err(GroupListError::WrongBytes { length, expected, bytes: bytes.len() });
        }
        Self::new(length, values.iter().copied().map(ChainingValue::from_bytes).collect())
    }

    /// Checks the list against the root of the representation, which the caller trusts. The
    /// claimed length is proven as soon as the last group was verified.
    ///
    /// # Errors
    /// [`GroupListError::WrongRoot`] when this is not the list of that representation.
    pub fn check(self, root: Blake3Digest) -> Result<VerifiedGroups, GroupListError> {
        let own_root = match self.length {
            0 => Some(Blake3Digest::of(&[])),
            // No values yet to compare: the root itself will verify the one group.
            1..=GROUP_BYTES => Some(root),
            _ => root_of(self.values.iter().copied()),
        };
        if own_root != Some(root) {
            return Err(GroupListError::WrongRoot);
        }
        Ok(VerifiedGroups { list: self, root })
    }
}

/// A list that belongs to the root: it tells the right bytes of each group from wrong ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedGroups {
    list: GroupList,
    root: Blake3Digest,
}

impl VerifiedGroups {
    /// The root that the list was checked against.
    pub fn root(&self) -> Blake3Digest {
        self.root
    }

    /// The length of the representation in bytes, as the list claims.
    pub fn length(&self) -> u64 {
        self.list.length
    }

    /// The number of groups.
    pub fn groups(&self) -> u64 {
        groups_of(self.list.length)
    }

    /// The offsets of the bytes of one group; `None` when there is no such group.
    pub fn group_range(&self, index: u64) -> Option<Range<u64>> {
        let start = index.checked_mul(GROUP_BYTES)?;
        let end = start.saturating_add(GROUP_BYTES).min(self.list.length);
        (start < end).then_some(start..end)
    }

    /// Whether these are the bytes of that group, all of them.
    pub fn verify(&self, index: u64, bytes: &[u8]) -> bool {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let Some(mut group) = GroupHasher::new(index).filter(|_| length <= GROUP_BYTES) else {
            return false;
        };
        group.update(bytes);
        self.verify_hashed(&group)
    }

    /// As [`VerifiedGroups::verify`], of bytes that came one after the other.
    pub fn verify_hashed(&self, group: &GroupHasher) -> bool {
        let Some(range) = self.group_range(group.index()) else { return false };
        if group.length() != range.end.saturating_sub(range.start) {
            return false;
        }
        if self.list.values.is_empty() {
            return group.root() == self.root;
        }
        let index = usize::try_from(group.index()).ok();
        let value = index.and_then(|index| self.list.values.get(index));
        value.is_some() && value == group.value().as_ref()
    }
}

/// What is wrong with a list of chaining values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupListError {
    /// The bytes don't start like one.
    #[error("this is not a list of chaining values: it doesn't start with the bytes `RSMDTREE`")]
    NotAList,
    /// A newer version, or groups of another length.
    #[error(
        "this list of chaining values has version {version} and groups of 2^{log2} bytes; \
         only version 1 with groups of 2^20 bytes can be read: use a newer program"
    )]
    UnknownForm {
        /// The version in the header.
        version: u8,
        /// The binary logarithm of the group's length in the header.
        log2: u8,
    },
    /// More bytes than [`MAX_LENGTH`].
    #[error("the list of chaining values is for {length} bytes, more than 2^63 - 1: it is damaged")]
    TooLong {
        /// The length of the representation in the header.
        length: u64,
    },
    /// The list was cut off, or something follows it.
    #[error(
        "the list of chaining values has {bytes} bytes instead of the {expected} that a \
         representation of {length} bytes needs; fetch it again"
    )]
    WrongBytes {
        /// The length of the representation in bytes.
        length: u64,
        /// The length that the list should have.
        expected: u64,
        /// The length that it has.
        bytes: usize,
    },
    /// The list of another representation, or a damaged one.
    #[error("the list of chaining values does not belong to this representation; fetch it again")]
    WrongRoot,
}
