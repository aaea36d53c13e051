use std::pin::pin;
use std::sync::atomic::Ordering;

use futures_util::poll;

use super::*;
use crate::engine::Policy;
use crate::engine::tests::{CONTENT, World, declared, id, let_others_run, new};
use crate::protocol::digest::Blake3Digest;
use crate::protocol::units::Timestamp;
use crate::storage::memory::{Fault as Planned, Operation};
use crate::storage::{DataStore as _, RecordStore as _};

fn made_of(parts: &[UploadId]) -> Kind {
    Kind::Final(Final { parts: parts.into(), as_sent: "final;x".into() })
}

fn is_in_parts(upload: &Upload) -> bool {
    matches!(upload.placement(), Placement::Parts { .. })
}

#[tokio::test]
async fn a_final_upload_whose_parts_cannot_be_taken_now_is_told_as_it_is() {
    let World { engine, store, .. } = World::new();
    let complete = new(1, 0).of_kind(Kind::Partial).completed(None, Timestamp(1));
    store.save(complete, None).await.unwrap();
    store.save(new(2, 0).of_kind(made_of(&[id(1)])), None).await.unwrap();
    store.fail(Operation::Adopt, 0, Planned::Full);
    let told = engine.retrieve_offset(id(2)).await.unwrap();
    assert_eq!(told.offset(), None);
    assert!(engine.retrieve_offset(id(2)).await.unwrap().is_complete());
}

#[tokio::test]
async fn a_part_that_was_given_its_bytes_is_waited_for_until_they_are_in_place() {
    let world = World::new();
    world.complete(1, Kind::Single).await;
    let turn = world.engine.work_turn.acquire().await.unwrap();
    let part = world.create(Kind::Partial, declared(CONTENT)).await.unwrap();
    assert!(is_in_parts(&world.record(part).await));
    let whole = world.create(made_of(&[part]), ReprDigests::default()).await.unwrap();
    assert_eq!(world.engine.retrieve_offset(whole).await.unwrap().offset(), None);
    drop(turn);
    let_others_run().await;
    assert!(!is_in_parts(&world.record(part).await));
    assert_eq!(world.engine.retrieve_offset(whole).await.unwrap().offset(), Some(5));
}

#[tokio::test]
async fn a_digest_is_to_come_of_parts_that_are_to_be_joined_with_a_tree() {
    for keeps_tree in [true, false] {
        let world = World::of(Policy { keeps_tree, ..Policy::default() });
        let part = world.complete(1, Kind::Partial).await;
        let turn = world.engine.work_turn.acquire().await.unwrap();
        let whole = world.create(made_of(&[part]), ReprDigests::default()).await.unwrap();
        // It expires before it is to be joined.
        let upload = world.record(whole).await.expiring(Some(Timestamp(0)));
        assert_eq!(world.engine.is_digest_to_come(&upload), keeps_tree);
        drop(turn);
        let_others_run().await;
        assert!(!world.engine.is_digest_to_come(&world.record(whole).await));
    }
}

#[tokio::test]
async fn an_upload_is_due_until_its_parts_are_released() {
    let world = World::new();
    let part = world.complete(1, Kind::Partial).await;
    world.store.fail(Operation::Remove, 0, Planned::Io);
    let whole = world.create(made_of(&[part, part]), ReprDigests::default()).await.unwrap();
    let_others_run().await;
    assert!(is_in_parts(&world.record(whole).await), "nobody would release them");
    world.clock.advance(RETRY);
    world.engine.sweep().await.unwrap();
    let_others_run().await;
    let joined = world.record(whole).await;
    assert!(!is_in_parts(&joined) && joined.digest() == Some(Blake3Digest::of(b"hellohello")));
}

#[tokio::test]
async fn parts_that_cannot_be_compared_now_are_compared_later_and_not_all_the_time() {
    let world = World::new();
    let part = world.complete(1, Kind::Partial).await;
    world.store.fail(Operation::Read, 0, Planned::Io);
    let whole = world.create(made_of(&[part]), declared(CONTENT)).await.unwrap();
    let_others_run().await;
    assert!(!world.is_due(whole).await);
    assert_eq!(world.engine.retrieve_offset(whole).await.unwrap().offset(), None);
    let_others_run().await;
    assert!(!world.record(whole).await.is_complete(), "whoever asks has it read again");
    world.clock.advance(RETRY);
    world.engine.sweep().await.unwrap();
    assert_eq!(
        world.engine.left_by_sweep.load(Ordering::Relaxed),
        1,
        "it is due until it was compared"
    );
    let_others_run().await;
    assert!(world.record(whole).await.is_complete());
}

#[tokio::test]
async fn an_upload_cancelled_while_it_is_compared_leaves_no_bytes() {
    for polls in 0..12 {
        let world = World::new();
        let part = world.complete(1, Kind::Partial).await;
        let whole = new(2, 5).of_kind(made_of(&[part])).declaring(declared(CONTENT));
        world.store.adopt(id(2), vec![(part, 5)]).await.unwrap();
        world.store.save(whole.holding([5].into(), Timestamp(1)), None).await.unwrap();
        let mut sealing = pin!(world.engine.seal(id(2)));
        let mut is_done = false;
        for _ in 0..polls {
            is_done = is_done || poll!(sealing.as_mut()).is_ready();
        }
        world.engine.cancel(id(2)).await.unwrap();
        if !is_done {
            let _ = sealing.await;
        }
        let lengths = [5].into();
        let in_parts = Placement::Parts { lengths, join_at: Timestamp(1) };
        let left = world.store.reader(id(2), &in_parts, 0..5).await;
        assert!(left.is_err(), "bytes are left after {polls} steps");
    }
}

#[tokio::test]
async fn a_final_upload_with_a_digest_has_hold_of_its_parts_at_once() {
    for is_late in [false, true] {
        let world = World::new();
        let turn = world.engine.work_turn.acquire().await.unwrap();
        let part = world.complete(1, Kind::Partial).await;
        let whole = new(2, 5).of_kind(made_of(&[part])).declaring(declared(CONTENT));
        let whole = if is_late {
            // Its part was not complete when it was made.
            world.store.save(whole, None).await.unwrap();
            world.engine.retrieve_offset(id(2)).await.unwrap().id()
        } else {
            world.create(made_of(&[part]), declared(CONTENT)).await.unwrap()
        };
        world.engine.cancel(part).await.unwrap();
        assert_eq!(world.engine.retrieve_offset(whole).await.unwrap().offset(), None);
        drop(turn);
        let_others_run().await;
        assert!(world.record(whole).await.is_complete(), "{is_late}");
        assert!(world.is_due(whole).await, "to be joined");
    }
}
