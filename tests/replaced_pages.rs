//! What many records that change at once leave in memory.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod counting;

use std::sync::Arc;

use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::Upload;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;
use resumed::storage::{Durability, RecordStore as _, Version};

const MANY: u32 = 4_000;
/// In bytes: half of what is kept of replaced pages when nobody has them freed.
const MOST: usize = 4 << 20;

fn upload(number: u32, expires: u64) -> Upload {
    let hash = blake3::hash(&number.to_le_bytes());
    let id = UploadId::from_bytes(*hash.as_bytes().first_chunk().unwrap());
    Upload::new(id, Some(1), Metadata::default(), Timestamp(1)).expiring(Some(Timestamp(expires)))
}

/// Saves all of them at once; returns when the database has them as well.
async fn save(store: &Arc<SledStore>, expires: u64, before: &[Version]) -> Vec<Version> {
    let saves = (0..MANY).map(|number| {
        let (store, before) = (Arc::clone(store), before.get(number as usize).copied());
        tokio::spawn(async move { store.save(upload(number, expires), before).await.unwrap() })
    });
    let mut versions = Vec::new();
    for save in saves.collect::<Vec<_>>() {
        versions.push(save.await.unwrap());
    }
    // A look into the whole database waits until all that is known is in it.
    assert_eq!(store.due(Timestamp(0), 1).await.unwrap(), []);
    versions
}

#[tokio::test]
async fn pages_that_many_changes_replaced_are_freed_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(folder.path()).unwrap();
    let store = Arc::new(SledStore::open(&folder, Durability::Process).unwrap());
    let mut versions = save(&store, 1 << 40, &[]).await;
    let mut all_kept = Vec::new();
    // None can be freed while another thread has sled flush, which may be just then.
    for round in 2..7 {
        versions = save(&store, round << 40, &versions).await;
        let before = counting::allocated();
        // sled frees some of what nobody needs at every 128th use.
        for _ in 0..100 * 128 {
            assert_eq!(store.due(Timestamp(0), 1).await.unwrap(), []);
        }
        let kept = before.saturating_sub(counting::allocated());
        if kept < MOST {
            return;
        }
        all_kept.push(kept);
    }
    panic!("bytes that were kept: {all_kept:?}");
}
