//! The lists beside the bytes of uploads in memory. Nobody syncs those of trees, so a loss of power
//! may take them or damage them.

use std::ops::Range;

use bytes::Bytes;

use super::Machine;
use super::disk::Random;
use crate::protocol::id::UploadId;
use crate::storage::{Failure, List};

impl Machine {
    pub(super) fn write_list(
        &mut self,
        id: UploadId,
        list: List,
        pieces: &[(u64, Vec<u8>)],
        end: Option<u64>,
    ) -> Result<(), Failure> {
        let position = |at: u64| usize::try_from(at).map_err(|_| Failure::Missing);
        let kept = self.lists.entry((id, list)).or_default();
        for (offset, bytes) in pieces {
            let start = position(*offset)?;
            let stop = start.saturating_add(bytes.len());
            if kept.len() < stop {
                kept.resize(stop, 0);
            }
            if let Some(place) = kept.get_mut(start..stop) {
                place.copy_from_slice(bytes);
            }
        }
        if let Some(end) = end {
            kept.resize(position(end)?, 0);
        }
        Ok(())
    }

    pub(super) fn read_list(
        &self,
        id: UploadId,
        list: List,
        range: Range<u64>,
    ) -> Result<Bytes, Failure> {
        let kept = self.lists.get(&(id, list)).map(Vec::as_slice).unwrap_or_default();
        let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(kept.len());
        let (start, end) = (position(range.start), position(range.end));
        Ok(Bytes::copy_from_slice(kept.get(start..end).unwrap_or_default()))
    }
}

/// What the loss of power does to a list; whether it is still there.
pub(super) fn crash(list: &mut Vec<u8>, random: &mut Random) -> bool {
    if random.coin() {
        list.truncate(list.len() / 2);
    }
    if random.coin() {
        list.fill(0);
    }
    random.coin()
}
