use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::clock::Clock;
use crate::protocol::metadata::Metadata;
use crate::protocol::operation::Completion;
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::upload::{Admission, Upload};
use crate::storage::{RecordStore, StoreFuture, Stored, Version};

const AN_HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// Records of which some cannot be read, and which a server can be told to change between two
/// looks.
#[derive(Default)]
struct Shelf {
    records: Mutex<BTreeMap<UploadId, Option<Stored>>>,
    is_written_to: bool,
}

fn damaged(id: UploadId) -> StorageError {
    StorageError::new("loading", Some(id), Failure::Damaged("torn".to_owned()))
}

impl RecordStore for Shelf {
    fn load(&self, id: UploadId) -> StoreFuture<'_, Option<Stored>> {
        let mut records = self.records.lock();
        if let (true, Some(Some(stored))) = (self.is_written_to, records.get_mut(&id)) {
            stored.version.0 += 1;
        }
        let found = match records.get(&id) {
            Some(Some(stored)) => Ok(Some(stored.clone())),
            Some(None) => Err(damaged(id)),
            None => Ok(None),
        };
        Box::pin(async { found })
    }

    fn save(&self, upload: Upload, _: Option<Version>) -> StoreFuture<'_, Version> {
        let stored = Stored { upload, version: Version(9) };
        self.records.lock().insert(stored.upload.id(), Some(stored));
        Box::pin(async { Ok(Version(9)) })
    }

    fn delete(&self, _: UploadId, _: Version) -> StoreFuture<'_, ()> {
        unreachable!("a check deletes no record")
    }

    fn due(&self, _: Timestamp, _: usize) -> StoreFuture<'_, Vec<UploadId>> {
        unreachable!("a check sweeps nothing")
    }

    fn alike(&self, _: ReprDigests, _: usize) -> StoreFuture<'_, Vec<UploadId>> {
        unreachable!("a check completes nothing")
    }

    fn list(&self, after: Option<UploadId>, max: usize) -> StoreFuture<'_, Vec<Stored>> {
        let records = self.records.lock();
        let behind = records.iter().filter(|(id, _)| Some(**id) > after).take(max);
        let page = behind.map(|(id, record)| record.clone().ok_or_else(|| damaged(*id)));
        let page: Result<Vec<_>, _> = page.collect();
        Box::pin(async { page })
    }
}

fn id(number: u64) -> UploadId {
    // Spread over the folders, in the order of the numbers.
    UploadId::from_bytes((u128::from(number) << 115).to_be_bytes())
}

fn complete(number: u64, length: u64) -> Stored {
    let new = Upload::new(id(number), Some(length), Metadata::default(), Timestamp(1));
    let completion = Completion::AtLength;
    let admission =
        Admission { offset: 0, ceiling: length, length: Some(length), completion, max_bytes: None };
    let upload = new.received(&admission, length, None, None).completed(None, Timestamp(2));
    Stored { upload, version: Version(1) }
}

struct Scene {
    folder: tempfile::TempDir,
    survey: Survey,
    shelf: Arc<Shelf>,
}

impl Scene {
    fn new(records: impl IntoIterator<Item = (u64, Option<Stored>)>, is_written_to: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let survey = Survey::new(folder.path().join("uploads"));
        let records = records.into_iter().map(|(number, record)| (id(number), record)).collect();
        let shelf = Arc::new(Shelf { records: Mutex::new(records), is_written_to });
        Self { folder, survey, shelf }
    }

    fn write(&self, number: u64, bytes: &[u8]) {
        let path = self.survey.path(id(number));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn check(&self, mode: Mode<'_>) -> (Result<Summary, CheckError>, String) {
        let records =
            BlockingRecords::new(Arc::clone(&self.shelf) as Arc<dyn RecordStore>).unwrap();
        let store = Store { records: &records, survey: &self.survey };
        let options = Options { is_deep: true, now: Clock::System.now(), mode };
        let mut printed = Vec::new();
        let checked = run(&store, &options, &mut Report::new(&mut printed, Form::Text));
        (checked, String::from_utf8(printed).unwrap())
    }

    fn repair(&self, is_forced: bool) -> (Result<Summary, CheckError>, String) {
        let lost_and_found = self.folder.path().join("lost+found");
        self.check(Mode::Repair { lost_and_found, is_forced })
    }
}

#[test]
fn each_upload_is_met_once_over_all_pages_also_where_records_are_damaged() {
    // The first, some at the bounds of pages, two neighbours, and the last.
    let broken = [0, 511, 512, 1024, 1025, 1026, 1499];
    let record = |number| (!broken.contains(&number)).then(|| complete(number, 3));
    let scene = Scene::new((0..1500).map(|number| (number, record(number))), false);
    // Every third has its data; some data has no record, before, between and behind the others.
    let is_there = |number: u64| number % 3 == 1;
    (0..1500).filter(|number| is_there(*number)).for_each(|number| scene.write(number, b"abc"));
    let strays = [1500, 1507, 8191];
    strays.iter().for_each(|number| scene.write(*number, b"stray"));
    let (summary, printed) = scene.check(Mode::Offline);
    assert_eq!(summary.unwrap().records, 1500);
    let mut expected = Vec::new();
    for number in (0..1500).chain(strays) {
        if broken.contains(&number) {
            expected.push((id(number), "record-damaged:"));
        } else if strays.contains(&number) {
            expected.push((id(number), "no-record:"));
        } else if !is_there(number) {
            expected.push((id(number), "data-missing:"));
        }
    }
    let mut lines = printed.lines();
    for (id, name) in expected {
        assert!(lines.next().unwrap().starts_with(&format!("{id}  {name}")), "{id} {name}");
    }
    assert_eq!(lines.count(), 3, "more was found than is wrong");
}

#[test]
fn while_a_server_runs_a_finding_counts_if_the_record_stays_as_it_is() {
    for (is_written_to, findings, left_out) in [(false, 2, 0), (true, 0, 2)] {
        let records = [(1, Some(complete(1, 3))), (2, Some(complete(2, 3)))];
        let scene = Scene::new(records, is_written_to);
        scene.write(2, b"ab");
        let summary = scene.check(Mode::Online { refresh: &|| Ok(()) }).0.unwrap();
        assert_eq!((summary.findings, summary.left_out), (findings, left_out));
    }
}

#[test]
fn while_a_server_runs_fresh_data_without_a_record_is_left_out() {
    let scene = Scene::new([], false);
    scene.write(1, b"abc");
    let summary = scene.check(Mode::Online { refresh: &|| Ok(()) }).0.unwrap();
    assert_eq!((summary.findings, summary.left_out), (0, 1));
    let file = File::options().write(true).open(scene.survey.path(id(1))).unwrap();
    file.set_modified(file.metadata().unwrap().modified().unwrap() - AN_HOUR).unwrap();
    let summary = scene.check(Mode::Online { refresh: &|| Ok(()) }).0.unwrap();
    assert_eq!((summary.findings, summary.left_out), (1, 0));
}

#[test]
fn nothing_is_repaired_when_most_data_or_most_records_are_missing() {
    let scene = Scene::new((0..30).map(|number| (number, Some(complete(number, 3)))), false);
    (0..14).for_each(|number| scene.write(number, b"abc"));
    let before = scene.shelf.records.lock().clone();
    let refused = scene.repair(false);
    assert!(matches!(
        refused,
        (Err(CheckError::MostDataMissing { missing: 16, expected: 30 }), said) if said.is_empty()
    ));
    assert_eq!(*scene.shelf.records.lock(), before);
    (0..30).for_each(|number| scene.write(number, b"abc"));
    (30..61).for_each(|number| scene.write(number, b"abc"));
    let refused = scene.repair(false).0;
    assert!(matches!(refused, Err(CheckError::MostRecordsMissing { without: 31, found: 61 })));
    assert!(!scene.folder.path().join("lost+found").exists());
    assert_eq!(scene.repair(true).0.unwrap().repaired, 31);
    assert_eq!(scene.repair(false).0.unwrap().findings, 0);
}
