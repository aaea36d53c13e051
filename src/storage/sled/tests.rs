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
