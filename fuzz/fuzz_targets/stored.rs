//! What is read back from a disk or a peer: records, lists of chaining values, saved digests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumed::protocol::digest::{Blake3Digest, RunningSha256};
use resumed::protocol::limits::Limits;
use resumed::protocol::operation::Outcome;
use resumed::protocol::tree::{GroupList, list_bytes, root_of};
use resumed::protocol::tus;
use resumed::protocol::units::{MAX_LENGTH, Timestamp};
use resumed::storage::codec;

fn check_record(bytes: &[u8]) {
    let Ok(stored) = codec::decode(bytes) else { return };
    let written = codec::encode(&stored.upload, stored.version).expect("a record has a form");
    assert_eq!(codec::decode(&written).expect("what was written can be read"), stored);
    let upload = stored.upload;
    let _ = (upload.wake(), upload.is_expired(Timestamp(1)));
    if let Some(frontier) = upload.frontier() {
        assert!(frontier.length() <= MAX_LENGTH);
    }
    let head = tus::encode(&Outcome::Offset(upload.clone()), &|_| "/".to_owned(), &Limits::default());
    assert_eq!(head.headers.contains_key("upload-offset"), upload.offset().is_some());
}

fn check_list(bytes: &[u8]) {
    let Ok(list) = GroupList::decode(bytes) else { return };
    assert_eq!(list.encode(), bytes);
    let length = list.length();
    assert!(length <= MAX_LENGTH);
    assert_eq!(usize::try_from(list_bytes(length)), Ok(bytes.len()));
    let Some(root) = root_of(list.values().iter().copied()) else { return };
    let mut other = *root.as_bytes();
    other[31] ^= 1;
    assert!(list.clone().check(Blake3Digest::from_bytes(other)).is_err());
    let groups = list.check(root).expect("its own root");
    let mut end = 0;
    for index in 0..groups.groups() {
        let range = groups.group_range(index).expect("there is this group");
        assert_eq!(range.start, end);
        end = range.end;
        assert!(!groups.verify(index, b""));
    }
    assert_eq!(end, length);
    assert_eq!(groups.group_range(groups.groups()), None);
    assert_eq!(groups.group_range(u64::MAX), None);
}

fn check_digest(bytes: &[u8]) {
    let Some(mut digest) = RunningSha256::resume(bytes) else { return };
    assert_eq!(digest.save(), bytes);
    let _ = digest.checksum();
    let before = digest.length();
    digest.update(&[0; 130]);
    assert_eq!(digest.length(), before + 130);
    let _ = digest.checksum();
}

fuzz_target!(|bytes: &[u8]| {
    check_record(bytes);
    check_list(bytes);
    check_digest(bytes);
});
