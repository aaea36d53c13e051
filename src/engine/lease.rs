//! One writer an upload: a lease inside this process. (Across processes the version check of
//! every save is the fence.)
//!
//! Who wants the lease ends the append that holds it: a stalled append must not keep the client
//! that already came back from resuming (RUFH §Concurrency). Nothing polls; waiting costs nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
    /// Ends all appends.
    stopping: CancellationToken,
    shards: [Mutex<HashMap<UploadId, Holder>>; SHARDS],
    /// The entries of all shards. Each batch of each append asks for it.
    held: AtomicUsize,
}

#[derive(Debug)]
struct Holder {
    /// Tells the holder to end.
    end: CancellationToken,
    /// Tells those who wait that it has ended. Mostly nobody does.
    released: Option<CancellationToken>,
}

/// The right to write one upload; given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Arc<Leases>,
    id: UploadId,
    end: CancellationToken,
}

/// The holder did not end in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy;

impl Leases {
    /// No lease yet. Once `stopping` is cancelled, every holder is told to end.
    pub(super) fn new(stopping: CancellationToken) -> Self {
        Self { stopping, ..Self::default() }
    }

    /// Takes the lease, ending the holder's append if there is one.
    pub(super) async fn acquire(self: &Arc<Self>, id: UploadId) -> Result<Lease, Busy> {
        if let Some(lease) = self.acquire_free(id) {
            return Ok(lease);
        }
        let wait = async {
            loop {
                if let Some(lease) = self.acquire_free(id) {
                    return lease;
                }
                if let Some(released) = self.end_holder(id) {
                    released.cancelled().await;
                }
            }
        };
        // In a box, since few need it: a lease is mostly free.
        Box::pin(timeout(HANDOVER_TIMEOUT, wait)).await.map_err(|_| Busy)
    }

    /// Ends the append that is under way, if one is, and waits until its bytes are recorded.
    pub(super) async fn end_append(&self, id: UploadId) -> Result<(), Busy> {
        match self.end_holder(id) {
            Some(released) => {
                timeout(HANDOVER_TIMEOUT, released.cancelled()).await.map_err(|_| Busy)
            }
            None => Ok(()),
        }
    }

    /// Tells the holder to end, if there is one; what is given is cancelled when it has.
    fn end_holder(&self, id: UploadId) -> Option<CancellationToken> {
        let mut shard = self.shard(id).lock();
        let holder = shard.get_mut(&id)?;
        holder.end.cancel();
        Some(holder.released.get_or_insert_default().clone())
    }

    /// Takes the lease if nobody has it, and disturbs nobody.
    pub(super) fn acquire_free(self: &Arc<Self>, id: UploadId) -> Option<Lease> {
        match self.shard(id).lock().entry(id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                let end = self.stopping.child_token();
                place.insert(Holder { end: end.clone(), released: None });
                self.held.fetch_add(1, Ordering::Relaxed);
                Some(Lease { leases: Arc::clone(self), id, end })
            }
        }
    }

    /// Whether all holders are told to end.
    pub(super) fn are_ended(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Whether nobody has one.
    pub(super) fn are_free(&self) -> bool {
        self.held.load(Ordering::Relaxed) == 0
    }

    /// Whether many are held.
    pub(super) fn are_many(&self) -> bool {
        self.held.load(Ordering::Relaxed) > MANY
    }

    fn shard(&self, id: UploadId) -> &Mutex<HashMap<UploadId, Holder>> {
        let index = usize::from(id.to_bytes()[0]).checked_rem(SHARDS).unwrap_or_default();
        &self.shards[index]
    }
}

impl Lease {
    /// Is cancelled when somebody else wants the lease, and when the server stops.
    pub(super) fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// All leases, of which this is one.
    pub(super) fn all(&self) -> Arc<Leases> {
        Arc::clone(&self.leases)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let holder = self.leases.shard(self.id).lock().remove(&self.id);
        self.leases.held.fetch_sub(1, Ordering::Relaxed);
        if let Some(released) = holder.and_then(|holder| holder.released) {
            released.cancel();
        }
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
        let end = first.end();
        let holder = tokio::spawn(async move {
            end.cancelled().await;
            drop(first);
        });
        let second = leases.acquire(id()).await.unwrap();
        holder.await.unwrap();
        assert!(!second.end().is_cancelled() && !leases.are_ended());
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
    async fn all_who_wait_go_on_one_after_the_other() {
        let leases = Arc::new(Leases::default());
        let first = leases.acquire(id()).await.unwrap();
        let waiting = [(); 3].map(|()| {
            let leases = Arc::clone(&leases);
            tokio::spawn(async move { drop(leases.acquire(id()).await.unwrap()) })
        });
        let looking = tokio::spawn({
            let leases = Arc::clone(&leases);
            async move { leases.end_append(id()).await.unwrap() }
        });
        first.end().cancelled().await;
        drop(first);
        looking.await.unwrap();
        for waiting in waiting {
            waiting.await.unwrap();
        }
        assert!(leases.are_free());
    }

    #[tokio::test]
    async fn every_holder_is_told_when_the_server_stops() {
        let stopping = CancellationToken::new();
        let leases = Arc::new(Leases::new(stopping.clone()));
        let before = leases.acquire(id()).await.unwrap();
        assert!(!before.end().is_cancelled());
        stopping.cancel();
        assert!(before.end().is_cancelled() && leases.are_ended());
        drop(before);
        assert!(leases.acquire(id()).await.unwrap().end().is_cancelled());
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
