//! The two directions of content: a request's as the engine takes it, with patience that ends, and
//! a response's as hyper sends it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream::{self, Stream};
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::task::TaskTracker;

use super::announce::Announcer;
use crate::engine::content::{Content, Piece};
use crate::protocol::checksum::Checksum;
use crate::protocol::refusal::Refusal;
use crate::protocol::tus;
use crate::protocol::upload::Upload;
use crate::settings::Connections;
use crate::storage::StorageError;

/// How often a peer's data rate is looked at while it is waited for.
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// How long content that nobody wants is still read, so that the peer gets to read the answer: a
/// connection closed on unread content is reset, and the answer is lost with it.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// How much of it is read.
const DRAIN_BYTES: usize = 16 << 20;

/// The content of a request.
pub(super) struct RequestContent {
    body: Option<Incoming>,
    version: Version,
    trailers: Option<HeaderMap>,
    patience: Arc<Connections>,
    /// The peer sends its content only once it is asked for it, so leaving it unread is fine.
    is_waiting_to_be_asked: bool,
    received_bytes: u64,
    waiting: Waiting,
    timer: Option<Pin<Box<Sleep>>>,
    /// Owns the reading of content that nobody wanted.
    drains: TaskTracker,
    /// Tells the peer how far its content is safe.
    announcer: Option<Announcer>,
}

impl RequestContent {
    /// The content of a request that perhaps asked for `100 (Continue)`.
    pub(super) fn new(
        (body, version): (Incoming, Version),
        patience: Arc<Connections>,
        expects_continue: bool,
        drains: TaskTracker,
    ) -> Self {
        Self {
            body: Some(body),
            version,
            trailers: None,
            patience,
            is_waiting_to_be_asked: expects_continue,
            received_bytes: 0,
            waiting: Waiting::default(),
            timer: None,
            drains,
            announcer: None,
        }
    }

    /// Lets the peer be told how far its content is safe.
    pub(super) fn announce_by(&mut self, announcer: Option<Announcer>) {
        self.announcer = announcer;
    }

    /// The content's length in bytes; `None` when only its end tells.
    pub(super) fn exact_length(&self) -> Option<u64> {
        self.body.as_ref().map_or(Some(0), |body| body.size_hint().exact())
    }

    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        loop {
            let Some(body) = self.body.as_mut() else {
                return Poll::Ready(Piece::End);
            };
            match Pin::new(&mut *body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    // hyper ends the content here, too, when the peer resets the stream with
                    // NO_ERROR, as proxies do for a client that went away.
                    let is_reset = self.version == Version::HTTP_2 && !body.is_end_stream();
                    self.body = None;
                    return Poll::Ready(if is_reset { Piece::Cut } else { Piece::End });
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "the content was cut off");
                    self.body = None;
                    return Poll::Ready(Piece::Cut);
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Piece::Bytes(bytes)),
                    Ok(_) => {}
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        loop {
            let idle = self.waiting.go_on(Instant::now());
            if self.waiting.is_too_long(idle, self.received_bytes, &self.patience) {
                return Poll::Ready(Piece::TooSlow);
            }
            let idle_left = self.patience.idle_timeout.saturating_sub(idle);
            let next = match self.patience.min_rate_bytes_per_s {
                Some(_) => idle_left.min(RATE_INTERVAL),
                None => idle_left,
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(next)));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}

/// How long a peer was waited for.
#[derive(Debug, Default)]
struct Waiting {
    /// All the time that it was waited for, as far as that is known: between two looks that are
    /// further apart than [`RATE_INTERVAL`] nobody waited, but the disk had the engine's attention.
    total: Duration,
    /// When the wait that is under way began, and when it was looked at last.
    under_way: Option<(Instant, Instant)>,
}

impl Waiting {
    /// The peer is waited for; how long it has been silent.
    fn go_on(&mut self, now: Instant) -> Duration {
        let (since, seen) = self.under_way.unwrap_or((now, now));
        self.total += (now - seen).min(RATE_INTERVAL);
        self.under_way = Some((since, now));
        now - since
    }

    /// Something came.
    fn end(&mut self, now: Instant) {
        if self.under_way.is_some() {
            self.go_on(now);
            self.under_way = None;
        }
    }

    /// Whether the peer has been too slow, now that it is silent.
    fn is_too_long(&self, idle: Duration, received_bytes: u64, patience: &Connections) -> bool {
        let min_rate = patience.min_rate_bytes_per_s.unwrap_or(0);
        let least = min_rate.saturating_mul(self.total.as_secs());
        idle >= patience.idle_timeout
            || (self.total >= patience.min_rate_grace && received_bytes < least)
    }
}

impl Content for RequestContent {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        self.is_waiting_to_be_asked = false;
        match self.poll_body(context) {
            Poll::Ready(piece) => {
                self.waiting.end(Instant::now());
                if let Piece::Bytes(bytes) = &piece {
                    let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    self.received_bytes = self.received_bytes.saturating_add(count);
                }
                Poll::Ready(piece)
            }
            Poll::Pending => self.poll_timer(context),
        }
    }

    fn trailer_checksum(&mut self) -> Result<Option<Checksum>, Refusal> {
        self.trailers.as_ref().map_or(Ok(None), tus::decode_trailers)
    }

    fn is_announced(&self) -> bool {
        self.announcer.as_ref().is_some_and(Announcer::is_of_creation)
    }

    fn recorded(&mut self, upload: &Upload) {
        if let Some(announcer) = &mut self.announcer {
            announcer.tell(upload);
        }
    }
}

impl Drop for RequestContent {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if !self.is_waiting_to_be_asked && !body.is_end_stream() {
            self.drains.spawn(timeout(DRAIN_TIME, drain(body)));
        }
    }
}

/// Reads on, to a bound, and throws it away.
async fn drain(mut body: Incoming) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let count = frame.data_ref().map_or(0, Buf::remaining);
        match left.checked_sub(count) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The content of a response.
pub(super) enum ResponseBody {
    /// Some text, or nothing.
    Whole(Bytes),
    /// Bytes as they are read.
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, StorageError>> + Send>>),
}

impl ResponseBody {
    pub(super) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }

    /// The bytes that `next` returns, up to the first empty ones. Every call gets the state that
    /// the one before returned.
    pub(super) fn from_reads<S, F, R>(state: S, next: F) -> Self
    where
        S: Send + 'static,
        F: FnMut(S) -> R + Send + 'static,
        R: Future<Output = Result<Option<(Bytes, S)>, StorageError>> + Send + 'static,
    {
        Self::Stream(Box::pin(stream::try_unfold(state, next)))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = StorageError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StorageError>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(stream) => stream
                .as_mut()
                .poll_next(context)
                .map(|next| next.map(|read| read.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn time_in_which_nobody_asked_is_not_the_peers() {
        let patience = Connections {
            min_rate_bytes_per_s: Some(1000),
            min_rate_grace: Duration::from_secs(5),
            ..Settings::default().connections
        };
        let mut waiting = Waiting::default();
        let mut now = Instant::now();
        // Each time the disk takes ten seconds, and bytes are there when the engine asks again.
        for _ in 0..4 {
            waiting.go_on(now);
            now += Duration::from_secs(10);
            waiting.end(now);
        }
        let idle = waiting.go_on(now);
        assert!(!waiting.is_too_long(idle, 4000, &patience));
        for _ in 0..5 {
            now += RATE_INTERVAL;
            waiting.go_on(now);
        }
        let idle = waiting.go_on(now);
        assert!(waiting.is_too_long(idle, 4000, &patience), "{waiting:?}");
    }
}
