//! Unfinished uploads end with their time, finished ones only when a setting says so (tus 1.0
//! "Expiration"); and what the sweep does is bounded. On a clock that is set by hand.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use resumed::clock::Clock;
use resumed::engine::content::{Content, Piece};
use resumed::engine::{Engine, Fault, Policy};
use resumed::protocol::metadata::Metadata;
use resumed::protocol::operation::{Append, Completion, Creation};
use resumed::protocol::refusal::Refusal;
use resumed::protocol::repr_digests::ReprDigests;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::{GONE_RETENTION, GoneReason, Kind, Upload};
use resumed::storage::memory::MemoryStore;

const HOUR: Duration = Duration::from_secs(60 * 60);

struct Whole(Option<Bytes>);

impl Content for Whole {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Piece> {
        Poll::Ready(
            self.0.take().filter(|bytes| !bytes.is_empty()).map_or(Piece::End, Piece::Bytes),
        )
    }
}

fn content(bytes: &'static [u8]) -> Box<dyn Content> {
    Box::new(Whole(Some(Bytes::from_static(bytes))))
}

struct World {
    engine: Arc<Engine>,
    clock: Clock,
    store: MemoryStore,
}

impl World {
    fn new(expire_after: Option<Duration>, expire_complete_after: Option<Duration>) -> Self {
        let clock = Clock::manual(Timestamp(1_000_000));
        let store = MemoryStore::new();
        let policy = Policy { expire_after, expire_complete_after, ..Policy::default() };
        let (records, data) = (Arc::new(store.clone()), Arc::new(store.clone()));
        Self { engine: Engine::new(records, data, clock.clone(), policy), clock, store }
    }

    async fn create(&self, length: u64) -> Upload {
        let creation = Creation {
            kind: Kind::Single,
            length: Some(length),
            metadata: Metadata::default(),
            declared: ReprDigests::default(),
            content: None,
        };
        self.engine.create(creation.into(), content(b"")).await.unwrap()
    }

    async fn append(&self, upload: &Upload, offset: u64, bytes: &'static [u8]) -> Upload {
        let append = Append {
            offset,
            length: None,
            content_length: None,
            completion: Completion::AtLength,
            checksum: None,
            max_bytes: None,
        };
        self.engine.append(upload.id(), append.into(), content(bytes)).await.unwrap()
    }

    async fn refusal(&self, upload: &Upload) -> Refusal {
        match self.engine.retrieve_offset(upload.id()).await {
            Err(Fault::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_time_of_an_upload_slides_with_each_append() {
    let world = World::new(Some(HOUR), None);
    let upload = world.create(10).await;
    for offset in 0..5 {
        world.clock.advance(HOUR - Duration::from_secs(1));
        world.append(&upload, offset, b"x").await;
        assert_eq!(world.engine.sweep().await.unwrap(), 0);
    }
    world.clock.advance(HOUR + Duration::from_secs(1));
    let expired = Refusal::Gone(GoneReason::Expired);
    assert_eq!(world.refusal(&upload).await, expired, "it is gone before it is swept");
    assert_eq!(world.engine.sweep().await.unwrap(), 1);
    assert_eq!(world.refusal(&upload).await, expired);
    world.clock.advance(GONE_RETENTION);
    assert_eq!(world.engine.sweep().await.unwrap(), 1);
    assert_eq!(world.refusal(&upload).await, Refusal::NotFound);
    assert_eq!(world.engine.sweep().await.unwrap(), 0);
}

#[tokio::test]
async fn a_finished_upload_is_left_alone() {
    let world = World::new(Some(HOUR), None);
    let upload = world.create(1).await;
    let upload = world.append(&upload, 0, b"x").await;
    assert!(upload.is_complete());
    assert_eq!(upload.expires(), None);
    world.clock.advance(HOUR * 24 * 365);
    assert_eq!(world.engine.sweep().await.unwrap(), 0);
    assert!(world.engine.look(upload.id()).await.unwrap().is_complete());
}

#[tokio::test]
async fn a_finished_upload_ends_when_its_own_setting_says_so() {
    let world = World::new(None, Some(HOUR));
    let unfinished = world.create(1).await;
    assert_eq!(unfinished.expires(), None);
    let upload = world.create(1).await;
    world.append(&upload, 0, b"x").await;
    world.clock.advance(HOUR + Duration::from_secs(1));
    assert_eq!(world.engine.sweep().await.unwrap(), 1);
    assert_eq!(world.refusal(&upload).await, Refusal::Gone(GoneReason::Expired));
    assert!(world.engine.look(unfinished.id()).await.is_ok());
}

#[tokio::test]
async fn a_sweep_asks_only_for_what_is_due() {
    let world = World::new(Some(HOUR), None);
    for _ in 0..500 {
        world.create(10).await;
    }
    world.clock.advance(HOUR / 2);
    let calls = world.store.calls();
    assert_eq!(world.engine.sweep().await.unwrap(), 0);
    assert_eq!(world.store.calls() - calls, 1, "one look, whatever the number of uploads");
    world.clock.advance(HOUR);
    let swept = world.engine.sweep().await.unwrap();
    assert!((1..=256).contains(&swept), "a sweep takes on {swept} uploads");
    assert_eq!(world.engine.sweep().await.unwrap(), 500 - swept);
}
