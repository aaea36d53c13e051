//! Writes pieces of memory one after the other to a place in a file, kept in the page cache or not.
//!
//! Who writes a long file finds all of it in the page cache behind it, in place of what others
//! need: and memory has to be found for it, and its bytes stay there until a sync finds them. A
//! write that is not kept (`RWF_DONTCACHE`) begins on its way to the disk at once, and its memory
//! is free when it is there. (1 GiB on ext4 in pieces of 1 MiB, and a data sync: 0.4 to 0.5 s and
//! 0.2 s of processor time in place of 1.3 to 3.2 and 0.9 to 2.9, in a virtual machine whose memory
//! is given out late.)

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::OnceLock;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, pwritev, pwritev2};

/// The pieces that one system call takes (Linux: `IOV_MAX`).
const MAX_SLICES: usize = 1024;
/// Linux: `RWF_DONTCACHE` in `linux/fs.h`.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// The first kernel that it is asked of. 6.14 was the first to have it, and 6.15 switched it off
/// again: it used memory that had been given back.
const LEAST_KERNEL: (u32, u32) = (6, 16);

/// What becomes of the bytes in the page cache, once they are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cached {
    /// They stay, as long as there is room.
    Kept,
    /// They go, if the system and the file system can do that.
    Dropped,
}

/// Writes all pieces, in order, from `offset` on, and tells what becomes of them. Blocks.
///
/// # Errors
///
/// What the system said; some may have been written then.
pub(crate) fn write_all_at(
    file: &File,
    pieces: &[Bytes],
    mut offset: u64,
    mut cached: Cached,
) -> io::Result<Cached> {
    if cached == Cached::Dropped && !can_drop() {
        cached = Cached::Kept;
    }
    for pieces in pieces.chunks(MAX_SLICES) {
        let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut slices = &mut slices[..];
        // Goes beyond empty ones.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let written = match cached {
                Cached::Kept => pwritev(file, slices, offset),
                Cached::Dropped => pwritev2(file, slices, offset, DONTCACHE),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset = offset.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP) if cached == Cached::Dropped => cached = Cached::Kept,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(cached)
}

/// Whether the system can, as far as its version tells.
fn can_drop() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let system = rustix::system::uname();
        system.release().to_str().ok().and_then(version).is_some_and(|found| found >= LEAST_KERNEL)
    })
}

/// The first two numbers of the name of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|other: char| !other.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn all_pieces_are_written_in_order_kept_or_not() {
        for folder in [std::env::temp_dir(), env!("CARGO_MANIFEST_DIR").into()] {
            for cached in [Cached::Kept, Cached::Dropped] {
                let file = tempfile::tempfile_in(&folder).unwrap();
                let piece = |number: u64| Bytes::from(number.to_le_bytes().to_vec());
                let mut pieces: Vec<_> = (0..3_000).map(piece).collect();
                pieces.insert(0, Bytes::new());
                pieces.insert(1_024, Bytes::new());
                pieces.push(Bytes::new());
                let became = write_all_at(&file, &pieces, 5, cached).unwrap();
                assert!(became == cached || became == Cached::Kept);
                let mut found = vec![0; 8 * 3_000 + 5];
                file.read_exact_at(&mut found, 0).unwrap();
                assert_eq!(found.split_off(5), pieces.concat());
                assert_eq!((found, file.metadata().unwrap().len()), (vec![0; 5], 24_005));
            }
        }
    }

    #[test]
    fn a_release_is_told_by_its_first_two_numbers() {
        assert_eq!(version("6.18.44-something-v657"), Some((6, 18)));
        assert_eq!(version("6.1.0-49-amd64"), Some((6, 1)));
        assert_eq!(version("7.0"), Some((7, 0)));
        assert_eq!(version("unknown"), None);
    }
}
