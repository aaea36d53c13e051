//! Preconditions (RFC 9110 §13.2.2) made of their parts, against the table of the RFC.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use resumed::protocol::precondition::{Precondition, Validators};
use resumed::protocol::units::Timestamp;

const CENTURY_MS: u64 = 3_155_760_000_000;

#[derive(Arbitrary, Debug)]
enum Tag {
    Own,
    Alias,
    WeakOwn,
    Other(u8),
    Any,
}

impl Tag {
    fn text(&self) -> String {
        match self {
            Self::Own => "\"a,\\\"".to_owned(),
            Self::Alias => "\"b\"".to_owned(),
            Self::WeakOwn => "W/\"a,\\\"".to_owned(),
            Self::Other(number) => format!("\"x,{number}*\""),
            Self::Any => "*".to_owned(),
        }
    }

    fn is_strong_match(&self) -> bool {
        matches!(self, Self::Own | Self::Alias | Self::Any)
    }

    fn is_weak_match(&self) -> bool {
        self.is_strong_match() || matches!(self, Self::WeakOwn)
    }
}

#[derive(Arbitrary, Debug)]
enum IfRange {
    Tag(Tag),
    Date(i8),
}

#[derive(Arbitrary, Debug)]
struct Input {
    modified: u64,
    age: u32,
    if_match: Option<Vec<Tag>>,
    if_none_match: Option<Vec<Tag>>,
    if_unmodified_since: Option<i8>,
    if_modified_since: Option<i8>,
    if_range: Option<IfRange>,
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).expect("plain ASCII");
    headers.insert(HeaderName::from_static(name), value);
}

fn list(tags: &[Tag]) -> String {
    tags.iter().map(Tag::text).collect::<Vec<_>>().join(", ")
}

fuzz_target!(|input: Input| {
    // Far enough from 1970 that each date is one.
    let last_modified = Timestamp(1_000_000 + input.modified % CENTURY_MS);
    let date = |by: i8| {
        let ms = last_modified.0.saturating_add_signed(i64::from(by) * 1000);
        Timestamp(ms).to_imf_fixdate()
    };
    let mut headers = HeaderMap::new();
    input.if_match.iter().for_each(|tags| set(&mut headers, "if-match", &list(tags)));
    input.if_none_match.iter().for_each(|tags| set(&mut headers, "if-none-match", &list(tags)));
    let since = input.if_unmodified_since;
    since.iter().for_each(|by| set(&mut headers, "if-unmodified-since", &date(*by)));
    let since = input.if_modified_since;
    since.iter().for_each(|by| set(&mut headers, "if-modified-since", &date(*by)));
    match &input.if_range {
        Some(IfRange::Tag(tag)) => set(&mut headers, "if-range", &tag.text()),
        Some(IfRange::Date(by)) => set(&mut headers, "if-range", &date(*by)),
        None => {}
    }
    let validators = Validators { etag: Tag::Own.text(), alias: Tag::Alias.text(), last_modified };

    let is_wanted = match (&input.if_match, input.if_unmodified_since) {
        (Some(tags), _) => tags.iter().any(Tag::is_strong_match),
        (None, Some(by)) => by >= 0,
        (None, None) => true,
    };
    let is_known = match (&input.if_none_match, input.if_modified_since) {
        (Some(tags), _) => tags.iter().any(Tag::is_weak_match),
        (None, Some(by)) => by >= 0,
        (None, None) => false,
    };
    let expected = match (is_wanted, is_known) {
        (false, _) => Precondition::Failed,
        (true, true) => Precondition::NotModified,
        (true, false) => Precondition::Passed,
    };
    assert_eq!(validators.evaluate(&headers), expected, "{headers:?}");

    let is_old = input.age >= 60_000;
    let is_allowed = match &input.if_range {
        Some(IfRange::Tag(tag)) => matches!(tag, Tag::Own | Tag::Alias),
        Some(IfRange::Date(by)) => *by == 0 && is_old,
        None => true,
    };
    let now = Timestamp(last_modified.0 + u64::from(input.age));
    assert_eq!(validators.allow_range(&headers, now), is_allowed, "{headers:?}");
});
