//! `Range` and the preconditions: what is served lies within the representation, and a multipart is
//! as long as it says.
#![no_main]

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use resumed::protocol::precondition::Validators;
use resumed::protocol::range::{MAX_RANGES, Multipart, Selection, select};
use resumed::protocol::units::Timestamp;

fuzz_target!(|input: (u64, u8, &[u8])| {
    let (length, which, value) = input;
    let length = length & u64::from(u32::MAX);
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let mut headers = HeaderMap::new();
    let names = [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE];
    headers.insert(names[usize::from(which) % names.len()].clone(), value);
    let validators = Validators {
        etag: "\"a\"".to_owned(),
        alias: "\"b\"".to_owned(),
        last_modified: Timestamp(784_111_777_000),
    };
    let _ = validators.evaluate(&headers);
    let _ = validators.allow_range(&headers, Timestamp(u64::MAX));
    let Selection::Ranges(ranges) = select(&headers, length) else { return };
    assert!((1..=MAX_RANGES).contains(&ranges.len()));
    let multipart = Multipart { boundary: "b", content_type: "a/b", length };
    let mut bytes = multipart.end().len() as u64;
    for range in &ranges {
        assert!(range.first() <= range.last() && range.last() < length);
        bytes += multipart.part_head(*range).len() as u64 + range.length();
    }
    assert_eq!(bytes, multipart.content_length(&ranges));
});
