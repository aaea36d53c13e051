//! Rules for stores of records.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::{RecordPlace, id};
use crate::protocol::digest::Blake3Digest;
use crate::protocol::id::UploadId;
use crate::protocol::metadata::Metadata;
use crate::protocol::operation::Completion;
use crate::protocol::repr_digests::{ReprDigests, Sha256Digest};
use crate::protocol::units::Timestamp;
use crate::protocol::upload::{Admission, GONE_RETENTION, GoneReason, Upload};
use crate::storage::{Failure, RecordStore, Stored, Version};

fn upload(number: u8) -> Upload {
    let metadata = Metadata::parse("filename d29ybGQ=").unwrap();
    Upload::new(id(number), Some(10), metadata, Timestamp(5))
}

fn expiring(number: u8, at: u64) -> Upload {
    upload(number).expiring(Some(Timestamp(at)))
}

async fn is_conflict(store: &Arc<dyn RecordStore>, next: Upload, over: Option<Version>) -> bool {
    let refused = store.save(next, over).await;
    matches!(refused.map_err(|error| error.failure), Err(Failure::Conflict))
}

pub(super) async fn a_record_is_loaded_as_it_was_saved<P: RecordPlace>() {
    let mut place = P::default();
    let mut version = None;
    let gone = upload(1).gone(GoneReason::Lost, Timestamp(9));
    for next in [upload(1), expiring(1, 7), gone] {
        let store = place.records();
        let saved = store.save(next.clone(), version).await.unwrap();
        assert!(Some(saved) > version);
        let stored = Some(Stored { upload: next, version: saved });
        assert_eq!(store.load(id(1)).await.unwrap(), stored);
        drop(store);
        assert_eq!(place.records().load(id(1)).await.unwrap(), stored);
        version = Some(saved);
    }
    assert_eq!(place.records().load(id(2)).await.unwrap(), None);
}

pub(super) async fn a_save_over_another_version_is_refused_and_changes_nothing<P: RecordPlace>() {
    let mut place = P::default();
    let store = place.records();
    let first = store.save(upload(1), None).await.unwrap();
    let second = store.save(expiring(1, 7), Some(first)).await.unwrap();
    for wrong in [None, Some(first), Some(Version(second.0 + 1))] {
        assert!(is_conflict(&store, upload(1), wrong).await, "{wrong:?}");
    }
    assert!(is_conflict(&store, upload(2), Some(first)).await, "it was never saved");
    drop(store);
    let store = place.records();
    let stored = Stored { upload: expiring(1, 7), version: second };
    assert_eq!(store.list(None, 10).await.unwrap(), [stored]);
    assert_eq!(store.due(Timestamp(7), 10).await.unwrap(), [id(1)]);
}

pub(super) async fn of_savers_of_the_same_version_one_wins<P: RecordPlace>() {
    let mut place = P::default();
    let store = place.records();
    let first = store.save(upload(1), None).await.unwrap();
    let saves = (0..16).map(|number| store.save(expiring(1, number), Some(first)));
    let saved: Vec<_> = join_all(saves).await;
    let won = saved.iter().flatten().count();
    let lost = saved.iter().flat_map(|saved| saved.as_ref().err());
    assert!(lost.clone().all(|error| matches!(error.failure, Failure::Conflict)), "{saved:?}");
    assert_eq!((won, lost.count()), (1, 15));
}

pub(super) async fn a_deleted_record_is_no_longer_there<P: RecordPlace>() {
    let mut place = P::default();
    let store = place.records();
    let first = store.save(expiring(1, 1), None).await.unwrap();
    let second = store.save(expiring(1, 2), Some(first)).await.unwrap();
    let refused = store.delete(id(1), first).await.unwrap_err();
    assert!(matches!(refused.failure, Failure::Conflict), "{refused}");
    assert!(store.load(id(1)).await.unwrap().is_some());
    store.delete(id(1), second).await.unwrap();
    store.delete(id(1), second).await.unwrap();
    assert_eq!(store.load(id(1)).await.unwrap(), None);
    drop(store);
    let store = place.records();
    assert_eq!(store.load(id(1)).await.unwrap(), None);
    assert_eq!(store.list(None, 10).await.unwrap(), []);
    assert_eq!(store.due(Timestamp(u64::MAX), 10).await.unwrap(), []);
}

pub(super) async fn due_tells_the_earliest_and_no_more_than_asked_for<P: RecordPlace>() {
    let mut place = P::default();
    let store = place.records();
    for (number, at) in [(1, 300), (2, 100), (3, 200), (4, 256), (5, 301)] {
        store.save(expiring(number, at), None).await.unwrap();
    }
    store.save(upload(6), None).await.unwrap();
    drop(store);
    let store = place.records();
    assert_eq!(store.due(Timestamp(99), 10).await.unwrap(), []);
    assert_eq!(store.due(Timestamp(100), 10).await.unwrap(), [id(2)]);
    assert_eq!(store.due(Timestamp(300), 10).await.unwrap(), [id(2), id(3), id(4), id(1)]);
    assert_eq!(store.due(Timestamp(300), 2).await.unwrap(), [id(2), id(3)]);
    assert_eq!(store.due(Timestamp(300), 0).await.unwrap(), []);
}

pub(super) async fn a_record_is_due_only_at_its_last_wake<P: RecordPlace>() {
    let mut place = P::default();
    let store = place.records();
    let mut version = store.save(expiring(1, 10), None).await.unwrap();
    version = store.save(expiring(1, 20), Some(version)).await.unwrap();
    assert_eq!(store.due(Timestamp(19), 10).await.unwrap(), []);
    version = store.save(upload(1), Some(version)).await.unwrap();
    assert_eq!(store.due(Timestamp(1 << 40), 10).await.unwrap(), []);
    let gone = upload(1).gone(GoneReason::Cancelled, Timestamp(30));
    store.save(gone, Some(version)).await.unwrap();
    drop(store);
    let wake = Timestamp(30).after(GONE_RETENTION);
    let store = place.records();
    assert_eq!(store.due(Timestamp(wake.0 - 1), 10).await.unwrap(), []);
    assert_eq!(store.due(wake, 10).await.unwrap(), [id(1)]);
}

pub(super) async fn pages_of_a_list_cover_all_records_in_order<P: RecordPlace>() {
    let mut place = P::default();
    let store = place.records();
    join_all((0..=10).rev().map(|number| store.save(upload(number * 25), None))).await;
    drop(store);
    let store = place.records();
    let (mut seen, mut after) = (Vec::<UploadId>::new(), None);
    loop {
        let page = store.list(after, 3).await.unwrap();
        assert!(page.len() == 3 || seen.len() + page.len() == 11, "a page is full but the last");
        let Some(last) = page.last() else { break };
        after = Some(last.upload.id());
        seen.extend(page.iter().map(|stored| stored.upload.id()));
    }
    assert_eq!(seen, (0..=10).map(|number| id(number * 25)).collect::<Vec<_>>());
    assert_eq!(store.list(Some(id(255)), 3).await.unwrap(), []);
}

fn with_digests(number: u8, digests: ReprDigests) -> Upload {
    upload(number).received(&all(), 10, None, None).completed(digests, Timestamp(9))
}

fn all() -> Admission {
    let completion = Completion::AtLength;
    Admission { offset: 0, ceiling: 10, length: Some(10), completion, max_bytes: None }
}

pub(super) async fn complete_uploads_are_found_by_their_digests<P: RecordPlace>() {
    let mut place = P::default();
    let store = place.records();
    let blake3 = ReprDigests::from(Some(Blake3Digest::of(b"one")));
    let sha256 = ReprDigests { blake3: None, sha256: Some(Sha256Digest::from_bytes([7; 32])) };
    let other = ReprDigests::from(Some(Blake3Digest::of(b"other")));
    let mut version = None;
    for (number, digests) in [(3, other), (2, sha256), (1, blake3), (4, blake3.or(sha256))] {
        version = Some(store.save(with_digests(number, digests), None).await.unwrap());
    }
    store.save(upload(5).declaring(blake3), None).await.unwrap();
    drop(store);
    let store = place.records();
    assert_eq!(store.alike(blake3, 10).await.unwrap(), [id(1), id(4)]);
    assert_eq!(store.alike(blake3, 1).await.unwrap(), [id(1)]);
    assert_eq!(store.alike(sha256, 10).await.unwrap(), [id(2), id(4)]);
    assert_eq!(store.alike(ReprDigests::default(), 10).await.unwrap(), []);
    let gone = with_digests(4, blake3.or(sha256)).gone(GoneReason::Cancelled, Timestamp(10));
    let version = store.save(gone, version).await.unwrap();
    assert_eq!(store.alike(blake3, 10).await.unwrap(), [id(1)]);
    assert_eq!(store.alike(sha256, 10).await.unwrap(), [id(2)]);
    store.delete(id(4), version).await.unwrap();
    drop(store);
    let store = place.records();
    assert_eq!(store.alike(blake3.or(sha256), 10).await.unwrap(), [id(1)]);
}

pub(super) async fn a_dropped_save_leaves_the_record_as_it_was_or_as_it_will_be<P: RecordPlace>() {
    let mut place = P::default();
    let store = place.records();
    let first = store.save(upload(1), None).await.unwrap();
    drop(store.save(expiring(1, 7), Some(first)).now_or_never());
    // Whoever comes next sees one or the other, and goes on from there.
    let next = async {
        loop {
            let found = store.load(id(1)).await.unwrap().unwrap();
            if let Ok(version) = store.save(expiring(1, 8), Some(found.version)).await {
                break version;
            }
        }
    };
    let version = tokio::time::timeout(Duration::from_secs(20), next).await.unwrap();
    drop(store);
    let stored = Stored { upload: expiring(1, 8), version };
    let store = place.records();
    assert_eq!(store.load(id(1)).await.unwrap(), Some(stored));
    assert_eq!(store.due(Timestamp(7), 10).await.unwrap(), []);
}
