//! All against `blake3::hash`, at every boundary of the groups and cut at any place.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const GROUP: usize = 1 << 20;

/// Longer than any length that is tried, with no two groups alike.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut pattern = vec![0; 9 * GROUP];
    blake3::Hasher::new().update(b"pattern").finalize_xof().fill(&mut pattern);
    pattern
});

const LENGTHS: [usize; 14] = [
    0,
    1,
    1024,
    GROUP - 1,
    GROUP,
    GROUP + 1,
    2 * GROUP - 1,
    2 * GROUP,
    2 * GROUP + 1,
    3 * GROUP,
    4 * GROUP,
    5 * GROUP + 7,
    7 * GROUP,
    8 * GROUP + 1,
];

fn values_of(bytes: &[u8]) -> Vec<ChainingValue> {
    let groups = (0_u64..).zip(bytes.chunks(GROUP));
    groups.map(|(index, group)| group_chaining_value(index, group).unwrap()).collect()
}

fn list_of(bytes: &[u8]) -> GroupList {
    let values = if bytes.len() <= GROUP { Vec::new() } else { values_of(bytes) };
    GroupList::new(bytes.len() as u64, values).unwrap()
}

/// What a process that starts again does: the saved frontier, and the last group read again.
fn resumed(frontier: &Frontier, bytes: &[u8]) -> Tree {
    let start = usize::try_from(resume_offset(bytes.len() as u64)).unwrap();
    Tree::resume(frontier.clone(), &bytes[start..])
}

#[test]
fn the_root_is_the_plain_hash_at_every_boundary() {
    for length in LENGTHS {
        let bytes = &PATTERN[..length];
        let mut tree = Tree::new();
        tree.update(bytes);
        assert_eq!(tree.root(), Blake3Digest::of(bytes), "{length}");
        assert_eq!(tree.length(), length as u64);
        let full_groups = length / GROUP;
        let completed = tree.take_completed();
        assert_eq!(completed.values, values_of(&bytes[..full_groups * GROUP]), "{length}");
        assert_eq!(tree.last_group(), values_of(bytes).last().copied(), "{length}");
    }
}

#[test]
fn the_list_of_all_groups_combines_to_the_root() {
    for length in LENGTHS {
        let bytes = &PATTERN[..length];
        let expected = (length > GROUP).then(|| Blake3Digest::of(bytes));
        assert_eq!(root_of(values_of(bytes)), expected, "{length}");
    }
}

#[test]
fn a_tree_resumes_from_the_list_of_the_groups_before_the_last() {
    for length in LENGTHS {
        let bytes = &PATTERN[..length];
        let before = resume_offset(length as u64) / GROUP_BYTES;
        let values = values_of(bytes);
        let frontier: Frontier =
            values.into_iter().take(usize::try_from(before).unwrap()).collect();
        let mut tree = resumed(&frontier, bytes);
        assert_eq!(tree.root(), Blake3Digest::of(bytes), "{length}");
        tree.update(&PATTERN[length..9 * GROUP]);
        assert_eq!(tree.root(), Blake3Digest::of(&PATTERN), "{length}");
    }
}

#[test]
fn a_group_that_was_full_is_completed_once_more_after_resuming() {
    let mut tree = Tree::new();
    tree.update(&PATTERN[..2 * GROUP]);
    let before = tree.take_completed();
    assert_eq!((before.first, before.values.len()), (0, 2));
    let after = resumed(tree.frontier(), &PATTERN[..2 * GROUP]).take_completed();
    assert_eq!((after.first, &after.values[..]), (1, &before.values[1..]));
}

#[test]
#[should_panic(expected = "the bytes of the last group are needed")]
fn a_tree_does_not_resume_without_the_last_group() {
    let _ = Tree::resume(values_of(&PATTERN[..GROUP]).into_iter().collect(), &[]);
}

#[test]
fn a_frontier_is_saved_and_read_again() {
    let frontier: Frontier = values_of(&PATTERN[..5 * GROUP]).into_iter().collect();
    assert_eq!(frontier.length(), 5 * GROUP_BYTES);
    let json = serde_json::to_string(&frontier).unwrap();
    assert_eq!(serde_json::from_str::<Frontier>(&json).unwrap(), frontier);
    let other_count = json.replace("\"groups\":5", "\"groups\":7");
    assert!(serde_json::from_str::<Frontier>(&other_count).is_err());
    let value = values_of(b"a")[0];
    let endless = serde_json::json!({ "groups": 1_u64 << 63, "subtrees": [value] });
    assert!(serde_json::from_value::<Frontier>(endless).is_err());
}

#[test]
fn only_the_right_bytes_at_the_right_place_are_a_group() {
    let bytes = &PATTERN[..2 * GROUP + 5];
    let values = values_of(bytes);
    assert!(verify_group(1, &bytes[GROUP..2 * GROUP], &values[1]));
    assert!(!verify_group(0, &bytes[GROUP..2 * GROUP], &values[1]));
    assert!(!verify_group(1, &bytes[GROUP..2 * GROUP - 1], &values[1]));
    assert!(!verify_group(1, &bytes[GROUP..2 * GROUP + 1], &values[1]));
    assert!(!verify_group(1, &[], &values[1]));
    assert!(!verify_group(u64::MAX, &bytes[..1], &values[1]));
    assert!(verify_group(2, &bytes[2 * GROUP..], &values[2]));
}

#[test]
fn a_checked_list_verifies_every_group_and_finds_a_wrong_bit() {
    for length in LENGTHS {
        let bytes = &PATTERN[..length];
        let root = Blake3Digest::of(bytes);
        let groups = list_of(bytes).check(root).unwrap();
        assert_eq!(groups.groups(), length.div_ceil(GROUP) as u64);
        for (index, group) in (0_u64..).zip(bytes.chunks(GROUP)) {
            assert_eq!(groups.group_range(index).unwrap().start, index * GROUP_BYTES);
            assert!(groups.verify(index, group), "group {index} of {length}");
            let mut wrong = group.to_vec();
            *wrong.last_mut().unwrap() ^= 0x10;
            assert!(!groups.verify(index, &wrong), "group {index} of {length}");
            assert!(!groups.verify(index, &group[1..]), "group {index} of {length}");
        }
        assert!(!groups.verify(groups.groups(), b"a") && !groups.verify(u64::MAX, b"a"));
    }
}

#[test]
fn a_list_of_another_representation_is_refused() {
    let other_root = Blake3Digest::of(b"other");
    for length in [0, GROUP + 1, 5 * GROUP] {
        let list = list_of(&PATTERN[..length]);
        assert_eq!(list.check(other_root), Err(GroupListError::WrongRoot), "{length}");
    }
    let single = list_of(&PATTERN[..9]).check(other_root).unwrap();
    assert!(!single.verify(0, &PATTERN[..9]), "one group is verified by the root itself");
}

#[test]
fn a_list_has_the_documented_bytes() {
    let one_group = list_of(&PATTERN[..258]).encode();
    assert_eq!(one_group, b"RSMDTREE\x01\x14\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0");
    let bytes = &PATTERN[..GROUP + 1];
    let two_groups = list_of(bytes).encode();
    assert_eq!(two_groups.len(), 24 + 64);
    assert_eq!(&two_groups[24..56], values_of(bytes)[0].as_bytes());
}

#[test]
fn a_damaged_list_is_refused() {
    let bytes = &PATTERN[..2 * GROUP + 1];
    let list = list_of(bytes);
    let good = list.encode();
    assert_eq!(GroupList::decode(&good), Ok(list));
    for end in 0..good.len() {
        assert!(GroupList::decode(&good[..end]).is_err(), "cut at {end}");
    }
    assert!(GroupList::decode(&[&good[..], b"\0"].concat()).is_err());
    assert!(GroupList::decode(&[&good[..], &[0; 32]].concat()).is_err());
    for place in 0..HEADER_BYTES {
        let mut wrong = good.clone();
        wrong[place] ^= 0x80;
        // A length with the same number of groups is all that passes; the last group tells.
        let Ok(list) = GroupList::decode(&wrong) else { continue };
        let groups = list.check(Blake3Digest::of(bytes)).unwrap();
        assert_eq!(groups.groups(), 3, "byte {place}");
        assert!(!groups.verify(2, &bytes[2 * GROUP..]), "byte {place}");
        let longer = &PATTERN[2 * GROUP..usize::try_from(groups.length()).unwrap()];
        assert!(!groups.verify(2, longer), "byte {place}");
    }
    let endless = [&list_header(u64::MAX)[..], &[0; 64]].concat();
    assert!(GroupList::decode(&endless).is_err());
    let too_long = GroupList::new(u64::MAX, Vec::new());
    assert_eq!(too_long, Err(GroupListError::TooLong { length: u64::MAX }));
}

#[test]
fn a_group_is_verified_in_whatever_pieces_it_comes() {
    for length in [1, GROUP, 2 * GROUP + 7] {
        let bytes = &PATTERN[..length];
        let groups = list_of(bytes).check(Blake3Digest::of(bytes)).unwrap();
        for (index, group) in (0_u64..).zip(bytes.chunks(GROUP)) {
            for piece in [1000, 16 << 10, GROUP] {
                let mut hasher = GroupHasher::new(index).unwrap();
                group.chunks(piece).for_each(|piece| hasher.update(piece));
                assert!(groups.verify_hashed(&hasher), "{length} {index}");
            }
            let last = group.len() - 1;
            let mut cut = GroupHasher::new(index).unwrap();
            cut.update(&group[..last]);
            assert!(!groups.verify_hashed(&cut));
            cut.update(&[!group[last]]);
            assert!(!groups.verify_hashed(&cut));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Appends of any length, and after each one nothing, a restart, or a rollback.
    #[test]
    fn cut_resumed_and_rolled_back_anywhere_the_root_is_the_plain_hash(
        appends in proptest::collection::vec((any::<Index>(), 0..3_u8), 1..12),
        length in prop_oneof![0..8 * GROUP, (0..8_usize).prop_map(|groups| groups * GROUP)],
    ) {
        let mut kept = Vec::new();
        let mut tree = Tree::new();
        let mut offset = 0;
        for (cut, then) in appends {
            let end = offset + cut.index(length - offset + 1);
            let checkpoint = tree.clone();
            tree.update(&PATTERN[offset..end]);
            if then == 1 {
                tree = checkpoint;
                continue;
            }
            offset = end;
            let completed = tree.take_completed();
            kept.truncate(usize::try_from(completed.first).unwrap());
            kept.extend(completed.values);
            if then == 2 {
                tree = resumed(tree.frontier(), &PATTERN[..offset]);
            }
            prop_assert_eq!(tree.length(), offset as u64);
            prop_assert_eq!(tree.root(), Blake3Digest::of(&PATTERN[..offset]));
        }
        prop_assert_eq!(kept, values_of(&PATTERN[..offset / GROUP * GROUP]));
    }

    /// In pieces as they come from a peer, and as a trickle.
    #[test]
    fn a_group_has_its_value_and_root_however_small_its_pieces_are(
        index in 0..3_u64,
        length in prop_oneof![1..9000_usize, (1..=1024_usize).prop_map(|chunks| chunks * 1024)],
        pieces in proptest::collection::vec(
            prop_oneof![1..70_usize, 1000..1050_usize, (1..70_usize).prop_map(|chunks| chunks * 1024)],
            1..60,
        ),
    ) {
        let start = usize::try_from(index).unwrap() * GROUP;
        let bytes = &PATTERN[start..start + length];
        let mut hasher = GroupHasher::new(index).unwrap();
        let mut rest = bytes;
        for piece in pieces.into_iter().chain([GROUP]) {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            hasher.update(now);
            rest = later;
            let so_far = &bytes[..length - rest.len()];
            prop_assert_eq!(hasher.length(), so_far.len() as u64);
            prop_assert_eq!(hasher.value(), group_chaining_value(index, so_far));
            if index == 0 {
                prop_assert_eq!(hasher.root(), Blake3Digest::of(so_far));
            }
        }
    }

    #[test]
    fn any_bytes_are_a_list_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(list) = GroupList::decode(&bytes) {
            prop_assert_eq!(list.encode(), bytes);
        }
    }
}

/// The vectors in the documentation, for those who write their own program for it.
#[test]
fn the_vectors_in_the_documentation_are_right() {
    let documented = include_str!("../../../docs/tree-format.md");
    let mut table = String::from("| length | root | list |\n|---|---|---|\n");
    let (one, other) = (GROUP as u64 + 1, 5 * GROUP as u64 + 12_345);
    for length in [0, 1, 1 << 20, one, 2 << 20, (2 << 20) + 1, other] {
        let bytes: Vec<u8> = (0..length).map(|k| u8::try_from(k % 251).unwrap()).collect();
        let list = list_of(&bytes);
        list.clone().check(Blake3Digest::of(&bytes)).unwrap();
        let encoded = list.encode();
        let shown = if list.values().len() <= 3 {
            let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("`{hex}`")
        } else {
            format!("{} bytes with the BLAKE3 `{}`", encoded.len(), Blake3Digest::of(&encoded))
        };
        table += &format!("| {length} | `{}` | {shown} |\n", Blake3Digest::of(&bytes));
    }
    assert!(documented.contains(&table), "docs/tree-format.md has to say:\n{table}");
}
