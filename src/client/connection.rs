//! One HTTP/1.1 connection, driven by whoever waits for it: no task of its own, so that bytes go from
//! the socket to their reader on one thread, and a dropped connection is closed at once.

use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::activity::{Activity, Watched};
use super::dial::{Dialer, ForwardProxy, Stream};
use super::failure::{Failure, shown};
use super::gather::{Expected, LONGEST};
use super::rate::RateLimit;
use url::Url;

/// The content of a request.
pub type RequestContent = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

type Driver = http1::Connection<TokioIo<Watched<Box<dyn Stream>>>, RequestContent>;

/// The most that is read from a socket at once: what stays in a core's cache until it is written.
/// Memory of this size is used again for the next read, once nobody holds what was read.
const READ_BYTES: usize = 128 << 10;
/// What hyper demands at least.
const LEAST_READ_BYTES: usize = 8 << 10;

/// What became of a request that was not answered.
pub(super) enum Left {
    /// Nothing of it was sent.
    Unsent(Box<Request<RequestContent>>),
    /// The connection ended.
    Closed,
    /// Nothing moved any more.
    Stalled,
}

/// A connection on which one request after the other can be sent.
pub(super) struct Connection {
    sender: SendRequest<RequestContent>,
    /// `None` once it is closed.
    driver: Option<Box<Driver>>,
    activity: Activity,
    expected: Expected,
    /// Under a limit what is held back is the sender's pace.
    may_gather: bool,
    /// Present when requests have to be in absolute form.
    pub(super) proxy: Option<ForwardProxy>,
    /// Whether a request was answered on it before.
    pub(super) is_used: bool,
}

impl Connection {
    /// Opens a connection to where the URL points. Under a limit of the rate little is read at
    /// once, or a slow one would come in lumps.
    pub(super) async fn open(
        dialer: &Dialer,
        url: &Url,
        limit: &RateLimit,
    ) -> Result<Self, Failure> {
        let way = Box::pin(dialer.dial(url)).await?;
        let activity = Activity::new();
        let io = TokioIo::new(Watched::new(way.stream, activity.clone()));
        let read_bytes = limit.piece_bytes(LEAST_READ_BYTES..=READ_BYTES);
        let (sender, driver) =
            http1::Builder::new()
                .max_buf_size(read_bytes)
                .handshake(io)
                .await
                .map_err(|error| Failure::network(format!("no HTTP with {}", shown(url)), error))?;
        let driver = Some(Box::new(driver));
        let (proxy, expected) = (way.proxy, way.expected);
        let may_gather = !limit.is_limited();
        Ok(Self { sender, driver, activity, expected, may_gather, proxy, is_used: false })
    }

    /// Sends a request and waits for the head of its answer, for as long as something moves.
    ///
    /// # Errors
    /// The failure, and what became of the request.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestContent>,
        patience: Duration,
    ) -> Result<Response<Incoming>, (Failure, Left)> {
        let broken = |error: hyper::Error| {
            let is_no_http = error.is_parse();
            let failure = Failure::network("no answer came", error);
            // Who does not speak HTTP will not have learnt it by the next attempt.
            if is_no_http { failure.for_good() } else { failure }
        };
        self.expected.set(0);
        let ready = drive(&mut self.driver, self.sender.ready());
        match self.activity.unless_stalled(patience, ready).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err((broken(error), Left::Unsent(Box::new(request)))),
            Err(stalled) => return Err((stalled, Left::Stalled)),
        }
        let answer = drive(&mut self.driver, self.sender.try_send_request(request));
        let answered = match Box::pin(self.activity.unless_stalled(patience, answer)).await {
            Err(stalled) => return Err((stalled, Left::Stalled)),
            Ok(answered) => answered,
        };
        self.is_used = true;
        answered.map_err(|mut error| {
            let unsent = error.take_message();
            let left = unsent.map_or(Left::Closed, |unsent| Left::Unsent(Box::new(unsent)));
            (broken(error.into_error()), left)
        })
    }

    /// The next bytes of an answer's content; `None` at its end. Trailers are skipped.
    pub(super) async fn next(
        &mut self,
        content: &mut Incoming,
        patience: Duration,
    ) -> Result<Option<Bytes>, Failure> {
        loop {
            // What gathers is not seen to move.
            let may_gather = self.may_gather && patience >= 4 * LONGEST;
            let rest = content.size_hint().exact().filter(|_| may_gather);
            self.expected.set(rest.unwrap_or(0));
            let frame = drive(&mut self.driver, content.frame());
            match self.activity.unless_stalled(patience, frame).await? {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::network("the answer was cut", error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// Runs the connection for as long as `work`, which needs it, takes.
async fn drive<T>(driver: &mut Option<Box<Driver>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if let Some(running) = driver {
            // Its failure reaches the work, too, which tells it in better words.
            if Pin::new(&mut **running).poll(context).is_ready() {
                *driver = None;
            }
            return work.as_mut().poll(context);
        }
        Poll::Pending
    })
    .await
}
