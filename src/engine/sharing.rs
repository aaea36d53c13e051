//! Equal uploads share their bytes: two are compared in the background, and one becomes a hard link of the
//! other.
//!
//! Nobody waits for that, and whoever uploads waits for the disk and the processor. So a comparison begins
//! when nothing is uploaded; but an upload waits no longer than a minute, as there may always be one that
//! trickles, and not at all while many wait. A stop or a crash leaves what waits a copy of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::alarm::from_now;
use super::instant::are_equal;
use super::{Engine, Fault};
use crate::protocol::id::UploadId;
use crate::protocol::upload::{State, Upload};
use crate::storage::StorageError;

/// Shorter uploads are not worth a look for others that are equal.
const MIN_BYTES: u64 = 64 << 10;
/// How long an upload waits while anything is uploaded.
const QUIET_WAIT: Duration = Duration::from_secs(60);
/// How often it is looked whether anything is.
const QUIET_LOOK: Duration = Duration::from_millis(100);
/// While more than so many wait, none waits until nothing is uploaded.
const FEW: usize = 64;
/// So many wait at most, for which 2 MiB are enough; what completes meanwhile keeps a copy of its own.
const MOST: usize = 1 << 16;

/// The uploads that wait for a look, in their order, with the time until which they may wait. The first
/// is being looked at: who puts one into an empty queue sees to all of it.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<VecDeque<(UploadId, Instant)>>);

impl Waiting {
    /// Whether nobody sees to them yet.
    fn push(&self, id: UploadId) -> bool {
        let mut waiting = self.0.lock();
        if waiting.len() < MOST {
            waiting.push_back((id, from_now(QUIET_WAIT)));
        }
        waiting.len() == 1
    }

    fn first(&self) -> Option<(UploadId, Instant)> {
        self.0.lock().front().copied()
    }

    /// Ends with the first, and goes on to the next. With none left, who puts one in sees to it.
    fn next(&self) -> Option<(UploadId, Instant)> {
        let mut waiting = self.0.lock();
        waiting.pop_front();
        waiting.front().copied()
    }

    fn are_few(&self) -> bool {
        self.0.lock().len() <= FEW
    }
}

impl Engine {
    /// Lets a complete upload share the bytes of an equal one that was there before, in the
    /// background.
    pub(super) fn start_sharing(self: &Arc<Self>, upload: &Upload) {
        let has_digest = upload.digest().is_some();
        if !has_digest || upload.length().is_none_or(|length| length < MIN_BYTES) {
            return;
        }
        if !self.waiting_to_share.push(upload.id()) {
            return;
        }
        let engine = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = engine.stopping.cancelled() => {}
                () = engine.share_all() => {}
            }
        });
    }

    /// Sees to all that wait, until none is left.
    async fn share_all(&self) {
        let mut next = self.waiting_to_share.first();
        while let Some((id, latest)) = next {
            self.quiet(latest).await;
            match self.load(id).await {
                Ok(found) => {
                    if let Err(error) = self.share_with_first(&found.upload).await {
                        tracing::debug!(%error, "two equal uploads do not share their bytes");
                    }
                }
                // It is gone.
                Err(Fault::Refused(_)) => {}
                Err(Fault::Storage(error)) => {
                    tracing::debug!(%error, "an upload is passed over that may be equal");
                }
            }
            next = self.waiting_to_share.next();
        }
    }

    /// Waits until nothing is uploaded, or it is too late, or many wait.
    async fn quiet(&self, latest: Instant) {
        while !self.leases.are_free() && self.waiting_to_share.are_few() && Instant::now() < latest
        {
            sleep(QUIET_LOOK).await;
        }
    }

    async fn share_with_first(&self, upload: &Upload) -> Result<(), StorageError> {
        let alike = self.alike(upload.digests(), upload).await;
        // The one that was there first keeps its bytes: two that take each other's share nothing.
        let age = |upload: &Upload| match *upload.state() {
            State::Complete { at, .. } => (at, upload.id()),
            State::Receiving { .. } | State::Finishing { .. } | State::Gone { .. } => {
                (upload.created(), upload.id())
            }
        };
        let first = alike.into_iter().min_by_key(age);
        match first.filter(|first| age(first) < age(upload)) {
            Some(first) => self.share(upload, &first).await,
            None => Ok(()),
        }
    }

    /// Compares before it shares: the bytes that were there may have been damaged since, and a good
    /// copy must not be given up for a bad one.
    async fn share(&self, upload: &Upload, first: &Upload) -> Result<(), StorageError> {
        let range = 0..upload.length().unwrap_or_default();
        let own = self.read(upload, range.clone()).await?;
        let other = self.read(first, range).await?;
        if !are_equal(own, other).await? {
            tracing::error!(
                upload = %upload.id(), other = %first.id(),
                "two uploads have the same digest but not the same bytes; one is damaged"
            );
            return Ok(());
        }
        self.data.share(upload.id(), first.id()).await?;
        tracing::debug!(upload = %upload.id(), with = %first.id(), "equal uploads share their bytes");
        // It may have been cancelled meanwhile, and its bytes removed before they were shared.
        self.remove_if_gone(upload.id()).await
    }
}

#[cfg(test)]
mod tests;
