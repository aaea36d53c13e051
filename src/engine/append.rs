//! The append path, the same for a PATCH and for a creation with content:
//! write → commit (data durable) → save the record → answer.
//!
//! A long append does the same every [`CHECKPOINT_BYTES`] or [`CHECKPOINT_INTERVAL`], so that its
//! end is short and a crash loses little. However the content ends, what arrived is kept. There are
//! two exceptions: content that reaches beyond the upload's length (that client is wrong about what
//! it sends), and content under a checksum, of which nothing is saved before it matched.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::content::{Batch, Content, Ending, Gatherer};
use super::digests::Digests;
use super::lease::Lease;
use super::lists::ListPieces;
use super::{Engine, Fault};
use crate::protocol::refusal::Refusal;
use crate::protocol::upload::{Admission, GoneReason, State, Upload};
use crate::storage::{DataWriter, Failure, StorageError, Stored, Version};

/// The bytes after which a running append is made durable.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// The time after which a running append is made durable.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
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
    /// Whether the content came with the request that creates the upload.
    pub(super) is_creation: bool,
    pub(super) admission: Admission,
    /// Where the upload ends when all of the content has come, as far as that is known.
    pub(super) expected_end: u64,
    pub(super) digests: Digests,
}

/// Where a running append stands.
struct Progress {
    /// The end of what was written.
    offset: u64,
    /// The end of what is recorded.
    saved_offset: u64,
    saved_at: Instant,
}

impl Progress {
    fn is_checkpoint_due(&self) -> bool {
        let fresh = self.offset.saturating_sub(self.saved_offset);
        fresh >= CHECKPOINT_BYTES || (fresh > 0 && self.saved_at.elapsed() >= CHECKPOINT_INTERVAL)
    }
}

impl Appending {
    /// Carries the append out. Runs in a task of its own: a client that goes away must not drop
    /// it half-way.
    ///
    /// # Errors
    ///
    /// `DigestMismatch`, and the upload is gone; `BeyondLength` or `TooLong`, and nothing since the
    /// last checkpoint is kept; `AlreadyComplete`, and nothing changed; `ContentCut`,
    /// `ContentTimeout`, `Superseded`, `ShuttingDown`; those of a checksum, and nothing is kept;
    /// and what the stores could not do.
    pub(super) async fn run(
        mut self: Box<Self>,
        content: Box<dyn Content>,
    ) -> Result<Upload, Fault> {
        let outcome = match Box::pin(self.take(content)).await {
            Ok(Some(refusal @ Refusal::ShortOfLength { .. })) => Err(refusal.into()),
            // All bytes came, however the message around them ended.
            Ok(Some(refusal)) if !self.is_creation && !self.upload.is_complete() => {
                Err(refusal.into())
            }
            // A client that has yet to learn the URL of what it created is told how far it came.
            Ok(_) => Ok(self.upload.clone()),
            Err(fault) => Err(fault),
        };
        match (self.version, &outcome) {
            // The upload never came to be.
            (None, _) => Box::pin(self.engine.remove_unsaved(self.upload.id())).await,
            (Some(version), Err(Fault::Refused(Refusal::BeyondLength { .. })))
                if self.admission.is_void_beyond_length() =>
            {
                let stored = Stored { upload: self.upload, version };
                Box::pin(self.engine.end_upload(stored, GoneReason::BeyondLength)).await?;
            }
            // A save that failed may count all the same, once the records are read again.
            (Some(_), Err(Fault::Storage(_))) => {}
            (Some(_), Err(Fault::Refused(_))) => Box::pin(self.cut_scratch()).await,
            (Some(version), Ok(upload)) if !upload.is_complete() => {
                self.digests.keep(&self.engine, upload.id(), version);
            }
            (Some(_), Ok(_)) => {}
        }
        outcome
    }

    /// Takes the content and records how far it came; the refusal tells why it was not whole.
    async fn take(&mut self, mut content: Box<dyn Content>) -> Result<Option<Refusal>, Fault> {
        let offset = self.admission.offset;
        if !self.is_creation {
            self.engine.take_room_for_record(&self.upload).await?;
        }
        if self.is_creation && content.is_announced() {
            self.save(self.upload.clone()).await?;
            content.recorded(&self.upload);
        }
        let mut gatherer =
            Gatherer::new(content, (offset, self.admission.allowance()), &self.lease);
        let first = gatherer.gather(None).await;
        let (ending, end) = match (first.ending, first.bytes) {
            (Some(ending), 0) => {
                let is_completed =
                    ending == Ending::Whole && self.admission.completes(offset, true);
                // A new upload has no scratch.
                if is_completed && !self.is_creation {
                    self.cut_scratch().await;
                }
                (ending, offset)
            }
            _ => {
                let mut writer = self.engine.data.writer(self.upload.id(), offset).await?;
                writer.expect(self.expected_end);
                let written = self.write_all(first, &mut gatherer, writer.as_mut()).await;
                if written.is_err() {
                    // What it took in advance is given back. The failure that counts is known already.
                    let _ = writer.rest().await;
                }
                written?
            }
        };
        let refusal = match ending {
            // Its content had no length, or it would not have been admitted.
            Ending::Overrun if self.upload.is_complete() => {
                return Err(Refusal::AlreadyComplete { length: offset }.into());
            }
            Ending::Overrun => return Err(self.admission.overrun().into()),
            Ending::Whole => self.admission.shortfall(end),
            Ending::Cut => Some(Refusal::ContentCut),
            Ending::TooSlow => Some(Refusal::ContentTimeout),
            Ending::Superseded => Some(Refusal::Superseded),
            Ending::Stopping => Some(Refusal::ShuttingDown),
            // With nothing of it kept, there is nothing that a client could go on with.
            Ending::NoRoom if end == 0 => return Err(Refusal::NoRoom.into()),
            Ending::NoRoom => Some(Refusal::NoRoom),
        };
        let trailer = gatherer.trailer_checksum()?;
        match refusal.clone() {
            Some(refusal) if self.digests.has_checksum() => return Err(refusal.into()),
            Some(_) => {}
            None => {
                let written = (self.upload.id(), offset, end);
                Box::pin(self.digests.verify(&self.engine, trailer, written)).await?;
            }
        }
        Box::pin(self.save_at(end, ending == Ending::Whole)).await?;
        Ok(refusal)
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
                if ending != Ending::Overrun {
                    self.digests.update(batch.pieces.clone(), batch.bytes).await?;
                    match writer.write_and_commit(batch.pieces).await {
                        Err(full) if full.is_full() => {
                            let left = (batch.bytes, full);
                            return Box::pin(self.keep_what_had_room(&progress, left, writer))
                                .await;
                        }
                        written => written?,
                    }
                }
                return Ok((ending, progress.offset));
            }
            let bytes = batch.bytes;
            // In boxes: most content is in one batch, and needs no place for this; and a peer that
            // stalls needs no place for what writes.
            let (written, next) = if bytes == 0 {
                (Ok(()), Box::pin(rest(gatherer, writer)).await?)
            } else {
                Box::pin(self.write_one(batch, gatherer, writer)).await?
            };
            match written {
                Err(full) if full.is_full() => {
                    let left = (bytes, full);
                    return Box::pin(self.keep_what_had_room(&progress, left, writer)).await;
                }
                written => written?,
            }
            batch = next;
            if progress.is_checkpoint_due()
                && Box::pin(self.checkpoint(&mut progress, writer)).await?
            {
                gatherer.recorded(&self.upload);
            }
        }
    }

    /// Writes one batch, and hashes it, while the next one is gathered. Tells how the write went.
    async fn write_one(
        &mut self,
        batch: Batch,
        gatherer: &mut Gatherer,
        writer: &mut dyn DataWriter,
    ) -> Result<(Result<(), StorageError>, Batch), Fault> {
        let hashed = self.digests.update(batch.pieces.clone(), batch.bytes);
        let written = writer.write(batch.pieces);
        let (hashed, written, next) = tokio::join!(hashed, written, gatherer.gather(Some(LULL)));
        hashed?;
        Ok((written, next))
    }

    /// Commits what was written before the last bytes, for which no room was found. Those are in
    /// the digests already, which have to be taken up again where the record left them.
    async fn keep_what_had_room(
        &mut self,
        progress: &Progress,
        (bytes, full): (u64, StorageError),
        writer: &mut dyn DataWriter,
    ) -> Result<(Ending, u64), Fault> {
        let end = progress.offset.saturating_sub(bytes);
        match writer.commit().await {
            // It was not the write that found no room: what is on the disk is not known.
            Err(StorageError { failure: Failure::Closed, .. }) => return Err(full.into()),
            committed => committed?,
        }
        if !self.digests.has_checksum() {
            let id = self.upload.id();
            let reader =
                self.engine.data.reader(id, self.upload.placement(), progress.saved_offset..end);
            let digests = Digests::resume(&self.engine, (&self.upload, None), None).await?;
            self.digests = digests.read(reader.await?).await?;
        }
        Ok((Ending::NoRoom, end))
    }

    /// Cuts off what was written and does not count: it would keep its room from everybody until
    /// the upload goes on or expires.
    async fn cut_scratch(&self) {
        let State::Receiving { offset, .. } = *self.upload.state() else { return };
        let cut = async {
            let mut writer = self.engine.data.writer(self.upload.id(), offset).await?;
            writer.write(Vec::new()).await
        };
        if let Err(error) = cut.await {
            tracing::warn!(%error, "content that was not kept still takes room");
        }
    }

    /// Returns whether the record says more than before.
    async fn checkpoint(
        &mut self,
        progress: &mut Progress,
        writer: &mut dyn DataWriter,
    ) -> Result<bool, Fault> {
        // The sync early keeps the one at the end short, whether or not the record may say so yet.
        writer.commit().await?;
        let may_count = !self.digests.has_checksum();
        if may_count {
            self.save_at(progress.offset, false).await?;
        } else {
            // The values are kept all the same, or they would pile up.
            let lists = self.digests.take_lists(false);
            self.keep_lists(lists).await;
        }
        progress.saved_offset = progress.offset;
        progress.saved_at = Instant::now();
        Ok(may_count)
    }

    /// Records how far the content came. At a checkpoint too, the last byte completes the upload: a
    /// record that has all bytes and is not complete would stay so after a crash, since its client
    /// would see the length for an offset and be content.
    ///
    /// Bytes that turn out to have another digest than was declared never complete it.
    async fn save_at(&mut self, offset: u64, is_whole: bool) -> Result<(), Fault> {
        // An append of nothing to a complete upload is how a client asks whether it is complete.
        if self.upload.is_complete() {
            return Ok(());
        }
        let received = self.received(offset);
        let is_complete = self.admission.completes(offset, is_whole);
        let lists = self.digests.take_lists(is_complete);
        let (first, beside) = lists.into_iter().partition(ListPieces::is_trusted);
        self.keep_lists(first).await;
        let engine = Arc::clone(&self.engine);
        let keep = engine.keep_lists(self.upload.id(), beside);
        if !is_complete {
            let (saved, _) = tokio::join!(self.save(received), keep);
            return Ok(saved?);
        }
        let digests = self.digests.of_all();
        if let Some(algorithm) = received.declared().disagrees(&digests) {
            self.end_mismatched(received).await?;
            return Err(Refusal::DigestMismatch(algorithm).into());
        }
        let complete = received.completed(digests, self.engine.now());
        let (saved, _) = tokio::join!(self.save(complete), keep);
        saved?;
        tracing::info!(upload = %self.upload.id(), bytes = offset, "upload is complete");
        self.engine.start_sharing(&self.upload);
        Ok(())
    }

    async fn keep_lists(&mut self, lists: Vec<ListPieces>) {
        if self.engine.keep_lists(self.upload.id(), lists).await.is_err() {
            self.digests.drop_pieces();
        }
    }

    /// Makes the upload gone whose bytes are not those that were declared. One that was never
    /// saved need not be: it is not there.
    async fn end_mismatched(&mut self, received: Upload) -> Result<(), StorageError> {
        let id = received.id();
        tracing::warn!(upload = %id, "the content does not have the digest that was declared");
        if self.version.is_none() {
            return Ok(());
        }
        self.save(received.gone(GoneReason::DigestMismatch, self.engine.now())).await?;
        self.engine.data.remove(id).await
    }

    fn received(&self, offset: u64) -> Upload {
        let (frontier, sha256) = self.digests.saved();
        self.upload.clone().received(&self.admission, offset, frontier, sha256)
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

/// Waits while the peer stalls, and holds no file open meanwhile.
async fn rest(gatherer: &mut Gatherer, writer: &mut dyn DataWriter) -> Result<Batch, Fault> {
    writer.rest().await?;
    Ok(gatherer.gather(Some(CHECKPOINT_INTERVAL)).await)
}
