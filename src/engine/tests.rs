//! A world for the tests of the engine, and what is true of all that it does.

use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use futures_util::poll;

use super::*;
use crate::engine::content::Piece;
use crate::protocol::digest::Blake3Digest;
use crate::protocol::metadata::Metadata;
use crate::protocol::operation::{Completion, Creation};
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::upload::{Final, Kind, Placement};
use crate::storage::memory::{Fault as Planned, MemoryStore, Operation};
use crate::storage::{DataStore as _, RecordStore as _};

pub(super) const CONTENT: &[u8] = b"hello";

pub(super) struct World {
    pub(super) engine: Arc<Engine>,
    pub(super) store: MemoryStore,
    pub(super) clock: Clock,
}

/// One piece, or none.
pub(super) struct Once(pub(super) Option<Bytes>);

impl Content for Once {
    fn poll_piece(&mut self, _: &mut std::task::Context<'_>) -> Poll<Piece> {
        Poll::Ready(self.0.take().map_or(Piece::End, Piece::Bytes))
    }
}

pub(super) fn id(number: u8) -> UploadId {
    UploadId::from_bytes([number; 16])
}

pub(super) fn declared(content: &[u8]) -> ReprDigests {
    ReprDigests::from(Some(Blake3Digest::of(content)))
}

pub(super) fn new(number: u8, length: u64) -> Upload {
    Upload::new(id(number), Some(length), Metadata::default(), Timestamp(1))
}

pub(super) async fn let_others_run() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(InstantUpload::Owner)
    }

    pub(super) fn with(instant_upload: InstantUpload) -> Self {
        Self::of(Policy { keeps_tree: true, instant_upload, ..Policy::default() })
    }

    pub(super) fn of(policy: Policy) -> Self {
        let store = MemoryStore::new();
        let (records, data) = (Arc::new(store.clone()), Arc::new(store.clone()));
        let clock = Clock::manual(Timestamp(1));
        let engine = Engine::new(records, data, clock.clone(), policy);
        Self { engine, store, clock }
    }

    /// Saves a complete upload with the content.
    pub(super) async fn complete(&self, number: u8, kind: Kind) -> UploadId {
        self.complete_of(number, kind, CONTENT).await
    }

    pub(super) async fn complete_of(&self, number: u8, kind: Kind, content: &[u8]) -> UploadId {
        let mut writer = self.store.writer(id(number), 0).await.unwrap();
        writer.write_and_commit(vec![Bytes::copy_from_slice(content)]).await.unwrap();
        let length = content.len().try_into().unwrap();
        let upload = new(number, length).given(declared(content), Timestamp(1)).of_kind(kind);
        self.store.save(upload.joined(None), None).await.unwrap();
        id(number)
    }

    pub(super) async fn create(
        &self,
        kind: Kind,
        declared: ReprDigests,
    ) -> Result<UploadId, Fault> {
        let length = Some(5).filter(|_| !matches!(kind, Kind::Final(_)));
        let metadata = Metadata::default();
        let creation = Creation { kind, length, metadata, declared, content: None };
        self.engine.create(creation.into(), Box::new(Once(None))).await.map(|upload| upload.id())
    }

    pub(super) async fn record(&self, id: UploadId) -> Upload {
        self.store.load(id).await.unwrap().unwrap().upload
    }

    pub(super) async fn is_due(&self, id: UploadId) -> bool {
        self.store.due(self.clock.now(), 9).await.unwrap().contains(&id)
    }
}

#[tokio::test]
async fn what_a_client_asked_for_is_seen_through_when_it_goes_away() {
    for polls in 1..8 {
        let world = World::new();
        let part = world.complete(1, Kind::Partial).await;
        let parts = Final { parts: [part].into(), as_sent: "final;x".into() };
        {
            let mut creating = pin!(world.create(Kind::Final(parts), ReprDigests::default()));
            for _ in 0..polls {
                if poll!(creating.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let_others_run().await;
        let is_final = |stored: &Stored| stored.upload.id() != part;
        let records = world.store.list(None, 9).await.unwrap();
        let whole = records.iter().find(|stored| is_final(stored)).expect("it is not created");
        {
            let mut cancelling = pin!(world.engine.cancel(part));
            for _ in 0..polls {
                if poll!(cancelling.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let_others_run().await;
        assert!(matches!(world.record(part).await.state(), State::Gone { .. }));
        let left = world.store.reader(part, whole.upload.placement(), 0..5).await;
        assert!(left.is_err(), "its bytes are left");
    }
}

#[tokio::test]
async fn bytes_stay_whose_record_may_have_been_saved() {
    let world = World::new();
    let upload = world.create(Kind::Single, ReprDigests::default()).await.unwrap();
    world.store.fail(Operation::Save, 0, Planned::Io);
    let append = Append {
        offset: 0,
        length: None,
        content_length: Some(3),
        completion: Completion::AtLength,
        checksum: None,
        max_bytes: None,
    };
    let content = Box::new(Once(Some(Bytes::from_static(b"hel"))));
    let failed = world.engine.append(upload, append.into(), content).await;
    assert!(matches!(failed, Err(Fault::Storage(_))), "{failed:?}");
    let mut reader = world.store.reader(upload, &Placement::Whole, 0..3).await.unwrap();
    assert_eq!(reader.read().await.unwrap(), "hel");
}

#[tokio::test]
async fn an_upload_is_cancelled_whatever_is_saved_meanwhile() {
    for wait in 0..12 {
        let world = World::new();
        let upload = world.complete(1, Kind::Single).await;
        let engine = Arc::clone(&world.engine);
        let cancelling = tokio::spawn(async move { engine.cancel(upload).await });
        for _ in 0..wait {
            tokio::task::yield_now().await;
        }
        for _ in 0..SAVES_WITHOUT_LEASE {
            let Stored { upload, version } = world.store.load(upload).await.unwrap().unwrap();
            let _ = world.store.save(upload, Some(version)).await;
        }
        cancelling.await.unwrap().unwrap();
    }
}
