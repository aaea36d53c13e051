//! The digest of a whole representation.
//!
//! Pure: it neither reads the representation nor knows where it lies.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The BLAKE3 digest of a whole representation: the root of its tree, and its strong ETag.
/// It is written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blake3Digest([u8; 32]);

impl Blake3Digest {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of these bytes, which are the whole representation.
    pub fn of(representation: &[u8]) -> Self {
        blake3::hash(representation).into()
    }

    /// Reads 64 hexadecimal digits. Upper case is accepted, as some tools print it.
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(Self::from)
    }
}

impl From<blake3::Hash> for Blake3Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Blake3Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Blake3Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Blake3Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Blake3Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom("a BLAKE3 digest is 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BLAKE3 of no bytes, from its published test vectors.
    const OF_NOTHING: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    #[test]
    fn a_digest_is_shown_as_lower_case_hexadecimal_digits() {
        assert_eq!(Blake3Digest::of(b"").to_string(), OF_NOTHING);
        assert_eq!(Blake3Digest::parse(OF_NOTHING), Some(Blake3Digest::of(b"")));
        let upper_case = OF_NOTHING.to_uppercase();
        assert_eq!(Blake3Digest::parse(&upper_case), Some(Blake3Digest::of(b"")));
    }

    #[test]
    fn a_text_of_another_length_or_alphabet_is_no_digest() {
        for wrong in ["", "af", &OF_NOTHING[1..], &format!("{OF_NOTHING}0"), &"g".repeat(64)] {
            assert_eq!(Blake3Digest::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(Blake3Digest::parse(&"ä".repeat(32)), None);
    }

    #[test]
    fn a_digest_is_kept_as_its_text() {
        let json = serde_json::to_string(&Blake3Digest::of(b"")).unwrap();
        assert_eq!(json, format!("\"{OF_NOTHING}\""));
        assert_eq!(serde_json::from_str::<Blake3Digest>(&json).unwrap(), Blake3Digest::of(b""));
        assert!(serde_json::from_str::<Blake3Digest>("\"af\"").is_err());
    }
}
