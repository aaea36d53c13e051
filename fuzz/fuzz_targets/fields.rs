//! Structured fields (RFC 9651): what is read can be written, and is read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumed::protocol::fields::{Dictionary, Item};

fuzz_target!(|text: &str| {
    if let Some(item) = Item::parse(text) {
        let written = item.to_field().expect("what was read can be written");
        assert_eq!(Item::parse(&written), Some(item));
    }
    if let Some(dictionary) = Dictionary::parse(text)
        && let Some(written) = dictionary.to_field()
    {
        assert_eq!(Dictionary::parse(&written), Some(dictionary));
    }
});
