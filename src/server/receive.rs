//! Reads a connection whose bytes come faster than they can be taken.
//!
//! tokio's reactor is woken for each segment that comes, and sleeps in another thread than the one that
//! is busy with the bytes before it: for a GiB from the same machine 3000 to 5500 changes of context, which
//! tell a reader what it finds out anyway. So after a few reads that took much and waited for nothing,
//! the reactor no longer watches the connection, until a read would have to wait. Meanwhile much is read at
//! once, as far as hyper's buffers may become large: each read opens the window that the peer sends into,
//! and wakes it. On HTTP/2 no read takes much, so nothing of this happens.
//!
//! 1 GiB in one PATCH takes 0.75 s of processor time a GB with reads of 128 KiB, 0.72 with 256 KiB, 0.64
//! without the reactor as well, and nginx 0.50 (`perf`, 8 turns, without the copy to the page cache).

use std::io::{self, IoSlice, Write as _};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::coop::poll_proceed;

/// What a connection that has leave for it reads at once, in bytes: what the engine writes at once.
pub(super) const LARGE_BYTES: usize = 256 << 10;
/// So many connections have leave. hyper does not make a buffer that was large much smaller again, so
/// they have it until they end.
pub(super) const MOST_LARGE: usize = 32;
/// What all others read at once: just too little for hyper to make its buffer larger than 128 KiB.
const SMALL_BYTES: usize = (128 << 10) - 1;
/// What a read takes at least that counts as much, in bytes.
const MUCH_BYTES: usize = 64 << 10;
/// So many of those in a row, and the reactor is left alone.
const READS: u32 = 8;

/// A connection.
#[derive(Debug)]
pub(super) struct ReceivingStream {
    socket: Socket,
    /// The reads in a row that took much and waited for nothing.
    reads: u32,
    /// Only the reactor knows when that may go on.
    is_write_waiting: bool,
    /// Whose leave is asked for, and the leave.
    large: Arc<Semaphore>,
    leave: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Socket {
    Watched(TcpStream),
    Unwatched(std::net::TcpStream),
    /// The reactor did not take it back, or did not give it away.
    Lost,
}

impl ReceivingStream {
    /// `large` has the [`MOST_LARGE`] permits of all connections.
    pub(super) fn new(stream: TcpStream, large: Arc<Semaphore>) -> Self {
        let socket = Socket::Watched(stream);
        Self { socket, reads: 0, is_write_waiting: false, large, leave: None }
    }

    /// The connection, with a reactor that tells when it can be read or written.
    ///
    /// # Errors
    ///
    /// The system has no place left for what is watched (`ENOSPC` or `ENOMEM` of `epoll_ctl`).
    fn watched(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if let Socket::Unwatched(_) = self.socket
            && let Socket::Unwatched(stream) = std::mem::replace(&mut self.socket, Socket::Lost)
        {
            self.reads = 0;
            self.socket = Socket::Watched(TcpStream::from_std(stream)?);
        }
        match &mut self.socket {
            Socket::Watched(stream) => Ok(Pin::new(stream)),
            Socket::Unwatched(_) | Socket::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Takes the connection from the reactor when that is worth it and nobody waits for it.
    fn note_read(&mut self, bytes: usize) {
        self.reads = if bytes < MUCH_BYTES { 0 } else { self.reads + 1 };
        if self.reads >= READS
            && !self.is_write_waiting
            && let Socket::Watched(_) = self.socket
            && let Socket::Watched(stream) = std::mem::replace(&mut self.socket, Socket::Lost)
        {
            match stream.into_std() {
                Ok(stream) => self.socket = Socket::Unwatched(stream),
                // What came is kept; the next read fails.
                Err(error) => {
                    tracing::debug!(%error, "could not take a connection from the reactor")
                }
            }
            if self.leave.is_none() {
                self.leave = Arc::clone(&self.large).try_acquire_owned().ok();
            }
        }
    }

    fn most_bytes(&self) -> usize {
        if self.leave.is_some() { LARGE_BYTES } else { SMALL_BYTES }
    }
}

impl AsyncRead for ReceivingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Socket::Unwatched(stream) = &self.socket {
            let budget = ready!(poll_proceed(context));
            match receive(stream, buffer, self.most_bytes()) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                received => {
                    budget.made_progress();
                    return Poll::Ready(received.map(drop).map_err(io::Error::from));
                }
            }
        }
        let stream = self.watched()?;
        let asked = buffer.remaining().min(SMALL_BYTES);
        loop {
            if stream.poll_read_ready(context)?.is_pending() {
                self.reads = 0;
                return Poll::Pending;
            }
            let mut received = Err(Errno::INTR);
            // What this returns is for the reactor; what came is in `received`.
            let _emptied = stream.try_io(Interest::READABLE, || {
                received = receive(&*stream, buffer, SMALL_BYTES);
                match received {
                    // Less than was asked for shows that nothing is left (epoll(7), question 9).
                    Ok(bytes) if 0 < bytes && bytes < asked => {
                        Err(io::ErrorKind::WouldBlock.into())
                    }
                    Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
                    Ok(_) | Err(_) => Ok(()),
                }
            });
            match received {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok(bytes) => {
                    self.note_read(bytes);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for ReceivingStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Socket::Unwatched(stream) = &mut self.socket {
            match stream.write_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
        let polled = self.watched()?.poll_write_vectored(context, pieces);
        self.is_write_waiting = polled.is_pending();
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched()?.poll_shutdown(context)
    }
}

/// Takes what is there, at most so many bytes, and tells how many. To make the buffer's memory zero first
/// would be one more pass over it.
#[allow(unsafe_code)]
fn receive(stream: impl AsFd, buffer: &mut ReadBuf<'_>, most_bytes: usize) -> Result<usize, Errno> {
    // SAFETY: nothing makes bytes of it uninitialized again.
    let unfilled = unsafe { buffer.unfilled_mut() };
    let asked = unfilled.len().min(most_bytes);
    let ((received, _), _) = recv(stream, &mut unfilled[..asked], RecvFlags::empty())?;
    let bytes = received.len();
    // SAFETY: these are initialized, as their type said.
    unsafe { buffer.assume_init(bytes) };
    buffer.advance(bytes);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    async fn pair(large: &Arc<Semaphore>) -> (ReceivingStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (ReceivingStream::new(listener.accept().await.unwrap().0, Arc::clone(large)), far)
    }

    fn is_watched(near: &ReceivingStream) -> bool {
        matches!(near.socket, Socket::Watched(_))
    }

    /// As after reads that took much.
    async fn unwatched_pair(large: &Arc<Semaphore>) -> (ReceivingStream, TcpStream) {
        let (mut near, far) = pair(large).await;
        for _ in 0..READS {
            assert!(is_watched(&near));
            near.note_read(MUCH_BYTES);
        }
        assert!(!is_watched(&near));
        (near, far)
    }

    /// The byte at this offset of what the far end sends.
    fn byte_at(offset: usize) -> u8 {
        u8::try_from(offset % 251).unwrap()
    }

    /// Reads this many bytes and checks them; whether the reactor was left alone.
    async fn read_all(near: &mut ReceivingStream, bytes: usize) -> bool {
        let (mut came, mut was_alone, mut buffer) = (0, false, vec![0; 300 << 10]);
        while came < bytes {
            let read = timeout(PATIENCE, near.read(&mut buffer)).await.unwrap().unwrap();
            assert!(read > 0, "the end after {came} bytes");
            let is_right = |(place, byte): (usize, &u8)| *byte == byte_at(came + place);
            assert!(buffer[..read].iter().enumerate().all(is_right), "at {came}");
            came += read;
            was_alone |= !is_watched(near);
        }
        assert_eq!(came, bytes);
        was_alone
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_bytes_come_in_order_whether_the_reactor_watches_or_not() {
        let large = Arc::new(Semaphore::new(1));
        let (mut near, mut far) = pair(&large).await;
        const BYTES: usize = 64 << 20;
        let sending = tokio::spawn(async move {
            let (mut sent, mut pieces) = (0, 0);
            while sent < BYTES {
                // Stretches of large pieces, with small ones and pauses between them.
                let bytes = if pieces % 40 < 32 { 512 << 10 } else { 10 }.min(BYTES - sent);
                let piece: Vec<u8> = (sent..sent + bytes).map(byte_at).collect();
                far.write_all(&piece).await.unwrap();
                (sent, pieces) = (sent + bytes, pieces + 1);
                if pieces % 40 > 30 {
                    sleep(Duration::from_millis(2)).await;
                }
            }
            far
        });
        assert!(read_all(&mut near, BYTES).await, "the reactor was never left alone");
        // A read that waits is told when something comes, and of the end.
        let mut far = sending.await.unwrap();
        let mut byte = [0];
        assert!(timeout(Duration::from_millis(20), near.read(&mut byte)).await.is_err());
        assert!(is_watched(&near), "it waits without the reactor");
        far.write_all(b"x").await.unwrap();
        assert_eq!(timeout(PATIENCE, near.read(&mut byte)).await.unwrap().unwrap(), 1);
        drop(far);
        assert_eq!(timeout(PATIENCE, near.read(&mut byte)).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_written_meanwhile_waits_for_a_peer_that_does_not_read() {
        let large = Arc::new(Semaphore::new(1));
        let (mut near, mut far) = unwatched_pair(&large).await;
        const ANSWER: usize = 32 << 20;
        let answering = tokio::spawn(async move {
            let answer: Vec<u8> = (0..ANSWER).map(byte_at).collect();
            near.write_all(&answer).await.unwrap();
            near
        });
        sleep(Duration::from_millis(20)).await;
        assert!(!answering.is_finished(), "more was written than any system keeps");
        let mut answer = vec![0; ANSWER];
        timeout(PATIENCE, far.read_exact(&mut answer)).await.unwrap().unwrap();
        assert!(answer.iter().enumerate().all(|(place, byte)| *byte == byte_at(place)));
        let mut near = answering.await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn while_a_write_waits_the_reactor_watches() {
        let (mut near, _far) = pair(&Arc::new(Semaphore::new(1))).await;
        let answer = vec![0; 32 << 20];
        assert!(timeout(Duration::from_millis(20), near.write_all(&answer)).await.is_err());
        (0..2 * READS).for_each(|_| near.note_read(MUCH_BYTES));
        assert!(is_watched(&near));
    }

    #[tokio::test]
    async fn a_reset_is_told_and_leave_is_given_back() {
        let large = Arc::new(Semaphore::new(1));
        let (mut near, far) = unwatched_pair(&large).await;
        assert_eq!(near.most_bytes(), LARGE_BYTES);
        let (other, _far) = unwatched_pair(&large).await;
        assert_eq!(other.most_bytes(), SMALL_BYTES);
        // Closing on unread bytes resets.
        near.write_all(b"unread").await.unwrap();
        far.readable().await.unwrap();
        drop(far);
        let failed = timeout(PATIENCE, near.read(&mut [0])).await.unwrap().unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::ConnectionReset);
        drop(near);
        assert_eq!(unwatched_pair(&large).await.0.most_bytes(), LARGE_BYTES);
    }
}
