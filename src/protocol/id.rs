//! The id of an upload: 128 random bits, written as 32 lower-case hexadecimal digits.
//!
//! Who knows the URL may append, so an id must not be guessable (RUFH §Security Considerations).
//! The type is the proof that a text from a URL is one of ours: nothing else ever becomes a key or
//! a file name, which is what keeps `..` and the like from touching the disk.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The number of characters of an id in a URL.
pub const ID_CHARACTERS: usize = 32;

/// The id of an upload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(u128);

impl UploadId {
    /// The id made of 16 bytes, which the caller draws at random.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The 16 bytes of this id; their order is that of the text.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads exactly 32 lower-case hexadecimal digits. Anything else is not an id of ours: there
    /// is one spelling for each upload.
    pub fn parse(text: &str) -> Option<Self> {
        let is_ours = text.len() == ID_CHARACTERS
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_ours {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for UploadId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UploadId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("an upload id is 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = UploadId::from_bytes([0xab; 16]);
        assert_eq!(UploadId::parse(&id.to_string()), Some(id));
        assert_eq!(UploadId::parse(&id.to_string().to_uppercase()), None);
    }

    #[test]
    fn a_text_that_is_not_ours_is_no_id() {
        for wrong in ["", "..", "/etc/passwd", "0", "+0000000000000000000000000000000"] {
            assert_eq!(UploadId::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(UploadId::parse(&"0".repeat(33)), None);
        assert_eq!(UploadId::parse(&"g".repeat(32)), None);
        assert_eq!(UploadId::parse(&format!("{}\0", "0".repeat(31))), None);
    }
}
