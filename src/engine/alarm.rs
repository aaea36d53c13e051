//! A timer that is set again and again, and seldom goes off.
//!
//! A new [`Sleep`] that ends before all others wakes the thread that waits for the sockets, so that it
//! waits less long: a system call and a change of context on the other core. An append sets its timer
//! twice for each batch, which was 5000 wake-ups for an upload of 1 GiB. So the timer that is armed stays
//! armed as long as it goes off early enough, and is put off when it does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for one waiting after the other.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once it is that late. Each call may tell another time.
    pub(super) fn poll(&mut self, at: Instant, context: &mut Context<'_>) -> Poll<()> {
        let armed = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if at < armed.deadline() {
            armed.as_mut().reset(at);
        }
        loop {
            ready!(armed.as_mut().poll(context));
            if armed.deadline() >= at {
                return Poll::Ready(());
            }
            armed.as_mut().reset(at);
        }
    }
}

/// That much later than now.
pub(super) fn from_now(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_at_the_time_that_was_told_last() {
        let (begin, mut alarm) = (Instant::now(), Alarm::default());
        let at = |ms| begin + Duration::from_millis(ms);
        let mut seen = Vec::new();
        // Set, put off, brought forward, and once more behind all of it.
        for told in [vec![100], vec![200, 300], vec![900, 400], vec![500]] {
            let (last, before) = told.split_last().unwrap();
            for ms in before {
                poll_fn(|context| {
                    assert!(alarm.poll(at(*ms), context).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            poll_fn(|context| alarm.poll(at(*last), context)).await;
            seen.push((Instant::now() - begin).as_millis());
        }
        assert_eq!(seen, [100, 300, 400, 500]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_has_passed_is_told_at_once() {
        let (begin, mut alarm) = (Instant::now(), Alarm::default());
        poll_fn(|context| alarm.poll(begin, context)).await;
        poll_fn(|context| {
            assert!(alarm.poll(begin + Duration::from_secs(1), context).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|context| alarm.poll(begin, context)).await;
        assert_eq!(Instant::now(), begin);
    }
}
