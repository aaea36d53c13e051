//! Keeps the journal while the connections work, and has the part file synced beside them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::Shared;
use crate::client::failure::Failure;
use crate::client::{blocking, joined};
use crate::download::journal::Journal;

/// The journal is written so often.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The part file is synced so often, for the case that the power fails …
const SYNC_EVERY: Duration = Duration::from_secs(2);
/// … and after so many bytes, so that the disk is at work from the beginning and little is left to
/// do for the sync at the end.
const SYNC_BYTES: u64 = 32 << 20;
/// Whether that many came is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Keeps the journal.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    journal: Arc<Mutex<Journal>>,
    pub(super) at: Instant,
    pub(super) look_at: Instant,
    synced_at: Instant,
    synced_bytes: u64,
    syncing: Option<JoinHandle<Result<(), Failure>>>,
}

impl Keeper {
    pub(super) fn new(shared: &Arc<Shared>, journal: &Arc<Mutex<Journal>>) -> Self {
        let now = Instant::now();
        let (shared, journal) = (Arc::clone(shared), Arc::clone(journal));
        let (at, look_at, synced_bytes) =
            (now + SAVE_EVERY, now + LOOK_EVERY, shared.progress.bytes());
        Self { shared, journal, at, look_at, synced_at: now, synced_bytes, syncing: None }
    }

    /// Looks at a sync that has ended. One may take its time: nobody waits for it here.
    async fn harvest(&mut self) -> Result<(), Failure> {
        match self.syncing.take_if(|syncing| syncing.is_finished()) {
            Some(syncing) => joined(syncing).await,
            None => Ok(()),
        }
    }

    /// Starts a sync when it is time for one.
    pub(super) async fn look(&mut self) -> Result<(), Failure> {
        self.harvest().await?;
        let now = Instant::now();
        self.look_at = now + LOOK_EVERY;
        let bytes = self.shared.progress.bytes();
        let is_due = bytes.saturating_sub(self.synced_bytes) >= SYNC_BYTES
            || now - self.synced_at >= SYNC_EVERY;
        if is_due && self.syncing.is_none() {
            (self.synced_at, self.synced_bytes) = (now, bytes);
            self.begin_sync();
        }
        Ok(())
    }

    fn begin_sync(&mut self) {
        let (shared, journal) = (Arc::clone(&self.shared), Arc::clone(&self.journal));
        self.syncing = Some(spawn_blocking(move || {
            let synced = shared.plan.lock().checkpoint();
            shared.part.sync()?;
            let written = shared.plan.lock().checkpoint();
            let make_durable = journal.lock().synced(synced, written)?;
            make_durable()
        }));
    }

    /// Notes what is written.
    pub(super) async fn save(&mut self) -> Result<(), Failure> {
        self.harvest().await?;
        let (shared, journal) = (Arc::clone(&self.shared), Arc::clone(&self.journal));
        self.at = Instant::now() + SAVE_EVERY;
        blocking(move || {
            let there = shared.plan.lock().checkpoint();
            journal.lock().written(there)
        })
        .await
    }

    pub(super) async fn end(mut self) -> Result<(), Failure> {
        if let Some(syncing) = self.syncing.take() {
            joined(syncing).await?;
        }
        if self.shared.plan.lock().is_complete() {
            return Ok(());
        }
        // Who stops it may shut the machine down next.
        self.begin_sync();
        if let Some(syncing) = self.syncing.take() {
            joined(syncing).await?;
        }
        self.save().await
    }
}
