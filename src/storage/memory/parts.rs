//! The parts of a concatenation in memory.

use std::ops::Range;

use bytes::Bytes;

use super::Machine;
use super::data::count;
use crate::protocol::id::UploadId;
use crate::storage::Failure;

impl Machine {
    /// Takes hold of what is durable of the parts; a link is to the same bytes.
    pub(super) fn adopt(
        &mut self,
        id: UploadId,
        parts: &[(UploadId, u64)],
    ) -> Result<(), (UploadId, Failure)> {
        let take = |&(part, length): &(UploadId, u64)| {
            self.bytes(part, 0..length).map_err(|failure| (part, failure))
        };
        let adopted = parts.iter().map(take).collect::<Result<_, _>>()?;
        self.parts.insert(id, adopted);
        Ok(())
    }

    pub(super) fn join(&mut self, id: UploadId, lengths: &[u64]) -> Result<(), Failure> {
        let Some(parts) = self.parts.get(&id).cloned() else {
            let live = self.files.get(&id).and_then(|file| file.live());
            let total = lengths.iter().copied().fold(0, u64::saturating_add);
            return if live.map(count) == Some(total) { Ok(()) } else { Err(Failure::Missing) };
        };
        let file = self.files.entry(id).or_default();
        file.cut(0)?;
        for part in &parts {
            if self.room < count(part) {
                return Err(super::Fault::Full.failure());
            }
            self.room = self.room.saturating_sub(count(part));
            file.append(part);
        }
        file.sync();
        Ok(())
    }

    /// Bytes of an upload that lies in parts, or does so no longer.
    pub(super) fn bytes_of_parts(&self, id: UploadId, range: Range<u64>) -> Result<Bytes, Failure> {
        let Some(parts) = self.parts.get(&id) else { return self.bytes(id, range) };
        let whole = parts.concat();
        let position = |at: u64| usize::try_from(at).map_err(|_| Failure::Missing);
        let (start, end) = (position(range.start)?, position(range.end)?);
        whole.get(start..end).map(Bytes::copy_from_slice).ok_or(Failure::Missing)
    }
}
