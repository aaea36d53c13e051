//! What is read back from a disk or a peer: records and lists of chaining values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumed::protocol::digest::Blake3Digest;
use resumed::protocol::tree::GroupList;
use resumed::storage::codec;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(stored) = codec::decode(bytes) {
        let written = codec::encode(&stored.upload, stored.version).expect("a record has a form");
        assert_eq!(codec::decode(&written).expect("what was written can be read"), stored);
    }
    if let Ok(list) = GroupList::decode(bytes) {
        assert_eq!(list.encode(), bytes);
        let _ = list.check(Blake3Digest::of(b""));
    }
});
