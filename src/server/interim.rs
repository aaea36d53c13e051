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
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;

    /// A peer that takes so many bytes and no more until it reads.
    #[derive(Debug)]
    struct Peer {
        unread: usize,
        capacity: usize,
        got: Vec<u8>,
    }

    impl AsyncWrite for Peer {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.capacity - self.unread);
            self.unread += count;
            self.got.extend_from_slice(&bytes[..count]);
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes as hyper does: messages into a buffer, and in each turn the buffer to the stream and
    /// then a flush, if all of it went.
    struct Hyper {
        stream: InterimStream<Peer>,
        buffer: Vec<u8>,
        line: InterimLine,
        requests: Vec<Interim>,
        is_running: bool,
    }

    impl Hyper {
        fn new(capacity: usize) -> Self {
            let line = InterimLine::default();
            let peer = Peer { unread: 0, capacity, got: Vec::new() };
            let stream = InterimStream::new(peer, line.clone());
            Self { stream, buffer: Vec::new(), line, requests: Vec::new(), is_running: false }
        }

        fn turn(&mut self) {
            let mut context = Context::from_waker(Waker::noop());
            while !self.buffer.is_empty() {
                match Pin::new(&mut self.stream).poll_write(&mut context, &self.buffer) {
                    Poll::Ready(written) => drop(self.buffer.drain(..written.unwrap())),
                    Poll::Pending => return,
                }
            }
            assert!(Pin::new(&mut self.stream).poll_flush(&mut context).is_ready());
        }

        fn step(&mut self, step: &Step) {
            let request = self.requests.len();
            match *step {
                Step::Request if !self.is_running => {
                    self.requests.push(self.line.open(Version::HTTP_11));
                    self.is_running = true;
                }
                Step::Continue if self.is_running => {
                    self.buffer.extend_from_slice(format!("[100 {request}]").as_bytes());
                }
                Step::Answer if self.is_running => {
                    self.requests.last().unwrap().close();
                    self.buffer.extend_from_slice(format!("[200 {request}]").as_bytes());
                    self.is_running = false;
                }
                Step::Announce { of } if !self.requests.is_empty() => {
                    let of = of % self.requests.len();
                    self.requests[of].announce(&head(0, of));
                }
                Step::Progress { of, number } if !self.requests.is_empty() => {
                    let of = of % self.requests.len();
                    self.requests[of].tell_progress(&head(number, of));
                }
                Step::Turn => self.turn(),
                Step::Read { bytes } => {
                    let peer = &mut self.stream.stream;
                    peer.unread = peer.unread.saturating_sub(bytes);
                }
                Step::Request | Step::Continue | Step::Answer => {}
                Step::Announce { .. } | Step::Progress { .. } => {}
            }
        }

        /// What the peer gets in the end, a line a message.
        fn finish(mut self) -> Vec<String> {
            for _ in 0..10_000 {
                self.step(&Step::Read { bytes: usize::MAX });
                self.turn();
            }
            let got = String::from_utf8(self.stream.stream.got).unwrap();
            let got = got.replace("HTTP/1.1 104 Upload Resumption Supported\r\nn: ", "[104 ");
            let got = got.replace("\r\n\r\n", "]");
            let messages = got.strip_prefix('[').map_or(Vec::new(), |got| {
                got.strip_suffix(']').unwrap().split("][").map(str::to_owned).collect()
            });
            assert!(messages.iter().all(|message| !message.contains(['[', ']', '\r'])), "{got}");
            messages
        }
    }

    fn head(number: u32, request: usize) -> ResponseHead {
        let mut headers = http::HeaderMap::new();
        headers.insert("n", format!("{} {number}", request + 1).parse().unwrap());
        ResponseHead { status: StatusCode::from_u16(104).unwrap(), headers }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Request,
        Continue,
        Answer,
        Announce { of: usize },
        Progress { of: usize, number: u32 },
        Turn,
        Read { bytes: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => Just(Step::Request),
            1 => Just(Step::Continue),
            1 => Just(Step::Answer),
            2 => any::<usize>().prop_map(|of| Step::Announce { of }),
            3 => any::<usize>().prop_map(|of| Step::Progress { of, number: 0 }),
            4 => Just(Step::Turn),
            3 => (0_usize..60).prop_map(|bytes| Step::Read { bytes }),
        ];
        proptest::collection::vec(step, 0..80).prop_map(|mut steps| {
            for (index, step) in (1..).zip(&mut steps) {
                if let Step::Progress { number, .. } = step {
                    *number = index;
                }
            }
            steps
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        /// Pipelined requests, answers at the same time, a peer that reads slowly: messages stay
        /// whole, an interim one comes between the answer to the request before and its own, and
        /// what tells of progress never goes back.
        #[test]
        fn interim_responses_stand_between_messages_and_before_their_answer(
            steps in steps(),
            capacity in 1_usize..100,
        ) {
            let mut hyper = Hyper::new(capacity);
            for step in &steps {
                hyper.step(step);
            }
            let running = hyper.is_running.then(|| hyper.requests.last().unwrap().clone());
            if let Some(interim) = running {
                interim.tell_progress(&head(1000, hyper.requests.len() - 1));
            }
            let (is_running, count) = (hyper.is_running, hyper.requests.len());
            let got = hyper.finish();
            let (mut answered, mut newest) = (0, 0);
            for message in &got {
                let numbers: Vec<usize> =
                    message.split(' ').map(|word| word.parse().unwrap()).collect();
                prop_assert_eq!(numbers[1], answered + 1, "{:?}", got);
                match numbers[0] {
                    200 => (answered, newest) = (answered + 1, 0),
                    104 if numbers[2] > 0 => {
                        prop_assert!(numbers[2] > newest, "{:?}", got);
                        newest = numbers[2];
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(answered, count - usize::from(is_running));
            // What waits at the end is not forgotten.
            prop_assert_eq!(is_running, newest == 1000, "{:?}", got);
        }
    }

    #[test]
    fn only_http_1_1_has_them() {
        for (version, has) in
            [(Version::HTTP_10, false), (Version::HTTP_11, true), (Version::HTTP_2, false)]
        {
            let mut hyper = Hyper::new(1000);
            let interim = hyper.line.open(version);
            assert_eq!(interim.is_open(), has);
            interim.announce(&head(0, 0));
            hyper.turn();
            assert_eq!(hyper.finish().len(), usize::from(has));
        }
    }

    #[test]
    fn a_flush_does_not_wait_for_a_peer_that_does_not_read() {
        let mut hyper = Hyper::new(10);
        hyper.step(&Step::Request);
        for number in 1..1000 {
            // Panics if the flush is pending.
            hyper.step(&Step::Progress { of: 0, number });
            hyper.turn();
        }
        // The one that was begun, and the newest.
        assert_eq!(hyper.finish(), ["104 1 1", "104 1 999"]);
    }
}
