//! What the survey tells, and what it leaves alone.

use super::*;
use crate::storage::Durability;
use crate::storage::file::FileStore;
use crate::storage::folder::DataFolder;

pub(super) fn surveyed() -> (tempfile::TempDir, FileStore, Survey) {
    let folder = tempfile::tempdir().unwrap();
    let data_folder = DataFolder::open(folder.path()).unwrap();
    let store = FileStore::open(&data_folder, Durability::Process, 0).unwrap();
    (folder, store, Survey::new(data_folder.uploads()))
}

#[test]
fn the_survey_looks_where_the_store_writes() {
    let (_folder, store, survey) = surveyed();
    let id = UploadId::from_bytes([0xab; 16]);
    assert_eq!(survey.path(id), store.shared.path(id));
    assert_eq!(survey.parts_path(id), store.shared.parts_folder(id));
    let part = survey.parts_path(id).join(part_name(7));
    assert_eq!(part, store.shared.part_path(id, 7));
    for list in List::ALL {
        assert_eq!(survey.list_path(id, list), store.shared.list_path(id, list));
    }
}

#[test]
fn what_lies_in_a_shard_is_told_and_what_is_foreign_is_named() {
    let (_folder, _store, survey) = surveyed();
    let id = UploadId::from_bytes([5; 16]);
    fs::write(survey.path(id), b"four").unwrap();
    fs::create_dir(survey.parts_path(id)).unwrap();
    fs::write(survey.parts_path(id).join("000001"), b"part").unwrap();
    fs::write(survey.parts_path(id).join("whole"), b"pa").unwrap();
    fs::write(survey.list_path(id, List::Sha256), b"list").unwrap();
    let elsewhere = UploadId::from_bytes([6; 16]);
    let mut foreign = vec![
        survey.folder_of(id).join("notes.txt"),
        survey.folder_of(id).join(elsewhere.to_string()),
        survey.parts_path(id).join("1"),
    ];
    foreign.iter().for_each(|path| fs::write(path, b"").unwrap());
    let link = survey.folder_of(id).join(UploadId::from_bytes([5; 16]).to_string() + ".tree");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    foreign.push(link);
    let mut shard = survey.shard(5).unwrap();
    let lying = shard.uploads.remove(&id).unwrap();
    assert_eq!((lying.whole, lying.lists, lying.bytes()), (Some(4), 1, 10));
    let parts = lying.parts.clone().unwrap();
    assert_eq!((parts.lengths[&1], parts.half_made), (4, Some(2)));
    assert!(shard.uploads.is_empty());
    shard.strangers.sort();
    foreign.sort();
    assert_eq!(shard.strangers, foreign);
    assert_eq!(survey.look(id).unwrap(), Some(lying));
    assert_eq!(survey.look(elsewhere).unwrap(), None);
}

#[test]
fn what_lies_in_the_place_of_a_shard_is_no_shard() {
    let (folder, _store, survey) = surveyed();
    let id = UploadId::from_bytes([5; 16]);
    let shard = survey.folder_of(id);
    fs::remove_dir(&shard).unwrap();
    fs::write(&shard, b"").unwrap();
    assert!(survey.shard(5).unwrap().uploads.is_empty());
    assert_eq!(survey.look(id).unwrap(), None);
    assert_eq!(survey.strangers().unwrap(), std::slice::from_ref(&shard));
    // What lies elsewhere may be served, and is not called missing.
    fs::remove_file(&shard).unwrap();
    std::os::unix::fs::symlink(folder.path(), &shard).unwrap();
    let refused = survey.shard(5).unwrap_err().to_string();
    assert!(refused.contains("symbolic link"), "{refused}");
}
