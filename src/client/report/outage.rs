//! Which of the failures of several connections are told. Pure: the time is an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    /// The name of the transfer.
    pub(super) name: &'a str,
    /// Why, in words.
    pub(super) message: &'a str,
    /// How many in a row failed on its connection.
    pub(super) failed: u32,
    /// The time until the next one.
    pub(super) wait: Duration,
}

/// What was told of one transfer.
#[derive(Debug)]
struct Round {
    failed: u32,
    /// The end of the wait that was told.
    until: Instant,
    messages: Vec<String>,
    /// What had been moved; `None` when nothing was to be moved yet.
    moved: Option<u64>,
}

/// Tells what all connections of a transfer meet once, and not once for each of them.
#[derive(Debug, Default)]
pub(super) struct Outages {
    /// By the name of the transfer.
    rounds: HashMap<String, Round>,
    /// What was moved by the transfers that run.
    running: HashMap<String, Arc<AtomicU64>>,
}

impl Outages {
    /// A transfer runs: this many bytes were moved for it.
    pub(super) fn begin(&mut self, name: &str, moved: &Arc<AtomicU64>) {
        self.running.insert(name.to_owned(), Arc::clone(moved));
    }

    /// A transfer ended.
    pub(super) fn end(&mut self, name: &str, moved: &Arc<AtomicU64>) {
        if self.running.get(name).is_some_and(|running| Arc::ptr_eq(running, moved)) {
            self.running.remove(name);
            self.rounds.remove(name);
        }
    }

    /// Whether this is to be told: the failure is another one than those that were told, or none
    /// was tried so often, or what was told is over.
    ///
    /// It is over when its wait is and bytes were moved since. Not before the wait is: what was on
    /// its way when the first connection failed may still arrive on others.
    pub(super) fn is_news(&mut self, attempt: &Attempt<'_>, now: Instant) -> bool {
        let Attempt { name, failed, wait, .. } = *attempt;
        let message = attempt.message.to_owned();
        let moved = self.running.get(name).map(|moved| moved.load(Ordering::Relaxed));
        self.rounds.retain(|of, round| {
            let is_same = round.moved.is_some() && (of != name || round.moved == moved);
            now < round.until || is_same
        });
        match self.rounds.get_mut(name) {
            Some(round) if failed <= round.failed => {
                let is_other = !round.messages.contains(&message);
                if is_other {
                    round.messages.push(message);
                }
                is_other
            }
            _ => {
                let round = Round { failed, until: now + wait, messages: vec![message], moved };
                self.rounds.insert(name.to_owned(), round);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_connections_meet_is_told_once_in_each_round() {
        let mut outages = Outages::default();
        let (begin, moved) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let is_news = |outages: &mut Outages, at_ms: u64, told: (&str, &str, u32)| {
            let ((name, message, failed), wait) = (told, Duration::from_millis(500));
            let attempt = Attempt { name, message, failed, wait };
            outages.is_news(&attempt, begin + Duration::from_millis(at_ms))
        };
        outages.begin("a", &moved);
        assert!(is_news(&mut outages, 0, ("a", "cut", 1)));
        assert!(!is_news(&mut outages, 1, ("a", "cut", 1)), "another connection");
        moved.store(1, Ordering::Relaxed);
        assert!(!is_news(&mut outages, 2, ("a", "cut", 1)), "bytes that were on their way");
        assert!(is_news(&mut outages, 3, ("a", "refused", 1)));
        assert!(!is_news(&mut outages, 4, ("a", "refused", 1)));
        assert!(is_news(&mut outages, 5, ("b", "cut", 1)), "another file");
        assert!(is_news(&mut outages, 400, ("a", "refused", 2)), "another round");
        for at_ms in [401, 9000] {
            assert!(!is_news(&mut outages, at_ms, ("a", "refused", 1)), "one that is behind");
        }
        moved.store(2, Ordering::Relaxed);
        assert!(is_news(&mut outages, 9001, ("a", "refused", 1)), "another outage");
        outages.end("a", &moved);
        assert!(outages.running.is_empty() && !outages.rounds.contains_key("a"));
    }

    #[test]
    fn what_fails_before_anything_is_moved_is_told_each_time() {
        let (mut outages, begin) = (Outages::default(), Instant::now());
        let wait = Duration::from_millis(500);
        let attempt = Attempt { name: "a", message: "cut", failed: 1, wait };
        assert!(outages.is_news(&attempt, begin) && !outages.is_news(&attempt, begin));
        assert!(outages.is_news(&attempt, begin + wait), "it succeeded in between");
    }
}
