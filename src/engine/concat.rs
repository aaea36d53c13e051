//! Final uploads: made of partial ones, at a cost that does not grow with their bytes.
//!
//! Once its parts are complete a final upload is given hold of their bytes as they lie, and is
//! complete: it can be downloaded at once. Joining them to one file, and computing the digest,
//! come later and are nobody's concern; a crash leaves them to the sweep.
//!
//! - tus 1.0 "Concatenation"

use std::sync::Arc;
use std::time::Duration;

use super::{Engine, Fault};
use crate::protocol::id::UploadId;
use crate::protocol::refusal::Refusal;
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::upload::{Final, GoneReason, Kind, Placement, State, Upload};
use crate::storage::{Failure, StorageError, Stored};

/// How often a final upload looks for its parts when nobody asks for it.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// When joining is tried again after there was no room for it.
const JOIN_RETRY: Duration = Duration::from_secs(10 * 60);

/// What the parts of a final upload come to.
pub(super) enum Parts {
    /// All are complete, with these lengths.
    Complete(Vec<(UploadId, u64)>),
    /// Some are not; the sum of their lengths, when all are told.
    Unfinished(Option<u64>),
}

impl Engine {
    /// Makes a final upload, which waits for its parts if it has to.
    pub(super) async fn create_final(
        self: &Arc<Self>,
        upload: Upload,
        made_of: &Final,
    ) -> Result<Upload, Fault> {
        let now = self.now();
        let mut is_to_be_sealed = false;
        let upload = match self.find_parts(made_of).await? {
            Parts::Complete(parts) if !upload.declared().is_empty() => {
                is_to_be_sealed = true;
                let length = parts.iter().map(|(_, length)| *length).fold(0, u64::saturating_add);
                upload.waiting(Some(length), now)
            }
            Parts::Complete(parts) => {
                let lengths = self.adopt(upload.id(), made_of, parts).await?;
                upload.concatenated(lengths, now)
            }
            Parts::Unfinished(length) => upload.waiting(length, now.after(CHECK_INTERVAL)),
        };
        let upload = self.with_expiry(upload);
        if let Err(error) = self.records.save(upload.clone(), None).await {
            self.remove_unsaved(upload.id()).await;
            return Err(error.into());
        }
        let parts = made_of.parts.len();
        tracing::info!(upload = %upload.id(), parts, "final upload is created");
        if upload.is_complete() {
            self.start_join(upload.id());
        } else if is_to_be_sealed {
            self.start_seal(upload.id());
        }
        Ok(upload)
    }

    /// Looks whether the parts of a final upload that waits are complete now.
    pub(super) async fn settle(self: &Arc<Self>, id: UploadId) -> Result<(), Fault> {
        let Some(_lease) = self.leases.acquire_free(id) else { return Ok(()) };
        let Some(Stored { upload, version }) = self.records.load(id).await? else {
            return Ok(());
        };
        let (Kind::Final(made_of), State::Finishing { length: known, check_at }) =
            (upload.kind().clone(), upload.state().clone())
        else {
            return Ok(());
        };
        let now = self.now();
        let next = match self.find_parts(&made_of).await {
            Ok(Parts::Complete(_)) if !upload.declared().is_empty() => {
                self.start_seal(id);
                return Ok(());
            }
            Ok(Parts::Complete(parts)) => match self.adopt(id, &made_of, parts).await {
                Ok(lengths) => self.with_expiry(upload.concatenated(lengths, now)),
                Err(Fault::Refused(_)) => upload.gone(GoneReason::Lost, now),
                Err(fault) => return Err(fault),
            },
            Ok(Parts::Unfinished(length)) if length == known && check_at > now => return Ok(()),
            Ok(Parts::Unfinished(length)) => upload.waiting(length, now.after(CHECK_INTERVAL)),
            Err(Fault::Refused(Refusal::TooLong { .. })) => upload.gone(GoneReason::Overrun, now),
            Err(Fault::Refused(_)) => upload.gone(GoneReason::Lost, now),
            Err(fault) => return Err(fault),
        };
        let is_complete = next.is_complete();
        self.records.save(next, Some(version)).await?;
        if is_complete {
            self.start_join(id);
        }
        Ok(())
    }

    pub(super) async fn find_parts(&self, made_of: &Final) -> Result<Parts, Fault> {
        let mut complete = Vec::with_capacity(made_of.parts.len());
        let mut length = Some(0_u64);
        for (index, id) in made_of.parts.iter().enumerate() {
            let number = index.saturating_add(1);
            let part = match self.load(*id).await {
                Ok(stored) => stored.upload,
                Err(Fault::Refused(_)) => {
                    return Err(Refusal::Part { number, fault: "not there" }.into());
                }
                Err(fault) => return Err(fault),
            };
            if *part.kind() != Kind::Partial {
                let fault = "not a partial upload";
                return Err(Refusal::Part { number, fault }.into());
            }
            let both = length.zip(part.length());
            length = both.map(|(sum, bytes)| sum.saturating_add(bytes));
            if let (true, Some(bytes)) = (part.is_complete(), part.length()) {
                complete.push((*id, bytes));
            }
        }
        let max = self.limits().length_ceiling();
        if length.is_some_and(|length| length > max) {
            return Err(Refusal::TooLong { max }.into());
        }
        if complete.len() == made_of.parts.len() {
            Ok(Parts::Complete(complete))
        } else {
            Ok(Parts::Unfinished(length))
        }
    }

    pub(super) async fn adopt(
        &self,
        id: UploadId,
        made_of: &Final,
        parts: Vec<(UploadId, u64)>,
    ) -> Result<Arc<[u64]>, Fault> {
        let lengths = parts.iter().map(|(_, length)| *length).collect();
        let Err(error) = self.data.adopt(id, parts).await else { return Ok(lengths) };
        self.remove_unsaved(id).await;
        match (&error.failure, error.upload) {
            // Cancelled between the look and the link.
            (Failure::Missing, Some(part)) => {
                let index = made_of.parts.iter().position(|id| *id == part).unwrap_or_default();
                let number = index.saturating_add(1);
                Err(Refusal::Part { number, fault: "no longer there" }.into())
            }
            _ => Err(error.into()),
        }
    }

    /// Joins the parts of a complete upload in the background, unless that is under way.
    pub(super) fn start_join(self: &Arc<Self>, id: UploadId) {
        let engine = Arc::clone(self);
        self.in_background(id, async move {
            if let Err(error) = engine.join(id).await {
                tracing::warn!(%error, "the parts of an upload are not joined yet");
            }
        });
    }

    /// No lease is needed: a complete upload can only become gone, and then the save conflicts.
    pub(super) async fn join(self: &Arc<Self>, id: UploadId) -> Result<(), StorageError> {
        let Some(Stored { upload, version }) = self.records.load(id).await? else {
            return Ok(());
        };
        let (State::Complete { .. }, Placement::Parts { lengths, .. }) =
            (upload.state(), upload.placement())
        else {
            return Ok(());
        };
        let lengths = Arc::clone(lengths);
        if let Err(error) = self.data.join(id, Arc::clone(&lengths)).await {
            let retry = upload.to_be_joined(self.now().after(JOIN_RETRY));
            self.records.save(retry, Some(version)).await?;
            return Err(error);
        }
        let is_wanted = self.policy.keeps_tree || self.policy.keeps_sha256;
        let computed = match upload.digest() {
            None if is_wanted => self.hash_again(&upload).await?,
            None | Some(_) => ReprDigests::default(),
        };
        let joined = upload.joined(computed);
        match self.records.save(joined.clone(), Some(version)).await {
            Ok(_) => {
                // What was one part shares its bytes as it is.
                if lengths.len() > 1 {
                    self.start_sharing(&joined);
                }
                self.data.release_parts(id).await
            }
            Err(error) => {
                let now = self.records.load(id).await?;
                if now.is_none_or(|stored| matches!(stored.upload.state(), State::Gone { .. })) {
                    self.data.remove(id).await?;
                }
                Err(error)
            }
        }
    }

    /// Frees bytes that no record tells of. What is left over does no harm but takes room.
    pub(super) async fn remove_unsaved(&self, id: UploadId) {
        if let Err(error) = self.data.remove(id).await {
            tracing::warn!(%error, "bytes of an upload that was not created are left over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::engine::Policy;
    use crate::protocol::metadata::Metadata;
    use crate::protocol::units::Timestamp;
    use crate::storage::RecordStore as _;
    use crate::storage::memory::{Fault as Planned, MemoryStore, Operation};

    #[tokio::test]
    async fn a_final_upload_whose_parts_cannot_be_taken_now_is_told_as_it_is() {
        let store = MemoryStore::new();
        let (records, data) = (Arc::new(store.clone()), Arc::new(store.clone()));
        let clock = Clock::manual(Timestamp(1));
        let engine = Engine::new(records, data, clock, Policy::default());
        let [part, whole] = [1, 2].map(|byte| UploadId::from_bytes([byte; 16]));
        let upload = |id| Upload::new(id, Some(0), Metadata::default(), Timestamp(1));
        let complete = upload(part).of_kind(Kind::Partial).completed(None, Timestamp(1));
        store.save(complete, None).await.unwrap();
        let made_of = Final { parts: [part].into(), as_sent: "final;x".into() };
        store.save(upload(whole).of_kind(Kind::Final(made_of)), None).await.unwrap();
        store.fail(Operation::Adopt, 0, Planned::Full);
        let told = engine.retrieve_offset(whole).await.unwrap();
        assert_eq!(told.offset(), None);
        assert!(engine.retrieve_offset(whole).await.unwrap().is_complete());
    }
}
