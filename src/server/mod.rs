//! How HTTP reaches the engine. hyper lives here.
//!
//! One port speaks HTTP/1.1 and, to clients that begin with its preface, HTTP/2 without TLS.

mod body;
mod cors;

mod handle;
mod location;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::body::Patience;
pub use self::cors::CorsPolicy;
use self::handle::Handler;
pub use self::location::Locations;
use crate::engine::Engine;

/// What one HTTP/2 stream may send before it is read, in bytes: the default of 64 KiB makes
/// uploads slow on long lines.
const HTTP2_STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection.
const HTTP2_CONNECTION_WINDOW: u32 = 4 << 20;
/// How long the listener rests after it could not accept, as when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How connections are treated.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where the uploads are.
    pub locations: Locations,
    /// What pages of other origins may do.
    pub cors: CorsPolicy,
    /// How long the content of a request is waited for.
    pub patience: Patience,
    /// How long the head of a request is waited for.
    pub header_timeout: Duration,
    /// The largest head of a request in bytes.
    pub max_header_bytes: usize,
    /// The connections that are served at once; others wait to be accepted.
    pub max_connections: usize,
    /// How long running requests may take to end when the server stops.
    pub shutdown_timeout: Duration,
}

/// Serves until `shutdown` is cancelled: then no connection is accepted, the content of every
/// append ends, what came is saved and answered, and this returns within the shutdown timeout.
pub async fn run(
    listener: TcpListener,
    engine: Arc<Engine>,
    options: ServerOptions,
    shutdown: CancellationToken,
) {
    let connections = Connections::new(Arc::clone(&engine), options);
    let sweep = tokio::spawn(Arc::clone(&engine).sweep_forever());
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = connections.accept_forever(&listener) => {}
    }
    drop(listener);
    connections.stop(&engine).await;
    if let Err(died) = sweep.await {
        tracing::error!(%died, "the sweep had ended before");
    }
}

/// The connections that are open, and what they are served with.
struct Connections {
    handler: Arc<Handler>,
    builder: auto::Builder<TokioExecutor>,
    permits: Arc<Semaphore>,
    graceful: GracefulShutdown,
    tasks: TaskTracker,
    header_timeout: Duration,
    shutdown_timeout: Duration,
}

impl Connections {
    fn new(engine: Arc<Engine>, options: ServerOptions) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_buf_size(options.max_header_bytes.max(MIN_BUFFER_BYTES));
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX));
        let tasks = TaskTracker::new();
        let handler = Arc::new(Handler {
            engine,
            locations: options.locations,
            cors: options.cors,
            patience: options.patience,
            drains: tasks.clone(),
        });
        Self {
            handler,
            builder,
            permits: Arc::new(Semaphore::new(options.max_connections)),
            graceful: GracefulShutdown::new(),
            tasks,
            header_timeout: options.header_timeout,
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
        let has_begun = CancellationToken::new();
        let begins = has_begun.clone();
        let service = service_fn(move |request| {
            begins.cancel();
            let handler = Arc::clone(&handler);
            async move { Ok::<_, Infallible>(handler.handle(request).await) }
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = self.graceful.watch(connection);
        let patience = self.header_timeout;
        self.tasks.spawn(async move {
            let _permit = permit;
            let mut connection = pin!(connection);
            // hyper's own timeout does not cover the bytes that tell the version of HTTP.
            tokio::select! {
                ended = connection.as_mut() => return log_end(ended),
                () = has_begun.cancelled() => {}
                () = sleep(patience) => return,
            }
            log_end(connection.await);
        });
    }

    /// Ends what is under way, and waits for its answers to be sent.
    async fn stop(self, engine: &Engine) {
        let ending = async {
            tokio::join!(engine.stop(), self.graceful.shutdown());
            self.tasks.close();
            self.tasks.wait().await;
        };
        if timeout(self.shutdown_timeout, ending).await.is_err() {
            tracing::warn!("some requests did not end in time and are dropped");
        }
    }
}

fn log_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended badly");
    }
}

/// hyper's least buffer for one HTTP/1.1 connection, in bytes.
const MIN_BUFFER_BYTES: usize = 64 << 10;
