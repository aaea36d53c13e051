use super::*;
use crate::engine::Policy;
use crate::engine::tests::{Once, World, id, new};
use crate::protocol::digest::RunningSha256;
use crate::protocol::operation::{Append, Completion};
use crate::protocol::repr_digests::SavedSha256;
use crate::protocol::upload::Kind;
use crate::storage::memory::{Fault as Planned, Operation};
use crate::storage::{DataStore as _, RecordStore as _};

const GROUP: usize = 1 << 20;

async fn append(world: &World, offset: u64, bytes: usize) -> Upload {
    let append = Append {
        offset,
        length: None,
        content_length: None,
        completion: Completion::AtLength,
        checksum: None,
        max_bytes: None,
    };
    let content = Once(Some(vec![7; bytes].into()));
    world.engine.append(id(1), append.into(), Box::new(content)).await.unwrap()
}

async fn with_sha256(keeps_pieces: bool, length: u64) -> World {
    let world = World::of(Policy { keeps_sha256: true, keeps_pieces, ..Policy::default() });
    let upload = new(1, length).with_sha256(Some(SavedSha256::of(&RunningSha256::new())));
    world.store.save(upload, None).await.unwrap();
    world
}

#[tokio::test]
async fn pieces_that_are_not_durable_are_not_gone_on_with() {
    for is_failed in [false, true] {
        let world = with_sha256(true, 4 << 20).await;
        append(&world, 0, GROUP + GROUP / 2).await;
        // The first call is that of whoever takes them up, the second writes them.
        if is_failed {
            world.store.fail(Operation::List, 1, Planned::Io);
        }
        let offset = append(&world, 3 << 19, GROUP).await.offset().unwrap();
        let complete = append(&world, offset, GROUP + GROUP / 2).await;
        let kept = world.engine.pieces_bytes(&complete).await.unwrap();
        assert_eq!(kept, (!is_failed).then_some(4 * 32));
    }
}

#[tokio::test]
async fn pieces_of_bytes_that_do_not_count_are_never_told() {
    for keeps_pieces in [false, true] {
        let world = with_sha256(keeps_pieces, 2 << 20).await;
        let scratch = vec![(0, vec![9; 64])];
        world.store.write_list(id(1), List::Sha256, scratch, None).await.unwrap();
        append(&world, 0, GROUP + 1).await;
        let complete = append(&world, (1 << 20) + 1, GROUP - 1).await;
        let kept = world.engine.pieces_bytes(&complete).await.unwrap();
        assert_eq!(kept, keeps_pieces.then_some(64));
        if keeps_pieces {
            let pieces = world.engine.read_pieces(&complete, 0..64).await.unwrap();
            assert_eq!(pieces[..32], pieces[32..], "both groups are equal");
            assert_ne!(pieces[0], 9);
        }
    }
}

/// A complete upload whose list is lost.
async fn without_list() -> (World, Upload) {
    let world = World::new();
    let upload = world.complete_of(1, Kind::Single, &[7; 2 * GROUP]).await;
    let upload = world.record(upload).await;
    (world, upload)
}

#[tokio::test]
async fn a_list_that_is_lost_is_made_anew() {
    let (world, upload) = without_list().await;
    assert!(world.engine.tree_is_ready(&upload).await.unwrap());
}

#[tokio::test]
async fn a_list_that_cannot_be_made_now_is_no_sign_of_damage() {
    let (world, upload) = without_list().await;
    world.store.fail(Operation::Read, 3, Planned::Io);
    let failed = world.engine.tree_is_ready(&upload).await.unwrap_err();
    assert!(matches!(failed.failure, Failure::Io(_)), "{failed}");
    let turn = world.engine.work_turn.acquire().await.unwrap();
    let (ready, ()) = tokio::join!(world.engine.tree_is_ready(&upload), world.engine.stop());
    assert!(!ready.unwrap());
    drop(turn);
}

#[tokio::test]
async fn a_list_that_cannot_be_written_is_asked_for_again() {
    let (world, upload) = without_list().await;
    world.store.fail(Operation::List, 1, Planned::Full);
    assert!(!world.engine.tree_is_ready(&upload).await.unwrap());
    assert!(world.engine.tree_is_ready(&upload).await.unwrap());
}
