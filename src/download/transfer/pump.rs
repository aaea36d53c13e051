//! One answer's bytes on their way to the file.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::store::Batch;
use crate::client::Answer;
use crate::client::failure::Failure;
use crate::download::plan::ClaimId;

/// Bytes are not held back longer than this, or a kill would lose them.
const MAX_AGE: Duration = Duration::from_millis(400);

/// Takes bytes from an answer until its claim, or the answer, ends. What came is in the file when it
/// returns, also when it fails. While one batch is written the next one comes.
pub(super) struct Pump<'a> {
    shared: &'a Arc<Shared>,
    id: ClaimId,
    batch: Batch,
    writing: Option<JoinHandle<Result<(), Failure>>>,
    /// All bytes that came.
    pub(super) came: u64,
}

impl<'a> Pump<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, id: ClaimId, start: u64) -> Self {
        Self { shared, id, batch: Batch::new(start), writing: None, came: 0 }
    }

    /// `available` is how many bytes the answer says that it has.
    pub(super) async fn run(
        &mut self,
        mut answer: Answer,
        available: u64,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let moved = self.take(&mut answer, available, stop).await;
        let flushed = self.flush().await;
        let written = self.wait().await;
        moved.and(flushed).and(written)
    }

    async fn take(
        &mut self,
        answer: &mut Answer,
        available: u64,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let answer_end = self.batch.at.saturating_add(available);
        while self.batch.end() < answer_end {
            let next = {
                let mut next = std::pin::pin!(answer.content.next());
                loop {
                    let look = Instant::now() + MAX_AGE;
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return Ok(()),
                        next = &mut next => break next?,
                        () = sleep_until(look) => {
                            if self.shared.plan.lock().end_of(self.id).is_none() {
                                return Ok(());
                            }
                            self.flush().await?;
                        }
                    }
                }
            };
            let Some(mut bytes) = next else {
                return Err(Failure::broken_answer("an answer ended before its range did"));
            };
            // Another connection may have taken the rest over, or all of it.
            let Some(claim_end) = self.shared.plan.lock().end_of(self.id) else { return Ok(()) };
            let end = claim_end.min(answer_end);
            let room = usize::try_from(end.saturating_sub(self.batch.end())).unwrap_or(usize::MAX);
            let is_last = bytes.len() >= room;
            bytes.truncate(room);
            self.came = self.came.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
            while !bytes.is_empty() {
                let room = self.batch.limit().saturating_sub(self.batch.end());
                let taken = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
                self.batch.push(bytes.split_to(taken));
                if self.batch.end().is_multiple_of(crate::protocol::tree::GROUP_BYTES) {
                    self.flush().await?;
                }
            }
            if is_last {
                // At the end of the answer the connection can be used again.
                if end == answer_end {
                    answer.content.next().await?;
                }
                return Ok(());
            }
            if self.batch.began.elapsed() >= MAX_AGE {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Hands the batch over to a thread, once the one before is written.
    async fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.wait().await?;
        let batch = std::mem::replace(&mut self.batch, Batch::new(0));
        self.batch = Batch::new(batch.end());
        let (shared, id) = (Arc::clone(self.shared), self.id);
        self.writing = Some(spawn_blocking(move || shared.store(id, &batch)));
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        match self.writing.take() {
            None => Ok(()),
            Some(writing) => match writing.await {
                Ok(written) => written,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
    }
}
