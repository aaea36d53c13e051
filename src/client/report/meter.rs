//! The speed over the last seconds. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// What is longer ago does not count.
const WINDOW: Duration = Duration::from_secs(5);

/// Knows how many bytes there were in the last seconds.
#[derive(Debug)]
pub(super) struct Meter {
    seen: VecDeque<(Instant, u64)>,
}

impl Meter {
    pub(super) fn new(now: Instant, bytes: u64) -> Self {
        Self { seen: VecDeque::from([(now, bytes)]) }
    }

    /// There are `bytes` now. The speed in bytes a second, 0 when they became fewer.
    pub(super) fn observe(&mut self, now: Instant, bytes: u64) -> u64 {
        while self.seen.len() > 1 && self.seen.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.seen.pop_front();
        }
        self.seen.push_back((now, bytes));
        let (begin, before) = self.seen.front().copied().unwrap_or((now, bytes));
        let took_ms = (now - begin).as_millis().max(1);
        let moved = u128::from(bytes.saturating_sub(before));
        u64::try_from(moved.saturating_mul(1000) / took_ms).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_that_of_the_last_seconds() {
        let begin = Instant::now();
        let mut meter = Meter::new(begin, 0);
        let mut speed = 0;
        for second in 1..=20 {
            let bytes = if second <= 10 { second * 1000 } else { 10_000 + (second - 10) * 50 };
            speed = meter.observe(begin + Duration::from_secs(second), bytes);
        }
        assert_eq!(speed, 50);
        assert_eq!(meter.observe(begin + Duration::from_secs(21), 0), 0);
    }
}
