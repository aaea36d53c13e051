//! Final uploads whose client declared the digest of the whole: they are complete only once their
//! bytes were compared with it, so that nobody downloads what was not meant.

use std::sync::Arc;

use super::concat::{Parts, RETRY};
use super::{Engine, Fault};
use crate::protocol::id::UploadId;
use crate::protocol::upload::{Final, GoneReason, Kind, State, Upload};
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

    pub(super) async fn seal(self: &Arc<Self>, id: UploadId) -> Result<(), Fault> {
        let Some(Stored { upload, version }) = self.records.load(id).await? else { return Ok(()) };
        let (Kind::Final(made_of), State::Finishing { .. }) = (upload.kind(), upload.state())
        else {
            return Ok(());
        };
        let Parts::Complete(parts) = self.find_parts(made_of).await? else { return Ok(()) };
        let (next, failed) = match self.compare(&upload, made_of, parts).await {
            Ok(next) => (next, None),
            // Nobody can read it, and its parts are not what they were.
            Err(Fault::Refused(refusal)) => {
                (upload.gone(GoneReason::Lost, self.now()), Some(refusal.into()))
            }
            Err(fault) => {
                let length = upload.length();
                (upload.waiting(length, self.now().after(RETRY)), Some(fault))
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
    async fn compare(
        &self,
        upload: &Upload,
        made_of: &Final,
        parts: Vec<(UploadId, u64)>,
    ) -> Result<Upload, Fault> {
        let lengths = self.adopt(upload.id(), made_of, parts).await?;
        let complete = upload.clone().concatenated(lengths, self.now());
        let digests = self.hash_again(&complete).await?;
        if upload.declared().disagrees(&digests).is_none() {
            return Ok(self.with_expiry(complete.digested(digests)));
        }
        tracing::warn!(upload = %upload.id(), "the parts do not have the digest that was declared");
        Ok(upload.clone().gone(GoneReason::DigestMismatch, self.now()))
    }
}
