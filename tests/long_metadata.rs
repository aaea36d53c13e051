//! What many records with long metadata take in memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::Upload;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;
use resumed::storage::{Durability, RecordStore as _};

const LONG: u32 = 16_000;
const METADATA: usize = 15_000;
/// Records with short metadata, and how often each is saved: so often that sled writes its page anew.
const SHORT: u32 = 4_000;
const SAVES: u64 = 12;
/// The records in memory, sled's cache and what it has not looked at yet of that (ARCHITECTURE.md,
/// bounds), and those on their way.
const MAX_BYTES: usize = (48 + 64 + 128 + 8) << 20;

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

/// What is allocated, and the most that was.
#[derive(Default)]
struct Peak(usize);

impl Peak {
    fn look(&mut self, doing: &str) {
        self.0 = self.0.max(ALLOCATED.load(Ordering::Relaxed));
        assert!(self.0 <= MAX_BYTES, "{} MiB while {doing}", self.0 >> 20);
    }
}

#[tokio::test]
async fn many_records_with_long_metadata_do_not_all_stay_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(folder.path()).unwrap();
    let mut peak = Peak::default();
    let upload = |number: u32| {
        // Ids in no order, as those of real uploads.
        let hash = blake3::hash(&number.to_le_bytes());
        let id = UploadId::from_bytes(*hash.as_bytes().first_chunk().unwrap());
        let bytes = if number < LONG { METADATA } else { 16 };
        let metadata = Metadata::parse(&format!("filename {}", "QUJD".repeat(bytes / 4)));
        Upload::new(id, Some(1), metadata.unwrap(), Timestamp(1))
    };
    let store = SledStore::open(&folder, Durability::Process).unwrap();
    for number in 0..LONG {
        store.save(upload(number), None).await.unwrap();
        peak.look("long records were made");
    }
    let mut versions = HashMap::new();
    for saves in 0..SAVES {
        for number in LONG..LONG + SHORT {
            let next = upload(number).expiring(Some(Timestamp(saves)));
            let version = store.save(next, versions.get(&number).copied()).await.unwrap();
            versions.insert(number, version);
            peak.look("short records were saved again");
        }
    }
    for number in (LONG..LONG + SHORT).chain(0..LONG) {
        assert!(store.load(upload(number).id()).await.unwrap().is_some());
        peak.look("all were read");
    }
    drop(store);
    let store = SledStore::open(&folder, Durability::Process).unwrap();
    for number in (LONG..LONG + SHORT).chain(0..LONG) {
        assert!(store.load(upload(number).id()).await.unwrap().is_some());
        peak.look("all were read after a start");
    }
}
