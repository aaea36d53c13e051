//! The checksum of one request's content: the algorithms, the field that names one, and the
//! hashing itself.
//!
//! Pure: it is told bytes and answers; who compares, and what happens then, is not decided here.
//!
//! - tus 1.0 "Checksum": `Upload-Checksum: <algorithm> <base64 of the raw digest>`; the server has
//!   to offer `sha1`; names are ASCII without upper case
//! - RFC 9530 §2 hashes content with the same algorithms; its fields are in `digest_fields`
//!
//! The tus specification says nothing about `crc32c`. Its digest is 4 bytes here, most significant
//! first: the order of Google Cloud Storage (`x-goog-hash`) and S3 (`x-amz-checksum-crc32c`).

use std::fmt;

use base64::Engine;
use sha1::Digest;

use super::fields::LENIENT_BASE64;

/// The number of characters of an unknown algorithm's name that are repeated to the client.
const SHOWN_NAME_CHARACTERS: usize = 32;

/// A hash function that a client may choose to protect one request's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// MD5 (RFC 1321), 16 bytes: only against accidents, for old clients.
    Md5,
    /// SHA-1 (FIPS 180-4), 20 bytes: the one that tus 1.0 "Checksum" demands.
    Sha1,
    /// SHA-256 (FIPS 180-4), 32 bytes.
    Sha256,
    /// SHA-512 (FIPS 180-4), 64 bytes.
    Sha512,
    /// CRC-32C (RFC 3720, Castagnoli), 4 bytes, most significant first: only against accidents.
    Crc32c,
    /// BLAKE3 with its usual 32 bytes.
    Blake3,
}

impl Algorithm {
    /// Every algorithm, in the order in which they are offered to clients.
    pub const ALL: [Self; 6] =
        [Self::Sha1, Self::Sha256, Self::Sha512, Self::Md5, Self::Crc32c, Self::Blake3];

    /// The names of [`Algorithm::ALL`] as `Tus-Checksum-Algorithm` lists them: separated by
    /// commas, without spaces (tus 1.0 "Checksum").
    pub const NAMES: &'static str = "sha1,sha256,sha512,md5,crc32c,blake3";

    /// The name in `Upload-Checksum` and `Tus-Checksum-Algorithm`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Crc32c => "crc32c",
            Self::Blake3 => "blake3",
        }
    }

    /// The algorithm with exactly this name. tus 1.0 "Checksum" excludes upper case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The length of a digest in bytes.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
            Self::Crc32c => 4,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A digest together with the algorithm that makes it; its length is that of the algorithm.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Checksum {
    algorithm: Algorithm,
    digest: Vec<u8>,
}

impl Checksum {
    /// A checksum of these raw bytes.
    ///
    /// # Errors
    /// [`ChecksumError::WrongLength`] when the algorithm's digests have another length.
    pub fn new(algorithm: Algorithm, digest: Vec<u8>) -> Result<Self, ChecksumError> {
        if digest.len() != algorithm.digest_bytes() {
            return Err(ChecksumError::WrongLength { algorithm, digest_bytes: digest.len() });
        }
        Ok(Self { algorithm, digest })
    }

    /// Reads the value of `Upload-Checksum` (tus 1.0 "Checksum"). A missing base64 padding is
    /// forgiven.
    ///
    /// # Errors
    /// [`ChecksumError`] says which part of the value is wrong.
    pub fn parse(field: &str) -> Result<Self, ChecksumError> {
        let (name, digest) = field.trim().split_once(' ').ok_or(ChecksumError::Malformed)?;
        let algorithm = Algorithm::parse(name).ok_or_else(|| {
            ChecksumError::UnknownAlgorithm(name.chars().take(SHOWN_NAME_CHARACTERS).collect())
        })?;
        let digest = LENIENT_BASE64
            .decode(digest.trim_start())
            .map_err(|_| ChecksumError::NotBase64(algorithm))?;
        Self::new(algorithm, digest)
    }

    /// The algorithm that made this digest.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw digest.
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }
}

/// The value of `Upload-Checksum`.
impl fmt::Display for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = base64::engine::general_purpose::STANDARD.encode(&self.digest);
        write!(formatter, "{} {digest}", self.algorithm)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Checksum({self})")
    }
}

/// What is wrong with a checksum that a client sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// Not two parts with a space between them.
    #[error(
        "the checksum is not of the form `<algorithm> <base64 of the raw digest>`; \
         send for example `sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=`"
    )]
    Malformed,
    /// An algorithm that is not in [`Algorithm::ALL`]; holds the first characters of its name.
    #[error("the checksum algorithm `{0}` is not known here; use one of {names}", names = Algorithm::NAMES)]
    UnknownAlgorithm(String),
    /// The digest is not base64.
    #[error(
        "the {0} digest is not base64; send the raw digest of {bytes} bytes in base64 \
         (RFC 4648 §4), not in hexadecimal digits",
        bytes = .0.digest_bytes()
    )]
    NotBase64(Algorithm),
    /// The digest has another length than the algorithm's digests.
    #[error(
        "the {algorithm} digest has {digest_bytes} bytes instead of {expected}; \
         send the raw digest in base64, not its hexadecimal digits",
        expected = algorithm.digest_bytes()
    )]
    WrongLength {
        /// The algorithm that the client named.
        algorithm: Algorithm,
        /// The length of the digest that it sent, in bytes.
        digest_bytes: usize,
    },
}

/// Hashes content as it arrives. It holds at most some KiB, whatever the content's length; give it
/// pieces of 16 KiB or more where that is possible (BLAKE3 is four times slower with 1 KiB).
#[derive(Clone, Debug)]
pub struct Checksummer(State);

#[derive(Clone, Debug)]
enum State {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
    Crc32c(Box<crc_fast::Digest>),
    /// Boxed, since it takes 2 KiB where the others take some hundred bytes.
    Blake3(Box<blake3::Hasher>),
}

impl Checksummer {
    /// Starts at the first byte of a request's content.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Md5 => State::Md5(md5::Md5::new()),
            Algorithm::Sha1 => State::Sha1(sha1::Sha1::new()),
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
            Algorithm::Crc32c => {
                let castagnoli = crc_fast::CrcAlgorithm::Crc32Iscsi;
                State::Crc32c(Box::new(crc_fast::Digest::new(castagnoli)))
            }
            Algorithm::Blake3 => State::Blake3(Box::new(blake3::Hasher::new())),
        })
    }

    /// Whether it takes several GB a second on one core.
    pub fn is_quick(&self) -> bool {
        matches!(self.0, State::Crc32c(_) | State::Blake3(_))
    }

    /// Takes the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Md5(state) => state.update(bytes),
            State::Sha1(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
            State::Crc32c(state) => state.update(bytes),
            State::Blake3(state) => {
                state.update(bytes);
            }
        }
    }

    /// The checksum of all bytes so far.
    #[must_use]
    pub fn finish(self) -> Checksum {
        let (algorithm, digest) = match self.0 {
            State::Md5(state) => (Algorithm::Md5, state.finalize().to_vec()),
            State::Sha1(state) => (Algorithm::Sha1, state.finalize().to_vec()),
            State::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            State::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
            State::Crc32c(state) => {
                let crc = u32::try_from(state.finalize()).expect("CRC-32C has 32 bits");
                (Algorithm::Crc32c, crc.to_be_bytes().to_vec())
            }
            State::Blake3(state) => (Algorithm::Blake3, state.finalize().as_bytes().to_vec()),
        };
        Checksum { algorithm, digest }
    }

    /// Whether the bytes so far are those that `checksum` promises; never with a checksum of
    /// another algorithm than this one was started with.
    #[must_use]
    pub fn matches(self, checksum: &Checksum) -> bool {
        self.finish() == *checksum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checksum_of(algorithm: Algorithm, content: &[u8]) -> Checksum {
        let mut checksummer = Checksummer::new(algorithm);
        checksummer.update(content);
        checksummer.finish()
    }

    #[test]
    fn the_offer_lists_every_algorithm_and_sha1_first() {
        let names = Algorithm::ALL.map(Algorithm::name).join(",");
        assert_eq!(Algorithm::NAMES, names);
        assert!(names.starts_with("sha1,"));
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
            assert_eq!(Algorithm::parse(&algorithm.name().to_uppercase()), None);
        }
    }

    /// The first is the example of tus 1.0 "Checksum", that of crc32c is Google's documentation's;
    /// the others were made with coreutils, blake3 is the published one.
    #[test]
    fn known_content_has_its_known_checksum() {
        for (content, field) in [
            ("hello world", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="),
            ("data", "crc32c rth90Q=="),
            ("abc", "md5 kAFQmDzST7DWlj99KOF/cg=="),
            ("abc", "sha256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="),
            (
                "abc",
                "sha512 3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9\
                 RU1EI2Q86A4qmslPpUyknw==",
            ),
            ("abc", "blake3 ZDezrDhGUTP/tjt1JzqNtUjFWEZdedsD/TWcbNW9nYU="),
        ] {
            let expected = Checksum::parse(field).unwrap();
            assert_eq!(checksum_of(expected.algorithm(), content.as_bytes()), expected);
            assert_eq!(expected.to_string(), field);
        }
    }

    #[test]
    fn a_missing_padding_is_forgiven() {
        for padded in ["crc32c rth90Q==", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="] {
            let bare = padded.trim_end_matches('=');
            assert_eq!(Checksum::parse(bare), Checksum::parse(padded));
        }
        assert_eq!(Checksum::parse("crc32c  rth90Q= "), Checksum::parse("crc32c rth90Q=="));
    }

    #[test]
    fn an_error_says_which_part_is_wrong() {
        for malformed in ["", " ", "sha1", "sha1 ", " sha1", "Kq5sNclPz7QV2+lfQIuc6R7oRu0="] {
            assert_eq!(Checksum::parse(malformed), Err(ChecksumError::Malformed), "{malformed:?}");
        }
        let unknown = Checksum::parse("SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=").unwrap_err();
        assert_eq!(unknown, ChecksumError::UnknownAlgorithm("SHA1".into()));
        assert!(unknown.to_string().contains(Algorithm::NAMES));
        for wrong in ["sha1 ä", "sha1 !!!!", "sha1 Kq5sNclPz7QV2 lfQIuc6R7oRu0="] {
            assert_eq!(Checksum::parse(wrong), Err(ChecksumError::NotBase64(Algorithm::Sha1)));
        }
    }

    #[test]
    fn hexadecimal_digits_are_told_apart_by_their_length() {
        let error = Checksum::parse("sha1 2aae6c35c94fcfb415dbe95f408b9ce91ee846ed").unwrap_err();
        let expected = ChecksumError::WrongLength { algorithm: Algorithm::Sha1, digest_bytes: 30 };
        assert_eq!(error, expected);
        assert!(error.to_string().contains("30 bytes instead of 20"), "{error}");
    }

    #[test]
    fn a_checksum_of_another_algorithm_does_not_match() {
        let sha256 = checksum_of(Algorithm::Sha256, b"abc");
        assert!(!Checksummer::new(Algorithm::Blake3).matches(&sha256));
    }

    #[test]
    fn a_long_name_is_not_repeated_in_full() {
        let error = Checksum::parse(&format!("{} AA==", "ü".repeat(9000))).unwrap_err();
        assert_eq!(error, ChecksumError::UnknownAlgorithm("ü".repeat(SHOWN_NAME_CHARACTERS)));
    }

    proptest! {
        #[test]
        fn pieces_give_the_checksum_of_the_whole(
            content in proptest::collection::vec(any::<u8>(), 0..5000),
            cut in any::<proptest::sample::Index>(),
            which in 0..Algorithm::ALL.len(),
        ) {
            let algorithm = Algorithm::ALL[which];
            let (left, right) = content.split_at(cut.index(content.len() + 1));
            let mut checksummer = Checksummer::new(algorithm);
            checksummer.update(left);
            checksummer.update(right);
            let whole = checksum_of(algorithm, &content);
            prop_assert_eq!(whole.digest().len(), algorithm.digest_bytes());
            prop_assert_eq!(Checksum::parse(&whole.to_string()), Ok(whole.clone()));
            prop_assert!(checksummer.matches(&whole));
        }

        #[test]
        fn any_text_is_read_or_refused(field in ".*") {
            let _ = Checksum::parse(&field);
        }
    }
}
