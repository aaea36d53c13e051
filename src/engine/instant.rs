//! Uploads whose bytes are here already, and that a client need not send.
//!
//! A digest is not a secret: whoever learns one must not get the file for it. Among the uploads of
//! one owner that is no question, as he may read them anyway; among those of all, the client has to
//! prove that it has the bytes ([`Challenge`]).

use std::sync::Arc;

use bytes::Bytes;

use super::digests::hash;
use super::{Engine, Fault};
use crate::protocol::id::UploadId;
use crate::protocol::operation::{Append, Creation};
use crate::protocol::possession::{Challenge, Proof};
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::tree::GROUP_BYTES;
use crate::protocol::upload::{Kind, Placement, State, Upload};
use crate::storage::{DataReader, Failure, List, StorageError, Stored, Version};

/// Who may have an upload completed at once, without sending its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InstantUpload {
    /// Nobody.
    Off,
    /// Who owns an upload with these bytes. As long as there is no authentication all uploads have
    /// the same owner: whoever knows the digest and the length of one may have its bytes.
    #[default]
    Owner,
    /// Everyone who proves to have the bytes.
    Everyone,
}

/// The uploads with a digest that are looked at, of which the first that fits is taken.
const MAX_ALIKE: usize = 8;
/// The most content that a creation may have which is not needed: it is read all the same, since
/// a client that still sends does not see the answer.
const MAX_NEEDLESS_BYTES: u64 = 16 << 20;

impl Engine {
    /// Completes a new upload at once when its owner has a complete one with the digest and length
    /// that it declares. Whatever is in the way: then its bytes are to be sent.
    pub(super) async fn create_instantly(
        self: &Arc<Self>,
        creation: &Creation,
        upload: &Upload,
    ) -> Result<Option<Upload>, Fault> {
        let content_bytes = match &creation.content {
            Some(append) => append.content_length.unwrap_or(u64::MAX),
            None => 0,
        };
        if self.policy.instant_upload != InstantUpload::Owner
            || content_bytes > MAX_NEEDLESS_BYTES
            || !is_declared(upload)
            || creation.content.as_ref().is_some_and(|append| is_to_be_checked(append, upload))
        {
            return Ok(None);
        }
        for alike in self.alike(upload.declared(), upload).await {
            if let Some(given) = self.give(upload, None, &alike).await? {
                return Ok(Some(given));
            }
        }
        Ok(None)
    }

    /// What a client has to prove to be given the bytes of a new upload; `None` when it has to send
    /// them. It is asked whether or not the bytes are here: only who has them may learn that.
    pub fn challenge(&self, upload: &Upload) -> Option<Challenge> {
        let is_new = matches!(upload.state(), State::Receiving { offset: 0, .. });
        let may_be_proven =
            self.policy.instant_upload == InstantUpload::Everyone && is_new && is_declared(upload);
        may_be_proven.then(|| Challenge::new(upload.id(), upload.length().unwrap_or_default()))
    }

    /// Completes an upload without bytes whose client proves that it has them, and that are here.
    /// `None` when it has to send them.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Gone`, `Busy`, and what the stores could not do.
    pub async fn prove(
        self: &Arc<Self>,
        id: UploadId,
        proof: Proof,
    ) -> Result<Option<Upload>, Fault> {
        let Stored { upload, .. } = self.load(id).await?;
        if upload.is_complete() {
            // The answer to the proof was lost, perhaps.
            return Ok(Some(upload));
        }
        let Some(challenge) = self.challenge(&upload) else { return Ok(None) };
        // Without the lease, as it takes a while: who sends the bytes meanwhile may do so.
        for alike in self.alike(upload.declared(), &upload).await {
            match self.expected_proof(&challenge, &alike).await {
                Ok(expected) if expected == proof => {
                    if let Some(given) = self.give_proven(id, alike).await? {
                        return Ok(Some(given));
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a proof cannot be compared"),
            }
        }
        Ok(None)
    }

    /// Gives an upload the bytes that its client proved to have, unless it has some by now.
    async fn give_proven(
        self: &Arc<Self>,
        id: UploadId,
        alike: Upload,
    ) -> Result<Option<Upload>, Fault> {
        let engine = Arc::clone(self);
        self.see_through(async move {
            let _lease = engine.leases.acquire(id).await?;
            let Stored { upload, version } = engine.load(id).await?;
            if upload.is_complete() {
                return Ok(Some(upload));
            }
            match engine.challenge(&upload) {
                Some(_) => engine.give(&upload, Some(version), &alike).await,
                None => Ok(None),
            }
        })
        .await
    }

    async fn expected_proof(
        &self,
        challenge: &Challenge,
        alike: &Upload,
    ) -> Result<Proof, StorageError> {
        // One at a time, since each takes 64 MiB from the disk.
        let _turn = self.proof_turn.acquire().await;
        let mut prover = challenge.prover();
        for group in &challenge.groups {
            let start = group.saturating_mul(GROUP_BYTES);
            let end = start.saturating_add(GROUP_BYTES).min(alike.length().unwrap_or_default());
            let mut reader = self.read(alike, start..end).await?;
            loop {
                let piece = reader.read().await?;
                if piece.is_empty() {
                    break;
                }
                let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                let update = move || {
                    prover.update(&piece);
                    prover
                };
                prover = hash(bytes, update).await?;
            }
        }
        Ok(prover.finish())
    }

    /// Gives a new upload hold of the bytes of a complete one; `None` when that cannot be.
    async fn give(
        self: &Arc<Self>,
        upload: &Upload,
        version: Option<Version>,
        alike: &Upload,
    ) -> Result<Option<Upload>, Fault> {
        let (id, length) = (upload.id(), alike.length().unwrap_or_default());
        if let Err(error) = self.data.adopt(id, vec![(alike.id(), length)]).await {
            tracing::debug!(%error, "an upload cannot be completed at once; its bytes are to be sent");
            self.release_unsaved(id).await;
            return Ok(None);
        }
        let given = self.with_expiry(upload.clone().given(alike.digests(), self.now()));
        if let Err(error) = self.records.save(given.clone(), version).await {
            // After any other failure the next start may find that it was saved, and complete.
            if version.is_none() || matches!(error.failure, Failure::Conflict) {
                self.release_unsaved(id).await;
            }
            return Err(error.into());
        }
        tracing::info!(upload = %id, bytes = length, "upload is complete, its bytes were here");
        let (engine, from) = (Arc::clone(self), alike.clone());
        self.in_background(id, async move {
            engine.copy_lists(&from, id).await;
            if let Err(error) = engine.join(id).await {
                tracing::warn!(%error, "the bytes that an upload was given are not in place yet");
            }
        });
        Ok(Some(given))
    }

    /// Frees the parts that no record tells of.
    async fn release_unsaved(&self, id: UploadId) {
        if let Err(error) = self.data.release_parts(id).await {
            tracing::warn!(%error, "a hold of the bytes of another upload is left over");
        }
    }

    /// Copies the lists: that of the tree would else be made anew from all bytes.
    async fn copy_lists(&self, from: &Upload, to: UploadId) {
        for list in List::ALL {
            let copy = async {
                let mut at = 0_u64;
                loop {
                    let range = at..at.saturating_add(256 << 10);
                    let read = self.data.read_list(from.id(), list, range).await?;
                    if read.is_empty() {
                        return Ok::<_, StorageError>(());
                    }
                    let next = at.saturating_add(u64::try_from(read.len()).unwrap_or(u64::MAX));
                    self.data.write_list(to, list, vec![(at, read.to_vec())], None).await?;
                    at = next;
                }
            };
            if let Err(error) = copy.await {
                tracing::warn!(%error, "a list is not copied");
            }
        }
    }

    /// The complete uploads in one piece that have these digests and the length of `upload`. One
    /// that cannot be told of is none: without it the bytes are sent.
    pub(super) async fn alike(&self, digests: ReprDigests, upload: &Upload) -> Vec<Upload> {
        let found = self.records.alike(digests, MAX_ALIKE).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not look for equal uploads");
            Vec::new()
        });
        let mut alike = Vec::new();
        for id in found {
            let found = match self.load(id).await {
                Ok(stored) => stored.upload,
                Err(Fault::Refused(_)) => continue,
                Err(Fault::Storage(error)) => {
                    tracing::warn!(%error, "an upload is passed over that may be equal");
                    continue;
                }
            };
            let is_other = id != upload.id() && found.is_complete();
            if is_other
                && found.length() == upload.length()
                && *found.placement() == Placement::Whole
                && digests.agrees(&found.digests())
            {
                alike.push(found);
            }
        }
        alike
    }
}

/// Whether two readers give the same bytes, however each of them cuts them.
pub(super) async fn are_equal(
    mut one: Box<dyn DataReader>,
    mut other: Box<dyn DataReader>,
) -> Result<bool, StorageError> {
    let (mut left, mut right) = (Bytes::new(), Bytes::new());
    loop {
        if left.is_empty() {
            left = one.read().await?;
        }
        if right.is_empty() {
            right = other.read().await?;
        }
        let count = left.len().min(right.len());
        if count == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left.split_to(count) != right.split_to(count) {
            return Ok(false);
        }
    }
}

/// Whether content has to be taken though its bytes may be here: what comes with a checksum is
/// checked, and nothing is saved where all bytes come anyway. Those that are here may be damaged.
fn is_to_be_checked(content: &Append, upload: &Upload) -> bool {
    let is_all = content.content_length.is_some() && content.content_length >= upload.length();
    is_all || content.checksum.is_some()
}

/// Whether a client told enough of an upload that it may be completed without its bytes.
fn is_declared(upload: &Upload) -> bool {
    let takes_bytes = match upload.kind() {
        Kind::Single | Kind::Partial => true,
        Kind::Final(_) => false,
    };
    takes_bytes && !upload.declared().is_empty() && upload.length().is_some_and(|length| length > 0)
}

#[cfg(test)]
mod tests;
