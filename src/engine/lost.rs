//! Uploads whose bytes are no longer there, though the record promises them.

use std::sync::Arc;

use super::{Engine, Fault};
use crate::protocol::id::UploadId;
use crate::protocol::refusal::Refusal;
use crate::protocol::upload::{GoneReason, State};
use crate::storage::{Failure, StorageError, Stored};

impl Engine {
    /// Looks again, when an append found that bytes are missing, and makes the upload gone if they
    /// are: a client that is told so can begin anew, where one that is told of a fault tries for ever.
    ///
    /// What is left of the bytes stays until the tombstone goes, for a person who knows better.
    pub(super) async fn or_lost<T>(
        self: &Arc<Self>,
        id: UploadId,
        outcome: Result<T, Fault>,
    ) -> Result<T, Fault> {
        let Err(Fault::Storage(StorageError { failure: Failure::Missing, .. })) = outcome else {
            return outcome;
        };
        let _lease = self.leases.acquire(id).await?;
        let Stored { upload, version } = self.load(id).await?;
        let State::Receiving { offset, .. } = *upload.state() else { return outcome };
        let mut writer = self.data.writer(id, offset).await?;
        match writer.write(Vec::new()).await {
            Err(StorageError { failure: Failure::Missing, .. }) => {}
            Ok(()) | Err(_) => return outcome,
        }
        self.records.save(upload.gone(GoneReason::Lost, self.now()), Some(version)).await?;
        tracing::error!(upload = %id, offset, "bytes of an upload are missing on the disk; it is lost");
        Err(Refusal::Gone(GoneReason::Lost).into())
    }
}
