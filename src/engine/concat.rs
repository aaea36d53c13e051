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
use crate::protocol::units::Timestamp;
use crate::protocol::upload::{Final, GoneReason, Kind, Placement, State, Upload};
use crate::storage::{Failure, StorageError, Stored};

/// How often a final upload looks for its parts when nobody asks for it.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// When joining, or comparing with a digest, is tried again after it failed.
pub(super) const RETRY: Duration = Duration::from_secs(10 * 60);

/// What the parts of a final upload come to.
enum Parts {
    /// All are complete, with these lengths.
    Complete(Vec<(UploadId, u64)>),
    /// Some are not, or their bytes are not in place; the sum of their lengths, when all are told.
    Unfinished(Option<u64>),
}

/// What came of a look at a final upload that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Its record says when it is to be looked at again, if at all.
    Now,
    /// Somebody works on it, and it stays due until that has ended.
    Later,
}

impl Engine {
    /// Makes a final upload, which waits for its parts if it has to.
    pub(super) async fn create_final(
        self: &Arc<Self>,
        upload: Upload,
        made_of: &Final,
    ) -> Result<Upload, Fault> {
        let now = self.now();
        let upload = match self.find_parts(made_of).await? {
            Parts::Complete(parts) => {
                let lengths = self.adopt(upload.id(), made_of, parts).await?;
                having(upload, lengths, now)
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
        self.start_work(&upload);
        Ok(upload)
    }

    /// Looks whether the parts of a final upload that waits are complete now.
    pub(super) async fn settle(self: &Arc<Self>, id: UploadId) -> Result<Settled, StorageError> {
        let Some(_lease) = self.leases.acquire_free(id) else { return Ok(Settled::Later) };
        let Some(Stored { upload, version }) = self.records.load(id).await? else {
            return Ok(Settled::Now);
        };
        let (Kind::Final(made_of), State::Finishing { length: known, check_at }) =
            (upload.kind().clone(), upload.state().clone())
        else {
            return Ok(Settled::Now);
        };
        let now = self.now();
        if let Placement::Parts { .. } = upload.placement() {
            // Whoever asks for it does not have it read again right after that failed.
            if check_at <= now {
                self.start_seal(id);
            }
            return Ok(Settled::Later);
        }
        let next = match self.find_parts(&made_of).await {
            Ok(Parts::Complete(parts)) => match self.adopt(id, &made_of, parts).await {
                Ok(lengths) => self.with_expiry(having(upload, lengths, now)),
                Err(Fault::Refused(_)) => upload.gone(GoneReason::Lost, now),
                Err(Fault::Storage(error)) => return Err(error),
            },
            Ok(Parts::Unfinished(length)) if length == known && check_at > now => {
                return Ok(Settled::Now);
            }
            Ok(Parts::Unfinished(length)) => upload.waiting(length, now.after(CHECK_INTERVAL)),
            Err(Fault::Refused(Refusal::TooLong { .. })) => upload.gone(GoneReason::Overrun, now),
            Err(Fault::Refused(_)) => upload.gone(GoneReason::Lost, now),
            Err(Fault::Storage(error)) => return Err(error),
        };
        self.records.save(next.clone(), Some(version)).await?;
        Ok(self.start_work(&next))
    }

    /// Begins what is to be done with the parts that a final upload has hold of.
    fn start_work(self: &Arc<Self>, upload: &Upload) -> Settled {
        match (upload.placement(), upload.is_complete()) {
            (Placement::Whole, _) => return Settled::Now,
            (Placement::Parts { .. }, true) => self.start_join(upload.id()),
            (Placement::Parts { .. }, false) => self.start_seal(upload.id()),
        }
        Settled::Later
    }

    async fn find_parts(self: &Arc<Self>, made_of: &Final) -> Result<Parts, Fault> {
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
            match (part.is_complete(), part.placement()) {
                (true, Placement::Whole) => {
                    complete.extend(part.length().map(|bytes| (*id, bytes)))
                }
                // It was given bytes that are not in their place yet, where they are linked from.
                (true, Placement::Parts { join_at, .. }) if *join_at <= self.now() => {
                    self.start_join(*id);
                }
                (_, Placement::Whole | Placement::Parts { .. }) => {}
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

    async fn adopt(
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
        let (next, failed) = match self.join_parts(&upload, Arc::clone(&lengths)).await {
            Ok(digests) => (upload.joined(digests), None),
            Err(error) => (upload.to_be_joined(self.now().after(RETRY)), Some(error)),
        };
        if let Err(error) = self.records.save(next.clone(), Some(version)).await {
            self.remove_if_gone(id).await?;
            return Err(error);
        }
        // What was one part shares its bytes as it is.
        if failed.is_none() && lengths.len() > 1 {
            self.start_sharing(&next);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Joins the parts and releases them. All of it can be done again, so the record is saved last:
    /// a crash before that leaves it due.
    async fn join_parts(
        &self,
        upload: &Upload,
        lengths: Arc<[u64]>,
    ) -> Result<ReprDigests, StorageError> {
        self.data.join(upload.id(), lengths).await?;
        let is_wanted = self.policy.keeps_tree || self.policy.keeps_sha256;
        let computed = match upload.digest() {
            None if is_wanted => self.hash_again(upload).await?,
            None | Some(_) => ReprDigests::default(),
        };
        self.data.release_parts(upload.id()).await?;
        Ok(computed)
    }

    /// Whether the BLAKE3 digest of a complete upload is computed when its parts are joined.
    pub fn is_digest_to_come(&self, upload: &Upload) -> bool {
        let is_in_parts = matches!(upload.placement(), Placement::Parts { .. });
        self.policy.keeps_tree && is_in_parts && upload.is_complete() && upload.digest().is_none()
    }

    /// Frees the bytes of an upload that became gone while they were worked on.
    pub(super) async fn remove_if_gone(&self, id: UploadId) -> Result<(), StorageError> {
        let now = self.records.load(id).await?;
        if now.is_none_or(|stored| matches!(stored.upload.state(), State::Gone { .. })) {
            self.data.remove(id).await?;
        }
        Ok(())
    }

    /// Frees bytes that no record tells of. What is left over does no harm but takes room.
    pub(super) async fn remove_unsaved(&self, id: UploadId) {
        if let Err(error) = self.data.remove(id).await {
            tracing::warn!(%error, "bytes of an upload that was not created are left over");
        }
    }
}

/// The final upload that has hold of its parts' bytes: complete, unless it is to have a digest.
fn having(upload: Upload, lengths: Arc<[u64]>, now: Timestamp) -> Upload {
    if upload.declared().is_empty() {
        upload.concatenated(lengths, now)
    } else {
        upload.holding(lengths, now)
    }
}

#[cfg(test)]
mod tests;
