//! What many records with long metadata take in memory.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod counting;

use std::collections::HashMap;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::Upload;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;
use resumed::storage::{Durability, RecordStore as _, Stored, Version};

const LONG: u32 = 14_000;
/// In bytes, before they are base64: the records alone take more than is allowed.
const METADATA: usize = 15_000;
/// Records with short metadata, and how often each is saved: so often that sled writes its page anew.
const SHORT: u32 = 3_000;
const SAVES: u32 = 12;
/// The records in memory, sled's cache, half of what it may not have looked at yet (ARCHITECTURE.md,
/// bounds), and those on their way.
const MAX_BYTES: usize = (48 + 64 + 128 + 8) << 20;

fn expect_little_memory(what: &str) {
    let peak = counting::peak();
    assert!(peak <= MAX_BYTES, "{} MiB while {what}", peak >> 20);
}

/// Ids are in no order, as those of real uploads, and no two have the same metadata.
fn upload(number: u32, saves: u64) -> Option<Upload> {
    let hasher = blake3::Hasher::new_derive_key("metadata").update(&number.to_le_bytes()).clone();
    let mut bytes = vec![0; if number < LONG { METADATA } else { 16 }];
    hasher.finalize_xof().fill(&mut bytes);
    let id = UploadId::from_bytes(*bytes.first_chunk()?);
    let metadata = Metadata::parse(&format!("filename {}", STANDARD.encode(bytes))).ok()?;
    Some(Upload::new(id, Some(1), metadata, Timestamp(1)).expiring(Some(Timestamp(saves))))
}

async fn expect_all(store: &SledStore, saved: &HashMap<u32, (u64, Version)>) {
    for (number, (saves, version)) in saved {
        let upload = upload(*number, *saves).unwrap();
        let loaded = store.load(upload.id()).await.unwrap();
        assert_eq!(loaded, Some(Stored { upload, version: *version }));
    }
}

#[tokio::test]
async fn many_records_with_long_metadata_do_not_all_stay_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(folder.path()).unwrap();
    let store = SledStore::open(&folder, Durability::Process).unwrap();
    let mut saved = HashMap::new();
    let often = (0..SAVES).flat_map(|_| LONG..LONG + SHORT);
    let twice = (0..LONG).step_by(4);
    for (saves, number) in (0_u64..).zip((0..LONG).chain(often).chain(twice)) {
        let before = saved.get(&number).map(|(_, version)| *version);
        let version = store.save(upload(number, saves).unwrap(), before).await.unwrap();
        saved.insert(number, (saves, version));
    }
    expect_little_memory("records were saved");
    expect_all(&store, &saved).await;
    expect_little_memory("records were read");
    drop(store);
    // All are made anew.
    fs::remove_dir_all(folder.records()).unwrap();
    let store = SledStore::open(&folder, Durability::Process).unwrap();
    expect_little_memory("the store was opened");
    saved.retain(|number, _| number.is_multiple_of(4));
    expect_all(&store, &saved).await;
    expect_little_memory("records were read once more");
}
