//! What is particular to this store; what every store does is in the contract.

use std::path::Path;
use std::sync::Arc;

use super::index::{Before, Changes};
use super::recover::open_both;
use super::*;
use crate::protocol::metadata::Metadata;
use crate::storage::codec;

fn upload(number: u8) -> Upload {
    Upload::new(UploadId::from_bytes([number; 16]), Some(10), Metadata::default(), Timestamp(0))
}

fn open(folder: &Path, durability: Durability) -> Result<SledStore, StorageError> {
    SledStore::open(&DataFolder::open(folder)?, durability)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_savers_at_once_neither_hang_nor_lose_a_record() {
    for durability in [Durability::PowerLoss, Durability::Process] {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(open(folder.path(), durability).unwrap());
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
        let store = open(folder.path(), durability).unwrap();
        for number in 0..64 {
            let stored = store.load(UploadId::from_bytes([number; 16])).await.unwrap().unwrap();
            assert_eq!(stored, Stored { upload: upload(number), version: Version(20) });
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_save_is_committed_in_place_and_others_are_left_to_the_committer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Durability::Process).unwrap();
    let queue = store.requests.as_ref().unwrap();
    let save = |number| {
        let change = Change::Save { upload: upload(number), expected: None };
        store.commit_here(queue, change)
    };
    assert_eq!(save(1).ok().unwrap().unwrap(), Version(1));
    assert!(matches!(save(1), Ok(Err(Failure::Conflict))));
    let committer = store.committer.lock();
    assert!(save(2).is_err());
    drop(committer);
    let many = (0x8000..0x8800_u16).map(|number| [number.to_be_bytes(); 8].concat());
    let mut changes = Changes::default();
    many.for_each(|id| {
        changes.set(UploadId::from_bytes(id.try_into().unwrap()), Before::Nothing, None)
    });
    // Held, so that nobody makes them meanwhile.
    let turn = store.known.pending.turn();
    store.known.pending.add(changes, 1);
    assert!(save(2).is_err());
    drop(turn);
    assert_eq!(store.save(upload(2), None).await.unwrap(), Version(1));
    drop(store);
    let store = open(folder.path(), Durability::PowerLoss).unwrap();
    assert!(store.load(upload(1).id()).await.unwrap().is_some());
    let change = Change::Save { upload: upload(3), expected: None };
    assert!(store.commit_here(store.requests.as_ref().unwrap(), change).is_err());
}

#[tokio::test]
async fn after_a_failed_sync_what_was_durable_is_shown_and_saves_go_on_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let first =
        open(folder.path(), Durability::PowerLoss).unwrap().save(upload(1), None).await.unwrap();
    let (database, mut journal) =
        open_both(&DataFolder::open(folder.path()).unwrap(), Durability::PowerLoss).unwrap();
    // The first fails in its file and in a new one; the second in its file only.
    journal.failing_syncs = 3;
    let data_folder = DataFolder::open(folder.path()).unwrap();
    let store = SledStore::start(&data_folder, database, journal, Durability::PowerLoss).unwrap();
    let next = upload(1).expiring(Some(Timestamp(7)));
    let failed = store.save(next.clone(), Some(first)).await.unwrap_err();
    assert!(matches!(failed.failure, Failure::Io(_)), "{failed}");
    let durable = Stored { upload: upload(1), version: first };
    assert_eq!(store.load(upload(1).id()).await.unwrap(), Some(durable.clone()));
    assert_eq!(store.list(None, 9).await.unwrap(), std::slice::from_ref(&durable));
    store.save(upload(2), None).await.unwrap();
    let other = Stored { upload: upload(2), version: Version(1) };
    assert_eq!(store.list(None, 9).await.unwrap(), [durable.clone(), other.clone()]);
    drop((store, data_folder));
    std::fs::remove_dir_all(folder.path().join("records")).unwrap();
    let store = open(folder.path(), Durability::PowerLoss).unwrap();
    assert_eq!(store.list(None, 9).await.unwrap(), [durable, other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_follows_the_journal_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Durability::Process).unwrap();
    store.save(upload(1), None).await.unwrap();
    let begin = std::time::Instant::now();
    let in_database = || store.database.with(|database| index::read(database, upload(1).id()));
    let waits = || store.known.pending.find(upload(1).id()).is_some();
    while in_database().unwrap().is_none() || waits() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(20), "nobody made the change");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_while_a_commit_is_under_way_is_not_kept() {
    let known = Known::default();
    let old = Stored { upload: upload(1), version: Version(1) };
    let new = Stored { upload: upload(1), version: Version(2) };
    let id = upload(1).id();
    known.recent.begin(id);
    assert_eq!(known.recent.load(id, || Ok(Some(old.clone()))).unwrap(), Some(old));
    assert_eq!(known.recent.len(), 0);
    known.recent.committed(id, Some(new.clone()));
    assert_eq!(known.find(id), Some(Some(new)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_a_commit_overtook_is_not_kept() {
    let recent = Recent::default();
    let id = upload(1).id();
    let old = Stored { upload: upload(1), version: Version(1) };
    let read = || {
        recent.committed(id, None);
        Ok(Some(old.clone()))
    };
    recent.load(id, read).unwrap();
    assert_eq!(recent.find(id), None);
}

#[tokio::test]
async fn a_damaged_record_is_named_and_taken_for_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Durability::Process).unwrap();
    let of_another = codec::encode(&upload(7), Version(1)).unwrap();
    for (number, bytes) in [(1, b"{\"v\":1,".to_vec()), (2, of_another)] {
        let id = upload(number).id();
        let insert = |database: &sled::Db| Ok(database.insert(record_key(id), bytes).unwrap());
        store.database.with(insert).unwrap();
        for damaged in [store.load(id).await.unwrap_err(), store.list(None, 9).await.unwrap_err()] {
            assert!(matches!(damaged.failure, Failure::Damaged(_)), "{damaged}");
            assert_eq!(damaged.upload, Some(id));
        }
        let remove = |database: &sled::Db| Ok(database.remove(record_key(id)).unwrap());
        store.database.with(remove).unwrap();
    }
}

#[tokio::test]
async fn what_a_process_left_that_died_while_opening_is_of_no_matter() {
    let folder = tempfile::tempdir().unwrap();
    let version = open(folder.path(), Durability::Process).unwrap().save(upload(1), None).await;
    let left = folder.path().join("records").join("snap.00000000FFFFFFFF.generating");
    let database = open::open(&folder.path().join("records")).unwrap();
    drop(database);
    std::fs::write(left, b"torn").unwrap();
    let database = open::open(&folder.path().join("records")).unwrap();
    let stored = index::read(&database, upload(1).id()).unwrap().unwrap();
    assert_eq!(stored.version, version.unwrap());
}

#[test]
fn a_database_on_a_full_disk_is_opened_with_what_was_kept_for_that() {
    let folder = tempfile::tempdir().unwrap();
    let (records, ballast) = (folder.path().join("records"), folder.path().join("records.ballast"));
    let full = || StorageError::new("", None, Failure::Full(io::ErrorKind::StorageFull.into()));
    drop(open::with_room_kept(&records, || open::open(&records)).unwrap());
    assert_eq!(ballast.metadata().unwrap().len(), open::BALLAST_BYTES);
    let opened = open::with_room_kept(&records, || {
        // It turns out to be damaged.
        let _ = std::fs::rename(&records, records.with_extension("damaged"));
        if ballast.exists() { Err(full()) } else { Ok(1) }
    });
    assert_eq!(opened.unwrap(), 1);
    assert!(ballast.exists(), "it is kept for the next time");
    let refused = open::with_room_kept(&records, || Err::<(), _>(full()));
    assert!(matches!(refused.unwrap_err().failure, Failure::Full(_)));
}

#[test]
fn memory_for_recent_records_is_bounded_by_bytes() {
    let recent = Recent::default();
    let field = format!("long {}", "YWFh".repeat(4_000));
    let metadata = Metadata::parse(&field).unwrap();
    for number in 0..6_000_u128 {
        let id = UploadId::from_bytes((number << 112 | number).to_be_bytes());
        let upload = Upload::new(id, None, metadata.clone(), Timestamp(0));
        recent.committed(id, Some(Stored { upload, version: Version(1) }));
    }
    let kept = recent.len();
    assert!(kept > 2_000 && kept * field.len() <= 48 << 20, "{kept}");
}

#[test]
fn the_record_that_was_used_longest_ago_is_forgotten_first() {
    let recent = Recent::default();
    let id = |number: u128| UploadId::from_bytes(number.to_be_bytes());
    let commit = |number| {
        let upload = Upload::new(id(number), None, Metadata::default(), Timestamp(0));
        recent.committed(upload.id(), Some(Stored { upload, version: Version(1) }));
    };
    commit(0);
    commit(1);
    for number in 2..20_000 {
        assert!(recent.find(id(0)).unwrap().is_some());
        commit(number);
    }
    assert!(recent.find(id(1)).is_none());
    assert!(recent.find(id(19_999)).is_some());
}

/// A process may be killed at any time after it, though nothing was saved since.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_is_followed_by_a_mark_without_another_save() {
    let folder = tempfile::tempdir().unwrap();
    let data_folder = DataFolder::open(folder.path()).unwrap();
    let (database, mut journal) = open_both(&data_folder, Durability::Process).unwrap();
    journal.base_due_bytes = 2000;
    let store = SledStore::start(&data_folder, database, journal, Durability::Process).unwrap();
    for number in 0..40 {
        store.save(upload(number), None).await.unwrap();
    }
    let mark = Mark::of(&data_folder.records(), Durability::Process);
    let begin = std::time::Instant::now();
    let believed = loop {
        match mark.trust().unwrap() {
            trust::Trust::Until(frames) if frames > 0 => break frames,
            _ => assert!(begin.elapsed().as_secs() < 30, "there is no mark"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let bases = std::fs::read_dir(data_folder.journal()).unwrap();
    let bases = bases.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().ends_with(".base")
    });
    assert_eq!(bases.count(), 1);
    assert!((5..=40).contains(&believed), "{believed}");
    drop((store, data_folder));
    let store = open(folder.path(), Durability::Process).unwrap();
    assert_eq!(store.list(None, 99).await.unwrap().len(), 40);
    assert!(!folder.path().join("records.damaged").exists());
}

#[tokio::test]
async fn a_record_that_the_database_has_damaged_gets_into_no_base() {
    let folder = tempfile::tempdir().unwrap();
    let data_folder = DataFolder::open(folder.path()).unwrap();
    let (database, mut journal) = open_both(&data_folder, Durability::Process).unwrap();
    database.insert(record_key(upload(99).id()), b"{}").unwrap();
    journal.base_due_bytes = 2000;
    let store = SledStore::start(&data_folder, database, journal, Durability::Process).unwrap();
    for number in 0..40 {
        store.save(upload(number), None).await.unwrap();
    }
    drop(store);
    let names = std::fs::read_dir(data_folder.journal()).unwrap();
    for name in names.map(|entry| entry.unwrap().file_name()) {
        assert!(name.to_str().unwrap().ends_with(".log"), "{name:?}");
    }
    std::fs::remove_dir_all(data_folder.records()).unwrap();
    drop(data_folder);
    let store = open(folder.path(), Durability::Process).unwrap();
    assert_eq!(store.list(None, 99).await.unwrap().len(), 40);
}
