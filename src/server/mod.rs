//! How HTTP reaches the engine. hyper lives here.
//!
//! One port speaks HTTP/1.1 and, to clients that begin with its preface, HTTP/2 without TLS.

mod activity;
mod again;
mod announce;
mod beside;
mod body;
mod cors;

mod digests;
mod download;
mod handle;
mod interim;
mod location;
mod metalink;
mod receive;

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::activity::{Activity, Rest, WatchedBody};
use self::again::polled_again;
use self::handle::Handler;
use self::interim::{InterimLine, InterimStream};
use self::location::Locations;
use self::receive::ReceivingStream;
use crate::engine::Engine;
use crate::settings::{Connections, Settings};

/// What one HTTP/2 stream may send before it is read, in bytes: the default of 64 KiB makes
/// uploads slow on long lines.
const HTTP2_STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection.
const HTTP2_CONNECTION_WINDOW: u32 = 4 << 20;
/// What no request of HTTP/1.1 begins with, and the preface of HTTP/2 does (RFC 9113 §3.4).
const HTTP2_BEGIN: &[u8; 3] = b"PRI";
/// How long the listener rests after it could not accept, as when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What is left of a timeout at least, so that looking again and again costs little.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);
/// How long a connection on which nothing is under way has to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves until `shutdown` is cancelled: then no connection is accepted, the content of every
/// append ends, what came is saved and answered, and this returns within the shutdown timeout.
pub async fn run(
    listener: TcpListener,
    engine: Arc<Engine>,
    settings: &Settings,
    shutdown: CancellationToken,
) {
    let serving = Serving::new(Arc::clone(&engine), settings);
    let sweep = tokio::spawn(Arc::clone(&engine).sweep_forever());
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = serving.accept_forever(&listener) => {}
    }
    drop(listener);
    serving.stop(&engine).await;
    if let Err(died) = sweep.await {
        tracing::error!(%died, "the sweep had ended before");
    }
}

/// The connections that are open, and what they are served with.
struct Serving {
    handler: Arc<Handler>,
    builders: Arc<Builders>,
    permits: Arc<Semaphore>,
    /// The connections that are read much at once.
    large: Arc<Semaphore>,
    /// Tells the connections to end with the requests that are under way.
    closing: CancellationToken,
    tasks: TaskTracker,
    header_timeout: Duration,
    idle_timeout: Duration,
    shutdown_timeout: Duration,
}

impl Serving {
    fn new(engine: Arc<Engine>, settings: &Settings) -> Self {
        let options = Arc::new(settings.connections.clone());
        let tasks = TaskTracker::new();
        let handler = Arc::new(Handler {
            engine,
            locations: Locations(settings.listening.clone()),
            cors: settings.cors.clone(),
            patience: Arc::clone(&options),
            drains: tasks.clone(),
        });
        Self {
            handler,
            builders: Arc::new(Builders::new(&options)),
            permits: Arc::new(Semaphore::new(options.max_connections)),
            large: Arc::new(Semaphore::new(receive::MOST_LARGE)),
            closing: CancellationToken::new(),
            tasks,
            header_timeout: options.header_timeout,
            idle_timeout: options.idle_timeout,
            shutdown_timeout: options.shutdown_timeout,
        }
    }

    async fn accept_forever(&self, listener: &TcpListener) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => self.serve(stream, permit),
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
        let handler = Arc::clone(&self.handler);
        let line = InterimLine::default();
        let interim_line = line.clone();
        let activity = Activity::new();
        let watched = Arc::clone(&activity);
        let service = service_fn(move |request: Request<Incoming>| {
            let running = watched.begin(request.version());
            let handler = Arc::clone(&handler);
            let interim = line.open(request.version());
            let (parts, body) = request.into_parts();
            // A future has a place for each hand that an argument goes through.
            let parts = Box::new(parts);
            async move {
                let response = handler.handle((parts, body), &interim).await;
                interim.finish().await;
                Ok::<_, Infallible>(response.map(|body| WatchedBody::new(body, running)))
            }
        });
        let accepted = Instant::now();
        let (builders, closing) = (Arc::clone(&self.builders), self.closing.clone());
        let large = Arc::clone(&self.large);
        let (first, unread) = (self.header_timeout, self.idle_timeout);
        // The end of an answer may still be on its way.
        let idle = first.max(unread);
        self.tasks.spawn(async move {
            let _permit = permit;
            let is_http1 = tokio::select! {
                is_http1 = begins_as_http1(&stream) => is_http1,
                () = closing.cancelled() => return,
                () = sleep(first) => return,
            };
            // The peer has this long for its first request as a whole.
            let first = first.saturating_sub(accepted.elapsed()).max(LEAST_PATIENCE);
            // A peer that does not read what it asked for must not hold what is kept for it.
            let stream = ReceivingStream::new(stream, large);
            let stream = InterimStream::new(stream, interim_line);
            let mut stream = Box::pin(TimeoutStream::new(stream));
            stream.as_mut().set_write_timeout_pinned(Some(unread));
            let stream = TokioIo::new(stream);
            let ends = Ends { activity, closing, first, idle, unread };
            if is_http1 {
                let connection = builders.of_http1.serve_connection(stream, service);
                ends.see_through(Box::pin(connection)).await;
            } else {
                let connection = builders.of_both.serve_connection(stream, service);
                ends.see_through(Box::pin(connection)).await;
            }
        });
    }

    /// Ends what is under way, and waits for its answers to be sent.
    async fn stop(self, engine: &Engine) {
        let ending = async {
            self.closing.cancel();
            engine.stop().await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        if timeout(self.shutdown_timeout, ending).await.is_err() {
            tracing::warn!("some requests did not end in time and are dropped");
        }
    }
}

/// What ends a connection besides its peer.
struct Ends {
    activity: Arc<Activity>,
    closing: CancellationToken,
    /// How long the peer has for its first request, and for the next one.
    first: Duration,
    idle: Duration,
    /// How long a peer may leave an answer unread.
    unread: Duration,
}

impl Ends {
    /// Serves until the connection ends. A future keeps a place for what it was given beside the one
    /// where it is used, which for a connection is 600 bytes; hence the box.
    async fn see_through<C>(self, mut connection: Pin<Box<C>>)
    where
        C: GracefulConnection<Error: Display>,
    {
        let Self { activity, closing, first, idle, unread } = self;
        // hyper's own timeout covers neither the bytes that tell the version of HTTP nor HTTP/2.
        tokio::select! {
            ended = polled_again(connection.as_mut()) => return log_end(ended),
            () = closing.cancelled() => {}
            rest = activity.ends(first, idle, unread) => {
                if rest == Rest::Stalled {
                    return;
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection => log_end(ended),
            _ = activity.ends(FAREWELL, FAREWELL, unread) => {}
        }
    }
}

/// How connections are served.
struct Builders {
    of_http1: http1::Builder,
    of_both: auto::Builder<TokioExecutor>,
}

impl Builders {
    fn new(options: &Connections) -> Self {
        let mut of_http1 = http1::Builder::new();
        of_http1
            // A client that sent all and went away: its content is still to be taken.
            .half_close(true)
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_header_size(options.max_header_bytes)
            .max_buf_size(options.max_header_bytes.max(receive::LARGE_BYTES));
        let mut of_both = auto::Builder::new(TokioExecutor::new());
        // Who begins as HTTP/2 does and speaks HTTP/1.1 after all. A head ends with the buffer here.
        of_both
            .http1()
            .half_close(true)
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_buf_size(options.max_header_bytes);
        of_both
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX));
        Self { of_http1, of_both }
    }
}

/// Whether the peer begins as only HTTP/1.1 does, as most do; its bytes are left to be read. The builder
/// that would find that out itself takes their first bytes apart from the others, and the buffer they
/// are read into grows to 16 KiB for it.
async fn begins_as_http1(stream: &TcpStream) -> bool {
    let mut first = [0; HTTP2_BEGIN.len()];
    let seen = stream.peek(&mut first).await.unwrap_or(0);
    seen > 0 && first.iter().zip(HTTP2_BEGIN).take(seen).any(|(a, b)| a != b)
}

fn log_end(ended: Result<(), impl Display>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
