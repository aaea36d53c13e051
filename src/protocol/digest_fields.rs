//! The digest fields: `Content-Digest`, `Repr-Digest` and what a client would like of them.
//!
//! Pure: who computes the digests, and what happens when they differ, is not decided here.
//!
//! - RFC 9530 §2 `Content-Digest`, §3 `Repr-Digest`: a Dictionary of Byte Sequences
//! - RFC 9530 §4 `Want-Content-Digest`, `Want-Repr-Digest`: a Dictionary of Integers, 0 to 10
//! - RFC 9530 §5: of the registered algorithms only `sha-256` and `sha-512` are active. Those that
//!   are deprecated, and BLAKE3, which is not registered, are neither read nor sent.

use http::HeaderName;

use super::checksum::{Algorithm, Checksum};
use super::fields::{BareItem, Dictionary, Member};

/// RFC 9530 §2.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// RFC 9530 §3.
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// RFC 9530 §4.
pub const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");

/// The key of an algorithm in the digest fields; `None` for those that must not stand there.
pub const fn digest_key(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::Sha256 => Some("sha-256"),
        Algorithm::Sha512 => Some("sha-512"),
        Algorithm::Md5 | Algorithm::Sha1 | Algorithm::Crc32c | Algorithm::Blake3 => None,
    }
}

fn algorithm_of(key: &str) -> Option<Algorithm> {
    Algorithm::ALL.into_iter().find(|algorithm| digest_key(*algorithm) == Some(key))
}

/// Reads `Content-Digest` or `Repr-Digest` (RFC 9530 §2, §3): the digests of the algorithms that
/// are known here, in the field's order; perhaps none. Other algorithms are skipped.
///
/// `None` when the field as a whole is to be ignored: it is not a Dictionary, or a digest of a
/// known algorithm is not a Byte Sequence of its length.
pub fn parse_digests(field: &str) -> Option<Vec<Checksum>> {
    let dictionary = Dictionary::parse(field)?;
    let known = dictionary.iter().filter_map(|(key, member)| Some((algorithm_of(key)?, member)));
    known
        .map(|(algorithm, member)| {
            let digest = member.bare()?.as_bytes()?;
            Checksum::new(algorithm, digest.to_vec()).ok()
        })
        .collect()
}

/// The value of `Content-Digest` or `Repr-Digest` with these digests, without those whose
/// algorithm has no [`digest_key`]; `None` when none is left, and the field must not be sent.
pub fn write_digests(digests: &[Checksum]) -> Option<String> {
    let mut dictionary = Dictionary::default();
    for digest in digests {
        if let Some(key) = digest_key(digest.algorithm()) {
            dictionary.insert(key, BareItem::Bytes(digest.digest().to_vec()));
        }
    }
    dictionary.to_field().filter(|field| !field.is_empty())
}

/// Reads `Want-Content-Digest` or `Want-Repr-Digest` (RFC 9530 §4): the algorithms known here that
/// are acceptable, the most wanted first; perhaps none. Of equally wanted ones the first goes first.
///
/// `None` when the field as a whole is to be ignored: it is not a Dictionary, or the preference of
/// a known algorithm is not an Integer from 0 to 10.
pub fn parse_wanted_digests(field: &str) -> Option<Vec<Algorithm>> {
    let dictionary = Dictionary::parse(field)?;
    let known = dictionary.iter().filter_map(|(key, member)| Some((algorithm_of(key)?, member)));
    let mut wanted: Vec<(u64, Algorithm)> = known
        .map(|(algorithm, member)| Some((preference(member)?, algorithm)))
        .collect::<Option<_>>()?;
    wanted.retain(|(preference, _)| *preference > 0);
    wanted.sort_by_key(|(preference, _)| std::cmp::Reverse(*preference));
    Some(wanted.into_iter().map(|(_, algorithm)| algorithm).collect())
}

fn preference(member: &Member) -> Option<u64> {
    member.bare()?.as_unsigned().filter(|preference| *preference <= 10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::checksum::Checksummer;

    /// The digest of RFC 9530 appendix B.1.
    const FIELD: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    fn checksum_of(algorithm: Algorithm, content: &[u8]) -> Checksum {
        let mut checksummer = Checksummer::new(algorithm);
        checksummer.update(content);
        checksummer.finish()
    }

    #[test]
    fn the_digest_of_rfc_9530_is_read_and_written() {
        let expected = checksum_of(Algorithm::Sha256, b"{\"hello\": \"world\"}\n");
        assert_eq!(parse_digests(FIELD), Some(vec![expected.clone()]));
        assert_eq!(write_digests(&[expected]).as_deref(), Some(FIELD));
    }

    #[test]
    fn unknown_algorithms_are_skipped_whatever_their_value_is() {
        let field = format!("md5=:AA==:, unixsum=30637, x=(1.5 a), {FIELD}, blake3=?1");
        assert_eq!(parse_digests(&field), parse_digests(FIELD));
        assert_eq!(parse_digests("sha=:AA==:"), Some(Vec::new()));
    }

    #[test]
    fn a_malformed_field_is_ignored_as_a_whole() {
        for wrong in [
            "sha-256",
            "sha-256=1",
            "sha-256=(:AA==:)",
            "sha-256=:AA==:",
            "sha-256=RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=",
            "sha-256=:44aff4ab2d7c3250525675a08f0cfa9591168cffe51791c5f5bbc417c15a6c38:",
            "SHA-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
        ] {
            assert_eq!(parse_digests(&format!("sha-512=1, {wrong}")), None, "{wrong:?}");
            assert_eq!(parse_digests(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_registered_and_active_algorithms_are_sent() {
        let all = Algorithm::ALL.map(|algorithm| checksum_of(algorithm, b"abc"));
        let field = write_digests(&all).unwrap();
        let sent: Vec<_> = parse_digests(&field).unwrap();
        let sent: Vec<_> = sent.iter().map(Checksum::algorithm).collect();
        assert_eq!(sent, [Algorithm::Sha256, Algorithm::Sha512]);
        assert_eq!(field.matches('=').count(), 2 + 1 + 2, "two keys, and three of padding");
        assert_eq!(write_digests(&[checksum_of(Algorithm::Blake3, b"abc")]), None);
    }

    #[test]
    fn the_most_wanted_algorithm_goes_first() {
        use Algorithm::{Sha256, Sha512};
        for (field, wanted) in [
            ("sha-256=1, sha-512=3", vec![Sha512, Sha256]),
            ("sha-512=3, sha-256=10, unixsum=0", vec![Sha256, Sha512]),
            ("sha-256=5, sha-512=5", vec![Sha256, Sha512]),
            ("sha-512=5, sha-256=5", vec![Sha512, Sha256]),
            ("sha-256=0, sha-512=1;q=0", vec![Sha512]),
            ("md5=10, blake3=a", vec![]),
        ] {
            assert_eq!(parse_wanted_digests(field), Some(wanted), "{field:?}");
        }
        for wrong in ["sha-256=11", "sha-256=-1", "sha-256", "sha-256=1.0", "sha-256=1,", "?"] {
            assert_eq!(parse_wanted_digests(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_ignored(field in ".*") {
            let _ = (parse_digests(&field), parse_wanted_digests(&field));
        }
    }
}
