//! The write-back that begins before it is asked for.
//!
//! Bytes that were written lie in the page cache until a sync, and a disk that waits meanwhile has all of
//! them to write while the client waits for its answer. So as soon as there is something worth it, the
//! system is told to write it, on a thread of its own. The disk sets the pace: while that takes,
//! more piles up for the next. Where that call does nothing (overlayfs does not pass it on), the sync
//! has all to write.
//!
//! A data sync of all that there is, in the place of this, commits the journal of the file system each time. (The
//! default mode onto ext4, medians of six and five turns: 813 in place of 696 MB/s and 1.02 in place of
//! 1.19 s of processor time a GB in PATCHes of 8 MiB; 1116 in place of 934 and 0.92 in place of 1.08 for 1 GiB in
//! one.)

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};

/// What is worth a call.
const WORTH_BYTES: u64 = 512 << 10;
/// So many run at once, of all files: they keep the disk at work, and leave the threads to syncs that
/// somebody waits for.
pub(super) const MOST_AT_ONCE: usize = 8;

/// The write-backs of one file that were begun early, one at a time.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Written since the last one began.
    written: Range<u64>,
    has_begun: bool,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Ahead {
    /// These bytes more were written to the file. `permits` are those of [`MOST_AT_ONCE`].
    ///
    /// # Errors
    ///
    /// The write-back before failed. What was written up to now is lost, or will be.
    pub(super) async fn wrote(
        &mut self,
        file: &Arc<File>,
        bytes: Range<u64>,
        permits: &Arc<Semaphore>,
    ) -> io::Result<()> {
        if self.written.is_empty() {
            self.written.start = bytes.start;
        }
        self.written.end = bytes.end;
        let runs = self.running.as_ref().is_some_and(|running| !running.is_finished());
        if runs || self.written.end.saturating_sub(self.written.start) < WORTH_BYTES {
            return Ok(());
        }
        self.ended().await?;
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { return Ok(()) };
        let file = Arc::clone(file);
        let written = std::mem::take(&mut self.written);
        self.has_begun = true;
        self.running = Some(spawn_blocking(move || {
            let _permit = permit;
            begin_write_back(&file, &written)
        }));
        Ok(())
    }

    /// Whether one was begun, and may have failed.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Waits for the one that runs. Some file systems tell what goes wrong while they begin to
    /// nobody else, so nobody may take the file for synced who has not asked here. A sync has to come all
    /// the same: it waits until the bytes are on the disk, and is told of what goes wrong there.
    ///
    /// # Errors
    ///
    /// It failed.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        match self.running.take() {
            Some(running) => running.await.map_err(io::Error::other)?,
            None => Ok(()),
        }
    }
}

/// Has the system begin to write these bytes of the page cache. Does nothing where that cannot be
/// asked for. Blocks while the disk has too much to do.
#[allow(unsafe_code)]
fn begin_write_back(file: &File, bytes: &Range<u64>) -> io::Result<()> {
    let number = |bytes: u64| libc::off64_t::try_from(bytes).map_err(io::Error::other);
    let (start, length) = (number(bytes.start)?, number(bytes.end.saturating_sub(bytes.start))?);
    // SAFETY: the descriptor is open as long as `file` is borrowed, and no memory is handed over.
    let told = unsafe {
        libc::sync_file_range(file.as_raw_fd(), start, length, libc::SYNC_FILE_RANGE_WRITE)
    };
    if told == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match Errno::from_io_error(&error) {
        // No such file, file system or call, or one that is not allowed.
        Some(Errno::SPIPE | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => Ok(()),
        Some(_) | None => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that no system call takes but to look at.
    fn unwritable() -> Arc<File> {
        let flags = rustix::fs::OFlags::PATH;
        Arc::new(rustix::fs::open("/", flags, rustix::fs::Mode::empty()).unwrap().into())
    }

    #[tokio::test]
    async fn a_write_back_begins_when_it_is_worth_it_and_its_failure_is_told_once() {
        let (file, permits) = (unwritable(), Arc::new(Semaphore::new(MOST_AT_ONCE)));
        let mut ahead = Ahead::default();
        ahead.wrote(&file, 7..6 + WORTH_BYTES, &permits).await.unwrap();
        ahead.ended().await.unwrap();
        ahead.wrote(&file, 6 + WORTH_BYTES..7 + WORTH_BYTES, &permits).await.unwrap();
        ahead.ended().await.unwrap_err();
        ahead.ended().await.unwrap();
        ahead.wrote(&file, 0..WORTH_BYTES, &permits).await.unwrap();
        while !ahead.running.as_ref().unwrap().is_finished() {
            tokio::task::yield_now().await;
        }
        ahead.wrote(&file, 0..WORTH_BYTES, &permits).await.unwrap_err();
    }

    #[tokio::test]
    async fn what_finds_no_permit_is_written_with_what_comes_later() {
        let (file, permits) = (unwritable(), Arc::new(Semaphore::new(1)));
        let taken = Arc::clone(&permits).try_acquire_owned().unwrap();
        let mut ahead = Ahead::default();
        ahead.wrote(&file, 0..WORTH_BYTES, &permits).await.unwrap();
        ahead.ended().await.unwrap();
        drop(taken);
        ahead.wrote(&file, WORTH_BYTES..WORTH_BYTES + 1, &permits).await.unwrap();
        assert_eq!(ahead.written, 0..0);
        ahead.ended().await.unwrap_err();
    }

    #[test]
    fn what_has_no_pages_is_left_alone() {
        let (end, _) = io::pipe().unwrap();
        begin_write_back(&File::from(std::os::fd::OwnedFd::from(end)), &(0..1)).unwrap();
    }
}
