//! `resumed get`: fetches files.

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::{fs, io};

use clap::{ArgMatches, Args, Command, FromArgMatches};
use resumed::client::Client;
use resumed::client::failure::{Failure, FailureKind};
use resumed::client::report::Reporter;
use resumed::clock::Clock;
use resumed::download::flags::GetFlags;
use resumed::download::{Destination, Download, Getter, parse_list};

pub(crate) fn command() -> Command {
    GetFlags::augment_args(Command::new("get"))
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let flags = match GetFlags::from_arg_matches(matches) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    let is_stdout = flags.output.as_deref().is_some_and(|path| path == "-");
    let reporter = Reporter::new(flags.client.style(), is_stdout);
    match get(&flags, is_stdout, &reporter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(kind) => ExitCode::from(kind.exit_code()),
    }
}

/// Fetches all there is to fetch. The kind of the first failure, each of which was told.
fn get(flags: &GetFlags, is_stdout: bool, reporter: &Arc<Reporter>) -> Result<(), FailureKind> {
    let told = |name: &str, failure: &Failure| {
        reporter.failed(name, failure);
        failure.kind()
    };
    let downloads = downloads(flags, is_stdout).map_err(|failure| told("get", &failure))?;
    // A thread for each connection, since each writes to the file where it reads, and one more.
    let threads = usize::from(flags.connections).saturating_add(1);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime
        .map_err(|error| told("get", &Failure::network("the runtime does not start", error)))?;
    let outcome = runtime.block_on(async {
        let stop = super::stop_on_signal()
            .map_err(|error| told("get", &Failure::network("signals cannot be awaited", error)))?;
        let getter = Getter {
            client: Arc::new(Client::new(flags.client.options(), Clock::System)),
            reporter: Arc::clone(reporter),
            connections: flags.connections.into(),
            max_tries: flags.client.max_tries,
            force: flags.force,
            no_restart: flags.no_restart,
            stop,
        };
        let mut first = Ok(());
        for download in &downloads {
            if let Err(failure) = Box::pin(getter.get(download)).await {
                let kind = told(&download.name(), &failure);
                first = first.and(Err(kind));
                if kind == FailureKind::Interrupted {
                    break;
                }
            }
        }
        first
    });
    // What still waits for a name server, say, need not be waited for.
    runtime.shutdown_background();
    outcome
}

fn downloads(flags: &GetFlags, is_stdout: bool) -> Result<Vec<Download>, Failure> {
    let to = if is_stdout { Destination::Stdout } else { Destination::Path(flags.output.clone()) };
    let lists = match &flags.input {
        None => vec![flags.urls.clone()],
        Some(path) => {
            let text = if path == "-" {
                let mut text = String::new();
                io::stdin().read_to_string(&mut text).map(|_| text)
            } else {
                fs::read_to_string(path)
            };
            let text = text.map_err(|error| Failure::disk("read", path, error))?;
            parse_list(&text).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))?
        }
    };
    let no_folder = flags.output.as_deref().filter(|path| !is_stdout && !path.is_dir());
    if let Some(path) = no_folder.filter(|_| lists.len() > 1) {
        return Err(match path.exists() {
            true => Failure::usage("several files need a folder as --output"),
            false => Failure::no_folder(path),
        });
    }
    let (expect, is_listed) = (flags.expect.clone(), flags.input.is_some());
    Ok(lists
        .into_iter()
        .map(|urls| Download { urls, to: to.clone(), expect: expect.clone(), is_listed })
        .collect())
}
