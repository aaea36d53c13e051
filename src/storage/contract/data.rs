//! Rules for stores of bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::{DataPlace, id};
use crate::protocol::upload::Placement;
use crate::storage::{DataReader, DataStore, Failure, StorageError};

/// Longer than any store reads at once.
pub(super) const LONG: usize = 1_300_000;

pub(super) fn long() -> Vec<u8> {
    (0..LONG).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn pieces(bytes: &[u8], piece: usize) -> Vec<Bytes> {
    bytes.chunks(piece).map(Bytes::copy_from_slice).collect()
}

pub(super) async fn write(store: &Arc<dyn DataStore>, number: u8, offset: u64, bytes: &[u8]) {
    let mut writer = store.writer(id(number), offset).await.unwrap();
    writer.write_and_commit(pieces(bytes, 64 << 10)).await.unwrap();
}

pub(super) async fn read_all(mut reader: Box<dyn DataReader>) -> Result<Vec<u8>, StorageError> {
    let mut bytes = Vec::new();
    loop {
        let piece = reader.read().await?;
        if piece.is_empty() {
            assert!(reader.read().await?.is_empty(), "the end stays the end");
            return Ok(bytes);
        }
        bytes.extend_from_slice(&piece);
    }
}

pub(super) async fn read(store: &Arc<dyn DataStore>, number: u8, range: Range<u64>) -> Vec<u8> {
    read_all(store.reader(id(number), &Placement::Whole, range).await.unwrap()).await.unwrap()
}

pub(super) async fn is_missing(store: &Arc<dyn DataStore>, number: u8, range: Range<u64>) -> bool {
    let refused = store.reader(id(number), &Placement::Whole, range).await.map(|_| ());
    matches!(refused.map_err(|error| error.failure), Err(Failure::Missing))
}

pub(super) async fn committed_bytes_are_read_as_they_were_written<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    let bytes = long();
    let mut writer = store.writer(id(1), 0).await.unwrap();
    writer.commit().await.unwrap();
    writer.write(Vec::new()).await.unwrap();
    // More pieces than one system call takes, and empty ones among them.
    let mut many = pieces(&bytes[..3000], 1);
    many.insert(1500, Bytes::new());
    many.push(Bytes::new());
    writer.write(many).await.unwrap();
    writer.write(pieces(&bytes[3000..5000], 700)).await.unwrap();
    writer.commit().await.unwrap();
    writer.write_and_commit(pieces(&bytes[5000..], 300_000)).await.unwrap();
    drop((writer, store));
    assert_eq!(read(&place.data(), 1, 0..1_300_000).await, bytes);
}

pub(super) async fn a_writer_cuts_off_scratch<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    write(&store, 1, 0, b"0123456789").await;
    write(&store, 1, 4, b"ab").await;
    assert!(is_missing(&store, 1, 0..7).await);
    drop(store);
    let store = place.data();
    assert_eq!(read(&store, 1, 0..6).await, b"0123ab");
    write(&store, 1, 0, b"x").await;
    drop(store);
    let store = place.data();
    assert_eq!(read(&store, 1, 0..1).await, b"x");
    assert!(is_missing(&store, 1, 0..2).await);
}

pub(super) async fn a_writer_that_rests_goes_on_where_it_was<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    let mut writer = store.writer(id(1), 0).await.unwrap();
    writer.rest().await.unwrap();
    writer.write(vec![Bytes::from_static(b"be")]).await.unwrap();
    writer.rest().await.unwrap();
    writer.rest().await.unwrap();
    writer.write(vec![Bytes::from_static(b"fore")]).await.unwrap();
    writer.rest().await.unwrap();
    writer.commit().await.unwrap();
    drop((writer, store));
    assert_eq!(read(&place.data(), 1, 0..6).await, b"before");
}

pub(super) async fn a_writer_behind_the_bytes_that_are_there_is_refused<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    write(&store, 1, 0, b"three").await;
    for number in [1, 2] {
        let refused = match store.writer(id(number), 6).await {
            Err(error) => error,
            Ok(mut writer) => {
                let error = writer.write(vec![Bytes::from_static(b"x")]).await.unwrap_err();
                let after = writer.commit().await.unwrap_err();
                assert!(matches!(after.failure, Failure::Closed), "{after}");
                error
            }
        };
        assert!(matches!(refused.failure, Failure::Missing), "{refused}");
        assert_eq!(refused.upload, Some(id(number)));
    }
    assert_eq!(read(&store, 1, 0..5).await, b"three");
    assert!(is_missing(&store, 2, 0..1).await);
}

pub(super) async fn a_range_is_read_byte_for_byte<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    let bytes = long();
    write(&store, 1, 0, &bytes).await;
    for (start, end) in [(0, 1), (0, 262_144), (1, 262_146), (262_143, 1_300_000), (7, 7)] {
        let range = u64::try_from(start).unwrap()..u64::try_from(end).unwrap();
        assert_eq!(read(&store, 1, range).await, bytes[start..end], "{start}..{end}");
    }
}

pub(super) async fn a_reader_of_bytes_that_are_not_there_is_refused<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    write(&store, 1, 0, b"four").await;
    assert!(is_missing(&store, 1, 0..5).await);
    assert!(is_missing(&store, 1, 4..u64::MAX).await);
    assert!(is_missing(&store, 2, 0..1).await);
}

pub(super) async fn an_empty_range_needs_no_bytes<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    assert_eq!(read(&store, 1, 0..0).await, b"");
    assert_eq!(read(&store, 1, 9..9).await, b"");
}

pub(super) async fn a_dropped_read_skips_nothing<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    let bytes = long();
    write(&store, 1, 0, &bytes).await;
    let mut reader = store.reader(id(1), &Placement::Whole, 0..1_300_000).await.unwrap();
    let mut found = Vec::new();
    loop {
        if let Some(piece) = reader.read().now_or_never() {
            found.extend_from_slice(&piece.unwrap());
        }
        let piece = reader.read().await.unwrap();
        if piece.is_empty() {
            break;
        }
        found.extend_from_slice(&piece);
    }
    assert!(found == bytes, "{} bytes of {}", found.len(), bytes.len());
}

pub(super) async fn scratch_does_not_disturb_a_reader<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    let bytes = long();
    write(&store, 1, 0, &bytes).await;
    let mut reader = store.reader(id(1), &Placement::Whole, 0..1_300_000).await.unwrap();
    let first = reader.read().await.unwrap();
    write(&store, 1, 1_300_000, b"scratch").await;
    let rest = read_all(reader).await.unwrap();
    assert!([first.as_ref(), &rest].concat() == bytes);
}

pub(super) async fn removed_bytes_are_gone_but_for_who_reads_them<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    store.remove(id(1)).await.unwrap();
    let bytes = long();
    write(&store, 1, 0, &bytes).await;
    let reader = store.reader(id(1), &Placement::Whole, 0..1_300_000).await.unwrap();
    store.remove(id(1)).await.unwrap();
    assert!(is_missing(&store, 1, 0..1).await);
    assert!(read_all(reader).await.unwrap() == bytes);
    write(&store, 1, 0, b"again").await;
    assert_eq!(read(&store, 1, 0..5).await, b"again");
}

pub(super) async fn there_is_room<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    assert!(store.room().await.unwrap() > 0);
    assert!(store.take_room(1).await.unwrap() > 0);
    assert!(store.take_room(u64::MAX).await.unwrap_err().is_full());
}
