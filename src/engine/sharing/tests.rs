use super::*;
use crate::engine::tests::{World, id};
use crate::protocol::upload::Kind;
use crate::storage::memory::{Fault as Planned, Operation};

/// A world with two equal uploads, of which the second may be looked at.
async fn world() -> (World, Upload) {
    let world = World::new();
    let content = vec![7; 64 << 10];
    world.complete_of(1, Kind::Single, &content).await;
    let second = world.complete_of(2, Kind::Single, &content).await;
    let second = world.record(second).await;
    (world, second)
}

/// The seconds until the looks began, and whether all that wait have been seen to by then or soon after.
async fn begin(world: &World, upload: &Upload) -> (u64, bool) {
    let (calls, asked) = (world.store.calls(), Instant::now());
    world.engine.start_sharing(upload);
    while world.store.calls() == calls {
        sleep(QUIET_LOOK).await;
    }
    let waited = asked.elapsed().as_secs();
    sleep(QUIET_LOOK).await;
    (waited, world.engine.waiting_to_share.first().is_none())
}

#[tokio::test(start_paused = true)]
async fn a_comparison_waits_while_anything_is_uploaded_but_not_for_ever() {
    let (world, second) = world().await;
    assert_eq!(begin(&world, &second).await, (0, true));
    let lease = world.engine.leases.acquire_free(id(9)).unwrap();
    assert_eq!(begin(&world, &second).await, (60, true));
    tokio::spawn(async move {
        sleep(Duration::from_secs(5)).await;
        drop(lease);
    });
    assert_eq!(begin(&world, &second).await, (5, true));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_or_cannot_be_read_keeps_nothing_else_from_its_turn() {
    let (world, second) = world().await;
    let lease = world.engine.leases.acquire_free(id(9)).unwrap();
    world.store.fail(Operation::Load, 0, Planned::Io);
    world.engine.start_sharing(&second);
    // It has no record.
    assert!(!world.engine.waiting_to_share.push(id(77)));
    world.store.fail(Operation::Share, 0, Planned::Io);
    world.engine.start_sharing(&second);
    world.engine.start_sharing(&second);
    drop(lease);
    sleep(2 * QUIET_LOOK).await;
    assert!(world.engine.waiting_to_share.first().is_none());
    assert_eq!(begin(&world, &second).await, (0, true));
}

#[tokio::test(start_paused = true)]
async fn while_many_wait_none_waits_and_no_more_than_most_do() {
    let (world, second) = world().await;
    let _lease = world.engine.leases.acquire_free(id(9)).unwrap();
    for _ in 0..FEW {
        world.engine.start_sharing(&second);
    }
    assert_eq!(begin(&world, &second).await.0, 0);
    let waiting = Waiting::default();
    assert!(waiting.push(id(1)));
    for _ in 0..2 * MOST {
        assert!(!waiting.push(id(2)));
    }
    assert_eq!(waiting.0.lock().len(), MOST);
    assert_eq!(waiting.first().unwrap().0, id(1));
    assert!((1..MOST).all(|_| waiting.next().unwrap().0 == id(2)));
    assert!(waiting.next().is_none());
}
