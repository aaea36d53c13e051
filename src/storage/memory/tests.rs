//! What is particular to this store: crashes and faults. What every store does is in the contract.

use bytes::Bytes;

use super::*;
use crate::protocol::metadata::Metadata;
use crate::protocol::upload::Placement;
use crate::storage::DataStore;

fn upload() -> Upload {
    Upload::new(UploadId::from_bytes([1; 16]), Some(10), Metadata::default(), Timestamp(0))
}

/// Appends one byte as the engine does, and tells whether the client was told.
async fn append(store: &MemoryStore) -> Result<(), StorageError> {
    let id = upload().id();
    let found = store.load(id).await?;
    let mut writer = store.writer(id, 0).await?;
    writer.write(vec![Bytes::from_static(b"x")]).await?;
    writer.commit().await?;
    store.save(upload(), found.map(|stored| stored.version)).await?;
    Ok(())
}

#[tokio::test]
async fn a_crash_at_any_call_keeps_what_was_promised() {
    let store = MemoryStore::new();
    append(&store).await.unwrap();
    let calls = store.calls();
    assert_eq!(calls, 5);
    let mut saved_by_the_crash = 0;
    for (call, seed) in (1..=calls + 1).flat_map(|call| (0..20).map(move |seed| (call, seed))) {
        let store = MemoryStore::new();
        store.crash_at(call);
        let promised = append(&store).await.is_ok();
        assert_eq!(promised, call > calls);
        let after = store.crash(seed);
        let stored = after.load(upload().id()).await.unwrap();
        if promised {
            assert!(stored.is_some());
        }
        if stored.is_some() {
            saved_by_the_crash += u32::from(!promised);
            after.reader(upload().id(), &Placement::Whole, 0..1).await.unwrap();
        }
    }
    assert!(saved_by_the_crash > 0, "a save that the crash meets may have had its effect");
}

#[tokio::test]
async fn handles_from_before_a_crash_are_closed() {
    let store = MemoryStore::new();
    let mut writer = store.writer(upload().id(), 0).await.unwrap();
    let after = store.crash(0);
    assert!(matches!(writer.commit().await.unwrap_err().failure, Failure::Closed));
    assert!(matches!(store.load(upload().id()).await.unwrap_err().failure, Failure::Closed));
    after.load(upload().id()).await.unwrap();
}

#[tokio::test]
async fn a_planned_fault_meets_the_call_that_it_was_planned_for() {
    let store = MemoryStore::new();
    store.fail(Operation::Load, 1, Fault::Io);
    store.load(upload().id()).await.unwrap();
    assert!(matches!(store.load(upload().id()).await.unwrap_err().failure, Failure::Io(_)));
    store.load(upload().id()).await.unwrap();
}

#[tokio::test]
async fn after_a_failed_save_nothing_is_built_on_the_records() {
    let store = MemoryStore::new();
    store.fail(Operation::Save, 0, Fault::Full);
    assert!(matches!(store.save(upload(), None).await.unwrap_err().failure, Failure::Full(_)));
    assert!(matches!(store.save(upload(), None).await.unwrap_err().failure, Failure::Closed));
    assert_eq!(store.load(upload().id()).await.unwrap(), None);
}

#[tokio::test]
async fn a_write_without_room_takes_what_fits_and_fails() {
    let store = MemoryStore::new();
    store.set_room(3);
    let mut writer = store.writer(upload().id(), 0).await.unwrap();
    let failed = writer.write(vec![Bytes::from_static(b"full")]).await.unwrap_err();
    assert!(matches!(failed.failure, Failure::Full(_)));
    writer.commit().await.unwrap();
    assert_eq!(store.room().await.unwrap(), 0);
    store.remove(upload().id()).await.unwrap();
    assert_eq!(store.room().await.unwrap(), 3);
}
