//! The commands of the program, one a file: each has its part of the command line, `command`, and
//! carries it out, `run`.

pub(crate) mod check;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod put;
pub(crate) mod serve;
pub(crate) mod shell;

use std::process::ExitCode;
use std::{env, io};

use clap::ArgMatches;
use resumed::client::failure::FailureKind;
use resumed::settings::{Settings, flags};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The command line or the settings are wrong; clap uses the same code.
const EXIT_USAGE: u8 = 2;

/// The settings that flags, environment and file give; or the exit code, when that was told.
fn settings(matches: &ArgMatches) -> Result<Settings, ExitCode> {
    Settings::resolve(&flags::given(matches), env::vars_os()).map_err(|error| {
        eprintln!("resumed: {error}");
        ExitCode::from(EXIT_USAGE)
    })
}

/// What is cancelled by SIGINT and SIGTERM. A second one ends the process at once.
fn stop_on_signal() -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told.is_cancelled() {
                std::process::exit(FailureKind::Interrupted.exit_code().into());
            }
            told.cancel();
        }
    });
    Ok(stop)
}
