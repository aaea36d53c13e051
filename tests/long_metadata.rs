//! What many records with long metadata take in memory. (Those that are saved again and again may
//! take more: ARCHITECTURE.md, bounds.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::Upload;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;
use resumed::storage::{Durability, RecordStore as _};

const RECORDS: u32 = 24_000;
const METADATA: usize = 15_000;
/// The records in memory, sled's cache and what it has not counted of that, those on their way, and
/// 64 MiB for all else.
const MAX_BYTES: usize = (48 + 64 + 128 + 8 + 64) << 20;

/// Counts the bytes that are allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// Each call is passed on as it is.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; all blocks are from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[tokio::test]
async fn many_new_records_with_long_metadata_do_not_all_stay_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(folder.path()).unwrap();
    let store = SledStore::open(&folder, Durability::Process).unwrap();
    // Not in order, as the ids of real uploads.
    let id = |number: u32| {
        let hash = blake3::hash(&number.to_le_bytes());
        UploadId::from_bytes(*hash.as_bytes().first_chunk().unwrap())
    };
    let metadata = format!("filename {}", "QUJD".repeat(METADATA / 4));
    let mut peak = 0;
    for number in 0..RECORDS {
        let metadata = Metadata::parse(&metadata).unwrap();
        let upload = Upload::new(id(number), Some(1), metadata, Timestamp(1));
        store.save(upload, None).await.unwrap();
        peak = peak.max(ALLOCATED.load(Ordering::Relaxed));
    }
    for number in 0..RECORDS {
        assert!(store.load(id(number)).await.unwrap().is_some());
        peak = peak.max(ALLOCATED.load(Ordering::Relaxed));
    }
    assert!(peak <= MAX_BYTES, "{} MiB", peak >> 20);
}
