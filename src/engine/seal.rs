//! Final uploads whose client declared the digest of the whole: they are complete only once their
//! bytes were compared with it, so that nobody downloads what was not meant.

use std::sync::Arc;

use super::Engine;
use super::concat::RETRY;
use crate::protocol::id::UploadId;
use crate::protocol::upload::{GoneReason, Placement, State, Upload};
use crate::storage::{StorageError, Stored};

impl Engine {
    /// Compares the bytes of a final upload with its digest in the background. A crash leaves it
    /// to the sweep.
    pub(super) fn start_seal(self: &Arc<Self>, id: UploadId) {
        let engine = Arc::clone(self);
        self.in_background(id, async move {
            if let Err(error) = engine.seal(id).await {
                tracing::warn!(%error, "a final upload is not compared with its digest yet");
            }
        });
    }

    pub(super) async fn seal(self: &Arc<Self>, id: UploadId) -> Result<(), StorageError> {
        let Some(Stored { upload, version }) = self.records.load(id).await? else { return Ok(()) };
        let (State::Finishing { length, .. }, Placement::Parts { lengths, .. }) =
            (upload.state(), upload.placement())
        else {
            return Ok(());
        };
        let (next, failed) = match self.compare(&upload, Arc::clone(lengths)).await {
            Ok(next) => (next, None),
            Err(error) => {
                let length = *length;
                (upload.waiting(length, self.now().after(RETRY)), Some(error))
            }
        };
        // It may have been cancelled while its bytes were read.
        let saved = self.records.save(next, Some(version)).await;
        self.remove_if_gone(id).await?;
        saved?;
        // Where it is complete its bytes lie in parts, so it is due at once: the next sweep joins them.
        failed.map_or(Ok(()), Err)
    }

    /// What the final upload is once its bytes were compared with its digest.
    async fn compare(&self, upload: &Upload, lengths: Arc<[u64]>) -> Result<Upload, StorageError> {
        let complete = upload.clone().concatenated(lengths, self.now());
        let digests = self.hash_again(&complete).await?;
        if upload.declared().disagrees(&digests).is_none() {
            return Ok(self.with_expiry(complete.digested(digests)));
        }
        tracing::warn!(upload = %upload.id(), "the parts do not have the digest that was declared");
        Ok(upload.clone().gone(GoneReason::DigestMismatch, self.now()))
    }
}
