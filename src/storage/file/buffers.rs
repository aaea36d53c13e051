//! Memory for bytes on their way out. It is used again: fresh memory costs a page fault for each
//! 4 KiB, which is more than reading them from the page cache.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// The size of one buffer in bytes. Pieces of 4 KiB are 11 to 18 times slower; beyond 256 KiB
/// little is gained.
pub(super) const BUFFER_BYTES: usize = 256 << 10;
/// The buffers that are kept while nobody uses them, 4 MiB together.
const MAX_FREE: usize = 16;

/// Buffers that nobody uses.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Box<[u8]>>>);

impl Buffers {
    /// A buffer for so many bytes, [`BUFFER_BYTES`] at most.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let length = length.min(BUFFER_BYTES);
        // A small one is no burden to the allocator, and a large one for it would be waste.
        if length <= BUFFER_BYTES / 4 {
            return Buffer { bytes: vec![0; length].into(), length, home: None };
        }
        let kept = self.0.lock().pop();
        let bytes = kept.unwrap_or_else(|| vec![0; BUFFER_BYTES].into());
        Buffer { bytes, length, home: Some(Arc::clone(self)) }
    }
}

/// Memory for bytes that are read; back where it came from when the last of them is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
    home: Option<Arc<Buffers>>,
}

impl Buffer {
    /// Fills it from the offset on, if that takes no wait for the disk; whether it did.
    pub(super) fn fill_from_cache(&mut self, file: &File, offset: u64) -> bool {
        let length = self.length;
        let mut slices = [IoSliceMut::new(self.space())];
        // What keeps it from being so is told by the read that waits.
        preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT) == Ok(length)
    }

    /// Fills it from the offset on. Blocks.
    pub(super) fn fill(&mut self, file: &File, offset: u64) -> io::Result<()> {
        let (mut at, mut space) = (offset, self.space());
        while !space.is_empty() {
            match rustix::io::pread(file, &mut *space, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    at = at.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
                    space = space.get_mut(read..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn space(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).unwrap_or_default()
    }

    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(home) = &self.home else { return };
        let mut free = home.0.lock();
        if free.len() < MAX_FREE {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn memory_is_used_again_once_the_last_of_its_bytes_is_dropped() {
        let buffers = Arc::new(Buffers::default());
        let bytes = buffers.take(BUFFER_BYTES).into_bytes();
        let (at, rest) = (bytes.as_ptr(), bytes.slice(1..2));
        drop(bytes);
        assert_ne!(buffers.take(BUFFER_BYTES).as_ref().as_ptr(), at);
        drop(rest);
        let again: Vec<_> = (0..2).map(|_| buffers.take(BUFFER_BYTES)).collect();
        assert!(again.iter().any(|buffer| buffer.as_ref().as_ptr() == at));
    }

    #[test]
    fn only_so_much_memory_is_kept() {
        let buffers = Arc::new(Buffers::default());
        drop((0..3 * MAX_FREE).map(|_| buffers.take(BUFFER_BYTES)).collect::<Vec<_>>());
        drop(buffers.take(100));
        assert_eq!(buffers.0.lock().len(), MAX_FREE);
    }

    #[test]
    fn a_buffer_has_what_was_read_into_it_and_no_more() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        let buffers = Arc::new(Buffers::default());
        drop(buffers.take(BUFFER_BYTES));
        let mut buffer = buffers.take(99_999);
        buffer.fill(&file, 1).unwrap();
        assert_eq!(buffer.into_bytes(), vec![7; 99_999]);
        let mut beyond = buffers.take(99_999);
        assert!(!beyond.fill_from_cache(&file, 2));
        assert_eq!(beyond.fill(&file, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
