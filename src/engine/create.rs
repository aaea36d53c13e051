//! New uploads.
//!
//! - tus 1.0 "Creation", "Creation With Upload"; RUFH §Upload Creation

use std::sync::Arc;

use super::content::Content;
use super::{Engine, Fault, random_id};
use crate::protocol::digest::{Blake3Digest, RunningSha256};
use crate::protocol::operation::Creation;
use crate::protocol::refusal::Refusal;
use crate::protocol::repr_digests::{ReprDigests, SavedSha256, Sha256Digest};
use crate::protocol::tree::Frontier;
use crate::protocol::upload::{Kind, Upload};
use crate::storage::StorageError;

impl Engine {
    /// Makes a new upload. When it has content, the record is saved with it, and at the latest at
    /// the first checkpoint. However the content ended: the upload that is there is returned.
    ///
    /// # Errors
    ///
    /// `NoRoom`, `TooLong`, `BeyondLength`, `DigestMismatch`, `ShuttingDown`, and what the stores
    /// could not do.
    pub async fn create(
        self: &Arc<Self>,
        creation: Box<Creation>,
        content: Box<dyn Content>,
    ) -> Result<Upload, Fault> {
        let engine = Arc::clone(self);
        self.see_through(async move { engine.create_one(creation, content).await }).await
    }

    async fn create_one(
        self: &Arc<Self>,
        creation: Box<Creation>,
        content: Box<dyn Content>,
    ) -> Result<Upload, Fault> {
        let upload = self.begin(&creation)?;
        let room = self.take_room_for_record(&upload).await?;
        // In boxes, since few creations need the rest of the way.
        if let Some(complete) = Box::pin(self.create_instantly(&creation, &upload)).await? {
            return Ok(complete);
        }
        if creation.length.is_some_and(|length| length > room) {
            return Err(Refusal::NoRoom.into());
        }
        let id = upload.id();
        if let Kind::Final(made_of) = &creation.kind {
            return Box::pin(self.create_final(upload, made_of)).await;
        }
        let created = match creation.content {
            None => {
                let upload =
                    if creation.length == Some(0) { self.complete_empty(upload)? } else { upload };
                let upload = self.with_expiry(upload);
                self.records.save(upload.clone(), None).await?;
                upload
            }
            Some(append) => {
                let lease = self.leases.acquire(id).await?;
                self.begin_append(lease, (upload, None), append).await?.run(content).await?
            }
        };
        tracing::info!(upload = %id, length = creation.length, "upload is created");
        Ok(created)
    }

    /// Takes room for saving this upload once more, and tells what is left for its bytes. Without
    /// it, records would use up what is kept free, and nothing could be removed any more.
    pub(super) async fn take_room_for_record(&self, upload: &Upload) -> Result<u64, Fault> {
        let taken = self.data.take_room(self.records.room_of(upload)).await;
        taken.map_err(|error| if error.is_full() { Refusal::NoRoom.into() } else { error.into() })
    }

    /// The upload that a client asks for, with the digests that are to be computed of it: those
    /// that the policy asks for, and those that the client declared.
    fn begin(&self, creation: &Creation) -> Result<Upload, StorageError> {
        let declared = creation.declared;
        let has_tree = self.policy.keeps_tree || declared.blake3.is_some();
        let has_sha256 = self.policy.keeps_sha256 || declared.sha256.is_some();
        let upload =
            Upload::new(random_id()?, creation.length, creation.metadata.clone(), self.now())
                .with_tree(has_tree.then(Frontier::default))
                .with_sha256(has_sha256.then(|| SavedSha256::of(&RunningSha256::new())))
                .declaring(declared);
        Ok(upload.of_kind(creation.kind.clone()))
    }

    /// The upload of no bytes, which is complete at once.
    fn complete_empty(&self, upload: Upload) -> Result<Upload, Refusal> {
        let digests = ReprDigests {
            blake3: upload.frontier().map(|_| Blake3Digest::of(&[])),
            sha256: upload
                .saved_sha256()
                .and_then(|_| Sha256Digest::of_checksum(&RunningSha256::new().checksum())),
        };
        match upload.declared().disagrees(&digests) {
            Some(algorithm) => Err(Refusal::DigestMismatch(algorithm)),
            None => Ok(upload.completed(digests, self.now())),
        }
    }
}
