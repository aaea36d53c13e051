//! Which of the failures of several connections are told. Pure: the time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// What was told of one transfer, and counts until the wait that was told with it is over.
#[derive(Debug)]
struct Round {
    failed: u32,
    until: Instant,
    messages: Vec<String>,
}

/// Tells what all connections of a transfer meet once, and not once for each of them.
#[derive(Debug, Default)]
pub(super) struct Outages {
    /// By the name of the transfer.
    rounds: HashMap<String, Round>,
}

impl Outages {
    /// Whether this is to be told: the failure is another one than those that were told, or none
    /// was tried so often, or what was told is over. `now` is the time, `wait` that until the next
    /// attempt, which will be the one after `failed` others.
    ///
    /// Connections that began to fail together do so again while the wait of the first of them
    /// lasts: the jitter of all waits before is never longer.
    pub(super) fn is_news(
        &mut self,
        name: &str,
        message: &str,
        failed: u32,
        (now, wait): (Instant, Duration),
    ) -> bool {
        self.rounds.retain(|_, round| now < round.until);
        let message = message.to_owned();
        match self.rounds.get_mut(name) {
            Some(round) if failed <= round.failed => {
                let is_other = !round.messages.contains(&message);
                if is_other {
                    round.messages.push(message);
                }
                is_other
            }
            _ => {
                let round = Round { failed, until: now + wait, messages: vec![message] };
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
        let begin = Instant::now();
        let mut is_news = |at_ms: u64, name: &str, message: &str, failed: u32| {
            let (now, wait) = (begin + Duration::from_millis(at_ms), Duration::from_millis(500));
            outages.is_news(name, message, failed, (now, wait))
        };
        assert!(is_news(0, "a", "cut", 1));
        assert!(!is_news(1, "a", "cut", 1), "another connection");
        assert!(is_news(2, "a", "refused", 1) && !is_news(3, "a", "refused", 1));
        assert!(is_news(4, "b", "cut", 1), "another file");
        assert!(is_news(400, "a", "refused", 2), "another round");
        assert!(!is_news(401, "a", "refused", 1), "a connection that is behind");
        assert!(is_news(900, "a", "refused", 1), "another outage");
    }
}
