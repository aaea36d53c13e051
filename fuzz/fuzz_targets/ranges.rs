//! `Range` (RFC 9110 §14), made of its parts: each byte that was asked for is served, once, and no
//! other but those in a small gap.
#![no_main]

use http::header::RANGE;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use resumed::protocol::range::{MAX_RANGES, Multipart, Selection, select};

const MAX_GAP_BYTES: u64 = 80;

#[derive(Arbitrary, Debug)]
enum Spec {
    Between(u64, u64),
    Near(u16, u16),
    From(u64),
    Last(u64),
}

impl Spec {
    fn text(&self) -> String {
        match self {
            Self::Between(first, last) => format!("{first}-{last}"),
            Self::Near(first, length) => {
                format!("{first}-0{}", u64::from(*first) + u64::from(*length))
            }
            Self::From(first) => format!("{first}-"),
            Self::Last(length) => format!("-{length}"),
        }
    }

    /// The first position and the one behind the last, by the words of RFC 9110 §14.1.2; `None`
    /// when it is not valid.
    fn bytes(&self, length: u64) -> Option<(u64, u64)> {
        match *self {
            Self::Between(first, last) => {
                (first <= last).then(|| (first, last.saturating_add(1).min(length)))
            }
            Self::Near(first, more) => {
                let last = u64::from(first) + u64::from(more);
                Some((u64::from(first), (last + 1).min(length)))
            }
            Self::From(first) => Some((first, length)),
            Self::Last(suffix) => Some((length.saturating_sub(suffix), length)),
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Length {
    Short(u16),
    Any(u64),
}

fuzz_target!(|input: (Length, Vec<Spec>)| {
    let (length, specs) = input;
    let length = match length {
        Length::Short(length) => u64::from(length),
        Length::Any(length) => length >> 1,
    };
    let set: Vec<String> = specs.iter().map(Spec::text).collect();
    let value = HeaderValue::try_from(format!("bytes={}", set.join(" ,\t"))).expect("plain ASCII");
    let selection = select(&HeaderMap::from_iter([(RANGE, value)]), length);
    let wanted: Option<Vec<(u64, u64)>> = specs.iter().map(|spec| spec.bytes(length)).collect();
    let Some(mut wanted) = wanted else { return assert_eq!(selection, Selection::Whole) };
    wanted.retain(|(start, end)| start < end);
    let served = match selection {
        Selection::Whole => return assert!(specs.is_empty() || specs.len() > MAX_RANGES),
        Selection::Unsatisfiable => return assert!(!specs.is_empty() && wanted.is_empty()),
        Selection::Ranges(served) => served,
    };
    assert!((1..=MAX_RANGES).contains(&served.len()));
    for (start, end) in &wanted {
        let has = |range: &std::ops::Range<u64>| range.start <= *start && *end <= range.end;
        assert!(served.iter().any(|range| has(&range.to_range())), "{start}..{end} {served:?}");
    }
    let mut sorted: Vec<_> = served.iter().map(|range| range.to_range()).collect();
    sorted.sort_by_key(|range| range.start);
    assert!(sorted.windows(2).all(|pair| pair[0].end <= pair[1].start), "twice: {sorted:?}");
    wanted.sort_unstable();
    for range in &sorted {
        assert!(range.start < range.end && range.end <= length);
        let mut reached = range.start;
        for (start, end) in wanted.iter().filter(|(start, _)| range.contains(start)) {
            assert!(*start <= reached.saturating_add(MAX_GAP_BYTES), "{reached} {start}");
            reached = reached.max(*end);
        }
        assert_eq!(reached, range.end, "nobody asked for the end of {range:?}");
    }
    let multipart = Multipart { boundary: "b", content_type: "a/b", length };
    let heads: usize = served.iter().map(|range| multipart.part_head(*range).len()).sum();
    let frame = u64::try_from(heads + multipart.end().len()).expect("it is in memory");
    let bytes: u64 = served.iter().map(|range| range.length()).sum();
    assert!(bytes <= length, "more than the whole");
    assert_eq!(multipart.content_length(&served), frame + bytes);
});
