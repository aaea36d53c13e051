//! What is particular to this store; what every store does is in the contract.

use std::sync::Arc;

use super::*;
use crate::protocol::metadata::Metadata;

fn upload(number: u8) -> Upload {
    Upload::new(UploadId::from_bytes([number; 16]), Some(10), Metadata::default(), Timestamp(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_savers_at_once_neither_hang_nor_lose_a_record() {
    for durability in [Durability::PowerLoss, Durability::Process] {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(folder.path(), durability).unwrap());
        let savers = (0..64).map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut version = None;
                for _ in 0..20 {
                    version = Some(store.save(upload(number), version).await.unwrap());
                }
            })
        });
        for saver in savers.collect::<Vec<_>>() {
            saver.await.unwrap();
        }
        drop(store);
        let store = SledStore::open(folder.path(), durability).unwrap();
        for number in 0..64 {
            let stored = store.load(UploadId::from_bytes([number; 16])).await.unwrap().unwrap();
            assert_eq!(stored, Stored { upload: upload(number), version: Version(20) });
        }
    }
}

#[tokio::test]
async fn a_record_is_not_shown_before_it_is_durable() {
    let recent = Recent::default();
    let id = upload(1).id();
    let before = Stored { upload: upload(1), version: Version(1) };
    let after = Stored { upload: upload(1), version: Version(2) };
    recent.begin(id, Some(before.clone()));
    let shown = recent.load(id, || Ok(Some(after.clone()))).unwrap();
    assert_eq!(shown, Some(before));
    recent.committed(id, Some(after.clone()));
    assert_eq!(recent.find(id), Some(Some(after)));
}

#[tokio::test]
async fn after_a_failed_sync_what_was_durable_is_shown_and_nothing_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), Durability::PowerLoss).unwrap();
    let first = store.save(upload(1), None).await.unwrap();
    drop(store);
    let mut log = Log::open(folder.path()).unwrap();
    log.break_disk();
    let store = SledStore::start(open::open(folder.path()).unwrap(), Some(log)).unwrap();
    let next = upload(1).expiring(Some(Timestamp(7)));
    let failed = store.save(next, Some(first)).await.unwrap_err();
    assert!(matches!(failed.failure, Failure::Io(_)), "{failed}");
    let closed = store.save(upload(2), None).await.unwrap_err();
    assert!(matches!(closed.failure, Failure::Closed), "{closed}");
    let durable = Stored { upload: upload(1), version: first };
    assert_eq!(store.load(upload(1).id()).await.unwrap(), Some(durable.clone()));
    assert_eq!(store.list(None, 9).await.unwrap(), [durable]);
}

#[tokio::test]
async fn a_read_that_a_commit_overtook_is_not_kept() {
    let recent = Recent::default();
    let id = upload(1).id();
    let old = Stored { upload: upload(1), version: Version(1) };
    let read = || {
        recent.begin(id, Some(old.clone()));
        recent.committed(id, None);
        Ok(Some(old.clone()))
    };
    recent.load(id, read).unwrap();
    assert_eq!(recent.find(id), None);
}

#[test]
fn a_database_that_cannot_be_opened_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("db")).unwrap();
    assert!(SledStore::open(folder.path(), Durability::Process).is_err());
}

#[tokio::test]
async fn a_page_is_full_also_while_records_are_being_made() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), Durability::Process).unwrap();
    for number in 0..5 {
        store.save(upload(number), None).await.unwrap();
    }
    store.recent.begin(upload(1).id(), None);
    let page = store.list(None, 3).await.unwrap();
    let ids: Vec<_> = page.iter().map(|stored| stored.upload.id()).collect();
    assert_eq!(ids, [upload(0).id(), upload(2).id(), upload(3).id()]);
}

#[tokio::test]
async fn a_damaged_record_is_named_and_taken_for_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), Durability::Process).unwrap();
    let of_another = codec::encode(&upload(7), Version(1)).unwrap();
    for (number, bytes) in [(1, b"{\"v\":1,".to_vec()), (2, of_another)] {
        let id = upload(number).id();
        store.tree.insert(record_key(id), bytes).unwrap();
        for damaged in [store.load(id).await.unwrap_err(), store.list(None, 9).await.unwrap_err()] {
            assert!(matches!(damaged.failure, Failure::Damaged(_)), "{damaged}");
            assert_eq!(damaged.upload, Some(id));
        }
        store.tree.remove(record_key(id)).unwrap();
    }
}

/// sled moves long nodes to files of their own, which its flush does not sync.
#[tokio::test]
async fn all_that_sled_keeps_outside_its_log_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let database = open::open(folder.path()).unwrap();
    let mut log = log::Log::open(folder.path()).unwrap();
    let on_disk = || {
        let entries = std::fs::read_dir(folder.path().join("blobs")).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    for number in 0..200_u8 {
        database.insert([number], vec![number; 20_000]).unwrap();
        database.flush().unwrap();
        log.sync().unwrap();
        assert!(on_disk().iter().all(|name| log.has_synced(name)));
    }
    assert!(!on_disk().is_empty(), "nothing was to be synced");
    drop((database, log));
    let database = open::open(folder.path()).unwrap();
    let log = log::Log::open(folder.path()).unwrap();
    assert!(on_disk().iter().all(|name| log.has_synced(name)));
    assert_eq!(database.get([199]).unwrap().unwrap(), vec![199; 20_000]);
}

#[test]
fn a_database_on_a_full_disk_is_opened_with_what_was_kept_for_that() {
    let folder = tempfile::tempdir().unwrap();
    let ballast = folder.path().join("ballast");
    drop(open::open(folder.path()).unwrap());
    assert_eq!(ballast.metadata().unwrap().len(), 16 << 20);
    let opened = open::open_with(folder.path(), || {
        if ballast.exists() { Err(Failure::Full(io::ErrorKind::StorageFull.into())) } else { Ok(1) }
    });
    assert_eq!(opened.unwrap(), 1);
    let refused = open::open_with(folder.path(), || {
        Err::<(), _>(Failure::Full(io::ErrorKind::StorageFull.into()))
    });
    assert!(matches!(refused.unwrap_err().failure, Failure::Full(_)));
}

#[test]
fn memory_for_recent_records_is_bounded_by_bytes() {
    let recent = Recent::default();
    let field = format!("long {}", "YWFh".repeat(4_000));
    let metadata = Metadata::parse(&field).unwrap();
    for number in 0..4_000_u128 {
        let id = UploadId::from_bytes((number << 112 | number).to_be_bytes());
        let upload = Upload::new(id, None, metadata.clone(), Timestamp(0));
        recent.committed(id, Some(Stored { upload, version: Version(1) }));
    }
    let kept = recent.len();
    assert!(kept > 500 && kept * field.len() <= 17 << 20, "{kept}");
}
