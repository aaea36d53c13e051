//! The sweep: ends what has expired and forgets what is gone. Its work grows with what is due,
//! never with the number of uploads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::Engine;
use super::concat::Settled;
use crate::protocol::id::UploadId;
use crate::protocol::upload::{GoneReason, State};
use crate::storage::StorageError;

/// How often the sweep looks for what is due.
const INTERVAL: Duration = Duration::from_secs(2);
/// The rest between two looks while there is more, so that requests have their turn.
const PAUSE: Duration = Duration::from_millis(50);
/// The uploads that one look takes on.
const BATCH: usize = 256;

/// What came of an upload that was due.
enum Swept {
    /// It is no longer due.
    Done,
    /// It is written, or joined or compared in the background, and is due until that has ended.
    Left,
}

impl Engine {
    /// Sweeps until the engine stops, which ends a look half-way: what it leaves is due again.
    pub async fn sweep_forever(self: Arc<Self>) {
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = self.sweep_again_and_again() => {}
        }
    }

    async fn sweep_again_and_again(self: &Arc<Self>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            loop {
                let most = self.sweep_most();
                match self.sweep().await {
                    Ok(count) if count >= most => sleep(PAUSE).await,
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "could not look for what is due; trying again");
                        break;
                    }
                }
            }
        }
    }

    /// The uploads that one look takes on: [`BATCH`], and as many as the last one had to leave. They
    /// come first each time, and must not hide those behind them.
    fn sweep_most(&self) -> usize {
        BATCH.saturating_add(self.left_by_sweep.load(Ordering::Relaxed))
    }

    /// Does what is due now, [`BATCH`] uploads at the most besides those that the last sweep had to
    /// leave; how many there were.
    ///
    /// # Errors
    ///
    /// The store could not tell what is due. An upload that fails is logged and is due again; it
    /// does not keep the others.
    pub async fn sweep(self: &Arc<Self>) -> Result<usize, StorageError> {
        let due = self.records.due(self.now(), self.sweep_most()).await?;
        let mut left = 0_usize;
        for id in &due {
            match self.sweep_one(*id).await {
                Ok(Swept::Done) => {}
                Ok(Swept::Left) => left = left.saturating_add(1),
                Err(error) => {
                    left = left.saturating_add(1);
                    tracing::warn!(%error, "could not sweep an upload; trying again");
                }
            }
        }
        self.left_by_sweep.store(left, Ordering::Relaxed);
        Ok(due.len())
    }

    /// Ends or forgets one upload, or sets going what it waits for, unless it is being written.
    async fn sweep_one(self: &Arc<Self>, id: UploadId) -> Result<Swept, StorageError> {
        let Some(lease) = self.leases.acquire_free(id) else {
            return Ok(Swept::Left);
        };
        let Some(stored) = self.records.load(id).await? else {
            return Ok(Swept::Done);
        };
        if stored.upload.wake().is_none_or(|wake| wake > self.now()) {
            return Ok(Swept::Done);
        }
        match stored.upload.state() {
            State::Receiving { .. } | State::Finishing { .. } | State::Complete { .. }
                if stored.upload.is_expired(self.now()) =>
            {
                self.end_upload(stored, GoneReason::Expired).await?;
            }
            State::Receiving { .. } => {}
            State::Finishing { .. } => {
                drop(lease);
                match self.settle(id).await? {
                    Settled::Now => {}
                    Settled::Later => return Ok(Swept::Left),
                }
            }
            State::Complete { .. } => {
                self.start_join(id);
                return Ok(Swept::Left);
            }
            State::Gone { .. } => {
                // Once more: a crash may have come between the record and the bytes.
                self.data.remove(id).await?;
                self.records.delete(id, stored.version).await?;
            }
        }
        Ok(Swept::Done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::clock::Clock;
    use crate::engine::Policy;
    use crate::engine::lease::Lease;
    use crate::protocol::metadata::Metadata;
    use crate::protocol::units::Timestamp;
    use crate::protocol::upload::Upload;
    use crate::storage::RecordStore as _;
    use crate::storage::memory::MemoryStore;

    /// More than one look takes on.
    const MANY: u8 = 255;
    const HOUR: Duration = Duration::from_secs(60 * 60);

    struct World {
        engine: Arc<Engine>,
        store: MemoryStore,
        leases: Vec<Lease>,
    }

    fn id(first: u8, last: u8) -> UploadId {
        let mut bytes = [0; 16];
        (bytes[0], bytes[15]) = (first, last);
        UploadId::from_bytes(bytes)
    }

    impl World {
        /// A world in which more uploads have expired than one look takes on, and are being
        /// written.
        async fn new() -> Self {
            let store = MemoryStore::new();
            let (records, data) = (Arc::new(store.clone()), Arc::new(store.clone()));
            let policy = Policy { expire_after: Some(HOUR), ..Policy::default() };
            let clock = Clock::manual(Timestamp(0).after(HOUR));
            let mut world = Self {
                engine: Engine::new(records, data, clock, policy),
                store,
                leases: Vec::new(),
            };
            for first in 0..2 {
                for last in 0..MANY {
                    let id = id(first, last);
                    world.expired(id, Timestamp(1)).await;
                    world.leases.push(world.engine.leases.acquire_free(id).unwrap());
                }
            }
            world
        }

        async fn expired(&self, id: UploadId, at: Timestamp) {
            let upload = Upload::new(id, Some(1), Metadata::default(), Timestamp(0));
            self.store.save(upload.expiring(Some(at)), None).await.unwrap();
        }

        async fn is_gone(&self, id: UploadId) -> bool {
            let stored = self.store.load(id).await.unwrap().unwrap();
            matches!(stored.upload.state(), State::Gone { .. })
        }
    }

    #[tokio::test]
    async fn uploads_that_cannot_be_swept_now_do_not_keep_the_others_however_many_they_are() {
        let world = World::new().await;
        let last = id(9, 9);
        world.expired(last, Timestamp(2)).await;
        for _ in 0..5 {
            world.engine.sweep().await.unwrap();
        }
        assert!(world.is_gone(last).await);
        let calls = world.store.calls();
        world.engine.sweep().await.unwrap();
        assert_eq!(world.store.calls().saturating_sub(calls), 1, "they cost one look together");
    }

    #[tokio::test(start_paused = true)]
    async fn the_sweep_ends_with_the_engine_however_much_is_due() {
        let world = World::new().await;
        let sweeping = tokio::spawn(Arc::clone(&world.engine).sweep_forever());
        sleep(INTERVAL * 3).await;
        world.engine.stop().await;
        timeout(HOUR, sweeping).await.unwrap().unwrap();
    }
}
