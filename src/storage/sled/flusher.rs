//! Has the database write to its files what it holds in memory, now and then: the less is left, the
//! shorter is the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::database::Database;
use super::index::guarded;

/// How often the database is flushed while records are saved.
const INTERVAL: Duration = Duration::from_secs(1);

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
    pub(super) fn start(database: Arc<Database>) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("records-flush".to_owned())
            .spawn(move || run(&database, &shared))?;
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

fn run(database: &Database, state: &State) {
    while !state.is_stopping.load(Ordering::Relaxed) {
        if !state.is_dirty.load(Ordering::Relaxed) {
            thread::park();
            continue;
        }
        thread::park_timeout(INTERVAL);
        state.is_dirty.store(false, Ordering::Relaxed);
        if let Err(error) = database.with(|database| guarded(|| database.flush()).map(|_| ())) {
            // The journal has all that matters.
            tracing::warn!(%error, "the database of the records could not be flushed");
        }
    }
}
