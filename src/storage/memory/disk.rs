//! A simulated disk: what was not synced may be there, torn, or gone after the loss of power.

use crate::storage::Failure;

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        let number = self.next().checked_rem(bound).unwrap_or_default();
        usize::try_from(number).unwrap_or_default()
    }

    pub(super) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// One file as a running program sees it, and as the disk would show it after the loss of power.
#[derive(Debug, Default)]
pub(super) struct DiskFile {
    live: Option<Vec<u8>>,
    synced: Option<Vec<u8>>,
    /// The bytes at the beginning that are the same in both.
    same: usize,
}

impl DiskFile {
    /// The bytes that a running program sees; `None` when there is no file.
    pub(super) fn live(&self) -> Option<&[u8]> {
        self.live.as_deref()
    }

    /// Cuts off what lies behind `offset`; makes the file when that is 0.
    pub(super) fn cut(&mut self, offset: usize) -> Result<(), Failure> {
        if self.live.is_none() && offset == 0 {
            self.live = Some(Vec::new());
            self.same = 0;
        }
        match &mut self.live {
            Some(live) if live.len() >= offset => live.truncate(offset),
            Some(_) | None => return Err(Failure::Missing),
        }
        self.same = self.same.min(offset);
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.live.get_or_insert_default().extend_from_slice(bytes);
    }

    pub(super) fn sync(&mut self) {
        let Some(live) = &self.live else { return };
        let synced = self.synced.get_or_insert_default();
        synced.truncate(self.same);
        synced.extend_from_slice(live.get(self.same..).unwrap_or_default());
        self.same = synced.len();
    }

    /// Removes the file. Nobody syncs that, so it may be there again after the loss of power.
    pub(super) fn remove(&mut self) {
        self.live = None;
        self.same = 0;
    }

    /// The power fails: each part of what was not synced is there, is as it was before, or is
    /// zeros or garbage, and the file's end is anywhere between.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let left = match (self.live.take(), self.synced.take()) {
            (None, synced) => synced.filter(|_| random.coin()),
            (Some(live), None) => Some(torn(&live, &[], 0, random)).filter(|_| random.coin()),
            (Some(live), Some(synced)) => Some(torn(&live, &synced, self.same, random)),
        };
        self.same = left.as_ref().map_or(0, Vec::len);
        self.live.clone_from(&left);
        self.synced = left;
    }
}

fn torn(live: &[u8], synced: &[u8], same: usize, random: &mut Random) -> Vec<u8> {
    let longest = live.len().max(synced.len());
    let end = match random.below(3) {
        0 => live.len(),
        1 => synced.len(),
        _ => same.saturating_add(random.below(longest.saturating_sub(same).saturating_add(1))),
    };
    let mut bytes = live.get(..same).unwrap_or_default().to_vec();
    while bytes.len() < end {
        let block = random.below(longest / 2).saturating_add(1);
        let block_end = bytes.len().saturating_add(block).min(end);
        let source = random.below(4);
        for at in bytes.len()..block_end {
            let byte = match source {
                0 => live.get(at).copied(),
                1 => synced.get(at).copied(),
                2 => None,
                _ => u8::try_from(random.below(256)).ok(),
            };
            bytes.push(byte.unwrap_or_default());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_the_rest_may_be_torn() {
        let mut ends = Vec::new();
        for seed in 0..200 {
            let mut file = DiskFile::default();
            file.cut(0).unwrap();
            file.append(b"promised");
            file.sync();
            file.append(b" and scratch");
            file.crash(&mut Random(seed));
            let left = file.live().unwrap();
            assert!(left.starts_with(b"promised"), "seed {seed}: {left:?}");
            ends.push(left[8..].to_vec());
        }
        assert!(ends.iter().any(|end| end.is_empty()));
        assert!(ends.iter().any(|end| end == b" and scratch"));
        assert!(ends.iter().any(|end| !b" and scratch".starts_with(end)));
    }

    #[test]
    fn bytes_written_over_a_cut_are_old_or_new_or_torn_until_they_are_synced() {
        let mut seen = Vec::new();
        for seed in 0..200 {
            let mut file = DiskFile::default();
            file.cut(0).unwrap();
            file.append(b"ab");
            file.sync();
            file.cut(1).unwrap();
            file.append(b"c");
            file.crash(&mut Random(seed));
            seen.push(file.live().unwrap().to_vec());
        }
        assert!(seen.iter().all(|left| left.starts_with(b"a")));
        assert!(seen.contains(&b"ab".to_vec()) && seen.contains(&b"ac".to_vec()));
    }

    #[test]
    fn a_removed_file_may_come_back_and_a_new_one_may_not() {
        let (mut came_back, mut was_lost) = (0, 0);
        for seed in 0..100 {
            let mut file = DiskFile::default();
            file.cut(0).unwrap();
            file.append(b"x");
            file.sync();
            file.remove();
            file.crash(&mut Random(seed));
            came_back += u32::from(file.live().is_some());
            let mut file = DiskFile::default();
            file.cut(0).unwrap();
            file.crash(&mut Random(seed));
            was_lost += u32::from(file.live().is_none());
        }
        assert!((1..100).contains(&came_back) && (1..100).contains(&was_lost));
    }
}
