//! Lets what is on its way gather in the kernel, so that one wake-up serves for much of it.
//!
//! A TCP socket wakes its reader for each segment. Beside a server on the same machine that is a change
//! of context for each 64 KiB, and the server's own sending waits for all of them: nginx took 3.3 ms
//! to send 2 MiB, and takes 0.8 ms. With `SO_RCVLOWAT` (socket(7); honoured by epoll since
//! Linux 2.6.28) the reader sleeps until much is there, the peer closes or its window is full.
//!
//! Only bytes that are certain to come are waited for, and those for 30 ms at most. From further away
//! nothing is left to gather: it would take the sender's window (over 20 ms, a fifth of the rate).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::ioctl_fionread;
use tokio::io::{AsyncRead, Join, ReadBuf, join};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep, sleep};

/// The most that is left to gather. The kernel takes half of `net.ipv4.tcp_rmem`'s third value
/// for more than that, which is 3 MiB as well where nobody changed it.
const MOST_BYTES: u64 = 3 << 20;
/// Less is not worth a system call.
const LEAST_BYTES: u64 = 64 << 10;
/// What TLS may have read, but not passed on yet: less than two of its records (RFC 8446 §5.2).
const HELD_BACK_BYTES: u64 = 33 << 10;
/// The longest that anything is left there.
pub(super) const LONGEST: Duration = Duration::from_millis(30);

/// How many bytes a connection's reader still expects, of the content that it reads now.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected(Arc<AtomicU64>);

impl Expected {
    /// So many are to come at least; 0 where that is not known.
    pub(super) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn low_water(&self) -> u64 {
        let sure = self.0.load(Ordering::Relaxed).saturating_sub(HELD_BACK_BYTES);
        if sure < LEAST_BYTES { 1 } else { sure.min(MOST_BYTES) }
    }
}

/// A connection whose bytes gather while many are expected.
pub(super) type Gathered = Join<Gathering, OwnedWriteHalf>;

/// What comes from a connection.
#[derive(Debug)]
pub(super) struct Gathering {
    stream: OwnedReadHalf,
    expected: Expected,
    /// What the kernel was told last.
    low_water: u64,
    is_waiting: bool,
    is_near: bool,
    until: Pin<Box<Sleep>>,
}

impl Gathering {
    /// A connection whose bytes gather, if its other end is near.
    pub(super) fn of(stream: TcpStream) -> Gathered {
        let address = |end: io::Result<SocketAddr>| end.ok().map(|address| address.ip());
        let far_end = address(stream.peer_addr());
        let is_near = far_end.is_some() && far_end == address(stream.local_addr());
        let (stream, writes) = stream.into_split();
        let (expected, until) = (Expected::default(), Box::pin(sleep(LONGEST)));
        join(Self { stream, expected, low_water: 1, is_waiting: false, is_near, until }, writes)
    }

    /// To be told what its reader expects.
    pub(super) fn expected(&self) -> Expected {
        self.expected.clone()
    }

    /// A kernel that refuses wakes the reader for each segment, as it does without being told.
    fn set_low_water(&mut self, bytes: u64) {
        if bytes != self.low_water && set_low_water(self.stream.as_ref(), bytes).is_ok() {
            self.low_water = bytes;
        }
    }

    /// Lets bytes gather, and sees that none are left there for too long.
    fn wait(&mut self, context: &mut Context<'_>) {
        let low_water = self.expected.low_water();
        if !self.is_waiting {
            self.is_waiting = true;
            self.until.as_mut().reset(Instant::now() + LONGEST);
            self.set_low_water(low_water);
        } else if low_water < self.low_water {
            self.set_low_water(low_water);
        }
        while self.low_water > 1 && self.until.as_mut().poll(context).is_ready() {
            if !matches!(ioctl_fionread(self.stream.as_ref()), Ok(0)) {
                // Whatever is there is told as soon as the mark falls.
                self.set_low_water(1);
            }
            self.until.as_mut().reset(Instant::now() + LONGEST);
        }
    }
}

impl AsyncRead for Gathering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.is_waiting = false;
            return polled;
        }
        if self.is_near {
            self.wait(context);
        }
        Poll::Pending
    }
}

/// Neither std nor rustix nor socket2 has this option.
#[allow(unsafe_code)]
fn set_low_water(stream: &TcpStream, bytes: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let value = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as `stream` is borrowed, and the kernel reads `length`
    // bytes of `value`, which it has.
    let told = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            length,
        )
    };
    if told == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const MIB: usize = 1 << 20;

    async fn pair() -> (Gathered, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Gathering::of(near), listener.accept().await.unwrap().0)
    }

    /// How many reads that had to be waited for it took until so many bytes came.
    async fn waits(near: &mut Gathered, bytes: usize) -> usize {
        let (mut waits, mut came, mut buffer) = (0, 0, vec![0; 64 << 10]);
        while came < bytes {
            let mut has_waited = false;
            let read = std::future::poll_fn(|context| {
                let mut read = ReadBuf::new(&mut buffer);
                let polled = Pin::new(&mut *near).poll_read(context, &mut read);
                has_waited |= polled.is_pending();
                polled.map(|outcome| outcome.map(|()| read.filled().len()))
            });
            came += read.await.unwrap();
            waits += usize::from(has_waited);
        }
        waits
    }

    /// Sends this many pieces of 10 KB, 1 ms apart.
    fn trickle(mut far: TcpStream, pieces: usize) -> tokio::task::JoinHandle<TcpStream> {
        tokio::spawn(async move {
            for _ in 0..pieces {
                far.write_all(&[1; 10_000]).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
            far
        })
    }

    #[tokio::test]
    async fn many_segments_are_one_wake_up_while_much_is_expected() {
        let (mut near, far) = pair().await;
        let sent = trickle(far, 200);
        let each = waits(&mut near, 1_000_000).await;
        near.reader().expected().set(100 << 20);
        let gathered = waits(&mut near, 1_000_000).await;
        // As a rule 100 and 6.
        assert!(gathered * 2 < each, "{gathered} of {each}");
        sent.await.unwrap();
    }

    #[tokio::test]
    async fn what_stays_below_the_mark_is_given_after_a_moment() {
        let (mut near, mut far) = pair().await;
        near.reader().expected().set(100 << 20);
        for _ in 0..3 {
            let mut byte = [0];
            let reading = near.read_exact(&mut byte);
            tokio::pin!(reading);
            // Nothing is there, for longer than the moment.
            assert!(timeout(LONGEST * 2, &mut reading).await.is_err());
            far.write_all(b"x").await.unwrap();
            timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn the_end_is_told_at_once_and_so_is_what_was_not_expected() {
        let (mut near, mut far) = pair().await;
        near.reader().expected().set(u64::MAX);
        let mut buffer = vec![0; MIB];
        assert!(timeout(Duration::from_millis(1), near.read(&mut buffer)).await.is_err());
        assert!(near.reader().low_water > 1, "it lets bytes gather");
        // The next answer, whose length nobody knows.
        near.reader().expected().set(0);
        assert!(timeout(Duration::from_millis(1), near.read(&mut buffer)).await.is_err());
        assert_eq!(near.reader().low_water, 1, "the mark fell without a byte");
        far.write_all(b"head").await.unwrap();
        assert_eq!(near.read(&mut buffer).await.unwrap(), 4);
        near.reader().expected().set(u64::MAX);
        drop(far);
        assert_eq!(
            timeout(Duration::from_secs(10), near.read(&mut buffer)).await.unwrap().unwrap(),
            0
        );
    }

    #[tokio::test]
    async fn a_sender_that_is_far_away_keeps_its_window() {
        let (mut near, _far) = pair().await;
        near.reader().expected().set(u64::MAX);
        near.reader_mut().is_near = false;
        assert!(timeout(Duration::from_millis(1), near.read(&mut [0])).await.is_err());
        assert_eq!(near.reader().low_water, 1);
    }

    #[test]
    fn only_what_is_sure_to_come_is_waited_for() {
        let expected = Expected::default();
        let marks = [(0, 1), (LEAST_BYTES, 1), (LEAST_BYTES + HELD_BACK_BYTES, LEAST_BYTES)];
        for (bytes, mark) in marks.into_iter().chain([(u64::MAX, MOST_BYTES)]) {
            expected.set(bytes);
            assert_eq!(expected.low_water(), mark, "{bytes}");
        }
    }
}
