//! The digest of a whole representation, and one that is computed while its bytes arrive.
//!
//! Pure: it neither reads the representation nor knows where it lies.
//!
//! - RFC 9530 §3: what `Repr-Digest` carries; the fields themselves are in `digest_fields`

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest, Sha256};

use super::checksum::{Algorithm, Checksum};
use super::units::MAX_LENGTH;

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

/// The SHA-256 of a representation whose bytes arrive in order, over as many requests, processes
/// and restarts as it takes: its state can be saved, which that of BLAKE3 can't.
#[derive(Clone, Debug, Default)]
pub struct RunningSha256 {
    hasher: Sha256,
    length: u64,
}

/// The first byte of a saved [`RunningSha256`]. A sha2 release with another form of state (0.12)
/// takes the next number, so that no state is ever misread.
const SAVED_FORM: u8 = 1;
/// Where the number of whole blocks stands in the state of sha2 0.11: behind eight words. The number
/// of bytes after those blocks follows it.
const SHA256_STATE_BYTES: usize = 32;
const SHA256_BLOCK_BYTES: u64 = 64;

impl RunningSha256 {
    /// The digest of no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        let added = u64::try_from(bytes.len()).expect("memory is shorter than 2^64 bytes");
        self.length = self.length.checked_add(added).expect("lengths are below 2^63");
    }

    /// The number of bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The SHA-256 of the bytes so far, for `Repr-Digest`. More bytes may follow.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        let digest = self.hasher.clone().finalize().to_vec();
        Checksum::new(Algorithm::Sha256, digest).expect("SHA-256 has the length of SHA-256")
    }

    /// The state as 113 bytes, for [`RunningSha256::resume`]: the number of their form
    /// (1), the length (8 bytes, little-endian), and the state of sha2 0.11. It tells what the
    /// last up to 63 bytes were, so it is as confidential as the representation.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let state = self.hasher.serialize();
        [&[SAVED_FORM][..], &self.length.to_le_bytes(), state.as_slice()].concat()
    }

    /// Continues after the bytes that a saved state had taken: compare [`RunningSha256::length`]
    /// with the offset. `None` when the state is damaged or has an unknown form; the digest can
    /// then only be had by reading all bytes again.
    pub fn resume(saved: &[u8]) -> Option<Self> {
        let ([SAVED_FORM], saved) = saved.split_first_chunk()? else { return None };
        let (length, state) = saved.split_first_chunk()?;
        let length = Some(u64::from_le_bytes(*length)).filter(|length| *length <= MAX_LENGTH)?;
        // sha2 believes its own count of blocks, and multiplies it without a check.
        let (blocks, rest) = state.get(SHA256_STATE_BYTES..)?.split_first_chunk()?;
        let (pending, _) = rest.split_first()?;
        let counted = u64::from_le_bytes(*blocks).checked_mul(SHA256_BLOCK_BYTES)?;
        if counted.checked_add(u64::from(*pending)) != Some(length) {
            return None;
        }
        let hasher = Sha256::deserialize(state.try_into().ok()?).ok()?;
        Some(Self { hasher, length })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    fn sha256_of(bytes: &[u8]) -> RunningSha256 {
        let mut running = RunningSha256::new();
        running.update(bytes);
        running
    }

    #[test]
    fn sha256_of_no_bytes_is_the_known_one() {
        let expected = "sha256 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(RunningSha256::new().checksum().to_string(), expected);
    }

    #[test]
    fn a_state_of_another_form_or_length_is_not_resumed() {
        let saved = sha256_of(b"abc").save();
        assert!(RunningSha256::resume(&saved).is_some());
        for end in 0..saved.len() {
            assert!(RunningSha256::resume(&saved[..end]).is_none(), "cut at {end}");
        }
        let mut other_form = saved.clone();
        other_form[0] = 2;
        assert!(RunningSha256::resume(&other_form).is_none());
        assert!(RunningSha256::resume(&[&saved[..], b"\0"].concat()).is_none());
    }

    /// The form that records hold on disks; a sha2 that changes it must not go unnoticed.
    #[test]
    fn a_state_of_another_number_of_bytes_than_its_length_is_damaged() {
        let saved = sha256_of(&[7; 130]).save();
        assert!(RunningSha256::resume(&saved).is_some());
        // The length, the number of whole blocks, and that of the bytes after them.
        for at in [1, 8, 41, 48, 49] {
            let mut damaged = saved.clone();
            damaged[at] ^= 1;
            assert!(RunningSha256::resume(&damaged).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_state_saved_by_an_earlier_release_is_resumed() {
        let initial_words: [u32; 8] = [
            0x6a09_e667,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ];
        let mut saved = vec![SAVED_FORM];
        saved.extend(3_u64.to_le_bytes());
        saved.extend(initial_words.iter().flat_map(|word| word.to_le_bytes()));
        saved.extend(0_u64.to_le_bytes());
        saved.extend(b"\x03abc");
        saved.resize(113, 0);
        assert_eq!(sha256_of(b"abc").save(), saved);
        let mut running = RunningSha256::resume(&saved).unwrap();
        running.update(b"def");
        assert_eq!(running.checksum(), sha256_of(b"abcdef").checksum());
    }

    proptest! {
        #[test]
        fn sha256_saved_and_resumed_anywhere_is_that_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..1000),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..5),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut running = RunningSha256::new();
            let mut offset = 0;
            for cut in cuts {
                running.update(&bytes[offset..cut]);
                offset = cut;
                running = RunningSha256::resume(&running.save()).unwrap();
                prop_assert_eq!(running.length(), offset as u64);
            }
            prop_assert_eq!(running.checksum(), sha256_of(&bytes).checksum());
            prop_assert_eq!(running.checksum().digest().to_vec(), Sha256::digest(&bytes).to_vec());
        }

        #[test]
        fn any_bytes_are_a_state_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = RunningSha256::resume(&bytes);
        }
    }
}
