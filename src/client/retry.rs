//! When to try again: exponential backoff with jitter, and what the peer asks for.
//!
//! Pure but for [`Retries::wait`], which draws the jitter and sleeps.
//!
//! - RFC 9110 §10.2.3 (Retry-After)

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::failure::Failure;
use crate::protocol::units::{Timestamp, parse_bytes};

/// The wait after the first failure, before the jitter.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// No wait is longer, unless the peer asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A peer that asks for more patience than this is given up.
const MOST_PATIENCE: Duration = Duration::from_secs(3600);
/// The attempts in a row at what is soon certain, such as a name that nobody has.
const FEW_TRIES: u32 = 3;

/// What `Retry-After` asks for, as seconds or as a date; `None` when it is not there or malformed.
pub fn parse_retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Some(seconds) = parse_bytes(text) {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since_epoch.saturating_sub(Duration::from_millis(now.0)))
}

/// How often, and after which waits, something is tried again. Progress starts the count anew.
#[derive(Clone, Debug)]
pub struct Retries {
    max_tries: u32,
    failed: u32,
    /// Those of the last failures that are soon certain.
    certain: u32,
}

impl Retries {
    /// At most `max_tries` attempts in a row without progress; 0 is without an end.
    pub fn new(max_tries: u32) -> Self {
        Self { max_tries, failed: 0, certain: 0 }
    }

    /// The attempts that failed since there was progress.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// Something was achieved: the next failure is the first one again.
    pub fn progressed(&mut self) {
        (self.failed, self.certain) = (0, 0);
    }

    /// Counts a failure. How long to wait before the next attempt, or the failure back when
    /// none is left or would help. `random` is any number, for the jitter: of the exponential wait,
    /// at least a half.
    ///
    /// # Errors
    /// The failure that came in.
    pub fn after(&mut self, failure: Failure, random: u64) -> Result<(Duration, Failure), Failure> {
        self.failed = self.failed.saturating_add(1);
        let certain = self.certain.saturating_add(1);
        self.certain = if failure.is_soon_certain() { certain } else { 0 };
        let asked = failure.retry_after().unwrap_or_default();
        let is_last = self.failed >= self.max_tries || self.certain >= FEW_TRIES;
        if !failure.is_transient() {
            return Err(failure);
        }
        if asked > MOST_PATIENCE {
            let minutes = asked.as_secs() / 60;
            return Err(failure.with_words(&format!("it asks for {minutes} minutes of patience")));
        }
        if is_last && self.max_tries > 0 {
            let attempts = if self.failed == 1 { "attempt" } else { "attempts" };
            let words = format!("given up after {} {attempts}", self.failed);
            return Err(failure.with_words(&words));
        }
        let doublings = self.failed.saturating_sub(1).min(16);
        let whole = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
        let half_ms = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(random % half_ms.saturating_add(1));
        Ok(((whole / 2 + jitter).max(asked), failure))
    }
}

/// A number nobody can guess; 0 should the system have none, since jitter is no secret.
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passing() -> Failure {
        Failure::broken_answer("cut")
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let parse = |text: &str, now_s: u64| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            parse_retry_after(&headers, Timestamp(now_s * 1000))
        };
        assert_eq!(parse("120", 0), Some(Duration::from_secs(120)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(parse(date, 784_111_770), Some(Duration::from_secs(7)));
        assert_eq!(parse(date, 784_111_780), Some(Duration::ZERO), "a date that has passed");
        assert_eq!(parse("soon", 0), None);
    }

    #[test]
    fn progress_starts_the_count_anew() {
        let mut retries = Retries::new(2);
        retries.after(passing(), 0).unwrap();
        retries.progressed();
        retries.after(passing(), 0).unwrap();
        assert!(retries.after(passing(), 0).is_err());
    }

    #[test]
    fn who_asks_for_too_much_patience_is_given_up_and_it_is_said() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "86400".parse().unwrap())]);
        let (url, status) = ("http://host".parse().unwrap(), http::StatusCode::SERVICE_UNAVAILABLE);
        let failure = Failure::status(&url, status, &headers, Timestamp(0));
        let given_up = Retries::new(0).after(failure, 0).unwrap_err().to_string();
        assert!(given_up.ends_with("it asks for 1440 minutes of patience"), "{given_up}");
    }

    #[test]
    fn what_will_not_pass_is_not_tried_again() {
        assert!(Retries::new(0).after(passing().for_good(), 0).is_err());
    }

    #[test]
    fn what_is_soon_certain_is_given_up_soon_unless_it_is_tried_without_an_end() {
        let mut retries = Retries::new(10);
        for failure in [passing(), passing(), passing().for_few_tries(), passing()] {
            retries.after(failure, 0).unwrap();
        }
        for _ in 1..FEW_TRIES {
            retries.after(passing().for_few_tries(), 0).unwrap();
        }
        assert!(retries.after(passing().for_few_tries(), 0).is_err());
        let mut retries = Retries::new(0);
        assert!((0..20).all(|_| retries.after(passing().for_few_tries(), 0).is_ok()));
    }

    proptest! {
        #[test]
        fn waits_grow_to_a_bound_and_keep_half_of_themselves(
            failures in 1_u32..40,
            random in any::<u64>(),
        ) {
            let mut retries = Retries::new(0);
            for _ in 1..failures {
                retries.after(passing(), random).unwrap();
            }
            let (wait, _) = retries.after(passing(), random).unwrap();
            let whole = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_WAIT);
            prop_assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
    }
}
