//! `Upload-Checksum` and the digest fields of RFC 9530: what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumed::protocol::checksum::Checksum;
use resumed::protocol::digest::Blake3Digest;
use resumed::protocol::digest_fields::{parse_digests, parse_wanted_digests, write_digests};

fuzz_target!(|text: &str| {
    if let Ok(checksum) = Checksum::parse(text) {
        assert_eq!(checksum.digest().len(), checksum.algorithm().digest_bytes());
        assert_eq!(Checksum::parse(&checksum.to_string()).as_ref(), Ok(&checksum));
    }
    if let Some(digests) = parse_digests(text)
        && let Some(written) = write_digests(&digests)
    {
        assert_eq!(parse_digests(&written), Some(digests));
    }
    if let Some(wanted) = parse_wanted_digests(text) {
        assert!(wanted.len() <= 2, "two algorithms are known");
    }
    if let Some(digest) = Blake3Digest::parse(text) {
        assert_eq!(Blake3Digest::parse(&digest.to_string()), Some(digest));
    }
});
