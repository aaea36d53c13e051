//! The SHA-256 of each group of 1 MiB of a representation: the pieces of a Metalink file.
//!
//! As with the tree, a group stays open until a byte after it comes, so that whoever resumes reads
//! the bytes of the last group again and is told its value once more.
//!
//! - RFC 5854 §4.2.12: the last piece may be shorter

use sha2::{Digest as _, Sha256};

use super::tree::GROUP_BYTES;

/// The length of one value in bytes.
pub const PIECE_VALUE_BYTES: u64 = 32;

/// The pieces over the bytes so far.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// The groups before the open one.
    groups: u64,
    open: Sha256,
    open_bytes: u64,
    /// The group that the first of the values that were not taken yet belongs to.
    first: u64,
    completed: Vec<u8>,
}

impl Pieces {
    /// The pieces of the full groups before the last one, and the bytes of that.
    pub fn resume(groups: u64, open_group: &[u8]) -> Self {
        let mut pieces = Self { groups, first: groups, ..Self::default() };
        pieces.update(open_group);
        pieces
    }

    /// The number of bytes so far.
    pub fn length(&self) -> u64 {
        self.groups.saturating_mul(GROUP_BYTES).saturating_add(self.open_bytes)
    }

    /// Takes the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.open_bytes == GROUP_BYTES {
                self.groups = self.groups.saturating_add(1);
                self.open = Sha256::new();
                self.open_bytes = 0;
            }
            let room = GROUP_BYTES.saturating_sub(self.open_bytes);
            let taken = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
            let (now, later) = rest.split_at(taken);
            self.open.update(now);
            let added = u64::try_from(taken).unwrap_or(u64::MAX);
            self.open_bytes = self.open_bytes.saturating_add(added);
            if self.open_bytes == GROUP_BYTES {
                self.completed.extend(self.open.clone().finalize());
            }
            rest = later;
        }
    }

    /// The values of the groups that became full since the last call, one after another, and the
    /// number of the first of them.
    #[must_use]
    pub fn take_completed(&mut self) -> (u64, Vec<u8>) {
        let next = self.length() / GROUP_BYTES;
        (std::mem::replace(&mut self.first, next), std::mem::take(&mut self.completed))
    }

    /// The value of the last group, as if no byte followed, and its number; `None` without bytes.
    pub fn last(&self) -> Option<(u64, [u8; 32])> {
        (self.open_bytes > 0).then(|| (self.groups, self.open.clone().finalize().into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GROUP: usize = 1 << 20;

    fn values_of(bytes: &[u8]) -> Vec<u8> {
        bytes.chunks(GROUP).flat_map(Sha256::digest).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn pieces_cut_and_resumed_anywhere_are_those_of_the_whole(
            length in prop_oneof![GROUP - 1..GROUP + 2, 1..3 * GROUP],
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let bytes: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2]).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(length)).collect();
            cuts.push(length);
            cuts.sort_unstable();
            let mut kept = vec![0; length.div_ceil(GROUP) * 32];
            let mut pieces = Pieces::default();
            let mut start = 0;
            for end in cuts {
                pieces.update(&bytes[start..end]);
                start = end;
                let (first, values) = pieces.take_completed();
                let at = usize::try_from(first).unwrap() * 32;
                kept[at..at + values.len()].copy_from_slice(&values);
                let group = end.saturating_sub(1) / GROUP;
                pieces = Pieces::resume(group as u64, &bytes[group * GROUP..end]);
                prop_assert_eq!(pieces.length(), end as u64);
            }
            let (last, value) = pieces.last().unwrap();
            let at = usize::try_from(last).unwrap() * 32;
            kept[at..].copy_from_slice(&value);
            prop_assert_eq!(kept, values_of(&bytes));
        }
    }
}
