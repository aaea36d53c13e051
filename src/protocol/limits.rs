//! What this server allows, as the protocols announce it.

use std::time::Duration;

use super::units::MAX_LENGTH;

/// The limits that requests are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest length of an upload in bytes (`Tus-Max-Size`); `None` announces none.
    pub max_length: Option<u64>,
    /// The smallest length of an upload in bytes that is told beforehand. Only the IETF protocol can
    /// announce it, and so it holds there alone; so do the next two.
    pub min_length: u64,
    /// The most bytes that one request may append; `None`: any number.
    pub max_append: Option<u64>,
    /// The fewest bytes that one request may append, unless it completes the upload or is empty.
    pub min_append: u64,
    /// The longest `Upload-Metadata` in bytes.
    pub max_metadata_bytes: usize,
    /// The most parts of one concatenation.
    pub max_parts: usize,
    /// How long an unfinished upload is kept after its last append; `None`: for ever.
    pub max_age: Option<Duration>,
}

impl Limits {
    /// The largest length in bytes that is accepted whether or not a limit is announced.
    pub fn length_ceiling(&self) -> u64 {
        self.max_length.unwrap_or(MAX_LENGTH).min(MAX_LENGTH)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_length: None,
            min_length: 0,
            max_append: None,
            min_append: 0,
            max_metadata_bytes: 16 << 10,
            max_parts: 1000,
            max_age: None,
        }
    }
}
