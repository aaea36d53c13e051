//! `resumed completions` and `resumed man`: what packages install beside the program.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

pub(crate) fn completions_command() -> Command {
    let shell = Arg::new("shell").required(true).value_parser(value_parser!(Shell));
    Command::new("completions").about("Print completions for a shell").arg(shell)
}

pub(crate) fn man_command() -> Command {
    let folder = Arg::new("folder").value_name("FOLDER").value_parser(value_parser!(PathBuf));
    let help =
        "Write one page a command into this folder, rather than the first to standard output";
    Command::new("man").about("Print the man pages").arg(folder.help(help))
}

pub(crate) fn completions(matches: &ArgMatches, mut program: Command) -> ExitCode {
    let Some(shell) = matches.get_one::<Shell>("shell") else { return ExitCode::FAILURE };
    let mut text = Vec::new();
    clap_complete::generate(*shell, &mut program, "resumed", &mut text);
    told(io::stdout().write_all(&text))
}

pub(crate) fn man(matches: &ArgMatches, program: Command) -> ExitCode {
    told(match matches.get_one::<PathBuf>("folder") {
        Some(folder) => clap_mangen::generate_to(program, folder),
        None => clap_mangen::Man::new(program).render(&mut io::stdout()),
    })
}

fn told(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads only the first lines has what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("resumed: {error}");
            ExitCode::FAILURE
        }
    }
}
