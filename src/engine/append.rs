//! The append path, the same for a PATCH and for a creation with content:
//! write → commit (data durable) → save the record → answer.
//!
//! A long append does the same every [`CHECKPOINT_BYTES`] or [`CHECKPOINT_INTERVAL`], so that its
//! end is short and a crash loses little. However the content ends, what arrived is kept, but for
//! content that reaches beyond the upload's length: that client is wrong about what it sends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::content::{Batch, Content, Ending, Gatherer};
use super::lease::Lease;
use super::{Engine, Fault};
use crate::protocol::refusal::Refusal;
use crate::protocol::upload::{Admission, Upload};
use crate::storage::{DataWriter, StorageError, Version};

/// The bytes after which a running append is made durable.
pub(super) const CHECKPOINT_BYTES: u64 = 64 << 20;
/// The time after which a running append is made durable.
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// A writer lets go of what it holds open when nothing came for this long.
const LULL: Duration = Duration::from_millis(250);

/// An append that was admitted and runs.
pub(super) struct Appending {
    pub(super) engine: Arc<Engine>,
    /// Held until the last save: whoever takes over sees all of it.
    pub(super) lease: Lease,
    pub(super) upload: Upload,
    /// The version that is in the store; `None` for an upload that is being created.
    pub(super) version: Option<Version>,
    pub(super) admission: Admission,
}

/// Where a running append stands.
struct Progress {
    /// The end of what was written.
    offset: u64,
    /// The end of what is recorded.
    saved_offset: u64,
    saved_at: Instant,
}

impl Appending {
    /// Carries the append out. Runs in a task of its own: a client that goes away must not drop
    /// it half-way.
    ///
    /// # Errors
    ///
    /// `BeyondLength` or `TooLong`, and nothing since the last checkpoint is kept; `ContentCut`,
    /// `ContentTimeout`, `Superseded`, `ShuttingDown`, and what arrived is kept; and what the
    /// stores could not do.
    pub(super) async fn run(mut self, content: Box<dyn Content>) -> Result<Upload, Fault> {
        let allowance = self.admission.ceiling.saturating_sub(self.admission.offset);
        let superseded = self.lease.superseded();
        let stopping = self.engine.stopping.clone();
        let mut gatherer = Gatherer::new(content, allowance, superseded, stopping);
        let first = gatherer.gather(None).await;
        let offset = self.admission.offset;
        if let (Some(ending), 0) = (first.ending, first.bytes) {
            return self.end(ending, offset).await;
        }
        let mut writer = self.engine.data.writer(self.upload.id(), offset).await?;
        let (ending, offset) = self.write_all(first, &mut gatherer, writer.as_mut()).await?;
        self.end(ending, offset).await
    }

    /// Writes until the content ends; all of it is committed when this returns, except after an
    /// overrun.
    async fn write_all(
        &mut self,
        first: Batch,
        gatherer: &mut Gatherer,
        writer: &mut dyn DataWriter,
    ) -> Result<(Ending, u64), Fault> {
        let offset = self.admission.offset;
        let mut progress = Progress { offset, saved_offset: offset, saved_at: Instant::now() };
        let mut batch = first;
        loop {
            progress.offset = progress.offset.saturating_add(batch.bytes);
            if let Some(ending) = batch.ending {
                match ending {
                    Ending::Overrun => {}
                    Ending::Whole
                    | Ending::Cut
                    | Ending::TooSlow
                    | Ending::Superseded
                    | Ending::Stopping => writer.write_and_commit(batch.pieces).await?,
                }
                return Ok((ending, progress.offset));
            }
            batch = self.write_one(batch, gatherer, writer).await?;
            self.checkpoint_if_due(&mut progress, writer).await?;
        }
    }

    /// Writes one batch while the next one is gathered.
    async fn write_one(
        &self,
        batch: Batch,
        gatherer: &mut Gatherer,
        writer: &mut dyn DataWriter,
    ) -> Result<Batch, StorageError> {
        if batch.bytes == 0 {
            // Nothing came for a while: hold no file open while the peer stalls.
            writer.rest().await?;
            return Ok(gatherer.gather(Some(CHECKPOINT_INTERVAL)).await);
        }
        let (written, next) = tokio::join!(writer.write(batch.pieces), gatherer.gather(Some(LULL)));
        written.map(|()| next)
    }

    async fn checkpoint_if_due(
        &mut self,
        progress: &mut Progress,
        writer: &mut dyn DataWriter,
    ) -> Result<(), Fault> {
        let fresh = progress.offset.saturating_sub(progress.saved_offset);
        let is_due = fresh >= CHECKPOINT_BYTES
            || (fresh > 0 && progress.saved_at.elapsed() >= CHECKPOINT_INTERVAL);
        if !is_due {
            return Ok(());
        }
        writer.commit().await?;
        self.save(self.upload.clone().received(&self.admission, progress.offset)).await?;
        progress.saved_offset = progress.offset;
        progress.saved_at = Instant::now();
        Ok(())
    }

    /// Records where the content ended, and tells how it did.
    async fn end(mut self, ending: Ending, offset: u64) -> Result<Upload, Fault> {
        let was_created = self.version.is_some();
        let refusal = match ending {
            Ending::Overrun => return Err(self.admission.overrun().into()),
            Ending::Whole => None,
            Ending::Cut => Some(Refusal::ContentCut),
            Ending::TooSlow => Some(Refusal::ContentTimeout),
            Ending::Superseded => Some(Refusal::Superseded),
            Ending::Stopping => Some(Refusal::ShuttingDown),
        };
        // An append of nothing to a complete upload is how a client asks whether it is complete.
        if !self.upload.is_complete() {
            let received = self.upload.clone().received(&self.admission, offset);
            let is_complete = self.admission.completes(offset, ending == Ending::Whole);
            let next = if is_complete { received.completed(self.engine.now()) } else { received };
            self.save(next).await?;
        }
        match refusal {
            // All bytes came, however the message around them ended; or the client has yet to
            // learn the URL of what was created, and how far it came.
            Some(refusal) if was_created && !self.upload.is_complete() => Err(refusal.into()),
            _ => Ok(self.upload),
        }
    }

    async fn save(&mut self, next: Upload) -> Result<(), StorageError> {
        let next = self.engine.with_expiry(next);
        // Nothing to save when nothing changed, as after an empty append that sets nothing.
        if self.version.is_none() || next != self.upload {
            let version = self.engine.records.save(next.clone(), self.version).await?;
            self.version = Some(version);
            self.upload = next;
        }
        Ok(())
    }
}
