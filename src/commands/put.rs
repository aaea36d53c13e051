//! `resumed put`: sends files.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use resumed::client::failure::{Failure, FailureKind};
use resumed::client::report::{Reporter, Style};
use resumed::client::{Client, joined};
use resumed::clock::Clock;
use resumed::send::flags::PutFlags;
use resumed::send::session::Sessions;
use resumed::send::{Sender, shown_name};
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) fn command() -> Command {
    PutFlags::augment_args(Command::new("put"))
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let flags = match PutFlags::from_arg_matches(matches) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    let reporter = Reporter::new(flags.client.style(), false);
    match put(&flags, &reporter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(kind) => ExitCode::from(kind.exit_code()),
    }
}

/// Sends all there is to send. The kind of the first failure, each of which was told.
fn put(flags: &PutFlags, reporter: &Arc<Reporter>) -> Result<(), FailureKind> {
    let told = |name: &str, failure: &Failure| {
        reporter.failed(name, failure);
        failure.kind()
    };
    if let Some(problem) = flags.problem() {
        return Err(told("put", &Failure::usage(problem)));
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime
        .map_err(|error| told("put", &Failure::network("the runtime does not start", error)))?;
    let sessions = sessions(reporter);
    let outcome = runtime.block_on(async {
        let stop = super::stop_on_signal()
            .map_err(|error| told("put", &Failure::network("signals cannot be awaited", error)))?;
        let sender = Arc::new(sender(flags, reporter, sessions, stop));
        let send = |path: PathBuf| {
            let sender = Arc::clone(&sender);
            async move {
                let task = tokio::spawn({
                    let path = path.clone();
                    async move { Box::pin(sender.send(&path)).await }
                });
                (joined(task).await, path)
            }
        };
        let mut sent = iter(flags.files.clone()).map(send).buffer_unordered(flags.jobs.into());
        let mut first = Ok(());
        while let Some((outcome, path)) = sent.next().await {
            let name = shown_name(&path);
            let outcome = outcome.and_then(|url| {
                let is_one = flags.files.len() == 1;
                tell(reporter.style(), &url, (!is_one).then_some(name.as_str()))
            });
            if let Err(failure) = outcome {
                first = first.and(Err(told(&name, &failure)));
                if failure.kind() == FailureKind::Interrupted {
                    break;
                }
            }
        }
        first
    });
    // What still waits for a byte, say, need not be waited for.
    runtime.shutdown_background();
    outcome
}

fn sender(
    flags: &PutFlags,
    reporter: &Arc<Reporter>,
    sessions: Option<Sessions>,
    stop: CancellationToken,
) -> Sender {
    let client = Client::new(flags.client.options(), Clock::System);
    Sender::new(client, Arc::clone(reporter), sessions, flags.options(), stop)
}

/// Where sessions are kept, if they can be.
fn sessions(reporter: &Reporter) -> Option<Sessions> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = Sessions::default_folder(variable("XDG_STATE_HOME"), variable("HOME"));
    let opened = match folder {
        Some(folder) => Sessions::open(folder, &Clock::System).map_err(|error| error.to_string()),
        None => Err("neither XDG_STATE_HOME nor HOME is set".to_owned()),
    };
    let told = |why: &String| {
        reporter.note("put", &format!("another run could not go on with this one: {why}"));
    };
    opened.inspect_err(told).ok()
}

/// Prints where an upload is; with `--json` its event says so.
fn tell(style: Style, url: &Url, name: Option<&str>) -> Result<(), Failure> {
    if style == Style::Json {
        return Ok(());
    }
    let line = name.map_or_else(|| url.to_string(), |name| format!("{url}  {name}"));
    let mut output = io::stdout().lock();
    let written = writeln!(output, "{line}").and_then(|()| output.flush());
    written.map_err(|error| Failure::disk("write to", "standard output".as_ref(), error))
}
