//! Byte ranges: `Range`, `Content-Range` and `multipart/byteranges`. The server and the downloader
//! share it.
//!
//! - RFC 9110 §14 (range requests), §15.3.7 (206), §15.5.17 (416), §17.15 (attacks with ranges)

use std::fmt;
use std::ops::Range;

use http::HeaderMap;
use http::header::RANGE;

use super::head::only_line;
use super::units::{MAX_LENGTH, parse_bytes};

/// More ranges than this in one request are not served as ranges (RFC 9110 §17.15).
pub const MAX_RANGES: usize = 64;
/// Ranges with a gap up to this between them are sent as one: the head of a part costs as much.
const MAX_GAP_BYTES: u64 = 80;

/// Some bytes of a representation, by their first and last position. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    first: u64,
    last: u64,
}

impl ByteRange {
    /// The bytes from the first to the last position, both included; `None` if that is none.
    pub fn new(first: u64, last: u64) -> Option<Self> {
        (first <= last && last < u64::MAX).then_some(Self { first, last })
    }

    /// The position of the first byte.
    pub fn first(self) -> u64 {
        self.first
    }

    /// The position of the last byte.
    pub fn last(self) -> u64 {
        self.last
    }

    /// The number of bytes.
    pub fn length(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// The same bytes as a half-open range.
    pub fn to_range(self) -> Range<u64> {
        self.first..self.last.saturating_add(1)
    }

    fn touches(self, other: Self) -> bool {
        self.first <= other.last.saturating_add(MAX_GAP_BYTES)
            && other.first <= self.last.saturating_add(MAX_GAP_BYTES)
    }

    /// The value of `Content-Range` for these bytes of a representation of `length` bytes.
    pub fn content_range(self, length: u64) -> String {
        format!("bytes {self}/{length}")
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

/// The value of `Content-Range` in a 416 (RFC 9110 §14.4).
pub fn unsatisfied_content_range(length: u64) -> String {
    format!("bytes */{length}")
}

/// What a `Content-Range` says (RFC 9110 §14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// The content is these bytes.
    Part {
        /// Which bytes of the representation.
        range: ByteRange,
        /// The length of the representation, if the server knows it.
        length: Option<u64>,
    },
    /// No byte that was asked for is there (416).
    Unsatisfied {
        /// The length of the representation.
        length: u64,
    },
}

/// Reads a `Content-Range`. Another unit, a malformed value, and a range that reaches beyond its
/// own length are `None`: the content is then not to be used (RFC 9110 §14.4).
pub fn parse_content_range(field: &str) -> Option<ContentRange> {
    let (unit, rest) = field.trim_matches([' ', '\t']).split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, length) = rest.split_once('/')?;
    if range == "*" {
        return Some(ContentRange::Unsatisfied { length: parse_bytes(length)? });
    }
    let length = if length == "*" { None } else { Some(parse_bytes(length)?) };
    let (first, last) = range.split_once('-')?;
    let range = ByteRange::new(parse_bytes(first)?, parse_bytes(last)?)?;
    let fits = range.last < length.unwrap_or(MAX_LENGTH);
    fits.then_some(ContentRange::Part { range, length })
}

/// Which bytes a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of them: there is no `Range`, or one that is to be ignored.
    Whole,
    /// These; at least one, in the order of the request.
    Ranges(Vec<ByteRange>),
    /// None that are there: 416.
    Unsatisfiable,
}

/// Reads the `Range` of a GET for a representation of `length` bytes. A unit that is not known and
/// a set that is not valid are ignored (RFC 9110 §14.2).
pub fn select(headers: &HeaderMap, length: u64) -> Selection {
    let Some(value) = only_line(headers, &RANGE) else { return Selection::Whole };
    let set = value.to_str().ok().and_then(|value| value.split_once('='));
    let Some((unit, set)) = set else { return Selection::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let members = set.split(',').map(|member| member.trim_matches([' ', '\t']));
    let mut ranges: Vec<ByteRange> = Vec::new();
    let mut count = 0_usize;
    for member in members.filter(|member| !member.is_empty()) {
        count = count.saturating_add(1);
        match parse_spec(member, length) {
            None => return Selection::Whole,
            Some(Some(range)) => ranges.push(range),
            Some(None) => {}
        }
    }
    match (count, ranges.is_empty()) {
        (0, _) => Selection::Whole,
        (_, true) => Selection::Unsatisfiable,
        (count, false) if count > MAX_RANGES => Selection::Whole,
        (_, false) => Selection::Ranges(coalesce(ranges)),
    }
}

/// One range-spec; `None` when it is not valid, `Some(None)` when it selects nothing.
fn parse_spec(spec: &str, length: u64) -> Option<Option<ByteRange>> {
    let (first, last) = spec.split_once('-')?;
    let end = length.checked_sub(1);
    if first.is_empty() {
        let suffix = position(last)?;
        let first = length.saturating_sub(suffix);
        return Some(end.filter(|_| suffix > 0).and_then(|end| ByteRange::new(first, end)));
    }
    let first_position = position(first)?;
    let last_position = if last.is_empty() { u64::MAX } else { position(last)? };
    // Positions too large for a u64 compare by their digits.
    if !last.is_empty() && is_less(last, first) {
        return None;
    }
    Some(end.and_then(|end| ByteRange::new(first_position, last_position.min(end))))
}

/// A position in bytes; one that is too large for a `u64` is as good as the largest.
fn position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn is_less(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    (one.len(), one) < (other.len(), other)
}

/// Joins what overlaps or nearly touches, so that no byte is sent twice; each joined range stands
/// where the first of its ranges stood.
fn coalesce(ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut joined: Vec<ByteRange> = Vec::with_capacity(ranges.len());
    for mut range in ranges {
        let mut place = joined.len();
        // A range that grew may touch others that it did not touch before.
        while let Some(index) = joined.iter().position(|known| known.touches(range)) {
            let known = joined.remove(index);
            range.first = range.first.min(known.first);
            range.last = range.last.max(known.last);
            place = place.min(index);
        }
        joined.insert(place, range);
    }
    joined
}

/// The frame of a `multipart/byteranges` content (RFC 9110 §14.6).
#[derive(Clone, Debug)]
pub struct Multipart<'a> {
    /// A text that is not in the content.
    pub boundary: &'a str,
    /// The media type of the representation.
    pub content_type: &'a str,
    /// The length of the representation in bytes.
    pub length: u64,
}

impl Multipart<'_> {
    /// What goes before the bytes of a part.
    pub fn part_head(&self, range: ByteRange) -> String {
        let Self { boundary, content_type, length } = self;
        let content_range = range.content_range(*length);
        format!(
            "\r\n--{boundary}\r\nContent-Type: {content_type}\r\n\
             Content-Range: {content_range}\r\n\r\n"
        )
    }

    /// What goes behind the last part.
    pub fn end(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }

    /// The length of the whole content in bytes.
    pub fn content_length(&self, ranges: &[ByteRange]) -> u64 {
        let text = |text: String| u64::try_from(text.len()).unwrap_or(u64::MAX);
        let part = |range: &ByteRange| text(self.part_head(*range)).saturating_add(range.length());
        ranges.iter().map(part).fold(text(self.end()), u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(value: &str, length: u64) -> Selection {
        select(&HeaderMap::from_iter([(RANGE, value.parse().unwrap())]), length)
    }

    fn ranges(of: &[(u64, u64)]) -> Selection {
        Selection::Ranges(
            of.iter().map(|(first, last)| ByteRange::new(*first, *last).unwrap()).collect(),
        )
    }

    #[test]
    fn each_form_of_a_range_is_read() {
        assert_eq!(of("bytes=0-0", 1000), ranges(&[(0, 0)]));
        assert_eq!(of("bytes=500-", 1000), ranges(&[(500, 999)]));
        assert_eq!(of("bytes=-1", 1000), ranges(&[(999, 999)]));
        assert_eq!(of("bytes=-2000", 1000), ranges(&[(0, 999)]));
        assert_eq!(of("bytes=990-5000", 1000), ranges(&[(990, 999)]));
        assert_eq!(of("bytes=5-99999999999999999999999", 1000), ranges(&[(5, 999)]));
        assert_eq!(of("Bytes= 0-1 ,, 500-501 ,", 1000), ranges(&[(0, 1), (500, 501)]));
        assert_eq!(of("bytes=500-501,0-1", 1000), ranges(&[(500, 501), (0, 1)]));
    }

    #[test]
    fn a_content_range_is_read_or_not_used() {
        let part = |first, last, length| {
            let range = ByteRange::new(first, last).unwrap();
            Some(ContentRange::Part { range, length })
        };
        assert_eq!(parse_content_range("bytes 42-1233/1234"), part(42, 1233, Some(1234)));
        assert_eq!(parse_content_range("Bytes 42-1233/*"), part(42, 1233, None));
        let unsatisfied = ContentRange::Unsatisfied { length: 1234 };
        assert_eq!(parse_content_range("bytes */1234"), Some(unsatisfied));
        for wrong in [
            "",
            "bytes",
            "bytes 1-2",
            "bytes 2-1/10",
            "bytes 0-10/10",
            "bytes -1/10",
            "bytes 0-/10",
            "bytes */*",
            "bytes=0-1/10",
            "items 0-1/10",
            "bytes 0-1/+10",
            "bytes 0-9223372036854775807/*",
            "bytes 0-1/99999999999999999999",
        ] {
            assert_eq!(parse_content_range(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_range_that_selects_nothing_is_unsatisfiable() {
        for nothing in ["bytes=1000-", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(of(nothing, 1000), Selection::Unsatisfiable, "{nothing}");
        }
        assert_eq!(of("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(of("bytes=-5", 0), Selection::Unsatisfiable);
        assert_eq!(of("bytes=2000-,0-1", 1000), ranges(&[(0, 1)]));
    }

    #[test]
    fn a_range_that_is_not_valid_is_ignored() {
        let huge = "bytes=99999999999999999999999-5";
        for wrong in [huge, "bytes=5-2", "bytes=a-b", "bytes=1", "bytes=", "lines=0-1", "0-1"] {
            assert_eq!(of(wrong, 1000), Selection::Whole, "{wrong}");
        }
        assert_eq!(of("bytes=0-1,5-2", 1000), Selection::Whole);
        let twice = [(RANGE, "bytes=0-1".parse().unwrap()), (RANGE, "bytes=4-5".parse().unwrap())];
        let mut headers = HeaderMap::new();
        headers.extend(twice.clone());
        headers.append(RANGE, "bytes=4-5".parse().unwrap());
        assert_eq!(select(&headers, 1000), Selection::Whole);
    }

    #[test]
    fn many_and_overlapping_ranges_cost_no_more_than_the_whole() {
        let many = (0..=MAX_RANGES).map(|n| format!("{}-{}", n * 500, n * 500)).collect::<Vec<_>>();
        assert_eq!(of(&format!("bytes={}", many.join(",")), 1_000_000), Selection::Whole);
        assert_eq!(of("bytes=0-99,50-149,150-199", 1000), ranges(&[(0, 199)]));
        assert_eq!(of("bytes=500-599,0-9,5-550", 1000), ranges(&[(0, 599)]));
        let around = "bytes=800-809,300-309,500-509,310-499";
        assert_eq!(of(around, 1000), ranges(&[(800, 809), (300, 509)]));
    }

    #[test]
    fn the_length_of_a_multipart_is_that_of_its_pieces() {
        let multipart = Multipart { boundary: "b", content_type: "text/plain", length: 1000 };
        let ranges = [ByteRange::new(0, 9).unwrap(), ByteRange::new(500, 599).unwrap()];
        let heads = ranges.map(|range| multipart.part_head(range)).concat();
        let text = heads + &multipart.end();
        assert_eq!(multipart.content_length(&ranges), u64::try_from(text.len()).unwrap() + 110);
        assert!(text.contains("Content-Range: bytes 500-599/1000\r\n"));
    }

    proptest! {
        #[test]
        fn a_written_content_range_is_read_back(
            first in 0_u64..1 << 62,
            more in 0_u64..1 << 61,
            beyond in 1_u64..1 << 61,
        ) {
            let range = ByteRange::new(first, first + more).unwrap();
            let length = first + more + beyond;
            let read = parse_content_range(&range.content_range(length));
            prop_assert_eq!(read, Some(ContentRange::Part { range, length: Some(length) }));
            let read = parse_content_range(&unsatisfied_content_range(length));
            prop_assert_eq!(read, Some(ContentRange::Unsatisfied { length }));
        }

        #[test]
        fn any_text_is_a_content_range_or_not(text in "(bytes )?[-0-9*/ ]{0,12}|.*") {
            let _ = parse_content_range(&text);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_lies_within_the_representation(
            value in "(bytes=)?[0-9,\\- ]{0,30}",
            length in 0u64..100,
        ) {
            if let Selection::Ranges(ranges) = of(&value, length) {
                prop_assert!(!ranges.is_empty());
                for range in ranges {
                    prop_assert!(range.first() <= range.last() && range.last() < length);
                }
            }
        }
    }
}
