//! A running append is recorded as it goes, so that a crash loses little and others see it move.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use resumed::clock::Clock;
use resumed::engine::content::{Content, Piece};
use resumed::engine::{Engine, Fault, Policy};
use resumed::protocol::checksum::{Algorithm, Checksummer};
use resumed::protocol::digest::Blake3Digest;
use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::operation::{Append, Completion, Creation, ExpectedChecksum};
use resumed::protocol::refusal::Refusal;
use resumed::protocol::repr_digests::ReprDigests;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::{Kind, Upload};
use resumed::storage::DataStore as _;
use resumed::storage::memory::MemoryStore;

/// Longer than the interval of the checkpoints.
const A_WHILE: Duration = Duration::from_secs(20);

/// Some bytes, and then silence.
struct Stalling(Option<Bytes>);

impl Content for Stalling {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Piece> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Piece::Bytes(bytes)))
    }
}

fn engine_on(store: &MemoryStore) -> Arc<Engine> {
    let (records, data) = (Arc::new(store.clone()), Arc::new(store.clone()));
    let policy = Policy { keeps_tree: true, ..Policy::default() };
    Engine::new(records, data, Clock::manual(Timestamp(0)), policy)
}

/// A new upload of ten bytes, and an append to it.
async fn create(engine: &Arc<Engine>, checksum: Option<ExpectedChecksum>) -> (UploadId, Append) {
    let creation = Creation {
        kind: Kind::Single,
        length: Some(10),
        metadata: Metadata::default(),
        declared: ReprDigests::default(),
        content: None,
    };
    let id = engine.create(creation.into(), Box::new(Stalling(None))).await.unwrap().id();
    let append = Append {
        offset: 0,
        length: None,
        content_length: Some(10),
        completion: Completion::AtLength,
        checksum,
        max_bytes: None,
    };
    (id, append)
}

/// An upload of ten bytes, of which an append sends some and then stalls for a while.
async fn stalled(sent: &'static [u8], checksum: Option<ExpectedChecksum>) -> Upload {
    let engine = engine_on(&MemoryStore::new());
    let (id, append) = create(&engine, checksum).await;
    let content = Box::new(Stalling(Some(Bytes::from_static(sent))));
    let task = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.append(id, append.into(), content).await }
    });
    tokio::time::sleep(A_WHILE).await;
    let seen = engine.look(id).await.unwrap();
    engine.stop().await;
    drop(task.await);
    seen
}

#[tokio::test(start_paused = true)]
async fn what_a_stalled_append_sent_is_recorded_after_a_while() {
    assert_eq!(stalled(b"hello", None).await.offset(), Some(5));
}

#[tokio::test(start_paused = true)]
async fn the_last_byte_completes_the_upload_though_the_message_does_not_end() {
    assert!(stalled(b"helloworld", None).await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn nothing_under_a_checksum_is_recorded_before_it_matched() {
    let mut checksummer = Checksummer::new(Algorithm::Sha1);
    checksummer.update(b"helloworld");
    let checksum = ExpectedChecksum::Given(checksummer.finish());
    let upload = stalled(b"helloworld", Some(checksum)).await;
    assert_eq!(upload.offset(), Some(0));
    assert!(!upload.is_complete());
}

#[tokio::test(start_paused = true)]
async fn content_that_found_no_room_gives_back_what_it_took() {
    let store = MemoryStore::new();
    let engine = engine_on(&store);
    let (id, append) = create(&engine, None).await;
    store.set_room(6);
    // It came in one piece, so that nothing was written before it.
    let content = Box::new(Stalling(Some(Bytes::from_static(b"helloworld"))));
    engine.append(id, append.into(), content).await.unwrap_err();
    assert_eq!(engine.look(id).await.unwrap().offset(), Some(0));
    assert_eq!(store.room().await.unwrap(), 6);
}

/// Pieces that are each written by themselves.
struct Large(Vec<Bytes>);

impl Content for Large {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Piece> {
        Poll::Ready(self.0.pop().map_or(Piece::End, Piece::Bytes))
    }
}

#[tokio::test]
async fn what_came_before_the_room_was_used_up_is_kept() {
    const PIECE: usize = 1 << 20;
    let store = MemoryStore::new();
    let engine = engine_on(&store);
    let creation = Creation {
        kind: Kind::Single,
        length: Some(4 << 20),
        metadata: Metadata::default(),
        declared: ReprDigests::default(),
        content: None,
    };
    let id = engine.create(creation.into(), Box::new(Stalling(None))).await.unwrap().id();
    let pieces: Vec<_> = (0..4_u8).map(|number| Bytes::from(vec![number; PIECE])).collect();
    let append = |offset| Append {
        offset,
        length: None,
        content_length: None,
        completion: Completion::AtLength,
        checksum: None,
        max_bytes: None,
    };
    store.set_room(5 << 19);
    let content = Large(pieces.iter().rev().cloned().collect());
    let refused = engine.append(id, append(0).into(), Box::new(content)).await.unwrap_err();
    assert!(matches!(refused, Fault::Refused(Refusal::NoRoom)), "{refused}");
    assert_eq!(engine.look(id).await.unwrap().offset(), Some(2 << 20));
    assert_eq!(store.room().await.unwrap(), 1 << 19, "the half of a piece is scratch");
    store.set_room(8 << 20);
    let content = Large(pieces[2..].iter().rev().cloned().collect());
    let upload = engine.append(id, append(2 << 20).into(), Box::new(content)).await.unwrap();
    let whole = pieces.concat();
    assert_eq!(upload.digests().blake3, Some(Blake3Digest::of(&whole)));
}
