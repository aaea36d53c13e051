//! The commands of the program, one a file: each has its part of the command line, `command`, and
//! carries it out, `run`.

pub(crate) mod check;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod serve;
pub(crate) mod shell;

use std::env;
use std::process::ExitCode;

use clap::ArgMatches;
use resumed::settings::{Settings, flags};

/// The command line or the settings are wrong; clap uses the same code.
const EXIT_USAGE: u8 = 2;

/// The settings that flags, environment and file give; or the exit code, when that was told.
fn settings(matches: &ArgMatches) -> Result<Settings, ExitCode> {
    Settings::resolve(&flags::given(matches), env::vars_os()).map_err(|error| {
        eprintln!("resumed: {error}");
        ExitCode::from(EXIT_USAGE)
    })
}
