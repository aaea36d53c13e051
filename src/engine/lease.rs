//! One writer an upload: a lease inside this process. (Across processes the version check of
//! every save is the fence.)
//!
//! Who wants the lease ends the append that holds it: a stalled append must not keep the client
//! that already came back from resuming (RUFH §Concurrency). Nothing polls; waiting costs nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::protocol::id::UploadId;

/// How long anyone waits for a holder that was told to end. It only has to finish the write that
/// is under way and save; longer than this means that the disk hangs.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(20);
/// Locks are spread so that requests for different uploads rarely meet.
const SHARDS: usize = 16;
/// More than so many that are held are many.
const MANY: usize = 32;

/// The leases of all uploads that are being written.
#[derive(Debug, Default)]
pub(super) struct Leases {
    shards: [Mutex<HashMap<UploadId, Holder>>; SHARDS],
    /// The entries of all shards. Each batch of each append asks for it.
    held: AtomicUsize,
}

#[derive(Clone, Debug)]
struct Holder {
    /// Tells the holder to end.
    superseded: CancellationToken,
    /// Tells the others that it has ended.
    released: CancellationToken,
}

/// The right to write one upload; given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Arc<Leases>,
    id: UploadId,
    holder: Holder,
}

/// The holder did not end in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy;

impl Leases {
    /// Takes the lease, ending the holder's append if there is one.
    pub(super) async fn acquire(self: &Arc<Self>, id: UploadId) -> Result<Lease, Busy> {
        if let Some(lease) = self.acquire_free(id) {
            return Ok(lease);
        }
        let wait = async {
            loop {
                match self.try_acquire(id) {
                    Ok(lease) => return lease,
                    Err(holder) => holder.end().await,
                }
            }
        };
        // In a box, since few need it: a lease is mostly free.
        Box::pin(timeout(HANDOVER_TIMEOUT, wait)).await.map_err(|_| Busy)
    }

    /// Ends the append that is under way, if one is, and waits until its bytes are recorded.
    pub(super) async fn end_append(&self, id: UploadId) -> Result<(), Busy> {
        let holder = self.shard(id).lock().get(&id).cloned();
        match holder {
            Some(holder) => timeout(HANDOVER_TIMEOUT, holder.end()).await.map_err(|_| Busy),
            None => Ok(()),
        }
    }

    /// Takes the lease if nobody has it, and disturbs nobody.
    pub(super) fn acquire_free(self: &Arc<Self>, id: UploadId) -> Option<Lease> {
        self.try_acquire(id).ok()
    }

    /// Whether nobody has one.
    pub(super) fn are_free(&self) -> bool {
        self.held.load(Ordering::Relaxed) == 0
    }

    /// Whether many are held.
    pub(super) fn are_many(&self) -> bool {
        self.held.load(Ordering::Relaxed) > MANY
    }

    fn try_acquire(self: &Arc<Self>, id: UploadId) -> Result<Lease, Holder> {
        let mut shard = self.shard(id).lock();
        if let Some(holder) = shard.get(&id) {
            return Err(holder.clone());
        }
        let holder =
            Holder { superseded: CancellationToken::new(), released: CancellationToken::new() };
        shard.insert(id, holder.clone());
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(Lease { leases: Arc::clone(self), id, holder })
    }

    fn shard(&self, id: UploadId) -> &Mutex<HashMap<UploadId, Holder>> {
        let index = usize::from(id.to_bytes()[0]).checked_rem(SHARDS).unwrap_or_default();
        &self.shards[index]
    }
}

impl Holder {
    async fn end(&self) {
        self.superseded.cancel();
        self.released.cancelled().await;
    }
}

impl Lease {
    /// Is cancelled when somebody else wants the lease.
    pub(super) fn superseded(&self) -> CancellationToken {
        self.holder.superseded.clone()
    }

    /// All leases, of which this is one.
    pub(super) fn all(&self) -> Arc<Leases> {
        Arc::clone(&self.leases)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.shard(self.id).lock().remove(&self.id);
        self.leases.held.fetch_sub(1, Ordering::Relaxed);
        self.holder.released.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> UploadId {
        UploadId::from_bytes([7; 16])
    }

    #[tokio::test]
    async fn a_second_writer_ends_the_first_and_then_has_the_lease() {
        let leases = Arc::new(Leases::default());
        let first = leases.acquire(id()).await.unwrap();
        let superseded = first.superseded();
        let holder = tokio::spawn(async move {
            superseded.cancelled().await;
            drop(first);
        });
        let second = leases.acquire(id()).await.unwrap();
        holder.await.unwrap();
        assert!(!second.superseded().is_cancelled());
        assert!(leases.acquire_free(id()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_does_not_end_is_reported_as_busy() {
        let leases = Arc::new(Leases::default());
        let _held = leases.acquire(id()).await.unwrap();
        assert_eq!(leases.acquire(id()).await.unwrap_err(), Busy);
        assert_eq!(leases.end_append(id()).await, Err(Busy));
    }

    #[tokio::test]
    async fn it_is_known_when_many_are_held() {
        let leases = Arc::new(Leases::default());
        let id = |number| UploadId::from_bytes([number; 16]);
        let few: Vec<_> = (0..32).map(|number| leases.acquire_free(id(number)).unwrap()).collect();
        assert!(!leases.are_many());
        let one_more = leases.acquire_free(id(32)).unwrap();
        assert!(one_more.all().are_many());
        drop(few);
        assert!(!leases.are_many() && !leases.are_free());
        drop(one_more);
        assert!(leases.are_free());
    }

    #[tokio::test]
    async fn ending_an_append_that_is_not_there_returns_at_once() {
        assert_eq!(Leases::default().end_append(id()).await, Ok(()));
    }
}
