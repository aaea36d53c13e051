//! One answer's bytes on their way to the file.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::store::{Batch, Origin};
use crate::client::Answer;
use crate::client::failure::Failure;
use crate::protocol::tree::GROUP_BYTES;

/// Bytes are not held back longer than this, or a kill would lose them.
const MAX_AGE: Duration = Duration::from_millis(400);

/// Takes bytes from an answer until its claim, or the answer, ends. What came of the claim is in
/// the file when it returns, also when it fails.
///
/// It writes where it reads, and so blocks its thread for as long as the kernel takes for a copy to
/// its cache, or makes a writer wait: whoever runs it has a thread for each connection.
pub(super) struct Pump<'a> {
    shared: &'a Arc<Shared>,
    from: Origin,
    batch: Batch,
    /// All bytes that came.
    pub(super) came: u64,
}

impl<'a> Pump<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, from: Origin, start: u64) -> Self {
        Self { shared, from, batch: Batch::new(start, shared.groups.is_some()), came: 0 }
    }

    /// `available` is how many bytes the answer says that it has.
    pub(super) async fn run(
        &mut self,
        mut answer: Answer,
        available: u64,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let moved = self.take(&mut answer, available, stop).await;
        moved.and(self.flush())
    }

    async fn take(
        &mut self,
        answer: &mut Answer,
        available: u64,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let answer_end = self.batch.end().saturating_add(available);
        while self.batch.end() < answer_end {
            let Some(next) = self.next(answer, stop).await? else { return Ok(()) };
            let Some(mut bytes) = next else {
                return Err(Failure::broken_answer("an answer ended before its range did"));
            };
            // Another connection may have taken the rest over, or all of it.
            let Some(claim_end) = self.claim_end() else { return Ok(()) };
            let end = claim_end.min(answer_end);
            let room = usize::try_from(end.saturating_sub(self.batch.end())).unwrap_or(usize::MAX);
            let is_last = bytes.len() >= room;
            bytes.truncate(room);
            self.hold(bytes)?;
            if is_last {
                // At the end of the answer the connection can be used again.
                if end == answer_end {
                    answer.content.next().await?;
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Where its claim ends; `None` when another connection has it, or the source was found to lie.
    fn claim_end(&self) -> Option<u64> {
        let source = &self.shared.sources[self.from.source];
        self.shared.plan.lock().end_of(self.from.claim).filter(|_| source.is_usable())
    }

    /// The next bytes, or the end of the answer; `None` when there is to be no more.
    async fn next(
        &mut self,
        answer: &mut Answer,
        stop: &CancellationToken,
    ) -> Result<Option<Option<Bytes>>, Failure> {
        let mut next = std::pin::pin!(answer.content.next());
        loop {
            let look = Instant::now() + MAX_AGE;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(None),
                next = &mut next => return next.map(Some),
                () = sleep_until(look) => {
                    if self.claim_end().is_none() {
                        return Ok(None);
                    }
                    self.flush()?;
                }
            }
        }
    }

    fn hold(&mut self, mut bytes: Bytes) -> Result<(), Failure> {
        self.came = self.came.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        while !bytes.is_empty() {
            let room = self.batch.limit().saturating_sub(self.batch.end());
            let taken = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            self.batch.push(bytes.split_to(taken));
            let is_full = self.batch.bytes() >= self.shared.batch_bytes();
            let is_at_end = self.batch.end().is_multiple_of(GROUP_BYTES);
            if is_full || is_at_end || self.batch.is_in_many_pieces() {
                self.flush()?;
            }
        }
        if self.batch.age() >= MAX_AGE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.bytes() == 0 {
            return Ok(());
        }
        self.shared.store(self.from, &mut self.batch)
    }
}
