//! `resumed serve`: sets up logging, opens the stores and runs the server.

use std::env;
use std::error::Error;
use std::io::{self, IsTerminal, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, Command};
use resumed::clock::Clock;
use resumed::engine::Engine;
use resumed::server;
use resumed::settings::{LogFormat, Logging, Settings, flags};
use resumed::storage::StorageError;
use resumed::storage::file::FileStore;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::memory;

/// The threads that may wait for the disk at once. Each takes some 13 KB from then on, and tokio would
/// start 512 when thousands of uploads end in the same moment; no disk is faster with so many.
const BLOCKING_THREADS: usize = 128;

/// The connections that wait to be accepted; the system may allow less. Who comes when it is full tries
/// again after a second, then after three: so do all clients at once that lost a server. Who still waits
/// when the server stops is refused.
const BACKLOG: u32 = 4096;

pub(crate) fn command() -> Command {
    flags::serve_command()
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let settings = match super::settings(matches) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    set_up_log(&settings.logging);
    match serve(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("resumed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the process is told to stop.
fn serve(settings: &Settings) -> Result<(), Box<dyn Error>> {
    memory::set_up();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
    let served = runtime.block_on(serve_async(settings));
    // What still reads a file for a client that is gone need not be waited for.
    runtime.shutdown_background();
    served
}

async fn serve_async(settings: &Settings) -> Result<(), Box<dyn Error>> {
    raise_descriptor_limit(settings.connections.max_connections);
    let storage = &settings.storage;
    let in_folder = |error: StorageError| {
        format!("cannot use the data folder {}: {error}", storage.data_dir.display())
    };
    let folder = DataFolder::open(&storage.data_dir).map_err(in_folder)?;
    let records = SledStore::open(&folder, storage.durability).map_err(in_folder)?;
    let data =
        FileStore::open(&folder, storage.durability, storage.min_free_bytes).map_err(in_folder)?;
    let engine =
        Engine::new(Arc::new(records), Arc::new(data), Clock::System, settings.uploads.clone());
    let address = settings.listening.address;
    let listener =
        listen(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let shutdown = CancellationToken::new();
    let signals = tokio::spawn(cancel_on_signal(shutdown.clone())?);
    writeln!(io::stdout(), "{}", settings.ready_line(listener.local_addr()?)?)?;
    server::run(listener, engine, settings, shutdown).await;
    signals.abort();
    tracing::info!("stopped");
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server may follow another that has just stopped.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets the process open as many files as the system allows it: a connection takes one, and its
/// upload another while bytes come.
fn raise_descriptor_limit(max_connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "could not raise the limit of open files");
    }
    let wanted = u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_mul(2);
    if let Some(allowed) = limit.maximum.filter(|allowed| *allowed < wanted) {
        tracing::warn!(allowed, wanted, "fewer files may be open than max-connections can need");
    }
}

/// Waits for SIGTERM or SIGINT, and then tells the server to stop.
fn cancel_on_signal(shutdown: CancellationToken) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: running requests are ended, what they sent is kept");
        shutdown.cancel();
    })
}

/// Sends events to standard error; standard output is for the ready line.
fn set_up_log(logging: &Logging) {
    let lines = fmt::layer().with_writer(io::stderr);
    let has_colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let lines = match logging.format {
        LogFormat::Text => lines.with_ansi(has_colours).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(logging.filter.clone())).init();
}
