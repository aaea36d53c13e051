//! What is particular to this store; what every store does is in the contract.

use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;

use super::*;

fn id() -> UploadId {
    UploadId::from_bytes([0xab; 16])
}

fn open(folder: &Path) -> Result<FileStore, StorageError> {
    FileStore::open_at(folder.into(), Default::default(), Arc::default(), Durability::Process, 0)
}

async fn write(store: &FileStore, offset: u64, bytes: Vec<u8>) -> Result<(), StorageError> {
    store.writer(id(), offset).await?.write_and_commit(vec![bytes.into()]).await
}

#[tokio::test]
async fn bytes_that_vanish_under_a_reader_are_an_error_and_never_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    write(&store, 0, vec![1; 1 << 20]).await.unwrap();
    let mut reader = store.reader(id(), &Placement::Whole, 0..1 << 20).await.unwrap();
    let path = folder.path().join("ab").join(id().to_string());
    OpenOptions::new().write(true).open(path).unwrap().set_len(300_000).unwrap();
    // The first piece was read when it was opened, and perhaps the one after it.
    let mut whole_pieces = 0;
    let failed = loop {
        match reader.read().await {
            Ok(piece) => assert_eq!(piece.len(), 256 << 10),
            Err(failed) => break failed,
        }
        whole_pieces += 1;
    };
    assert!((1..=2).contains(&whole_pieces), "{whole_pieces}");
    assert!(matches!(failed.failure, Failure::Missing), "{failed}");
    reader.read().await.unwrap_err();
    reader.read().await.unwrap_err();
}

#[tokio::test]
async fn writers_do_not_take_the_room_that_others_took_since_the_last_look() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let far = Instant::now() + Duration::from_secs(3600);
    *store.shared.room.lock() = Some((far, 10));
    write(&store, 0, vec![1; 8]).await.unwrap();
    assert_eq!(store.room().await.unwrap(), 2);
    let refused = write(&store, 8, vec![1; 3]).await.unwrap_err();
    assert!(matches!(refused.failure, Failure::Full(_)), "{refused}");
    assert_eq!(store.take_room(1).await.unwrap(), 1);
    let refused = store.take_room(2).await.unwrap_err();
    assert!(matches!(refused.failure, Failure::Full(_)), "{refused}");
    write(&store, 8, vec![1; 1]).await.unwrap();
    assert_eq!(store.room().await.unwrap(), 0);
}

#[tokio::test]
async fn the_room_that_a_removal_gives_back_is_seen_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let far = Instant::now() + Duration::from_secs(3600);
    *store.shared.room.lock() = Some((far, 0));
    write(&store, 0, vec![1; 8]).await.unwrap_err();
    store.remove(id()).await.unwrap();
    write(&store, 0, vec![1; 8]).await.unwrap();
}

#[tokio::test]
async fn scratch_of_an_upload_does_not_keep_its_own_bytes_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    // An append that found no room in its middle leaves what it had written.
    write(&store, 0, vec![1; 8]).await.unwrap();
    let far = Instant::now() + Duration::from_secs(3600);
    *store.shared.room.lock() = Some((far, 0));
    write(&store, 0, vec![2; 8]).await.unwrap();
}

#[tokio::test]
async fn many_readers_have_small_pieces_and_none_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    write(&store, 0, bytes.clone()).await.unwrap();
    let reader = || store.reader(id(), &Placement::Whole, 0..1_000_000);
    let alone = reader().await.unwrap().read().await.unwrap().len();
    let mut readers = Vec::new();
    for _ in 0..200 {
        readers.push(reader().await.unwrap());
    }
    let first = readers[199].read().await.unwrap();
    assert!(alone > 200_000 && first.len() < 40_000, "{alone} {}", first.len());
    let mut last = readers.remove(199);
    drop(readers);
    let mut read = first.to_vec();
    loop {
        match last.read().await.unwrap() {
            piece if piece.is_empty() => break,
            piece => read.extend_from_slice(&piece),
        }
    }
    assert!(read == bytes);
}

#[tokio::test]
async fn parts_that_a_crash_left_half_released_are_joined_already() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let whole = UploadId::from_bytes([0xcd; 16]);
    write(&store, 0, vec![1; 8]).await.unwrap();
    store.adopt(whole, vec![(id(), 5), (id(), 8)]).await.unwrap();
    store.join(whole, [5, 8].into()).await.unwrap();
    std::fs::remove_file(store.shared.part_path(whole, 0)).unwrap();
    store.join(whole, [5, 8].into()).await.unwrap();
    let mut reader = store.reader(whole, &Placement::Whole, 0..13).await.unwrap();
    assert_eq!(reader.read().await.unwrap(), vec![1; 13]);
}

#[tokio::test]
async fn not_every_upload_that_trickles_holds_a_file_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open_at(
        folder.path().join("data"),
        Default::default(),
        Arc::default(),
        Durability::PowerLoss,
        0,
    )
    .unwrap();
    let ids = (0..400_u16).map(|number| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        UploadId::from_bytes(bytes)
    });
    let mut writers = Vec::new();
    for id in ids {
        writers.push((id, store.writer(id, 0).await.unwrap()));
    }
    for text in [&b"a"[..], b"b"] {
        for (_, writer) in &mut writers {
            writer.write(vec![Bytes::from_static(text)]).await.unwrap();
            assert!(store.shared.writers.load(Ordering::Relaxed) <= 257);
        }
    }
    for (id, mut writer) in writers {
        writer.write_and_commit(vec![Bytes::from_static(b"c")]).await.unwrap();
        assert_eq!(fs::read(store.shared.path(id)).unwrap(), b"abc");
    }
    assert_eq!(store.shared.writers.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_scratch_is_cut_off_as_short_scratch_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let path = folder.path().join("ab").join(id().to_string());
    for scratch in [1, 100 << 20] {
        for offset in [0, 5] {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
            file.unwrap().set_len(offset + scratch).unwrap();
            write(&store, offset, vec![7; 3]).await.unwrap();
            let found = std::fs::read(&path).unwrap();
            assert_eq!((found.len() as u64, &found[found.len() - 3..]), (offset + 3, &[7; 3][..]));
        }
    }
}

/// A writer of content that ends at `end`, in a store that preallocates whatever file system this is and
/// how little it has left.
async fn writer_of(store: &FileStore, end: u64) -> Box<dyn DataWriter> {
    store.shared.preallocates.store(true, Ordering::Relaxed);
    leave_room(store, 1 << 30);
    let mut writer = store.writer(id(), 0).await.unwrap();
    writer.expect(end);
    writer
}

async fn write_kib(writer: &mut dyn DataWriter, kib: usize) -> Result<(), StorageError> {
    writer.write(vec![vec![7; kib << 10].into()]).await
}

/// The KiB that the file of the upload has, and those that it takes on the disk.
fn kib_of(store: &FileStore) -> (u64, u64) {
    let found = fs::metadata(store.shared.path(id())).unwrap();
    (found.len() >> 10, found.blocks() >> 1)
}

#[tokio::test]
async fn fast_content_has_blocks_in_advance_and_gives_back_those_that_it_does_not_fill() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let mut writer = writer_of(&store, 64 << 20).await;
    write_kib(writer.as_mut(), 256).await.unwrap();
    let has_more = |(length, blocks)| blocks >= length + (8 << 10);
    let has_no_more = |(length, blocks): (u64, u64)| blocks <= length + 64;
    assert!(has_more(kib_of(&store)), "{:?}", kib_of(&store));
    writer.rest().await.unwrap();
    assert!(has_no_more(kib_of(&store)), "{:?}", kib_of(&store));
    write_kib(writer.as_mut(), 256).await.unwrap();
    assert!(has_more(kib_of(&store)), "{:?}", kib_of(&store));
    writer.write_and_commit(vec![Bytes::from_static(b"end")]).await.unwrap();
    assert!(has_no_more(kib_of(&store)), "{:?}", kib_of(&store));
    let found = std::fs::read(store.shared.path(id())).unwrap();
    assert_eq!((found.len(), &found[(512 << 10) - 1..]), ((512 << 10) + 3, &b"\x07end"[..]));
}

#[tokio::test]
async fn blocks_that_a_killed_process_left_are_given_back_by_the_next_append() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let mut writer = writer_of(&store, 64 << 20).await;
    write_kib(writer.as_mut(), 256).await.unwrap();
    drop(writer);
    let left = kib_of(&store);
    assert!(left.0 == 256 && left.1 >= 8 << 10, "{left:?}");
    let mut writer = store.writer(id(), 256 << 10).await.unwrap();
    write_kib(writer.as_mut(), 1).await.unwrap();
    let (length, blocks) = kib_of(&store);
    assert!(length == 257 && blocks <= length + 64, "{length} {blocks}");
}

#[tokio::test]
async fn slow_short_and_endless_content_has_no_blocks_in_advance() {
    for (end, kib) in [(64 << 20, 64), ((1 << 20) - 1, 256), (0, 256)] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let mut writer = writer_of(&store, end).await;
        for _ in 0..3 {
            write_kib(writer.as_mut(), kib).await.unwrap();
        }
        let (length, blocks) = kib_of(&store);
        assert!(blocks <= length + 64, "{length} {blocks}");
    }
}

#[tokio::test]
async fn blocks_are_given_back_once_the_content_comes_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let mut writer = writer_of(&store, 64 << 20).await;
    write_kib(writer.as_mut(), 256).await.unwrap();
    assert!(kib_of(&store).1 >= 8 << 10, "{:?}", kib_of(&store));
    write_kib(writer.as_mut(), 1).await.unwrap();
    let (length, blocks) = kib_of(&store);
    assert!(length == 257 && blocks <= length + 64, "{length} {blocks}");
}

/// That no more room is found than this, until long after the test.
fn leave_room(store: &FileStore, bytes: u64) {
    let later = Instant::now() + Duration::from_secs(3_600);
    *store.shared.room.lock() = Some((later, bytes));
}

#[tokio::test]
async fn the_last_room_is_filled_to_its_end_without_blocks_in_advance() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let mut writer = writer_of(&store, 64 << 20).await;
    leave_room(&store, 9 << 20);
    let mut written = 0;
    let full = loop {
        match write_kib(writer.as_mut(), 256).await {
            Ok(()) => written += 256,
            Err(full) => break full,
        }
        let (length, blocks) = kib_of(&store);
        assert!(blocks <= length + 64, "{length} {blocks}");
    };
    assert!(full.is_full(), "{full}");
    assert_eq!(written, 9 << 10);
    writer.commit().await.unwrap();
    assert_eq!(kib_of(&store).0, 9 << 10);
}

#[tokio::test]
async fn who_finds_no_room_gives_back_the_blocks_that_are_too_few() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let mut writer = writer_of(&store, 64 << 20).await;
    write_kib(writer.as_mut(), 256).await.unwrap();
    leave_room(&store, 4 << 10);
    // The last of 41 needs 8 KiB more than there are.
    for _ in 0..40 {
        write_kib(writer.as_mut(), 200).await.unwrap();
    }
    let full = write_kib(writer.as_mut(), 200).await.unwrap_err();
    assert!(full.is_full(), "{full}");
    let (length, blocks) = kib_of(&store);
    assert!(length == 256 + 40 * 200 && blocks <= length + 64, "{length} {blocks}");
}

#[tokio::test]
async fn many_writers_have_no_blocks_in_advance() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let mut writer = writer_of(&store, 64 << 20).await;
    store.shared.writers.fetch_add(200, Ordering::Relaxed);
    write_kib(writer.as_mut(), 256).await.unwrap();
    let (length, blocks) = kib_of(&store);
    assert!(blocks <= length + 64, "{length} {blocks}");
}
