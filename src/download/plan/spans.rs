//! A set of bytes of a file. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Bytes by their offsets: spans that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Spans {
    /// Starts and ends.
    spans: BTreeMap<u64, u64>,
    total: u64,
}

impl From<Vec<(u64, u64)>> for Spans {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        pairs.into_iter().map(|(start, end)| start..end).collect()
    }
}

impl From<Spans> for Vec<(u64, u64)> {
    fn from(spans: Spans) -> Self {
        spans.spans.into_iter().collect()
    }
}

impl FromIterator<Range<u64>> for Spans {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut spans = Self::default();
        for range in ranges {
            spans.insert(range);
        }
        spans
    }
}

impl Spans {
    /// Adds these bytes; those that are there already stay.
    pub fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        // Whatever overlaps or touches becomes one with it.
        while let Some((known_start, known_end)) = self.last_from_below(end) {
            if known_end < start {
                break;
            }
            self.take(known_start);
            start = start.min(known_start);
            end = end.max(known_end);
        }
        self.put(start, end);
    }

    fn put(&mut self, start: u64, end: u64) {
        self.spans.insert(start, end);
        self.total = self.total.saturating_add(end.saturating_sub(start));
    }

    fn take(&mut self, start: u64) {
        let end = self.spans.remove(&start).unwrap_or(start);
        self.total = self.total.saturating_sub(end.saturating_sub(start));
    }

    /// Takes these bytes away, if they are there.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&start, &end)) = self.spans.range(..range.end).next_back() {
            if end <= range.start {
                break;
            }
            self.take(start);
            if range.end < end {
                self.put(range.end, end);
            }
            if start < range.start {
                self.put(start, range.start);
            }
        }
    }

    /// The last span that starts at `end` or before.
    fn last_from_below(&self, end: u64) -> Option<(u64, u64)> {
        self.spans.range(..=end).next_back().map(|(start, end)| (*start, *end))
    }

    /// Whether all of these bytes are there.
    pub fn contains(&self, range: Range<u64>) -> bool {
        range.is_empty()
            || self.last_from_below(range.start).is_some_and(|(_, end)| end >= range.end)
    }

    /// The number of bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The spans, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.spans.iter().map(|(start, end)| *start..*end)
    }

    /// The spans of the first `length` bytes that are not there, in order.
    pub fn gaps(&self, length: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let starts = std::iter::once(0).chain(self.spans.values().copied());
        let ends = self.spans.keys().copied().chain(std::iter::once(length));
        starts
            .zip(ends)
            .map(move |(start, end)| start..end.min(length))
            .filter(|gap| !gap.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_a_set_of_bytes(
            changes in proptest::collection::vec((any::<bool>(), 0_u64..64, 0_u64..64), 0..40),
        ) {
            let mut spans = Spans::default();
            let mut model = [false; 64];
            let place = |at: u64| usize::try_from(at).unwrap();
            for (is_added, start, end) in changes {
                if is_added { spans.insert(start..end) } else { spans.remove(start..end) }
                for at in start..end {
                    model[place(at)] = is_added;
                }
                let there: Vec<u64> = spans.iter().flatten().collect();
                let expected: Vec<u64> = (0..64).filter(|at| model[place(*at)]).collect();
                prop_assert_eq!(&there, &expected);
                let missing: Vec<u64> = spans.gaps(64).flatten().collect();
                let expected: Vec<u64> = (0..64).filter(|at| !model[place(*at)]).collect();
                prop_assert_eq!(&missing, &expected);
                prop_assert_eq!(place(spans.total()), there.len());
                let ends: Vec<_> = spans.iter().collect();
                prop_assert!(ends.windows(2).all(|two| two[0].end < two[1].start));
                prop_assert_eq!(spans.contains(start..end), (start..end).all(|at| model[place(at)]));
            }
            let json = serde_json::to_string(&spans).unwrap();
            prop_assert_eq!(serde_json::from_str::<Spans>(&json).unwrap(), spans);
        }
    }
}
