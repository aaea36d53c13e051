//! The commands of the program, one a file: each has its part of the command line, `command`, and
//! carries it out, `run`.

pub(crate) mod check;
pub(crate) mod get;
pub(crate) mod import;
mod memory;
pub(crate) mod put;
pub(crate) mod serve;
pub(crate) mod shell;

use std::process::ExitCode;
use std::{env, io};

use clap::ArgMatches;
use resumed::client::failure::{Failure, FailureKind};
use resumed::client::report::{Reporter, Style};
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

/// Tells what is wrong with the command line, or gives the help that it asks for. Who wants events
/// of a transfer gets one, and no other text.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    let given = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let given: Vec<String> = given.take_while(|argument| argument != "--").collect();
    let name = given.first().map_or("", String::as_str);
    let has = |flag: &str| given.iter().any(|argument| argument == flag);
    if !error.use_stderr() || !["get", "put"].contains(&name) || !has("--json") {
        error.exit();
    }
    let is_stdout = has("-o-")
        || has("--output=-")
        || given.windows(2).any(|two| ["-o", "--output"].contains(&&*two[0]) && two[1] == "-");
    // Behind an empty line it says how to get help.
    let text = error.to_string();
    let (text, _) = text.split_once("\n\n").unwrap_or((&text, ""));
    let words: Vec<&str> = text.trim_start_matches("error: ").split_whitespace().collect();
    let failure = Failure::usage(words.join(" "));
    Reporter::new(Style::Json, name == "get" && is_stdout).failed(name, &failure);
    ExitCode::from(failure.kind().exit_code())
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
