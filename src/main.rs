//! The program `resumed`: reads the command line, sets up logging and hands over to the library.

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use resumed::settings::{LogFormat, Logging, Settings, flags};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// The command line or the settings are wrong; clap uses the same code.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("serve", matches)) => serve_command(matches),
        _ => unreachable!("clap lets no other subcommand through"),
    }
}

fn command() -> Command {
    Command::new("resumed")
        .about("Makes uploads of large files always finish, and downloads of them too")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(flags::serve_command())
}

fn serve_command(matches: &ArgMatches) -> ExitCode {
    let settings = match Settings::resolve(&flags::given(matches), env::vars_os()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("resumed: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    set_up_log(&settings.logging);
    match serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("resumed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the process is told to stop.
fn serve(_settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    Err("this build has no server yet".into())
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
