//! What many records with long metadata take in memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::Upload;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;
use resumed::storage::{Durability, RecordStore as _};

const LONG: u32 = 12_000;
const METADATA: usize = 15_000;
/// Records with short metadata, and how often each is saved: so often that sled writes its page anew.
const SHORT: u32 = 3_000;
const SAVES: u32 = 12;
/// The records in memory, sled's cache, half of what it may not have looked at yet (ARCHITECTURE.md,
/// bounds), and those on their way.
const MAX_BYTES: usize = (48 + 64 + 128 + 8) << 20;

/// Counts the bytes that are allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
/// The most of it.
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// Each call is passed on as it is.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let before = ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        PEAK.fetch_max(before.saturating_add(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; all blocks are from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

fn expect_little_memory(what: &str) {
    let peak = PEAK.load(Ordering::Relaxed);
    assert!(peak <= MAX_BYTES, "{} MiB while {what}", peak >> 20);
}

#[tokio::test]
async fn many_records_with_long_metadata_do_not_all_stay_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(folder.path()).unwrap();
    let upload = |number: u32| {
        // Ids in no order, as those of real uploads.
        let hash = blake3::hash(&number.to_le_bytes());
        let id = UploadId::from_bytes(*hash.as_bytes().first_chunk().unwrap());
        let bytes = if number < LONG { METADATA } else { 16 };
        let metadata = Metadata::parse(&format!("filename {}", "QUJD".repeat(bytes / 4)));
        Upload::new(id, Some(1), metadata.unwrap(), Timestamp(1))
    };
    let store = SledStore::open(&folder, Durability::Process).unwrap();
    let mut versions = HashMap::new();
    let often = (0..SAVES).flat_map(|_| LONG..LONG + SHORT);
    let twice = (0..LONG).step_by(4);
    for (saves, number) in (0..LONG).chain(often).chain(twice).enumerate() {
        let next = upload(number).expiring(Some(Timestamp(saves as u64)));
        let version = store.save(next, versions.get(&number).copied()).await.unwrap();
        versions.insert(number, version);
    }
    expect_little_memory("records were saved");
    drop(store);
    // All are made anew.
    fs::remove_dir_all(folder.records()).unwrap();
    let store = SledStore::open(&folder, Durability::Process).unwrap();
    expect_little_memory("the store was opened");
    for number in (LONG..LONG + SHORT).chain(0..LONG) {
        let stored = store.load(upload(number).id()).await.unwrap().unwrap();
        assert_eq!(stored.upload.metadata(), upload(number).metadata());
    }
    expect_little_memory("records were read");
}
