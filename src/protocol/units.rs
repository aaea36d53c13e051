//! The units that the protocols count in: bytes as decimal numbers, and points in time.
//!
//! Pure: a point in time is an argument here, never read from a clock.
//!
//! - tus 1.0 "Headers": lengths and offsets are non-negative integers
//! - RFC 9110 §8.6: `Content-Length = 1*DIGIT`
//! - RFC 9110 §5.6.7: IMF-fixdate

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The largest length or offset in bytes that is accepted anywhere: what a file offset can hold
/// (2^63 − 1). Adding two of them never overflows a `u64`.
pub const MAX_LENGTH: u64 = i64::MAX.unsigned_abs();

/// Reads `1*DIGIT` as a number of bytes of at most [`MAX_LENGTH`]. Signs, spaces, an empty text
/// and larger numbers are `None`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|bytes| *bytes <= MAX_LENGTH)
}

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The point in time `duration` later, the last one that can be told when there is none.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This point in time, or the next full second when it lies between two. Fields that show
    /// a time to clients have no finer unit.
    #[must_use]
    pub fn round_up_to_second(self) -> Self {
        Self(self.0.div_ceil(1000).saturating_mul(1000))
    }

    /// The IMF-fixdate form of RFC 9110 §5.6.7, in whole seconds (rounded down). Times after the
    /// year 9999 are shown as its last second.
    pub fn to_imf_fixdate(self) -> String {
        const END_OF_YEAR_9999_S: u64 = 253_402_300_799;
        let seconds = self.0.div_euclid(1000).min(END_OF_YEAR_9999_S);
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        httpdate::fmt_http_date(time.unwrap_or(SystemTime::UNIX_EPOCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_decimal_digits_are_bytes() {
        assert_eq!(parse_bytes("0"), Some(0));
        assert_eq!(parse_bytes("007"), Some(7));
        assert_eq!(parse_bytes("9223372036854775807"), Some(MAX_LENGTH));
        for wrong in ["", " 1", "1 ", "+1", "-1", "1.0", "0x1", "1_0", "9223372036854775808", "１"]
        {
            assert_eq!(parse_bytes(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_time_is_shown_as_imf_fixdate() {
        assert_eq!(Timestamp(784_111_777_999).to_imf_fixdate(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(Timestamp(u64::MAX).to_imf_fixdate(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn a_time_between_two_seconds_is_rounded_up() {
        assert_eq!(Timestamp(1000).round_up_to_second(), Timestamp(1000));
        assert_eq!(Timestamp(1001).round_up_to_second(), Timestamp(2000));
    }
}
