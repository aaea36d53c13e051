//! Rules for stores of bytes that are asked to concatenate.

use std::sync::Arc;

use super::data::{LONG, is_missing, long, read, read_all, write};
use super::{DataPlace, id};
use crate::protocol::units::Timestamp;
use crate::protocol::upload::Placement;
use crate::storage::{DataStore, Failure};

const LONG_BYTES: u64 = 1_300_000;
const LENGTHS: [u64; 4] = [3, 0, LONG_BYTES, 2];
/// What they come to.
const TOTAL: u64 = LONG_BYTES + 5;

fn in_parts() -> Placement {
    Placement::Parts { lengths: LENGTHS.into(), join_at: Timestamp(0) }
}

fn whole() -> Vec<u8> {
    assert_eq!(u64::try_from(LONG), Ok(LONG_BYTES));
    [b"one".as_slice(), &long(), b"no"].concat()
}

/// Has upload 9 made of four others, of which one is empty and never was written.
async fn adopt(store: &Arc<dyn DataStore>) {
    write(store, 1, 0, b"one and scratch").await;
    write(store, 3, 0, &long()).await;
    write(store, 4, 0, b"no").await;
    let parts: Vec<_> = (1..).map(id).zip(LENGTHS).collect();
    store.adopt(id(9), parts.clone()).await.unwrap();
    store.adopt(id(9), parts).await.unwrap();
}

pub(super) async fn parts_are_read_as_one<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    adopt(&store).await;
    drop(store);
    let store = place.data();
    for (start, end) in [(0, TOTAL), (2, 4), (3, 3), (3, 300_000), (TOTAL - 3, TOTAL)] {
        let reader = store.reader(id(9), &in_parts(), start..end).await.unwrap();
        let bounds = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        assert!(read_all(reader).await.unwrap() == whole()[bounds], "{start}..{end}");
    }
}

pub(super) async fn parts_outlive_the_uploads_they_come_from<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    adopt(&store).await;
    for number in 1..=4 {
        store.remove(id(number)).await.unwrap();
    }
    drop(store);
    let store = place.data();
    let reader = store.reader(id(9), &in_parts(), 0..TOTAL).await.unwrap();
    assert!(read_all(reader).await.unwrap() == whole());
    store.remove(id(9)).await.unwrap();
    let reader = store.reader(id(9), &in_parts(), 0..TOTAL).await;
    assert!(matches!(reader.map(|_| ()).unwrap_err().failure, Failure::Missing));
}

pub(super) async fn joined_parts_are_one_piece<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    adopt(&store).await;
    let mut early = store.reader(id(9), &in_parts(), 0..TOTAL).await.unwrap();
    let first = early.read().await.unwrap();
    store.join(id(9), LENGTHS.into()).await.unwrap();
    store.join(id(9), LENGTHS.into()).await.unwrap();
    store.release_parts(id(9)).await.unwrap();
    store.release_parts(id(9)).await.unwrap();
    let rest = read_all(early).await.unwrap();
    assert!([first.as_ref(), &rest].concat() == whole(), "who reads goes on from the whole");
    drop(store);
    let store = place.data();
    assert!(read(&store, 9, 0..TOTAL).await == whole());
    assert!(is_missing(&store, 9, 0..TOTAL + 1).await);
    // A crash may come before anybody learns that they were joined.
    store.join(id(9), LENGTHS.into()).await.unwrap();
    assert!(read(&store, 9, 0..TOTAL).await == whole());
    let late = store.reader(id(9), &in_parts(), 1..TOTAL).await.unwrap();
    assert!(read_all(late).await.unwrap() == whole()[1..]);
}

pub(super) async fn a_part_that_is_not_there_is_named<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    write(&store, 1, 0, b"one").await;
    for part in [(id(1), 4), (id(2), 1)] {
        let refused = store.adopt(id(9), vec![(id(1), 3), part]).await.unwrap_err();
        assert!(matches!(refused.failure, Failure::Missing), "{refused}");
        assert_eq!(refused.upload, Some(part.0));
    }
}

pub(super) async fn one_part_is_joined_without_harm_to_where_it_comes_from<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    write(&store, 1, 0, &long()).await;
    store.adopt(id(9), vec![(id(1), LONG_BYTES)]).await.unwrap();
    for _ in 0..2 {
        store.join(id(9), [LONG_BYTES].into()).await.unwrap();
    }
    store.release_parts(id(9)).await.unwrap();
    store.join(id(9), [LONG_BYTES].into()).await.unwrap();
    drop(store);
    let store = place.data();
    assert!(read(&store, 9, 0..LONG_BYTES).await == long());
    store.remove(id(9)).await.unwrap();
    assert!(read(&store, 1, 0..LONG_BYTES).await == long());
}

pub(super) async fn parts_that_are_not_there_are_not_joined<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    write(&store, 8, 0, b"other").await;
    for (number, lengths) in [(8, [3, 4].as_slice()), (8, &[7]), (9, &[3, 4]), (9, &[7])] {
        let refused = store.join(id(number), lengths.into()).await.unwrap_err();
        assert!(matches!(refused.failure, Failure::Missing), "{refused}");
    }
}

pub(super) async fn equal_uploads_share_their_bytes<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    for number in [1, 2, 3] {
        write(&store, number, 0, &long()).await;
    }
    for (number, with) in [(2, 1), (2, 1), (3, 2)] {
        store.share(id(number), id(with)).await.unwrap();
    }
    for (number, with) in [(1, 4), (4, 1)] {
        let refused = store.share(id(number), id(with)).await.unwrap_err();
        assert!(matches!(refused.failure, Failure::Missing), "{refused}");
    }
    drop(store);
    let store = place.data();
    for number in [1, 2] {
        store.remove(id(number)).await.unwrap();
        assert!(is_missing(&store, number, 0..1).await);
        assert!(read(&store, 3, 0..LONG_BYTES).await == long());
    }
    store.remove(id(3)).await.unwrap();
    assert!(is_missing(&store, 3, 0..1).await);
}
