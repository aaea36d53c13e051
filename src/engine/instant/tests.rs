use super::*;
use crate::engine::tests::{CONTENT, World, declared, let_others_run};
use crate::storage::StoreFuture;
use crate::storage::memory::{Fault as Planned, Operation};

/// Gives bytes in pieces of one length.
struct Pieces(Bytes, usize);

impl DataReader for Pieces {
    fn read(&mut self) -> StoreFuture<'_, Bytes> {
        let piece = self.0.split_to(self.0.len().min(self.1));
        Box::pin(async { Ok(piece) })
    }
}

#[tokio::test]
async fn equal_bytes_are_equal_however_they_are_cut() {
    let other = [&CONTENT[..4], b"x"].concat();
    let longer = [CONTENT, b"x"].concat();
    for (one, other, are) in [
        (CONTENT, CONTENT, true),
        (CONTENT, &other, false),
        (CONTENT, &longer, false),
        (&longer, CONTENT, false),
        (b"", b"", true),
    ] {
        for (left, right) in [(1, 1), (2, 3), (3, 2), (9, 1), (1, 9), (9, 9)] {
            let [one, other] =
                [(one, left), (other, right)].map(|(bytes, length)| -> Box<dyn DataReader> {
                    Box::new(Pieces(Bytes::copy_from_slice(bytes), length))
                });
            assert_eq!(are_equal(one, other).await.unwrap(), are, "{left} {right}");
        }
    }
}

/// A world with a complete upload, another that declares the same digest, and its proof.
async fn world() -> (World, UploadId, Proof) {
    let world = World::with(InstantUpload::Everyone);
    world.complete(1, Kind::Single).await;
    let new = world.create(Kind::Single, declared(CONTENT)).await.unwrap();
    let mut prover = world.engine.challenge(&world.record(new).await).unwrap().prover();
    prover.update(CONTENT);
    (world, new, prover.finish())
}

#[tokio::test]
async fn a_proof_whose_save_may_have_failed_leaves_no_complete_upload_without_bytes() {
    for seed in 0..8 {
        let (mut world, new, proof) = world().await;
        world.store.fail(Operation::Save, 0, Planned::Io);
        world.engine.prove(new, proof).await.unwrap_err();
        world.store = world.store.crash(seed);
        let upload = world.record(new).await;
        if upload.is_complete() {
            let length = upload.length().unwrap();
            let read =
                crate::storage::DataStore::reader(&world.store, new, upload.placement(), 0..length);
            assert_eq!(read.await.unwrap().read().await.unwrap(), CONTENT);
        }
    }
}

#[tokio::test]
async fn nobody_waits_for_a_proof_that_is_compared() {
    let (world, new, proof) = world().await;
    let turn = world.engine.proof_turn.acquire().await.unwrap();
    let proving = tokio::spawn({
        let engine = Arc::clone(&world.engine);
        async move { engine.prove(new, proof).await }
    });
    let_others_run().await;
    assert!(world.engine.leases.acquire_free(new).is_some());
    drop(turn);
    assert!(proving.await.unwrap().unwrap().unwrap().is_complete());
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_in_the_way_of_no_creation() {
    for (operation, fault) in [(Operation::Look, Planned::Io), (Operation::Load, Planned::Damaged)]
    {
        let world = World::new();
        world.complete(1, Kind::Single).await;
        world.store.fail(operation, 0, fault);
        let new = world.create(Kind::Single, declared(CONTENT)).await.unwrap();
        assert_eq!(world.record(new).await.offset(), Some(0));
    }
}
