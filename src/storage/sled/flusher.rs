//! Two threads that work for the database behind its users: one makes the changes that the journal has
//! and the database not yet; one has it write to its files what it holds in memory, now and then: the
//! less is left, the shorter is the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Known;
use super::committer::NOT_MADE;
use super::database::Database;

/// How often the database is flushed while records are saved.
const INTERVAL: Duration = Duration::from_secs(1);

/// How far the database is behind the journal.
const BEHIND: Duration = Duration::from_millis(20);

/// The thread that flushes.
pub(super) struct Flusher {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    is_dirty: AtomicBool,
    is_stopping: AtomicBool,
}

impl Flusher {
    pub(super) fn of(database: Arc<Database>) -> std::io::Result<Self> {
        Self::start("records-flush", INTERVAL, move || {
            if let Err(error) = database.flush() {
                // The journal has all that matters.
                tracing::warn!(%error, "the database of the records could not be flushed");
            }
        })
    }

    /// Has the database follow the journal.
    pub(super) fn following(database: Arc<Database>, known: Arc<Known>) -> std::io::Result<Self> {
        Self::start("records-follow", BEHIND, move || {
            if let Err(error) = known.pending.settle(&database) {
                tracing::error!(%error, "{NOT_MADE}");
            }
        })
    }

    /// Calls `flush` behind each [`Self::wake`], but not more often than that.
    fn start(
        name: &str,
        interval: Duration,
        flush: impl FnMut() + Send + 'static,
    ) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&shared, interval, flush))?;
        Ok(Self { state, thread: Some(thread) })
    }

    /// Says that there is something to be flushed.
    pub(super) fn wake(&self) {
        if !self.state.is_dirty.swap(true, Ordering::Relaxed)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
    }

    /// Ends the thread.
    pub(super) fn stop(&mut self) {
        self.state.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(state: &State, interval: Duration, mut flush: impl FnMut()) {
    while !state.is_stopping.load(Ordering::Relaxed) {
        if !state.is_dirty.load(Ordering::Relaxed) {
            thread::park();
            continue;
        }
        let deadline = Instant::now() + interval;
        // To the end: a wake during the last flush has left what ends one park at once.
        while !state.is_stopping.load(Ordering::Relaxed)
            && let Some(left) = deadline.checked_duration_since(Instant::now())
        {
            thread::park_timeout(left);
        }
        state.is_dirty.store(false, Ordering::Relaxed);
        flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn saves_during_a_flush_are_flushed_no_sooner_than_others() {
        let interval = Duration::from_millis(30);
        let (began, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let flush = move || {
            let _ = began.send(Instant::now());
            let _ = ends.recv();
        };
        let flusher = Flusher::start("test", interval, flush).unwrap();
        // Goes before the flusher, which waits for its thread.
        let end = end;
        flusher.wake();
        let mut last = None;
        for _ in 0..4 {
            let begin = begins.recv().unwrap();
            if let Some(last) = last.replace(begin) {
                assert!(begin - last >= interval, "{:?}", begin - last);
            }
            flusher.wake();
            end.send(()).unwrap();
        }
    }
}
