//! Every save of a record, in the order of the saves, in plain files beside the data.
//!
//! A save is durable when its frame is. The database of the records is an index of the journal that
//! can be made anew from it, so neither a loss of power nor damage to the database loses one.
//!
//! ```text
//! <data-dir>/journal/<generation>-<first>.log     the frames from number `first` on
//! <data-dir>/journal/<generation>-<first>.base    what all frames before `first` came to
//!
//! file    = magic(16) frame… zeros…
//! frame   = length of payload(8, LE) number(8, LE) check(16) payload, zeros to a multiple of 8
//! check   = the first 16 bytes of BLAKE3(number(8, LE) payload)
//! payload = entry…
//! entry   = 'S' id(16) length(4, LE) record(codec)    a record was saved
//!         | 'D' id(16)                                a record was deleted
//!         | 'E' count(8, LE)                          the end of a base: how many records it has
//! ```
//!
//! A file of a later generation voids what earlier ones have at or behind its first number: after a
//! failed sync nobody knows what of a file is on the disk, so its last frame is written again to
//! a new one. A frame that cannot be read ends a file when none that can follows it, since that one
//! was never acknowledged; it is damage otherwise.

mod base;
mod chain;
mod frame;
mod reader;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub(super) use self::base::write_base;
pub(super) use self::chain::{Chain, Damage, Found};
pub(super) use self::frame::{Entry, Payload};
pub use self::view::JournalView;
pub(super) use self::writer::{BasePoint, Journal};

/// The bytes every file begins with.
const MAGIC: &[u8; 16] = b"resumed journal\n";
/// The file is followed by a new one when it is longer than this.
const SEGMENT_BYTES: u64 = 16 << 20;

/// What a file of the journal is, as its name says. Their order is that of their effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileName {
    generation: u32,
    kind: FileKind,
    /// The number of its first frame; of a base, of the first one behind it.
    first: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FileKind {
    Base,
    Log,
}

impl FileName {
    fn parse(name: &str) -> Option<Self> {
        let (stem, kind) = match name.rsplit_once('.')? {
            (stem, "base") => (stem, FileKind::Base),
            (stem, "log") => (stem, FileKind::Log),
            _ => return None,
        };
        let (generation, first) = stem.split_once('-')?;
        let name_of = Self {
            generation: u32::from_str_radix(generation, 16).ok()?,
            kind,
            first: u64::from_str_radix(first, 16).ok()?,
        };
        (name_of.to_string() == name).then_some(name_of)
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            FileKind::Base => "base",
            FileKind::Log => "log",
        };
        write!(formatter, "{:08x}-{:016x}.{kind}", self.generation, self.first)
    }
}
