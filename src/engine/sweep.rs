//! The sweep: ends what has expired and forgets what is gone. Its work grows with what is due,
//! never with the number of uploads.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Engine, Fault};
use crate::protocol::id::UploadId;
use crate::protocol::upload::{GoneReason, State};
use crate::storage::StorageError;

/// How often the sweep looks for what is due.
const INTERVAL: Duration = Duration::from_secs(2);
/// The rest between two looks while there is more, so that requests have their turn.
const PAUSE: Duration = Duration::from_millis(50);
/// The uploads that one look takes on.
const BATCH: usize = 256;

impl Engine {
    /// Sweeps until the engine stops.
    pub async fn sweep_forever(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                _ = ticks.tick() => {}
            }
            loop {
                match self.sweep().await {
                    Ok(BATCH) => sleep(PAUSE).await,
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "could not look for what is due; trying again");
                        break;
                    }
                }
            }
        }
    }

    /// Does what is due now, [`BATCH`] uploads at the most; how many there were.
    ///
    /// # Errors
    ///
    /// The store could not tell what is due. An upload that fails is logged and is due again; it
    /// does not keep the others.
    pub async fn sweep(self: &Arc<Self>) -> Result<usize, StorageError> {
        let due = self.records.due(self.now(), BATCH).await?;
        for id in &due {
            if let Err(error) = self.sweep_one(*id).await {
                tracing::warn!(%error, "could not sweep an upload; trying again");
            }
        }
        Ok(due.len())
    }

    /// Ends or forgets one upload, unless it is being written: then it is no longer due.
    async fn sweep_one(self: &Arc<Self>, id: UploadId) -> Result<(), StorageError> {
        let Some(lease) = self.leases.acquire_free(id) else {
            return Ok(());
        };
        let Some(stored) = self.records.load(id).await? else {
            return Ok(());
        };
        if stored.upload.wake().is_none_or(|wake| wake > self.now()) {
            return Ok(());
        }
        match stored.upload.state() {
            State::Receiving { .. } | State::Finishing { .. } | State::Complete { .. }
                if stored.upload.is_expired(self.now()) =>
            {
                self.end_upload(stored, GoneReason::Expired).await
            }
            State::Receiving { .. } => Ok(()),
            State::Finishing { .. } => {
                drop(lease);
                match self.settle(id).await {
                    Err(Fault::Storage(error)) => Err(error),
                    Ok(()) | Err(Fault::Refused(_)) => Ok(()),
                }
            }
            State::Complete { .. } => {
                self.start_join(id);
                Ok(())
            }
            State::Gone { .. } => {
                // Once more: a crash may have come between the record and the bytes.
                self.data.remove(id).await?;
                self.records.delete(id, stored.version).await
            }
        }
    }
}
