//! Notices when nothing moves on a connection any more.
//!
//! What counts is the socket, in either direction: a body that is sent slowly keeps the wait for
//! its answer alive, and so does an answer that trickles in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::failure::Failure;

/// When a connection moved last.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    begin: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { begin: Instant::now(), last_ms: Arc::default() }
    }

    /// It moves now.
    pub(super) fn touch(&self) {
        let ms = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.begin + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    /// What `work` gives, or a failure when nothing moved for `patience` meanwhile. The time before
    /// the call does not count: the pause may have been ours.
    pub(super) async fn unless_stalled<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        self.touch();
        let mut work = std::pin::pin!(work);
        loop {
            let deadline = self.last() + patience;
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = sleep_until(deadline) => {
                    if self.last() + patience <= deadline {
                        return Err(Failure::stalled(patience));
                    }
                }
            }
        }
    }
}

/// A connection whose activity is noted.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    activity: Activity,
}

impl<T> Watched<T> {
    pub(super) fn new(inner: T, activity: Activity) -> Self {
        Self { inner, activity }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if polled.is_ready() {
            self.activity.touch();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        if polled.is_ready() {
            self.activity.touch();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        if polled.is_ready() {
            self.activity.touch();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_trickles_is_not_stalled_and_one_that_is_silent_is() {
        let activity = Activity::new();
        let (near, mut far) = duplex(64);
        let mut near = Watched::new(near, activity.clone());
        let peer = tokio::spawn(async move {
            for _ in 0..5 {
                sleep(Duration::from_secs(8)).await;
                far.write_all(b"x").await.unwrap();
            }
            sleep(Duration::from_secs(1000)).await;
        });
        let patience = Duration::from_secs(10);
        let mut five = [0; 5];
        activity.unless_stalled(patience, near.read_exact(&mut five)).await.unwrap().unwrap();
        let begin = Instant::now();
        let stalled = activity.unless_stalled(patience, near.read_exact(&mut five)).await;
        assert!(stalled.unwrap_err().is_transient());
        assert!(begin.elapsed() < Duration::from_secs(11), "{:?}", begin.elapsed());
        peer.abort();
    }
}
