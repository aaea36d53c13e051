//! Preallocation: blocks for what comes, taken in few large steps.
//!
//! A write into blocks that the file has costs ext4 less than one for which it has to remember, page
//! by page, that some are to be found. (1 GiB in one PATCH, medians of 14 turns, before and after: 1618
//! and 1926 MB/s, 0.63 and 0.47 s of processor time a GB; in the default mode 998 and 1186, 1.03 and
//! 0.88. All that the machine did until the disk had it: 1.02 and 0.97, 1.38 and 1.18.)
//!
//! Blocks beyond the end of a file are of no use to anybody else. So they are taken only for content
//! that is long and comes fast, and given back when it ends before they do, comes slowly or stalls. After
//! a crash, a failed write or a failed sync they stay until the upload goes on or goes away.
//!
//! A kernel with `CONFIG_EXT4_DEBUG` logs "extent logical block … IO logical block …" when part of them is
//! written. That tells of a split, and of nothing wrong.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{FallocateFlags, FsWord, fallocate, statfs};
use rustix::io::Errno;

use super::Shared;

/// What is taken at once: what ext4 takes itself for a long file that grows. (Eight uploads of 64 MiB at
/// once lie in 6 to 8 extents each, in place of 8 to 10.)
const STEP_BYTES: u64 = 8 << 20;
/// What is worth a call. (Uploads and PATCHes of up to 512 KiB gain nothing.)
const WORTH_BYTES: u64 = 1 << 20;
/// What is written at once when the peer is fast.
const FAST_BYTES: u64 = 128 << 10;
/// No file gets any when the disk has less: ext4 may need another block when it marks them as written, and
/// a write-back that fails for want of it is told to nobody unless somebody syncs.
const PLENTY_BYTES: u64 = 256 << 20;
/// Nor when more files are open for writing. (Well below where those are closed behind each write, or
/// the same blocks would be taken and given back all the time.)
const MOST_OPEN: usize = 128;
/// What a file has more than its bytes without any beyond its end: the rest of its last block, and where
/// they all are.
const SLACK_BYTES: u64 = 64 << 10;
/// Linux: `EXT4_SUPER_MAGIC` in `linux/magic.h`, that of ext2 and ext3 as well.
const EXT4_MAGIC: FsWord = 0xef53;

/// Whether that is of use in this folder. tmpfs would clear each page; others were not measured.
pub(super) fn is_of_use(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|found| found.f_type == EXT4_MAGIC)
}

/// The blocks of one file that were taken in advance.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Where the content ends, if all of it comes.
    expected: u64,
    /// Where they end.
    end: u64,
}

impl Blocks {
    /// Content is to come that ends here.
    pub(super) fn expect(&mut self, end: u64, shared: &Shared) {
        if shared.preallocates.load(Ordering::Relaxed) {
            self.expected = end;
        }
    }

    /// Takes room for these bytes, which are written next, and blocks for some more where that is
    /// worth it. Blocks.
    pub(super) fn take_room(
        &mut self,
        shared: &Shared,
        file: &File,
        bytes: &Range<u64>,
    ) -> io::Result<()> {
        let lacking = self.lacking(bytes);
        if lacking == 0 {
            return Ok(());
        }
        let left = shared.take_room(lacking)?;
        let Some(step) = self.step(bytes).filter(|_| may_take(shared, left)) else {
            return Ok(());
        };
        let more = count(&step).saturating_sub(lacking);
        if shared.take_room(more).is_err() {
            return Ok(());
        }
        match fallocate(file, FallocateFlags::KEEP_SIZE, step.start, count(&step)) {
            Ok(()) => self.end = step.end,
            Err(errno) => {
                // If there is something wrong with the disk, the write will tell.
                self.expected = 0;
                if matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS) {
                    shared.preallocates.store(false, Ordering::Relaxed);
                } else {
                    // Some may have been taken.
                    let _ = self.give_back(shared, file, bytes.start);
                }
            }
        }
        Ok(())
    }

    /// Whether an append that did not end well left some behind the end of this file.
    pub(super) fn are_left(found: &Metadata, shared: &Shared) -> bool {
        let taken = found.blocks().saturating_mul(512);
        shared.preallocates.load(Ordering::Relaxed)
            && taken > found.len().saturating_add(SLACK_BYTES)
    }

    /// Whether some lie behind this end of the file.
    pub(super) fn are_beyond(&self, end: u64) -> bool {
        self.end > end
    }

    /// Gives back what lies behind this end of the file.
    pub(super) fn give_back(&mut self, shared: &Shared, file: &File, end: u64) -> io::Result<()> {
        self.end = end;
        let given = file.set_len(end);
        // It is to be seen at once.
        *shared.room.lock() = None;
        given
    }

    /// How many of these bytes have none yet.
    fn lacking(&self, bytes: &Range<u64>) -> u64 {
        count(&(bytes.start.max(self.end)..bytes.end))
    }

    /// What is worth taking before these bytes are written, some of which have none yet.
    fn step(&self, bytes: &Range<u64>) -> Option<Range<u64>> {
        let end = bytes.end.saturating_add(STEP_BYTES).min(self.expected);
        let step = bytes.start.max(self.end)..end;
        let is_worth_it = are_fast(count(bytes)) && count(&step) >= WORTH_BYTES;
        (is_worth_it && bytes.end <= end).then_some(step)
    }
}

/// Whether a peer is fast of which so many bytes came together.
pub(super) fn are_fast(bytes: u64) -> bool {
    bytes >= FAST_BYTES
}

/// Whether a file may get some when so much room is left.
fn may_take(shared: &Shared, left: u64) -> bool {
    left >= PLENTY_BYTES && shared.writers.load(Ordering::Relaxed) <= MOST_OPEN
}

fn count(bytes: &Range<u64>) -> u64 {
    bytes.end.saturating_sub(bytes.start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_step_has_what_is_lacking_and_ends_where_the_content_does(
            start in 0..64_u64 << 20,
            bytes in 0..1_u64 << 20,
            end in 0..64_u64 << 20,
            expected in 0..96_u64 << 20,
        ) {
            let next = start..start + bytes;
            let end = end.min(next.end);
            let blocks = Blocks { expected, end };
            let first = start.max(end);
            prop_assert_eq!(blocks.lacking(&next), next.end - first);
            let Some(step) = blocks.step(&next) else {
                let is_short = expected < first + WORTH_BYTES || expected < next.end;
                prop_assert!(bytes < FAST_BYTES || is_short);
                return Ok(());
            };
            prop_assert!(bytes >= FAST_BYTES && count(&step) >= WORTH_BYTES);
            prop_assert_eq!(step, first..expected.min(next.end + STEP_BYTES));
        }
    }
}
