//! Whether a connection is worth keeping: what is under way on it, and since when nothing happened
//! but waiting for its peer.
//!
//! On HTTP/1.1, from the first request on, the timeouts of hyper and of the socket know better. On
//! HTTP/2 there are none: the connection of a peer that asks for nothing, or that gives no window
//! for what it asked for, would stay for ever.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::body::ResponseBody;
use crate::storage::StorageError;

/// What a peer on HTTP/2 has to take at least within the idle timeout, in bytes: with whole pieces
/// a slow line would count as a stalled one.
const STEP_BYTES: usize = 64 << 10;

/// What is under way on one connection.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// The first request tells it.
    version: Option<Version>,
    /// Requests that are not answered to the end.
    requests: usize,
    /// Those of them whose peer has to read before more of the answer can be sent.
    unread: usize,
    /// The last change.
    since: Instant,
}

/// Why a connection is not worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// The peer has all that it asked for.
    Idle,
    /// The peer never asked for anything as a whole, or does not read.
    Stalled,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let state = State { version: None, requests: 0, unread: 0, since: Instant::now() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Notes a request, until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Running {
        self.change(|state| {
            state.version = Some(version);
            state.requests = state.requests.saturating_add(1);
        });
        let is_http2 = version == Version::HTTP_2;
        Running { activity: Arc::clone(self), is_http2, is_unread: false }
    }

    /// Returns when, from now on, no first request came for `first`, no other one was under way for
    /// `idle`, or the peer did not read on for `unread` and there was nothing else to do. What it
    /// was tells how to end the connection.
    pub(super) async fn ends(&self, first: Duration, idle: Duration, unread: Duration) -> Rest {
        let from = Instant::now();
        // Nobody tells of a change: a little late is early enough.
        let look_again = first.min(unread);
        loop {
            let State { version, requests, unread: waiting, since } = *self.state.lock();
            if version.is_some_and(|version| version != Version::HTTP_2) {
                return pending().await;
            }
            let patience = match version {
                None => first,
                Some(_) if requests == 0 => idle,
                Some(_) => unread,
            };
            let left = since.max(from) + patience - Instant::now();
            let is_at_work = requests > waiting;
            if !is_at_work && left.is_zero() {
                let is_idle = version.is_some() && requests == 0;
                return if is_idle { Rest::Idle } else { Rest::Stalled };
            }
            sleep(if is_at_work { look_again } else { left.min(look_again) }).await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.since = Instant::now();
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Running {
    activity: Arc<Activity>,
    is_http2: bool,
    is_unread: bool,
}

impl Running {
    fn set_unread(&mut self, is_unread: bool) {
        if self.is_unread == is_unread {
            return;
        }
        self.is_unread = is_unread;
        self.activity.change(|state| {
            state.unread = if is_unread {
                state.unread.saturating_add(1)
            } else {
                state.unread.saturating_sub(1)
            };
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.set_unread(false);
        self.activity.change(|state| state.requests = state.requests.saturating_sub(1));
    }
}

/// The content of an answer, which tells the connection's activity how it is read.
pub(super) struct WatchedBody {
    body: ResponseBody,
    /// What is left of the last piece.
    rest: Bytes,
    running: Running,
}

impl WatchedBody {
    pub(super) fn new(body: ResponseBody, running: Running) -> Self {
        Self { body, rest: Bytes::new(), running }
    }

    fn step(&mut self) -> Option<Result<Frame<Bytes>, StorageError>> {
        let step = self.rest.split_to(self.rest.len().min(STEP_BYTES));
        self.running.set_unread(true);
        Some(Ok(Frame::data(step)))
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = StorageError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StorageError>>> {
        if !self.running.is_http2 {
            return Pin::new(&mut self.body).poll_frame(context);
        }
        // Whoever asks for more has taken what there was.
        self.running.set_unread(false);
        if !self.rest.is_empty() {
            return Poll::Ready(self.step());
        }
        let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(context) else {
            return Poll::Pending;
        };
        match next.map(|read| read.map(Frame::into_data)) {
            Some(Ok(Ok(piece))) => {
                self.rest = piece;
                Poll::Ready(self.step())
            }
            Some(Ok(Err(frame))) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        match self.body.size_hint().exact() {
            Some(bytes) => SizeHint::with_exact(bytes.saturating_add(rest)),
            None => SizeHint::default(),
        }
    }
}
