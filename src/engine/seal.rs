//! Final uploads whose client declared the digest of the whole: they are complete only once their
//! bytes were compared with it, so that nobody downloads what was not meant.

use std::sync::Arc;

use super::concat::Parts;
use super::{Engine, Fault};
use crate::protocol::id::UploadId;
use crate::protocol::upload::{GoneReason, Kind, State};
use crate::storage::Stored;

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

    async fn seal(self: &Arc<Self>, id: UploadId) -> Result<(), Fault> {
        let Some(Stored { upload, version }) = self.records.load(id).await? else { return Ok(()) };
        let (Kind::Final(made_of), State::Finishing { .. }) = (upload.kind(), upload.state())
        else {
            return Ok(());
        };
        let Parts::Complete(parts) = self.find_parts(made_of).await? else { return Ok(()) };
        let lengths = self.adopt(id, made_of, parts).await?;
        let now = self.now();
        let complete = upload.clone().concatenated(lengths, now);
        let digests = self.hash_again(&complete).await?;
        let is_right = upload.declared().disagrees(&digests).is_none();
        let next = if is_right {
            self.with_expiry(complete.digested(digests))
        } else {
            tracing::warn!(upload = %id, "the parts do not have the digest that was declared");
            upload.gone(GoneReason::DigestMismatch, now)
        };
        self.records.save(next, Some(version)).await?;
        // Once more for one that is gone: it may have been cancelled while its bytes were read.
        let now = self.records.load(id).await?;
        if now.is_none_or(|stored| !stored.upload.is_complete()) {
            self.data.remove(id).await?;
            return Ok(());
        }
        // Its bytes lie in parts, so it is due at once: the next sweep joins them.
        Ok(())
    }
}
