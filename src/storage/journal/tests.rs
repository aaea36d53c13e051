//! What a journal that was cut, damaged or lost in part tells: the truth, or that it cannot.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::chain::{Chain, Damage, Found};
use super::*;
use crate::protocol::id::UploadId;
use crate::storage::Durability;

type Records = BTreeMap<UploadId, Vec<u8>>;

fn id(number: u8) -> UploadId {
    UploadId::from_bytes([number; 16])
}

fn records(chain: &Chain) -> Result<(u64, Records), Damage> {
    let mut records = Records::new();
    let last = chain.walk(None, |found| {
        match found {
            Found::Entry(Entry::Save { id, record }, _) => {
                records.insert(id, record.to_vec());
            }
            Found::Entry(Entry::Delete { id }, _) => {
                records.remove(&id);
            }
            Found::Entry(Entry::End { .. }, _) => {}
            Found::Damage(damage) => return Err(damage),
        }
        Ok(())
    })?;
    Ok((last, records))
}

fn save(journal: &mut Journal, number: u8, record: &[u8]) -> u64 {
    let mut payload = Payload::default();
    payload.push(Entry::Save { id: id(number), record });
    journal.append(payload).unwrap()
}

/// A journal of a base and two files, with what it has to tell after each frame.
fn journal(folder: &std::path::Path) -> Vec<Records> {
    let chain = Chain::open(folder).unwrap();
    let mut journal = Journal::open(&chain, 0, Durability::Process).unwrap();
    let (mut states, mut state) = (vec![Records::new()], Records::new());
    for step in 0..9_u8 {
        if step == 3 {
            let point = journal.begin_base().unwrap();
            let all = state.iter().map(|(id, record)| Ok::<_, io::Error>((*id, record)));
            write_base(folder, point, all, Durability::Process).unwrap();
        }
        if step == 6 {
            journal.begin_base().unwrap();
        }
        let record = vec![step; 5 + usize::from(step) * 7];
        save(&mut journal, step % 4, &record);
        state.insert(id(step % 4), record);
        if step == 7 {
            let mut payload = Payload::default();
            payload.push(Entry::Delete { id: id(1) });
            journal.append(payload).unwrap();
            states.push(state.clone());
            state.remove(&id(1));
        }
        states.push(state.clone());
    }
    states
}

use std::io;

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_journal_tells_what_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let states = journal(folder.path());
    let (last, records) = records(&Chain::open(folder.path()).unwrap()).unwrap();
    assert_eq!((last, &records), (10, states.last().unwrap()));
    assert_eq!(files(folder.path()).len(), 3);
}

/// The last frame of all may be lost without a trace: whether it was promised, the database knows.
#[test]
fn one_changed_byte_anywhere_is_noticed_or_costs_the_last_frame_only() {
    let folder = tempfile::tempdir().unwrap();
    let states = journal(folder.path());
    for file in files(folder.path()) {
        let bytes = fs::read(&file).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            fs::write(&file, &changed).unwrap();
            let told = records(&Chain::open(folder.path()).unwrap());
            match told {
                Err(damage) => assert!(!damage.to_string().is_empty()),
                Ok((10, all)) => assert_eq!(&all, states.last().unwrap(), "{file:?} {at}"),
                Ok((9, all)) => {
                    assert_eq!(all, states[9], "{file:?} {at}");
                    assert!(file.ends_with("00000002-0000000000000007.log") || at > 0);
                }
                Ok((last, _)) => panic!("{last} frames after a change of {file:?} at {at}"),
            }
        }
        fs::write(&file, &bytes).unwrap();
    }
}

#[test]
fn a_file_that_is_missing_is_noticed_unless_it_is_the_last() {
    let folder = tempfile::tempdir().unwrap();
    journal(folder.path());
    let files = files(folder.path());
    for (index, file) in files.iter().enumerate() {
        let bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        let told = records(&Chain::open(folder.path()).unwrap());
        let is_last = index + 1 == files.len();
        assert_eq!(told.is_ok(), is_last, "{file:?}");
        fs::write(file, bytes).unwrap();
    }
}

#[test]
fn frames_of_a_file_that_a_later_one_replaced_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::open(folder.path()).unwrap();
    let mut journal = Journal::open(&chain, 0, Durability::PowerLoss).unwrap();
    save(&mut journal, 1, b"one");
    journal.failing_syncs = 2;
    let mut payload = Payload::default();
    payload.push(Entry::Save { id: id(2), record: b"never promised" });
    journal.append(payload).unwrap_err();
    assert_eq!(save(&mut journal, 3, b"two"), 2);
    drop(journal);
    let (last, records) = records(&Chain::open(folder.path()).unwrap()).unwrap();
    let expected = [(id(1), b"one".to_vec()), (id(3), b"two".to_vec())];
    assert_eq!((last, records), (2, expected.into()));
}

#[test]
fn a_base_that_is_not_finished_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::open(folder.path()).unwrap();
    let mut journal = Journal::open(&chain, 0, Durability::Process).unwrap();
    save(&mut journal, 1, b"one");
    let point = journal.begin_base().unwrap();
    let broken = [Ok((id(1), b"one")), Err(io::Error::other("planned"))];
    write_base(folder.path(), point, broken.into_iter(), Durability::Process).unwrap_err();
    save(&mut journal, 1, b"two");
    let (last, records) = records(&Chain::open(folder.path()).unwrap()).unwrap();
    assert_eq!((last, records), (2, [(id(1), b"two".to_vec())].into()));
}

proptest! {
    /// Cut anywhere and gone on with, as after a loss of power.
    #[test]
    fn a_journal_goes_on_behind_its_last_whole_frame(
        lengths in prop::collection::vec(0..300_usize, 1..12),
        cut in any::<prop::sample::Index>(),
        garbage in prop::collection::vec(any::<u8>(), 0..100),
        durability in prop::sample::select(vec![Durability::PowerLoss, Durability::Process]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let chain = Chain::open(folder.path()).unwrap();
        let mut journal = Journal::open(&chain, 0, Durability::Process).unwrap();
        for (number, length) in lengths.iter().enumerate() {
            let number = u8::try_from(number).unwrap();
            save(&mut journal, number, &vec![number; *length]);
        }
        drop(journal);
        let file = files(folder.path()).remove(0);
        let mut bytes = fs::read(&file).unwrap();
        bytes.truncate(cut.index(bytes.len() + 1));
        bytes.extend(garbage);
        fs::write(&file, bytes).unwrap();
        let chain = Chain::open(folder.path()).unwrap();
        let (last, mut before) = records(&chain).unwrap();
        prop_assert_eq!(last, u64::try_from(before.len()).unwrap());
        let mut journal = Journal::open(&chain, last, durability).unwrap();
        for number in [100, 101] {
            save(&mut journal, number, b"more");
            before.insert(id(number), b"more".to_vec());
        }
        let (end, after) = records(&Chain::open(folder.path()).unwrap()).unwrap();
        prop_assert_eq!((end, after), (last + 2, before));
    }
}
