//! A limit of the rate that all connections of a process share.

use std::ops::RangeInclusive;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What may be taken at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// Hands out bytes at a rate.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_s: Option<u64>,
    /// When everything that was handed out will have been paid for.
    paid: Mutex<Instant>,
}

impl RateLimit {
    /// At most this many bytes a second, or any number.
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        Self { bytes_per_s, paid: Mutex::new(Instant::now()) }
    }

    /// Whether there is one.
    pub fn is_limited(&self) -> bool {
        self.bytes_per_s.is_some()
    }

    /// How many bytes to move at once, so that they do not come in lumps that look like stalls: a
    /// tenth of a second's, between these bounds.
    pub fn piece_bytes(&self, bounds: RangeInclusive<usize>) -> usize {
        let (least, most) = bounds.into_inner();
        let tenth = self.bytes_per_s.map(|rate| usize::try_from(rate / 10).unwrap_or(most));
        tenth.unwrap_or(most).clamp(least, most)
    }

    /// Returns when `bytes` more may have been moved. A dropped future has taken them all the same.
    pub async fn take(&self, bytes: usize) {
        if let Some(rate) = self.bytes_per_s {
            let until = reserve(&mut self.paid.lock(), Instant::now(), bytes, rate);
            sleep_until(until).await;
        }
    }
}

fn reserve(paid: &mut Instant, now: Instant, bytes: usize, rate: u64) -> Instant {
    let nanos = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000_000);
    let cost = Duration::from_nanos(
        u64::try_from(nanos.checked_div(u128::from(rate)).unwrap_or(u128::MAX)).unwrap_or(u64::MAX),
    );
    let earliest = now.checked_sub(BURST).unwrap_or(now);
    *paid = (*paid).max(earliest) + cost.min(Duration::from_secs(86_400));
    *paid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_for_all_takers_together() {
        let limit = RateLimit::new(Some(1000));
        let begin = Instant::now();
        for _ in 0..10 {
            tokio::join!(limit.take(300), limit.take(200));
        }
        let took = begin.elapsed();
        assert!(
            took >= Duration::from_millis(4900) && took <= Duration::from_millis(5050),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_no_more_than_a_burst() {
        let limit = RateLimit::new(Some(1000));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begin = Instant::now();
        limit.take(1000).await;
        assert!(begin.elapsed() >= Duration::from_millis(890), "{:?}", begin.elapsed());
    }

    #[test]
    fn pieces_are_those_of_a_tenth_of_a_second() {
        let piece = |rate| RateLimit::new(rate).piece_bytes(10..=100);
        assert_eq!([None, Some(1), Some(500), Some(9999)].map(piece), [100, 10, 50, 100]);
    }

    #[tokio::test]
    async fn without_a_limit_nobody_waits() {
        let limit = RateLimit::new(None);
        limit.take(usize::MAX).await;
    }
}
