//! `Upload-Checksum` and the digest fields of RFC 9530: what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumed::protocol::checksum::{Algorithm, Checksum};
use resumed::protocol::digest::Blake3Digest;
use resumed::protocol::digest_fields::{
    digest_key, parse_digests, parse_wanted_digests, write_digests,
};
use resumed::protocol::fields::{Dictionary, Member};

fuzz_target!(|text: &str| {
    if let Ok(checksum) = Checksum::parse(text) {
        assert_eq!(checksum.digest().len(), checksum.algorithm().digest_bytes());
        assert_eq!(Checksum::parse(&checksum.to_string()).as_ref(), Ok(&checksum));
    }
    if let Some(digests) = parse_digests(text) {
        let written = write_digests(&digests);
        assert_eq!(written.is_none(), digests.is_empty());
        assert_eq!(written.map_or(Some(vec![]), |field| parse_digests(&field)), Some(digests));
    }
    if let Some(wanted) = parse_wanted_digests(text) {
        let dictionary = Dictionary::parse(text).expect("it was read");
        let preference = |algorithm: Algorithm| {
            let key = digest_key(algorithm).expect("only these are wanted");
            let member = dictionary.value(key).and_then(Member::bare).expect("it is there");
            member.as_unsigned().expect("it is a preference")
        };
        let preferences: Vec<u64> = wanted.iter().copied().map(preference).collect();
        assert!(preferences.iter().all(|preference| (1..=10).contains(preference)));
        assert!(preferences.is_sorted_by(|one, next| one >= next));
        let mut distinct = wanted.clone();
        distinct.dedup();
        assert_eq!(distinct, wanted);
    }
    if let Some(digest) = Blake3Digest::parse(text) {
        assert_eq!(Blake3Digest::parse(&digest.to_string()), Some(digest));
    }
});
