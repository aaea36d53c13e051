//! A database that is missing, cut, or changed at some byte: the records are right, or an error is.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::protocol::metadata::Metadata;
use crate::storage::codec;
use crate::storage::journal::{Chain, Entry, Payload};

const RECORDS: u8 = 200;
/// The places of each file that are tried; all of a short one.
const PLACES: usize = 8;

fn upload(number: u8) -> Upload {
    let id = UploadId::from_bytes([number; 16]);
    let metadata = Metadata::parse(&format!("filename {}", "YWFh".repeat(usize::from(number) * 3)));
    Upload::new(id, Some(10), metadata.unwrap(), Timestamp(0))
}

fn open(folder: &Path) -> Result<SledStore, StorageError> {
    SledStore::open(&DataFolder::open(folder)?, Durability::Process)
}

/// How a store was left.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    Closed,
    /// As by SIGKILL.
    Killed,
}

/// A store with some history.
async fn store(folder: &Path, left: Left) {
    for round in 0..4_u64 {
        let store = open(folder).unwrap();
        for number in 0..RECORDS {
            let version = (round > 0).then_some(Version(round));
            let expires = Some(Timestamp(round));
            store.save(upload(number).expiring(expires), version).await.unwrap();
        }
        if round == 3 {
            store.delete(upload(7).id(), Version(4)).await.unwrap();
        }
        if round == 3 && left == Left::Killed {
            store.known.pending.settle(&store.database).unwrap();
            store.database.flush().unwrap();
            copy(folder, &folder.join("copy"));
            drop(store);
            for name in ["records", "records.state", "journal"] {
                let (from, to) = (folder.join("copy").join(name), folder.join(name));
                fs::remove_dir_all(&to).or_else(|_| fs::remove_file(&to)).unwrap();
                fs::rename(from, to).unwrap();
            }
            fs::remove_dir_all(folder.join("copy")).unwrap();
        }
    }
}

/// What is told is right, as far as anything is told.
async fn check(folder: &Path, what: &str) -> bool {
    let store = match open(folder) {
        Ok(store) => store,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("resumed check --rebuild"), "{what}: {text}");
            return false;
        }
    };
    let mut is_whole = true;
    for number in 0..RECORDS {
        let upload = upload(number).expiring(Some(Timestamp(3)));
        let expected = (number != 7).then_some(Stored { upload, version: Version(4) });
        match store.load(UploadId::from_bytes([number; 16])).await {
            Ok(told) => assert_eq!(told, expected, "{what}"),
            Err(error) => {
                assert!(matches!(error.failure, Failure::Damaged(_)), "{what}: {error}");
                is_whole = false;
            }
        }
    }
    is_whole
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = to.join(entry.file_name());
        if entry.file_name() == "copy" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &name);
        } else if entry.file_name() != "records.ballast" {
            fs::copy(entry.path(), name).unwrap();
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(super::damage_tests::files(&path));
        } else if path.metadata().unwrap().len() > 0 {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Runs with each damage to a copy of the files in one folder of the store.
async fn with_each_damage(inner: &str, left: Left) -> (usize, usize) {
    let whole = tempfile::tempdir().unwrap();
    store(whole.path(), left).await;
    let (mut tried, mut right) = (0, 0);
    for file in files(&whole.path().join(inner)) {
        let name = file.strip_prefix(whole.path()).unwrap();
        let bytes = fs::read(&file).unwrap();
        let step = (bytes.len() / PLACES).max(1);
        let cuts = (0..bytes.len()).step_by(step).map(|at| Some((at, true)));
        let flips = (0..bytes.len()).step_by(step).map(|at| Some((at, false)));
        for damage in cuts.chain(flips).chain([None]) {
            let damaged = tempfile::tempdir().unwrap();
            copy(whole.path(), damaged.path());
            match damage {
                Some((at, true)) => fs::write(damaged.path().join(name), &bytes[..at]).unwrap(),
                Some((at, false)) => {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= 0x10;
                    fs::write(damaged.path().join(name), bytes).unwrap();
                }
                None => fs::remove_file(damaged.path().join(name)).unwrap(),
            }
            let what = format!("{} {damage:?}", name.display());
            tried += 1;
            right += usize::from(check(damaged.path(), &what).await);
        }
    }
    (tried, right)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_made_anew_or_named_and_never_tells_what_is_wrong() {
    for left in [Left::Closed, Left::Killed] {
        let (tried, right) = with_each_damage("records", left).await;
        assert!(tried > 30 && right > tried / 2, "{right} of {tried} were whole");
        // All damage to what was closed is noticed at once, and mended.
        assert!(left == Left::Killed || right == tried, "{right} of {tried} were whole");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_named_with_the_command_that_repairs_it() {
    let (tried, right) = with_each_damage("journal", Left::Closed).await;
    assert!(tried > 15 && right * 10 < tried, "{right} of {tried} were whole");
}

#[tokio::test]
async fn records_that_are_gone_are_made_anew_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), Left::Closed).await;
    fs::remove_dir_all(folder.path().join("records")).unwrap();
    assert!(check(folder.path(), "without records").await);
}

#[tokio::test]
async fn after_a_loss_of_power_the_database_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), Left::Closed).await;
    fs::write(folder.path().join("records.state"), r#"{"open":{"boot":"1","since":0}}"#).unwrap();
    // What it says is old, and would be told if it were believed.
    let database = super::open::open(&folder.path().join("records")).unwrap();
    let old = codec::encode(&upload(3), Version(1)).unwrap();
    database.insert(record_key(upload(3).id()), old).unwrap();
    drop(database);
    assert!(check(folder.path(), "after a loss of power").await);
}

#[tokio::test]
async fn a_journal_that_is_gone_is_made_anew_from_the_records_when_a_person_says_so() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), Left::Closed).await;
    fs::remove_dir_all(folder.path().join("journal")).unwrap();
    assert!(!check(folder.path(), "without a journal").await);
    let rebuilt = rebuild(&DataFolder::open(folder.path()).unwrap()).unwrap();
    assert_eq!((rebuilt.records, rebuilt.unreadable.len()), (u64::from(RECORDS) - 1, 0));
    assert!(check(folder.path(), "rebuilt").await);
    fs::remove_dir_all(folder.path().join("records")).unwrap();
    assert!(check(folder.path(), "made anew").await);
}

#[tokio::test]
async fn what_can_be_read_of_a_damaged_journal_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), Left::Closed).await;
    let file = files(&folder.path().join("journal")).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let rebuilt = rebuild(&DataFolder::open(folder.path()).unwrap()).unwrap();
    assert_eq!(rebuilt.records, u64::from(RECORDS) - 1);
    assert!(!rebuilt.unreadable.is_empty());
    assert!(check(folder.path(), "rebuilt").await);
}

#[tokio::test]
async fn a_rebuilding_that_failed_while_the_journal_was_made_is_done_again_without_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), Left::Closed).await;
    let journal = folder.path().join("journal");
    let file = files(&journal).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    fs::remove_dir_all(folder.path().join("records")).unwrap();
    // Where the base would be written, behind 801 frames.
    let in_the_way = journal.join("00000002-0000000000000322.base-part");
    fs::create_dir(&in_the_way).unwrap();
    rebuild(&DataFolder::open(folder.path()).unwrap()).unwrap_err();
    assert!(!folder.path().join("records.new").exists());
    fs::remove_dir(&in_the_way).unwrap();
    // As if it had been killed.
    fs::write(&in_the_way, b"torn").unwrap();
    let rebuilt = rebuild(&DataFolder::open(folder.path()).unwrap()).unwrap();
    assert_eq!((rebuilt.records, rebuilt.unreadable.len()), (u64::from(RECORDS) - 1, 1 + 1));
    assert_eq!(files(&folder.path().join("journal.damaged")).len(), 2);
    assert_eq!(files(&journal).len(), 1);
    assert!(check(folder.path(), "rebuilt").await);
}

#[tokio::test]
async fn a_record_in_the_journal_that_cannot_be_read_is_named_and_costs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), Left::Closed).await;
    let data_folder = DataFolder::open(folder.path()).unwrap();
    let chain = Chain::open(&data_folder.journal()).unwrap();
    let mut journal = Journal::open(&chain, 801, Durability::Process).unwrap();
    let mut payload = Payload::default();
    let late = codec::encode(&upload(201), Version(1)).unwrap();
    let (bad, none) = (upload(5).id(), b"{}".as_slice());
    payload.push(Entry::Save { id: bad, record: none });
    payload.push(Entry::Save { id: upload(201).id(), record: &late });
    journal.append(payload).unwrap();
    drop((journal, data_folder));
    for has_records in [true, false] {
        if !has_records {
            fs::remove_dir_all(folder.path().join("records")).unwrap();
        }
        let refused = open(folder.path()).err().unwrap().to_string();
        assert!(refused.contains(&bad.to_string()) && refused.contains("--rebuild"), "{refused}");
        assert_eq!(folder.path().join("records").exists(), has_records);
        assert!(!folder.path().join("records.damaged").exists());
    }
    let rebuilt = rebuild(&DataFolder::open(folder.path()).unwrap()).unwrap();
    assert_eq!((rebuilt.records, rebuilt.unreadable.len()), (u64::from(RECORDS), 1));
    assert!(rebuilt.unreadable[0].contains(&bad.to_string()), "{rebuilt:?}");
    assert!(check(folder.path(), "rebuilt").await);
    assert!(open(folder.path()).unwrap().load(upload(201).id()).await.unwrap().is_some());
}

/// Cuts off the last frames of the journal: some of those that were saved since the last start.
fn cut_the_journal(folder: &Path) {
    let file = files(&folder.join("journal")).remove(0);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 16 * 15]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_lost_its_end_is_named_also_after_the_death_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), Left::Killed).await;
    cut_the_journal(folder.path());
    assert!(!check(folder.path(), "without the end of the journal").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_journal_lost_at_its_end_is_taken_from_the_records() {
    for left in [Left::Closed, Left::Killed] {
        let folder = tempfile::tempdir().unwrap();
        store(folder.path(), left).await;
        cut_the_journal(folder.path());
        let rebuilt = rebuild(&DataFolder::open(folder.path()).unwrap()).unwrap();
        assert!(rebuilt.unreadable[0].contains("the records know 801"), "{rebuilt:?}");
        for has_records in [true, false] {
            if !has_records {
                fs::remove_dir_all(folder.path().join("records")).unwrap();
            }
            let store = open(folder.path()).unwrap();
            // That one was removed is not known any more.
            for number in (0..RECORDS).filter(|number| *number != 7) {
                let told = store.load(upload(number).id()).await.unwrap().unwrap();
                assert_eq!(told.version, Version(4), "{number}");
            }
        }
    }
}

#[tokio::test]
async fn a_folder_that_had_records_is_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), Left::Closed).await;
    for name in ["records", "journal"] {
        fs::remove_dir_all(folder.path().join(name)).unwrap();
    }
    for _ in 0..2 {
        let refused = open(folder.path()).err().unwrap().to_string();
        assert!(refused.contains("put them back from a copy"), "{refused}");
        let refused = rebuild(&DataFolder::open(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(refused.contains("from a copy"), "{refused}");
        assert!(!folder.path().join("journal").exists());
    }
    fs::remove_file(folder.path().join("records.state")).unwrap();
    open(folder.path()).unwrap();
}

#[tokio::test]
async fn long_records_of_an_older_database_are_read_replaced_and_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let old = [199, 200].map(upload);
    let store = open(folder.path()).unwrap();
    for upload in &old {
        store.save(upload.clone(), None).await.unwrap();
    }
    store.known.pending.settle(&store.database).unwrap();
    let as_before_there_were_pieces = |database: &sled::Db| {
        for upload in &old {
            let record = pieces::get(database, upload.id())?.unwrap();
            let mut batch = sled::Batch::default();
            pieces::set(database, &mut batch, upload.id(), None, false)?;
            batch.insert(&record_key(upload.id()), &record);
            database.apply_batch(batch).unwrap();
        }
        Ok(())
    };
    store.database.with(as_before_there_were_pieces).unwrap();
    drop(store);
    let [first, second] = old.map(|upload| Stored { upload, version: Version(1) });
    let store = open(folder.path()).unwrap();
    assert_eq!(store.list(None, 9).await.unwrap(), [first.clone(), second.clone()]);
    let next = Stored { upload: first.upload.expiring(Some(Timestamp(2))), version: Version(2) };
    store.save(next.upload.clone(), Some(first.version)).await.unwrap();
    drop(store);
    let whole = || {
        let database = super::open::open(&folder.path().join("records")).unwrap();
        let is_whole = |stored: &&Stored| {
            let entry = database.get(record_key(stored.upload.id())).unwrap();
            entry.is_some_and(|entry| entry.starts_with(b"{"))
        };
        [&next, &second].iter().filter(|stored| is_whole(stored)).count()
    };
    fs::remove_dir_all(folder.path().join("journal")).unwrap();
    assert_eq!(whole(), 1);
    let rebuilt = rebuild(&DataFolder::open(folder.path()).unwrap()).unwrap();
    assert_eq!((rebuilt.records, rebuilt.unreadable.len()), (2, 0));
    let store = open(folder.path()).unwrap();
    assert_eq!(store.list(None, 9).await.unwrap(), [next.clone(), second.clone()]);
    drop(store);
    assert_eq!(whole(), 0);
}
