//! The digests of a whole representation: those that a client declared, and those that were
//! computed while its bytes arrived.
//!
//! - RFC 9530 §3 `Repr-Digest`. BLAKE3 is not registered for it, and is declared in the metadata.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::checksum::{Algorithm, Checksum};
use super::digest::{Blake3Digest, RunningSha256};
use super::digest_fields::{parse_digests, write_digests};

/// The key of a BLAKE3 digest in the metadata of an upload, in hexadecimal digits.
pub const BLAKE3_KEY: &str = "blake3";

/// Digests of one whole representation, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReprDigests {
    /// The root of its tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<Blake3Digest>,
    /// Its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
}

impl ReprDigests {
    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `Repr-Digest` declares, as far as it can be checked here. A malformed field and other
    /// algorithms are ignored (RFC 9530 §3).
    pub fn from_field(field: &str) -> Self {
        let digests = parse_digests(field).unwrap_or_default();
        let sha256 = digests.iter().find_map(Sha256Digest::of_checksum);
        Self { blake3: None, sha256 }
    }

    /// These digests, and those of the other for what is not known here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { blake3: self.blake3.or(other.blake3), sha256: self.sha256.or(other.sha256) }
    }

    /// The algorithm of which both know a digest, and not the same.
    pub fn disagrees(&self, other: &Self) -> Option<Algorithm> {
        if self.blake3.zip(other.blake3).is_some_and(|(one, other)| one != other) {
            return Some(Algorithm::Blake3);
        }
        let differs = self.sha256.zip(other.sha256).is_some_and(|(one, other)| one != other);
        differs.then_some(Algorithm::Sha256)
    }

    /// Whether some digest is known to both, and all that are known to both are the same.
    pub fn agrees(&self, other: &Self) -> bool {
        let is_comparable = self.blake3.is_some() && other.blake3.is_some()
            || self.sha256.is_some() && other.sha256.is_some();
        is_comparable && self.disagrees(other).is_none()
    }

    /// The value of `Repr-Digest`; `None` when no registered digest is known.
    pub fn to_field(&self) -> Option<String> {
        write_digests(&[self.sha256?.to_checksum()])
    }
}

/// A BLAKE3 digest alone.
impl From<Option<Blake3Digest>> for ReprDigests {
    fn from(blake3: Option<Blake3Digest>) -> Self {
        Self { blake3, sha256: None }
    }
}

/// The SHA-256 of a whole representation. It is written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest in a checksum, when that is a SHA-256.
    pub fn of_checksum(checksum: &Checksum) -> Option<Self> {
        let is_sha256 = checksum.algorithm() == Algorithm::Sha256;
        checksum.digest().try_into().ok().filter(|_| is_sha256).map(Self)
    }

    /// The digest as a checksum.
    pub fn to_checksum(&self) -> Checksum {
        let bytes = self.0.to_vec();
        Checksum::new(Algorithm::Sha256, bytes).expect("SHA-256 has the length of SHA-256")
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        // Any 32 bytes have that form.
        Blake3Digest::parse(text).map(|digest| Self(*digest.as_bytes()))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Blake3Digest::from_bytes(self.0), formatter)
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("a SHA-256 is 64 hexadecimal digits"))
    }
}

/// The saved state of a SHA-256 that goes on with the next bytes. It is written as base64.
#[derive(Clone, PartialEq, Eq)]
pub struct SavedSha256(Vec<u8>);

impl SavedSha256 {
    /// The state, for [`Self::resume`].
    pub fn of(running: &RunningSha256) -> Self {
        Self(running.save())
    }

    /// The SHA-256 to go on with behind `offset`; `None` when this is not its state there, and the
    /// bytes have to be read again.
    pub fn resume(&self, offset: u64) -> Option<RunningSha256> {
        RunningSha256::resume(&self.0).filter(|running| running.length() == offset)
    }
}

/// It tells some of the representation's bytes, which do not belong into a log.
impl fmt::Debug for SavedSha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SavedSha256")
    }
}

impl Serialize for SavedSha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SavedSha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256_of(bytes: &[u8]) -> RunningSha256 {
        let mut running = RunningSha256::new();
        running.update(bytes);
        running
    }

    #[test]
    fn digests_disagree_only_where_both_are_known() {
        let one = ReprDigests::from(Some(Blake3Digest::of(b"one")));
        let other = ReprDigests::from(Some(Blake3Digest::of(b"other")));
        let sha256 = Sha256Digest::of_checksum(&sha256_of(b"one").checksum());
        let without = ReprDigests { blake3: None, sha256 };
        assert_eq!(one.disagrees(&other), Some(Algorithm::Blake3));
        assert_eq!(one.disagrees(&one), None);
        assert_eq!(one.disagrees(&without), None);
        assert!(one.agrees(&one) && !one.agrees(&without) && !one.agrees(&other));
        let wrong = Some(Sha256Digest::from_bytes([0; 32]));
        assert_eq!(
            without.disagrees(&ReprDigests { sha256: wrong, ..one }),
            Some(Algorithm::Sha256)
        );
        assert_eq!(without.or(one), ReprDigests { sha256, ..one });
    }

    #[test]
    fn a_field_is_read_back_as_it_was_written() {
        let sha256 = Sha256Digest::of_checksum(&sha256_of(b"abc").checksum());
        let digests = ReprDigests { blake3: None, sha256 };
        assert_eq!(ReprDigests::from_field(&digests.to_field().unwrap()), digests);
        assert!(ReprDigests::from_field("sha-256=1").is_empty());
        assert!(ReprDigests::from_field("md5=:AAAA:").is_empty());
        assert_eq!(ReprDigests::from(Some(Blake3Digest::of(b""))).to_field(), None);
    }

    #[test]
    fn a_saved_state_goes_on_only_where_it_was_saved() {
        let saved = SavedSha256::of(&sha256_of(b"abc"));
        let json = serde_json::to_string(&saved).unwrap();
        let saved: SavedSha256 = serde_json::from_str(&json).unwrap();
        assert!(saved.resume(2).is_none());
        let mut running = saved.resume(3).unwrap();
        running.update(b"def");
        assert_eq!(running.checksum(), sha256_of(b"abcdef").checksum());
    }
}
