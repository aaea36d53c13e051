//! What the server does: create, append, retrieve the offset, cancel, read, sweep. Async, and free
//! of HTTP; time and stores are given to it.
#![warn(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

mod alarm;
mod append;
mod background;
mod concat;
pub mod content;
mod create;
mod digests;
mod instant;
mod kept;
mod lease;
mod lists;
mod lost;
mod seal;
mod seen_through;
mod sharing;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use self::append::Appending;
use self::content::Content;
use self::digests::Digests;
pub use self::instant::InstantUpload;
use self::kept::KeptDigests;
use self::lease::{Busy, Lease, Leases};
use self::seen_through::SeenThrough;
use self::sharing::Waiting;
use crate::clock::Clock;
use crate::protocol::id::UploadId;
use crate::protocol::limits::Limits;
use crate::protocol::operation::Append;
use crate::protocol::refusal::Refusal;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::{GoneReason, State, Upload};
use crate::storage::{DataReader, DataStore, Failure, RecordStore, StorageError, Stored, Version};

/// The saves that may come in the way of somebody who has the lease: that of a final upload that was
/// compared with its digest, that its parts could not be joined, and that they were.
const SAVES_WITHOUT_LEASE: usize = 3;

/// What the engine is asked to do with uploads over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What clients may ask for.
    pub limits: Limits,
    /// How long an unfinished upload is kept after its last append; `None`: for ever.
    pub expire_after: Option<Duration>,
    /// How long a complete upload is kept; `None`: for ever.
    pub expire_complete_after: Option<Duration>,
    /// Whether the BLAKE3 tree of new uploads is computed while bytes arrive.
    pub keeps_tree: bool,
    /// Whether the SHA-256 of new uploads is computed too.
    pub keeps_sha256: bool,
    /// Whether the SHA-256 of each of their groups of 1 MiB is kept, too.
    pub keeps_pieces: bool,
    /// Whether a new upload may be completed without its bytes, when they are here already.
    pub instant_upload: InstantUpload,
}

/// The server's work, shared by all requests.
pub struct Engine {
    records: Arc<dyn RecordStore>,
    data: Arc<dyn DataStore>,
    clock: Clock,
    policy: Policy,
    leases: Arc<Leases>,
    /// Cancelled once, when the server stops.
    stopping: CancellationToken,
    /// The uploads that are worked on in the background, or wait for their turn.
    working: Mutex<HashSet<UploadId>>,
    work_turn: Semaphore,
    /// Complete uploads that may be equal to others. Comparing them keeps no joins waiting.
    waiting_to_share: Waiting,
    /// Nor do proofs, which a client waits for.
    proof_turn: Semaphore,
    /// The digests of uploads that go on soon.
    kept: KeptDigests,
    /// How many uploads the last sweep found due and had to leave so.
    left_by_sweep: AtomicUsize,
    /// Owns the work on uploads: a client that goes away does not end the saving of what it sent.
    tasks: TaskTracker,
}

/// Why an operation was not carried out.
#[derive(Debug, Error)]
pub enum Fault {
    /// The client may not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<Busy> for Fault {
    fn from(Busy: Busy) -> Self {
        Self::Refused(Refusal::Busy)
    }
}

impl Engine {
    /// An engine on these stores.
    pub fn new(
        records: Arc<dyn RecordStore>,
        data: Arc<dyn DataStore>,
        clock: Clock,
        mut policy: Policy,
    ) -> Arc<Self> {
        policy.limits.max_age = policy.expire_after;
        let stopping = CancellationToken::new();
        Arc::new(Self {
            records,
            data,
            clock,
            policy,
            leases: Arc::new(Leases::new(stopping.clone())),
            stopping,
            working: Mutex::default(),
            work_turn: Semaphore::new(1),
            waiting_to_share: Waiting::default(),
            proof_turn: Semaphore::new(1),
            kept: KeptDigests::default(),
            left_by_sweep: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
        })
    }

    /// What clients may ask for.
    pub fn limits(&self) -> &Limits {
        &self.policy.limits
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Ends the content of every append, and returns when all that came is saved.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Appends content to an upload, ending an append that is under way.
    ///
    /// # Errors
    ///
    /// The refusals of [`Upload::admit`], which change nothing; `Busy`; those of content that did
    /// not end well, after which what arrived is kept; and what the stores could not do.
    pub async fn append(
        self: &Arc<Self>,
        id: UploadId,
        append: Box<Append>,
        content: Box<dyn Content>,
    ) -> Result<Upload, Fault> {
        let engine = Arc::clone(self);
        self.see_through(async move {
            let lease = engine.leases.acquire(id).await?;
            let Stored { upload, version } = engine.load(id).await?;
            let begun = engine.begin_append(lease, (upload, Some(version)), *append);
            let taken = match begun.await {
                Ok(appending) => appending.run(content).await,
                Err(fault) => Err(fault),
            };
            engine.or_lost(id, taken).await
        })
        .await
    }

    /// Admits an append.
    async fn begin_append(
        self: &Arc<Self>,
        lease: Lease,
        (upload, version): (Upload, Option<Version>),
        append: Append,
    ) -> Result<Box<Appending>, Fault> {
        let admission = upload.admit(&append, self.limits())?;
        let offset = admission.offset;
        let told = append.content_length.map(|bytes| offset.saturating_add(bytes));
        let expected_end = told.or(admission.length).unwrap_or(offset);
        let engine = Arc::clone(self);
        // In a box, as other futures that are large, rare, or soon over: the append has no place for
        // them while its content takes hours, and what is at most 1032 bytes is cheap to allocate
        // (glibc keeps it for the thread).
        let digests = Digests::resume(self, (&upload, version), append.checksum);
        let digests = Box::pin(digests).await?;
        let is_creation = version.is_none();
        let appending = Appending {
            engine,
            lease,
            upload,
            version,
            is_creation,
            admission,
            expected_end,
            digests,
        };
        Ok(Box::new(appending))
    }

    /// Runs work that changes an upload to its end, even when the client that asked for it is gone
    /// and nobody waits for the answer: what it had sent is to be kept, and bytes that no record
    /// tells of are to be freed.
    fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Fault>> + Send {
        SeenThrough::new(work.in_current_span(), &self.tasks).map(|ended| match ended {
            Ok(outcome) => outcome,
            Err(_) => {
                let failure = Failure::Damaged("the work ended in a panic".to_owned());
                Err(StorageError::new("changing an upload", None, failure).into())
            }
        })
    }

    /// Where an upload stands, after ending an append that is under way: an offset that is told
    /// is one that the next append may start at.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Gone`, and what the store could not do.
    pub async fn retrieve_offset(self: &Arc<Self>, id: UploadId) -> Result<Upload, Fault> {
        if self.leases.end_append(id).await.is_err() {
            tracing::warn!(upload = %id, "an append did not end in time; telling the saved offset");
        }
        self.look(id).await
    }

    /// Cancels an upload, complete or not, ending an append that is under way, and frees what it
    /// holds.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Gone`, `Busy`, and what the stores could not do.
    pub async fn cancel(self: &Arc<Self>, id: UploadId) -> Result<(), Fault> {
        let engine = Arc::clone(self);
        self.see_through(async move {
            let _lease = engine.leases.acquire(id).await?;
            for _ in 0..SAVES_WITHOUT_LEASE {
                let ended = engine.end_upload(engine.load(id).await?, GoneReason::Cancelled).await;
                match ended {
                    Err(StorageError { failure: Failure::Conflict, .. }) => {}
                    ended => return Ok(ended?),
                }
            }
            Ok(engine.end_upload(engine.load(id).await?, GoneReason::Cancelled).await?)
        })
        .await
    }

    /// The upload as it is recorded; disturbs no append.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Gone`, and what the store could not do.
    pub async fn look(self: &Arc<Self>, id: UploadId) -> Result<Upload, Fault> {
        let upload = self.load(id).await?.upload;
        match upload.state() {
            // It need not wait for the sweep to see that its parts are complete.
            State::Finishing { .. } => {
                // Whoever asks where it stands can be told so, though its parts cannot be had now.
                if let Err(error) = self.settle(id).await {
                    tracing::warn!(%error, upload = %id, "the final upload goes on waiting");
                }
                Ok(self.load(id).await?.upload)
            }
            State::Receiving { .. } | State::Complete { .. } | State::Gone { .. } => Ok(upload),
        }
    }

    /// Opens bytes of a complete upload.
    ///
    /// # Errors
    ///
    /// What the store could not do.
    pub async fn read(
        &self,
        upload: &Upload,
        range: Range<u64>,
    ) -> Result<Box<dyn DataReader>, StorageError> {
        self.data.reader(upload.id(), upload.placement(), range).await
    }

    /// Makes an upload gone: first for everybody who asks, then on the disk. A crash in between
    /// leaves bytes that the sweep frees.
    async fn end_upload(&self, stored: Stored, why: GoneReason) -> Result<(), StorageError> {
        let id = stored.upload.id();
        let gone = stored.upload.gone(why, self.now());
        self.records.save(gone, Some(stored.version)).await?;
        tracing::info!(upload = %id, %why, "upload is gone");
        self.data.remove(id).await
    }

    /// The record of an upload that is there for clients.
    async fn load(&self, id: UploadId) -> Result<Stored, Fault> {
        let stored = self.records.load(id).await?.ok_or(Refusal::NotFound)?;
        match *stored.upload.state() {
            State::Gone { why, .. } => Err(Refusal::Gone(why).into()),
            State::Receiving { .. } | State::Finishing { .. } | State::Complete { .. } => {
                if stored.upload.is_expired(self.now()) {
                    return Err(Refusal::Gone(GoneReason::Expired).into());
                }
                Ok(stored)
            }
        }
    }

    /// The upload with its expiry counted from now, in whole seconds as clients see it.
    fn with_expiry(&self, upload: Upload) -> Upload {
        let keep = match upload.state() {
            State::Receiving { .. } | State::Finishing { .. } => self.policy.expire_after,
            State::Complete { .. } => self.policy.expire_complete_after,
            State::Gone { .. } => None,
        };
        let now = self.now();
        upload.expiring(keep.map(|keep| now.after(keep).round_up_to_second()))
    }
}

/// Draws an id that nobody can guess.
pub(crate) fn random_id() -> Result<UploadId, StorageError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| StorageError::io("drawing a random id", None, error.into()))?;
    Ok(UploadId::from_bytes(bytes))
}
