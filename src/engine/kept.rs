//! Digests that run on from one append of an upload to the next.
//!
//! A record keeps what is needed to take them up again, but not the bytes of the last group, up to
//! 1 MiB, which would be read and hashed again at every append. So those of the uploads that were
//! appended to last are kept in memory. The version of the record says whether they still are those of
//! its bytes.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::digests::Running;
use crate::protocol::id::UploadId;
use crate::storage::Version;

/// The uploads whose digests are kept: some 2 MiB together.
const MAX_UPLOADS: usize = 256;

/// The digests of the uploads that were appended to last.
#[derive(Default)]
pub(super) struct KeptDigests(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    of: HashMap<UploadId, (u64, Version, Running)>,
    /// Counts what was kept, so that the oldest is known.
    count: u64,
}

impl KeptDigests {
    /// Keeps what the record with this version says, until the next append asks for it.
    pub(super) fn keep(&self, id: UploadId, version: Version, running: Running) {
        let mut kept = self.0.lock();
        let count = kept.count.wrapping_add(1);
        kept.count = count;
        kept.of.insert(id, (count, version, running));
        if kept.of.len() > MAX_UPLOADS {
            let oldest = kept.of.iter().min_by_key(|(_, (count, ..))| *count).map(|(id, _)| *id);
            oldest.and_then(|id| kept.of.remove(&id));
        }
    }

    /// What was kept with the record of this version.
    pub(super) fn take(&self, id: UploadId, version: Version) -> Option<Running> {
        let (_, of, running) = self.0.lock().of.remove(&id)?;
        (of == version).then_some(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> UploadId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&u64::try_from(number).unwrap().to_le_bytes());
        UploadId::from_bytes(bytes)
    }

    #[test]
    fn what_is_kept_is_of_one_version_and_given_out_once() {
        let kept = KeptDigests::default();
        kept.keep(id(1), Version(1), Running::default());
        assert!(kept.take(id(1), Version(1)).is_some());
        assert!(kept.take(id(1), Version(1)).is_none());
        kept.keep(id(1), Version(1), Running::default());
        assert!(kept.take(id(1), Version(2)).is_none(), "the record says something else by now");
    }

    #[test]
    fn the_oldest_make_room() {
        let kept = KeptDigests::default();
        for number in 0..=MAX_UPLOADS {
            kept.keep(id(number), Version(1), Running::default());
        }
        assert!(kept.take(id(0), Version(1)).is_none());
        assert!(kept.take(id(1), Version(1)).is_some());
        assert!(kept.take(id(MAX_UPLOADS), Version(1)).is_some());
    }
}
