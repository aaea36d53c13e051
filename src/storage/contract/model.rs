//! Random sequences of operations against the simplest thing that does the same.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::data::read_all;
use super::{DataPlace, Files, Memory, RecordPlace, Sled, id};
use crate::protocol::id::UploadId;
use crate::protocol::metadata::Metadata;
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::{GoneReason, Placement, Upload};
use crate::storage::{Stored, Version};

#[derive(Clone, Debug)]
enum Step {
    /// Saves the record, over the version that is there or over another.
    Save(Upload, bool),
    Delete(UploadId, bool),
    Reopen,
}

fn upload() -> impl Strategy<Value = Upload> {
    let short = prop_oneof![Just(""), Just("flag"), Just("name d29ybGQ=,\"\\ YQ==")];
    let long = (0..9_000_usize).prop_map(|length| {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&length.to_le_bytes()).finalize_xof().fill(&mut bytes);
        format!("name {}", STANDARD.encode(bytes))
    });
    let metadata = prop_oneof![3 => short.prop_map(str::to_owned), 2 => long];
    let expires = proptest::option::of(0..8_u64);
    (0..5_u8, metadata, expires, 0..3_u8).prop_map(|(number, metadata, expires, state)| {
        let metadata = Metadata::parse(&metadata).unwrap();
        let receiving = Upload::new(id(number), Some(0), metadata, Timestamp(1));
        let upload = match state {
            0 => receiving,
            1 => receiving.completed(ReprDigests::default(), Timestamp(2)),
            _ => receiving.gone(GoneReason::Expired, Timestamp(3)),
        };
        upload.expiring(expires.map(Timestamp))
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mostly = || prop::bool::weighted(0.9);
    let step = prop_oneof![
        8 => (upload(), mostly()).prop_map(|(upload, fits)| Step::Save(upload, fits)),
        2 => (0..5_u8, mostly()).prop_map(|(number, fits)| Step::Delete(id(number), fits)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..30)
}

async fn records_do_as_a_map_does<P: RecordPlace>(steps: Vec<Step>) {
    let mut place = P::default();
    let mut store = place.records();
    let mut model = BTreeMap::<UploadId, Stored>::new();
    for step in steps {
        match step {
            Step::Save(upload, fits) => {
                let found = model.get(&upload.id()).map(|stored| stored.version);
                let expected = if fits { found } else { Some(Version(1 << 40)) };
                let saved = store.save(upload.clone(), expected).await;
                assert_eq!(saved.is_ok(), fits);
                if let Ok(version) = saved {
                    model.insert(upload.id(), Stored { upload, version });
                }
            }
            Step::Delete(id, fits) => {
                let found = model.get(&id).map(|stored| stored.version);
                let expected = found.filter(|_| fits).unwrap_or(Version(1 << 40));
                let deleted = store.delete(id, expected).await;
                assert_eq!(deleted.is_ok(), fits || found.is_none());
                if deleted.is_ok() {
                    model.remove(&id);
                }
            }
            Step::Reopen => {
                drop(store);
                store = place.records();
            }
        }
        let listed = store.list(None, 10).await.unwrap();
        assert!(listed.iter().eq(model.values()), "{listed:?} {model:?}");
        for number in 0..5 {
            assert_eq!(store.load(id(number)).await.unwrap(), model.get(&id(number)).cloned());
        }
        for now in [3, Timestamp(0).after(Duration::from_secs(1 << 30)).0] {
            let wake = |stored: &Stored| stored.upload.wake().filter(|wake| wake.0 <= now);
            let wakes = model.iter().filter_map(|(id, stored)| Some((wake(stored)?, *id)));
            let mut due: Vec<_> = wakes.collect();
            due.sort();
            let due: Vec<_> = due.into_iter().map(|(_, id)| id).collect();
            assert_eq!(store.due(Timestamp(now), 10).await.unwrap(), due);
        }
    }
}

/// Appends: how far before the end they begin (as after a crash), and how many bytes they have.
type Appends = Vec<(usize, usize)>;

fn appends() -> impl Strategy<Value = Appends> {
    prop::collection::vec((prop_oneof![3 => Just(0), 1 => 0..40_usize], 0..60_usize), 1..12)
}

async fn data_does_as_a_vector_does<P: DataPlace>(appends: Appends) {
    let mut place = P::default();
    let mut model = Vec::<u8>::new();
    for (number, (back, count)) in appends.into_iter().enumerate() {
        let store = place.data();
        model.truncate(model.len().saturating_sub(back));
        let offset = u64::try_from(model.len()).unwrap();
        let bytes = vec![u8::try_from(number).unwrap(); count];
        let mut writer = store.writer(id(1), offset).await.unwrap();
        let pieces = bytes.chunks(7).map(Bytes::copy_from_slice).collect();
        writer.write_and_commit(pieces).await.unwrap();
        model.extend_from_slice(&bytes);
        drop((writer, store));
        let end = u64::try_from(model.len()).unwrap();
        let store = place.data();
        let reader = store.reader(id(1), &Placement::Whole, end / 3..end).await.unwrap();
        assert_eq!(read_all(reader).await.unwrap(), model[model.len() / 3..]);
        assert!(store.reader(id(1), &Placement::Whole, 0..end + 1).await.is_err());
    }
}

fn run(test: impl Future<Output = ()>) {
    Runtime::new().unwrap().block_on(test);
}

proptest! {
    #[test]
    fn records_in_memory_do_as_a_map_does(steps in steps()) {
        run(records_do_as_a_map_does::<Memory>(steps));
    }

    #[test]
    fn data_in_memory_does_as_a_vector_does(appends in appends()) {
        run(data_does_as_a_vector_does::<Memory>(appends));
    }
}

proptest! {
    // Opening takes its time on a real disk.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn records_in_sled_do_as_a_map_does(steps in steps()) {
        run(records_do_as_a_map_does::<Sled>(steps));
    }
}

proptest! {
    // It has 256 folders to make.
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn data_in_files_does_as_a_vector_does(appends in appends()) {
        run(data_does_as_a_vector_does::<Files>(appends));
    }
}
