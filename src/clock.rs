//! The only caller of the system clock, and a clock for tests that is set by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::protocol::units::Timestamp;

/// Tells the time of day. Waiting is not its business: that is tokio's timer.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// A clock that stands until it is moved, in milliseconds.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that shows `now` until it is moved.
    pub fn manual(now: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(now.0)))
    }

    /// The time now. A system clock before 1970 counts as 1970.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp(0).after(
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            ),
            Self::Manual(now) => Timestamp(now.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock on; the system's clock is left alone.
    pub fn advance(&self, by: Duration) {
        match self {
            Self::System => {}
            Self::Manual(now) => now.store(self.now().after(by).0, Ordering::SeqCst),
        }
    }
}
