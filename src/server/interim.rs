//! Interim responses (1xx) of our own, on HTTP/1.1, for which hyper has no interface.
//!
//! They are written beneath hyper. It flushes the stream under it at the end of each of its turns,
//! and only when nothing of what it wrote is left; a request's service runs only when the answer to
//! the request before it is among what was written. So between the start of a service and its answer
//! a flush lies between two messages, and that is where a waiting interim response goes out.
//! [`Interim`] is closed before hyper gets the answer; what waits then is thrown away.
//!
//! A peer that does not read must not be the end of what it sends: a flush never waits for an
//! interim response, and of those that tell of progress only the newest waits. What was begun is
//! finished before anything else is written.
//!
//! hyper answers `Expect: 100-continue` itself, before or after these.
//!
//! - RFC 9110 §15.2, RFC 9112 §4

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use http::Version;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

use crate::protocol::head::ResponseHead;

/// The reason of a 104, the only status that is sent from here.
const REASON: &str = "Upload Resumption Supported";
/// hyper's turns that an answer leaves to the announcement before it; in some it does not flush.
const ANNOUNCEMENT_TURNS: usize = 3;

/// What the requests of a connection and its stream share.
#[derive(Clone, Debug, Default)]
pub(super) struct InterimLine(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// Counts the requests, so that one that is over has no say any more.
    request: u64,
    is_open: bool,
    announcement: Option<Bytes>,
    progress: Option<Bytes>,
    /// Wakes the task of the connection, which then flushes.
    waker: Option<Waker>,
}

impl InterimLine {
    /// Begins a request. An HTTP/1.0 client would take an interim response for the answer (RFC 9110
    /// §15.2), and in HTTP/2 these bytes would be garbage.
    pub(super) fn open(&self, version: Version) -> Interim {
        let mut waiting = self.0.lock();
        waiting.request = waiting.request.wrapping_add(1);
        waiting.is_open = version == Version::HTTP_11;
        waiting.clear();
        Interim { line: self.clone(), request: waiting.request }
    }

    /// What goes out next.
    fn take(&self) -> Option<Bytes> {
        let mut waiting = self.0.lock();
        waiting.announcement.take().or_else(|| waiting.progress.take())
    }

    fn wake_with(&self, waker: &Waker) {
        let mut waiting = self.0.lock();
        if !waiting.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            waiting.waker = Some(waker.clone());
        }
    }
}

impl Waiting {
    fn clear(&mut self) {
        self.announcement = None;
        self.progress = None;
    }
}

/// Sends interim responses to one request, until it is closed.
#[derive(Clone, Debug)]
pub(super) struct Interim {
    line: InterimLine,
    request: u64,
}

impl Interim {
    /// Whether any can be sent.
    pub(super) fn is_open(&self) -> bool {
        let waiting = self.line.0.lock();
        waiting.is_open && waiting.request == self.request
    }

    /// Sends one that goes before all others.
    pub(super) fn announce(&self, head: &ResponseHead) {
        self.send(head, |waiting, message| waiting.announcement = Some(message));
    }

    /// Sends one that makes the one before worthless.
    pub(super) fn tell_progress(&self, head: &ResponseHead) {
        self.send(head, |waiting, message| waiting.progress = Some(message));
    }

    fn send(&self, head: &ResponseHead, put: impl FnOnce(&mut Waiting, Bytes)) {
        let mut waiting = self.line.0.lock();
        if !waiting.is_open || waiting.request != self.request {
            return;
        }
        put(&mut waiting, to_bytes(head));
        let waker = waiting.waker.clone();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends this before the answer goes to hyper. An announcement that waits gets its chance: it is
    /// flushed at the end of hyper's turn, unless the peer does not read.
    pub(super) async fn finish(&self) {
        for _ in 0..ANNOUNCEMENT_TURNS {
            if self.line.0.lock().announcement.is_none() {
                break;
            }
            yield_now().await;
        }
        self.close();
    }

    fn close(&self) {
        let mut waiting = self.line.0.lock();
        if waiting.request == self.request {
            waiting.is_open = false;
            waiting.clear();
        }
    }
}

fn to_bytes(head: &ResponseHead) -> Bytes {
    let mut bytes = format!("HTTP/1.1 {} {REASON}\r\n", head.status.as_u16()).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}

/// A stream that sends interim responses between what is written to it.
#[derive(Debug)]
pub(super) struct InterimStream<S> {
    stream: S,
    line: InterimLine,
    /// What is left of the one that was begun.
    begun: Bytes,
}

impl<S: AsyncWrite + Unpin> InterimStream<S> {
    pub(super) fn new(stream: S, line: InterimLine) -> Self {
        Self { stream, line, begun: Bytes::new() }
    }

    /// Finishes what was begun; nothing else may come in between.
    fn poll_begun(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.begun.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.begun))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InterimStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.wake_with(context.waker());
        loop {
            // When the peer reads again the task is woken, and flushes again.
            if self.poll_begun(context)?.is_pending() {
                break;
            }
            match self.line.take() {
                Some(message) => self.begun = message,
                None => break,
            }
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_begun(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InterimStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests;
