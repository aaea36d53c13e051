//! What the database has of a record: all of a short one under its key, a long one in pieces.
//!
//! ```text
//! 'u' id(16)          → a short record (codec), or 0 length(8, BE) blake3(32) of a long one
//! 'x' id(16) n(4, BE) → piece n of a long one
//! ```
//!
//! sled splits pages by the number of their entries, and cannot bound the memory of large ones (of
//! one of more than 128 KiB it counts some tens of bytes). So no entry is long. The digest tells
//! pieces that belong together from those that a save, or damage, has put there meanwhile.

use sled::IVec;

use super::index::{each, guarded, record_key};
use super::recover::REMEDY;
use crate::protocol::id::UploadId;
use crate::storage::Failure;

const PIECE: u8 = b'x';
/// The bytes of a piece; also of the longest record that stands there as it is.
const PIECE_BYTES: usize = 1024;
/// What the head of a long record begins with. A record is JSON, which does not begin so.
const LONG: u8 = 0;

/// What stands in the place of a long record.
struct Head {
    length: u64,
    blake3: [u8; 32],
}

impl Head {
    fn of(record: &[u8]) -> Self {
        let length = u64::try_from(record.len()).unwrap_or(u64::MAX);
        Self { length, blake3: *blake3::hash(record).as_bytes() }
    }

    /// `None` for what stands there as it is: a record, as long as it may be in an older database.
    fn read(entry: &[u8]) -> Option<Self> {
        let (length, blake3) = entry.strip_prefix(&[LONG])?.split_first_chunk()?;
        Some(Self { length: u64::from_be_bytes(*length), blake3: blake3.try_into().ok()? })
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&[LONG][..], &self.length.to_be_bytes(), &self.blake3].concat()
    }
}

/// The record of an upload, in the form of the codec.
pub(super) fn get(tree: &sled::Tree, id: UploadId) -> Result<Option<IVec>, Failure> {
    let entry = entry(tree, id)?;
    entry.map_or(Ok(None), |entry| whole(tree, id, entry))
}

/// The record that has this entry; or a later one, if it was saved or removed meanwhile.
///
/// # Errors
///
/// [`Failure::Damaged`] when its pieces are not those of the entry; what sled tells.
pub(super) fn whole(
    tree: &sled::Tree,
    id: UploadId,
    mut found: IVec,
) -> Result<Option<IVec>, Failure> {
    while let Some(head) = Head::read(&found) {
        let record = put_together(tree, id, &head)?;
        if blake3::hash(&record) == head.blake3 {
            return Ok(Some(record.into()));
        }
        match entry(tree, id)? {
            None => return Ok(None),
            // Nobody saved it meanwhile: no two saves of a record are equal.
            Some(now) if now == found => {
                let why = "the pieces of its record do not belong together";
                return Err(Failure::Damaged(format!("{why}; {REMEDY}")));
            }
            Some(now) => found = now,
        }
    }
    Ok(Some(found))
}

fn entry(tree: &sled::Tree, id: UploadId) -> Result<Option<IVec>, Failure> {
    guarded(|| tree.get(record_key(id)))
}

fn put_together(tree: &sled::Tree, id: UploadId, head: &Head) -> Result<Vec<u8>, Failure> {
    let length = usize::try_from(head.length).unwrap_or(usize::MAX);
    let mut record = Vec::new();
    let mut pieces = each(tree.range(piece_key(id, 0)..=piece_key(id, u32::MAX)));
    while record.len() < length
        && let Some(piece) = pieces.next()
    {
        record.extend_from_slice(&piece?.1);
    }
    Ok(record)
}

/// Puts a record, or nothing, in the place of what the database has, and returns how many entries that
/// changes. It has nothing of one that is new, and need not be asked.
pub(super) fn set(
    tree: &sled::Tree,
    batch: &mut sled::Batch,
    id: UploadId,
    record: Option<IVec>,
    is_new: bool,
) -> Result<usize, Failure> {
    let was_long = !is_new && entry(tree, id)?.is_some_and(|before| Head::read(&before).is_some());
    let key = record_key(id);
    let key = key.as_slice();
    let (mut count, mut changed) = (0, 1_usize);
    match record {
        None => batch.remove(key),
        Some(record) if record.len() <= PIECE_BYTES => batch.insert(key, record),
        Some(record) => {
            batch.insert(key, Head::of(&record).to_bytes());
            for piece in record.chunks(PIECE_BYTES) {
                batch.insert(&piece_key(id, count), piece);
                count = count.saturating_add(1);
                changed = changed.saturating_add(1);
            }
        }
    }
    if was_long {
        for surplus in each(tree.range(piece_key(id, count)..=piece_key(id, u32::MAX))) {
            batch.remove(surplus?.0);
            changed = changed.saturating_add(1);
        }
    }
    Ok(changed)
}

fn piece_key(id: UploadId, number: u32) -> [u8; 21] {
    let mut key = [PIECE; 21];
    key[1..17].copy_from_slice(&id.to_bytes());
    key[17..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> UploadId {
        UploadId::from_bytes([number; 16])
    }

    /// What is put there at once; how many entries that changes.
    fn set_all(tree: &sled::Tree, records: &[(u8, Option<Vec<u8>>)]) -> usize {
        let (mut batch, mut changed) = (sled::Batch::default(), 0);
        for (number, record) in records {
            let record = record.as_deref().map(IVec::from);
            changed += set(tree, &mut batch, id(*number), record, false).unwrap();
        }
        tree.apply_batch(batch).unwrap();
        changed
    }

    fn read(tree: &sled::Tree, number: u8) -> Option<Vec<u8>> {
        get(tree, id(number)).unwrap().map(|record| record.to_vec())
    }

    fn temporary() -> sled::Db {
        sled::Config::new().temporary(true).open().unwrap()
    }

    /// A record of some length; it does not begin with 0, and no two of its pieces are equal.
    fn record(length: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes.iter_mut().take(1).for_each(|byte| *byte = b'{');
        bytes
    }

    fn lengths() -> impl Strategy<Value = usize> {
        let near = |pieces: usize| pieces * PIECE_BYTES - 2..=pieces * PIECE_BYTES + 2;
        prop_oneof![1..600_usize, near(1), near(2), near(17), 1..40_000_usize]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_was_set_last_is_found_in_short_entries_and_nothing_else(
            saves in prop::collection::vec(
                (0..4_u8, proptest::option::weighted(0.8, (lengths(), any::<u8>()))), 1..40,
            ),
        ) {
            let tree = temporary();
            let mut model = BTreeMap::new();
            for (number, saved) in saves {
                let saved = saved.map(|(length, seed)| record(length, seed));
                let pieces = |record: &Vec<u8>| match record.len() {
                    0..=PIECE_BYTES => 1,
                    length => 1 + length.div_ceil(PIECE_BYTES),
                };
                let before = model.get(&number).and_then(Option::as_ref).map_or(1, pieces);
                let after = saved.as_ref().map_or(1, pieces);
                prop_assert_eq!(set_all(&tree, &[(number, saved.clone())]), before.max(after));
                model.insert(number, saved);
                for number in 0..4 {
                    prop_assert_eq!(&read(&tree, number), model.get(&number).unwrap_or(&None));
                }
                let entries: usize = model.values().flatten().map(pieces).sum();
                prop_assert_eq!(tree.len(), entries);
                let mut found = tree.iter().values();
                prop_assert!(found.all(|value| value.unwrap().len() <= PIECE_BYTES));
            }
        }
    }

    #[test]
    fn a_long_record_of_an_older_database_is_read_and_replaced() {
        let tree = temporary();
        tree.insert(record_key(id(1)), record(20_000, 1)).unwrap();
        assert_eq!(read(&tree, 1), Some(record(20_000, 1)));
        set_all(&tree, &[(1, Some(record(20_000, 2)))]);
        assert_eq!(read(&tree, 1), Some(record(20_000, 2)));
        tree.insert(record_key(id(2)), record(20_000, 1)).unwrap();
        set_all(&tree, &[(1, None), (2, None)]);
        assert!(tree.is_empty());
    }

    #[test]
    fn pieces_that_do_not_belong_together_are_damage() {
        let tree = temporary();
        for number in 0..=3 {
            let whole = record(3 * PIECE_BYTES + 9, 1);
            set_all(&tree, &[(0, Some(whole.clone())), (1, Some(record(9_000, 1)))]);
            let piece = tree.get(piece_key(id(0), number)).unwrap().unwrap();
            let other = record(piece.len(), 7);
            for changed in [None, Some(other.as_slice()), Some(&piece[1..])] {
                match changed {
                    Some(changed) => tree.insert(piece_key(id(0), number), changed).unwrap(),
                    None => tree.remove(piece_key(id(0), number)).unwrap(),
                };
                assert!(matches!(get(&tree, id(0)), Err(Failure::Damaged(_))), "{number}");
                tree.insert(piece_key(id(0), number), &piece).unwrap();
                assert_eq!(read(&tree, 0), Some(whole.clone()));
            }
            assert_eq!(read(&tree, 1), Some(record(9_000, 1)));
        }
    }

    #[test]
    fn a_head_that_is_none_is_told_as_it_is() {
        let tree = temporary();
        tree.insert(record_key(id(1)), &[LONG, 1, 2]).unwrap();
        // The codec refuses that.
        assert_eq!(read(&tree, 1), Some(vec![LONG, 1, 2]));
        set_all(&tree, &[(1, Some(record(5_000, 1)))]);
        assert_eq!(read(&tree, 1), Some(record(5_000, 1)));
    }

    #[test]
    fn a_record_that_is_saved_while_it_is_read_is_told_as_it_was_at_some_time() {
        const LENGTHS: [usize; 5] = [9_000, 30_000, 200, 5_000, 0];
        let version = |number: u32| {
            let length = LENGTHS[number as usize % LENGTHS.len()];
            let mut record = record(length, 1);
            record.last_chunk_mut().map(|place| *place = number.to_be_bytes())?;
            Some(record)
        };
        let tree = temporary();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in 0..3_000 {
                    set_all(&tree, &[(1, version(number))]);
                }
            });
            let (mut reads, mut newest) = (0, 0);
            while !writer.is_finished() {
                let Some(read) = read(&tree, 1) else { continue };
                let number = u32::from_be_bytes(*read.last_chunk().unwrap());
                assert!(number >= newest && version(number) == Some(read), "{number}");
                (reads, newest) = (reads + 1, number);
            }
            assert!(reads > 10, "{reads}");
        });
    }
}
