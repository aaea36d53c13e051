//! What a check can find, and what a repair would do about it.

use std::fmt;

use crate::protocol::digest::Blake3Digest;
use crate::protocol::tree::GROUP_BYTES;

/// Something that is not as the records promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The record cannot be read.
    RecordDamaged {
        /// What is wrong with it.
        why: String,
    },
    /// The record tells of bytes, and there is no file.
    DataMissing {
        /// The bytes that the record tells of.
        recorded: u64,
    },
    /// There are fewer bytes than the record tells of.
    DataShort {
        /// The bytes that the record tells of.
        recorded: u64,
        /// The bytes that are there.
        found: u64,
    },
    /// A part of a final upload is not there, or shorter than recorded.
    PartMissing {
        /// Its place among the parts, from 0.
        number: usize,
        /// The bytes that the record tells of.
        recorded: u64,
        /// The bytes that are there.
        found: u64,
    },
    /// The file of a complete upload is longer than the upload.
    DataLong {
        /// The bytes that the record tells of.
        recorded: u64,
        /// The bytes that are there.
        found: u64,
    },
    /// There is data, and no record tells of it.
    NoRecord {
        /// The bytes of it.
        bytes: u64,
    },
    /// There is data of an upload that is gone.
    DataOfGone {
        /// The bytes of it.
        bytes: u64,
    },
    /// There are parts of an upload that needs none.
    PartsLeft {
        /// How many.
        parts: usize,
    },
    /// The bytes of a complete upload are not those that it was completed with.
    DigestDiffers {
        /// The digest in the record.
        recorded: Blake3Digest,
        /// The digest of the bytes.
        found: Blake3Digest,
        /// The first group of 1 MiB that differs, when the list of its chaining values is there.
        group: Option<u64>,
    },
    /// The bytes of an unfinished upload are not those that were acknowledged.
    TreeDiffers {
        /// The bytes that the record tells of.
        recorded: u64,
        /// The first group of 1 MiB that differs, when the list of its chaining values is there.
        group: Option<u64>,
    },
    /// The bytes are there and cannot be read.
    Unreadable {
        /// What the system said.
        why: String,
    },
}

/// What a repair does. None of it takes away a byte that a record tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Make the upload lost, and set its data aside.
    Lose,
    /// Cut off what lies behind the recorded bytes.
    Cut,
    /// Move the data to `lost+found`.
    SetAside,
    /// Remove the parts.
    RemoveParts,
    /// Remove the data.
    Remove,
}

impl Finding {
    /// Its name in the output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RecordDamaged { .. } => "record-damaged",
            Self::DataMissing { .. } => "data-missing",
            Self::DataShort { .. } => "data-short",
            Self::PartMissing { .. } => "part-missing",
            Self::DataLong { .. } => "data-long",
            Self::NoRecord { .. } => "no-record",
            Self::DataOfGone { .. } => "data-of-gone",
            Self::PartsLeft { .. } => "parts-left",
            Self::DigestDiffers { .. } => "digest-differs",
            Self::TreeDiffers { .. } => "tree-differs",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// What a repair does about it; `None` when that takes a person.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            // The offset was told to a client and must not go back: the upload is lost then.
            Self::DataMissing { .. } | Self::DataShort { .. } | Self::PartMissing { .. } => {
                Some(Remedy::Lose)
            }
            Self::DataLong { .. } => Some(Remedy::Cut),
            Self::NoRecord { .. } => Some(Remedy::SetAside),
            Self::PartsLeft { .. } => Some(Remedy::RemoveParts),
            Self::DataOfGone { .. } => Some(Remedy::Remove),
            Self::RecordDamaged { .. }
            | Self::DigestDiffers { .. }
            | Self::TreeDiffers { .. }
            | Self::Unreadable { .. } => None,
        }
    }

    /// What a person can do about it, when a repair does nothing.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::RecordDamaged { .. } => {
                "--rebuild makes the records anew from all that can be read"
            }
            Self::DigestDiffers { .. } | Self::TreeDiffers { .. } | Self::Unreadable { .. } => {
                "put the file back from a copy, or cancel the upload"
            }
            _ => "--repair does it",
        }
    }

    /// The first group that is not as it came, where that is known.
    pub fn group(&self) -> Option<u64> {
        match self {
            Self::DigestDiffers { group, .. } | Self::TreeDiffers { group, .. } => *group,
            _ => None,
        }
    }

    /// The bytes that the record tells of and those that are there, where that is the matter.
    pub fn bytes(&self) -> (Option<u64>, Option<u64>) {
        match *self {
            Self::DataMissing { recorded } | Self::TreeDiffers { recorded, .. } => {
                (Some(recorded), None)
            }
            Self::DataShort { recorded, found }
            | Self::PartMissing { recorded, found, .. }
            | Self::DataLong { recorded, found } => (Some(recorded), Some(found)),
            Self::NoRecord { bytes } | Self::DataOfGone { bytes } => (None, Some(bytes)),
            Self::RecordDamaged { .. }
            | Self::PartsLeft { .. }
            | Self::DigestDiffers { .. }
            | Self::Unreadable { .. } => (None, None),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordDamaged { why } => write!(to, "the record cannot be read: {why}"),
            Self::DataMissing { recorded } => {
                write!(to, "the record tells of {recorded} bytes and there is no file")
            }
            Self::DataShort { recorded, found } | Self::DataLong { recorded, found } => {
                write!(to, "the record tells of {recorded} bytes and the file has {found}")
            }
            Self::PartMissing { number, recorded, found } => {
                write!(to, "part {number} has {found} bytes of the {recorded} that are recorded")
            }
            Self::NoRecord { bytes } => write!(to, "{bytes} bytes of data have no record"),
            Self::DataOfGone { bytes } => {
                write!(to, "{bytes} bytes of data are of an upload that is gone")
            }
            Self::PartsLeft { parts } => {
                write!(to, "{parts} parts are left over of an upload that lies whole")
            }
            Self::DigestDiffers { recorded, found, group } => {
                write!(
                    to,
                    "the digest is recorded as {recorded} and that of the bytes is {found}"
                )?;
                name_group(*group, to)
            }
            Self::TreeDiffers { recorded, group } => {
                write!(to, "the first {recorded} bytes are not those that were acknowledged")?;
                name_group(*group, to)
            }
            Self::Unreadable { why } => write!(to, "the data cannot be read: {why}"),
        }
    }
}

fn name_group(group: Option<u64>, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(group) = group else { return Ok(()) };
    let begin = group.saturating_mul(GROUP_BYTES);
    write!(to, "; the first bad group is {group}, from byte {begin} on")
}

impl Remedy {
    /// Its name in the output for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lose => "lose",
            Self::Cut => "cut",
            Self::SetAside => "set-aside",
            Self::RemoveParts => "remove-parts",
            Self::Remove => "remove",
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Lose => "the upload becomes lost, what is left of its data goes to lost+found",
            Self::Cut => "what lies behind the recorded bytes is cut off",
            Self::SetAside => "it goes to lost+found",
            Self::RemoveParts => "they are removed",
            Self::Remove => "it is removed",
        })
    }
}
