//! What this server allows at most, as the protocols announce it.

use super::units::MAX_LENGTH;

/// The limits that requests are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest length of an upload in bytes (`Tus-Max-Size`); `None` announces none.
    pub max_length: Option<u64>,
    /// The longest `Upload-Metadata` in bytes.
    pub max_metadata_bytes: usize,
    /// The most parts of one concatenation.
    pub max_parts: usize,
    /// Whether uploads expire that are not finished.
    pub has_expiration: bool,
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
            max_metadata_bytes: 16 << 10,
            max_parts: 1000,
            has_expiration: false,
        }
    }
}
