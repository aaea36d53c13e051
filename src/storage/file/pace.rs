//! Where work on files runs: where it is asked for as long as it is quick, else on a thread that may
//! wait.
//!
//! A write goes to the page cache, and a new file to the folder's, in less time than it takes to wake
//! another thread and be woken by it; and the other thread finds neither the bytes in its core's
//! cache nor warm memory to put the next ones in. (1 GiB on tmpfs in one PATCH: 1.2 s of processor
//! time by `spawn_blocking`, 1.2 s by `block_in_place`, 0.95 s in place.) But the kernel makes
//! those wait who write faster than the disk takes it, and a folder may have to be read. So work
//! that is usually quick is timed. Once some of it waited, all of it goes to other threads until none
//! waits any more: an async thread is held up once or twice, not each time.
//!
//! Work that always waits (a sync) never runs here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

/// Work that took longer waited for something; a batch takes a tenth of it. Once may be chance: the
/// core was needed elsewhere.
const SLOW: Duration = Duration::from_millis(4);
/// Twice within this time is none.
const SOON: Duration = Duration::from_millis(100);
/// Nor is this, even once.
const VERY_SLOW: Duration = Duration::from_millis(25);
/// For how long no work is done in place after some waited.
const CAUTION: Duration = Duration::from_secs(1);

/// How work behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// It waits only when something is wrong with the disk, or it has too much to do.
    Seldom,
    /// It waits for the disk.
    ForTheDisk,
}

/// Remembers when work waited last.
#[derive(Debug)]
pub(super) struct Pace {
    begin: Instant,
    /// When work was slow last, in ms since `begin`.
    slow_at: AtomicU64,
    /// Until when no work is done in place, likewise.
    careful_until: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        let (slow_at, careful_until) = Default::default();
        // So that nothing seems to have been slow at the very start.
        let begin = Instant::now().checked_sub(SOON).unwrap_or_else(Instant::now);
        Self { begin, slow_at, careful_until }
    }
}

impl Pace {
    /// What the work gives; `None` when it died on another thread. A future that is dropped does not
    /// end what has begun.
    pub(super) async fn run<T: Send + 'static>(
        self: Arc<Self>,
        waits: Waits,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if waits == Waits::ForTheDisk {
            return spawn_blocking(work).await.ok();
        }
        if self.is_careful() {
            return spawn_blocking(move || self.timed(work)).await.ok();
        }
        Some(self.timed(work))
    }

    fn is_careful(&self) -> bool {
        ms(self.begin.elapsed()) < self.careful_until.load(Ordering::Relaxed)
    }

    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = work();
        self.took(begin.elapsed());
        done
    }

    fn took(&self, time: Duration) {
        if time < SLOW {
            return;
        }
        let now = ms(self.begin.elapsed());
        let before = self.slow_at.swap(now, Ordering::Relaxed);
        if time >= VERY_SLOW || now.saturating_sub(before) < ms(SOON) {
            self.careful_until.fetch_max(now.saturating_add(ms(CAUTION)), Ordering::Relaxed);
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::thread::{current, sleep};

    use super::*;

    #[tokio::test]
    async fn work_moves_to_other_threads_while_some_waits() {
        let (pace, here) = (Arc::new(Pace::default()), current().id());
        let run = |work: fn()| {
            Arc::clone(&pace).run(Waits::Seldom, move || {
                work();
                current().id()
            })
        };
        assert_eq!(run(|| ()).await, Some(here));
        assert_eq!(run(|| sleep(VERY_SLOW)).await, Some(here));
        assert_ne!(run(|| sleep(VERY_SLOW)).await, Some(here));
        assert_ne!(run(|| ()).await, Some(here));
        sleep(CAUTION);
        assert_eq!(run(|| ()).await, Some(here));
        let synced = Arc::clone(&pace).run(Waits::ForTheDisk, || current().id()).await;
        assert_ne!(synced, Some(here));
    }

    #[test]
    fn one_hiccup_is_no_wait_and_two_are() {
        let pace = Pace::default();
        pace.took(SLOW);
        assert!(!pace.is_careful());
        pace.took(SLOW);
        assert!(pace.is_careful());
        let pace = Pace::default();
        pace.took(VERY_SLOW);
        assert!(pace.is_careful());
    }
}
