//! The program `resumed`: reads the command line and hands over to the command that it names.

mod commands;

use std::process::ExitCode;

use clap::Command;

fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return commands::refuse(&error),
    };
    match matches.subcommand() {
        Some(("check", matches)) => commands::check::run(matches),
        Some(("completions", matches)) => commands::shell::completions(matches, command()),
        Some(("get", matches)) => commands::get::run(matches),
        Some(("man", matches)) => commands::shell::man(matches, command()),
        Some(("import", matches)) => commands::import::run(matches),
        Some(("put", matches)) => commands::put::run(matches),
        Some(("serve", matches)) => commands::serve::run(matches),
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
        .subcommand(commands::serve::command())
        .subcommand(commands::get::command())
        .subcommand(commands::put::command())
        .subcommand(commands::check::command())
        .subcommand(commands::shell::completions_command())
        .subcommand(commands::shell::man_command())
        .subcommand(commands::import::command())
}
