//! Entity tags, validators and the preconditions of a GET or HEAD.
//!
//! - RFC 9110 §8.8 (validators), §13 (conditional requests)

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::head::only_line;
use super::units::Timestamp;

/// A `Last-Modified` is strong only when the answer is so much later than it, in milliseconds
/// (RFC 9110 §8.8.2.2: the clock's second must be over for sure).
const STRONG_AFTER_MS: u64 = 60_000;

/// What tells one state of a representation from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// The strong entity tag with its quotes, as in `"abc"`.
    pub etag: String,
    /// A tag that stood for the same bytes before.
    pub alias: String,
    /// When the representation came to be; clients see whole seconds.
    pub last_modified: Timestamp,
}

/// What the preconditions of a request say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The request is carried out.
    Passed,
    /// 304: the client has this state already.
    NotModified,
    /// 412: the client wants another state.
    Failed,
}

impl Validators {
    /// Evaluates the preconditions in the order of RFC 9110 §13.2.2, for a GET or HEAD that would
    /// succeed without them.
    pub fn evaluate(&self, headers: &HeaderMap) -> Precondition {
        if headers.contains_key(IF_MATCH) {
            if !self.matches(headers, &IF_MATCH, Comparison::Strong) {
                return Precondition::Failed;
            }
        } else if let Some(since) = date(headers, &IF_UNMODIFIED_SINCE)
            && self.seconds() > since
        {
            return Precondition::Failed;
        }
        if headers.contains_key(IF_NONE_MATCH) {
            if self.matches(headers, &IF_NONE_MATCH, Comparison::Weak) {
                return Precondition::NotModified;
            }
        } else if let Some(since) = date(headers, &IF_MODIFIED_SINCE)
            && self.seconds() <= since
        {
            return Precondition::NotModified;
        }
        Precondition::Passed
    }

    /// Whether `Range` counts: there is no `If-Range`, or it names exactly this state by a strong
    /// validator (RFC 9110 §13.1.5).
    pub fn allow_range(&self, headers: &HeaderMap, now: Timestamp) -> bool {
        if !headers.contains_key(IF_RANGE) {
            return true;
        }
        let value = only_line(headers, &IF_RANGE).map(HeaderValue::to_str);
        let Some(Ok(value)) = value else { return false };
        let value = value.trim();
        if value.starts_with('"') || value.starts_with("W/") {
            return self.names(value);
        }
        let is_strong = now.0.saturating_sub(self.last_modified.0) >= STRONG_AFTER_MS;
        is_strong && parse_date(value) == Some(self.seconds())
    }

    fn names(&self, tag: &str) -> bool {
        tag == self.etag || tag == self.alias
    }

    fn seconds(&self) -> u64 {
        self.last_modified.0.div_euclid(1000)
    }

    fn matches(&self, headers: &HeaderMap, name: &HeaderName, comparison: Comparison) -> bool {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(entity_tags).any(|tag| match (tag, comparison) {
            ("*", _) => true,
            (tag, Comparison::Strong) => self.names(tag),
            (tag, Comparison::Weak) => self.names(tag.strip_prefix("W/").unwrap_or(tag)),
        })
    }
}

/// How entity tags are compared (RFC 9110 §8.8.3.2).
#[derive(Clone, Copy)]
enum Comparison {
    Strong,
    Weak,
}

/// The members of a list of entity tags. A tag may have commas within its quotes; empty members
/// are passed over (RFC 9110 §5.6.1.2); what is no tag ends the list.
fn entity_tags(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = value;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let bare = rest.strip_prefix("W/").unwrap_or(rest);
        let end = if let Some(opaque) = bare.strip_prefix('"') {
            let prefix = rest.len().checked_sub(opaque.len())?;
            opaque.find('"')?.checked_add(prefix)?.checked_add(1)?
        } else if rest.starts_with('*') {
            1
        } else {
            return None;
        };
        let (tag, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(tag)
    })
}

/// A field that is an HTTP date, in seconds; `None` when it is missing, repeated or invalid, which
/// all mean that it is ignored.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    parse_date(only_line(headers, name)?.to_str().ok()?)
}

fn parse_date(value: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(value.trim()).ok()?;
    time.duration_since(std::time::SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const EXACT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const MODIFIED: Timestamp = Timestamp(784_111_777_500);

    fn validators() -> Validators {
        Validators { etag: "\"a,b\"".into(), alias: "\"before\"".into(), last_modified: MODIFIED }
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter();
        fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn evaluate(fields: &[(&'static str, &str)]) -> Precondition {
        validators().evaluate(&headers(fields))
    }

    #[test]
    fn if_match_compares_strongly() {
        for passes in ["\"a,b\"", "\"before\"", "*", "\"x\", \"a,b\"", ",, \"x\" ,\"a,b\""] {
            assert_eq!(evaluate(&[("if-match", passes)]), Precondition::Passed, "{passes}");
        }
        for fails in ["W/\"a,b\"", "\"x\"", "", "a,b"] {
            assert_eq!(evaluate(&[("if-match", fails)]), Precondition::Failed, "{fails}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for known in ["\"a,b\"", "W/\"a,b\"", "*", "\"x\",W/\"a,b\""] {
            assert_eq!(evaluate(&[("if-none-match", known)]), Precondition::NotModified, "{known}");
        }
        assert_eq!(evaluate(&[("if-none-match", "\"x\"")]), Precondition::Passed);
    }

    #[test]
    fn a_list_may_be_spread_over_lines() {
        let mut fields = headers(&[("if-none-match", "\"x\"")]);
        fields.append("if-none-match", "\"a,b\"".parse().unwrap());
        assert_eq!(validators().evaluate(&fields), Precondition::NotModified);
    }

    #[test]
    fn dates_count_in_whole_seconds() {
        assert_eq!(evaluate(&[("if-modified-since", EXACT)]), Precondition::NotModified);
        assert_eq!(evaluate(&[("if-modified-since", BEFORE)]), Precondition::Passed);
        assert_eq!(evaluate(&[("if-unmodified-since", EXACT)]), Precondition::Passed);
        assert_eq!(evaluate(&[("if-unmodified-since", AFTER)]), Precondition::Passed);
        assert_eq!(evaluate(&[("if-unmodified-since", BEFORE)]), Precondition::Failed);
        assert_eq!(evaluate(&[("if-modified-since", "yesterday")]), Precondition::Passed);
    }

    #[test]
    fn tags_are_asked_before_dates() {
        let known = [("if-none-match", "\"x\""), ("if-modified-since", AFTER)];
        assert_eq!(evaluate(&known), Precondition::Passed);
        let wanted = [("if-match", "\"a,b\""), ("if-unmodified-since", BEFORE)];
        assert_eq!(evaluate(&wanted), Precondition::Passed);
        let both = [("if-match", "\"x\""), ("if-none-match", "\"a,b\"")];
        assert_eq!(evaluate(&both), Precondition::Failed);
    }

    #[test]
    fn if_range_takes_strong_validators_only() {
        let later = Timestamp(MODIFIED.0 + STRONG_AFTER_MS);
        let allow =
            |value: &str, now| validators().allow_range(&headers(&[("if-range", value)]), now);
        assert!(allow("\"a,b\"", MODIFIED));
        assert!(!allow("W/\"a,b\"", MODIFIED));
        assert!(!allow("\"x\"", MODIFIED));
        assert!(allow(EXACT, later));
        assert!(!allow(EXACT, MODIFIED), "a date of this second is weak");
        assert!(!allow(AFTER, later));
        assert!(!allow("nonsense", later));
        assert!(validators().allow_range(&HeaderMap::new(), MODIFIED));
    }
}
