//! `resumed` beside other servers, on this machine: throughput, rates, latencies, CPU and memory.
//!
//! `cargo bench --bench load`, with `-- SCENARIO…` for some of the scenarios; benches/README.md has
//! the options, the traps and the tables. It starts the servers itself, and one is always fresh and
//! on an empty folder. Those of a scenario take turns, since figures that were not measured in the
//! same minute cannot be compared; ratios are those of one round. What the machine allows is
//! measured before the first scenario and behind each.

mod arguments;
mod client;
mod figures;
mod goals;
mod limits;
mod machine;
mod payload;
mod plan;
mod report;
mod runner;
mod servers;
mod spread;
mod usage;
mod work;

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;
use crate::plan::Scenario;
use crate::runner::Runner;

/// What may go wrong ends a scenario, with a message.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Threads of the client, as many as this project's goals were set with.
const CLIENT_THREADS: usize = 2;
/// The most files that a server, and the client, may open: the goals for idle uploads say so.
const DESCRIPTORS: u64 = 20_000;

fn refuse<T>(why: String) -> Outcome<T> {
    Err(why.into())
}

fn main() -> Outcome<ExitCode> {
    if std::env::args().nth(1).as_deref() == Some(servers::BARE_ARGUMENT) {
        servers::serve_bare()?;
    }
    let arguments = Arguments::parse();
    let scenarios = chosen(&arguments.scenarios)?;
    let mut out = io::stdout();
    if arguments.list {
        for scenario in &scenarios {
            writeln!(out, "{:24} {}", scenario.name, scenario.title)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    limit_descriptors()?;
    report::header(&mut out, &arguments)?;
    let mut runner = Runner::new(arguments);
    runner.install(&scenarios)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CLIENT_THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(unless_stopped(async {
        runner.limits().await?;
        for scenario in &scenarios {
            runner.scenario(scenario).await?;
            runner.limits().await?;
        }
        runner.report_limits()
    }))?;
    Ok(if runner.has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is stopped ends its servers and removes its folders.
async fn unless_stopped(work: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        done = work => done,
        _ = terminate.recv() => refuse("stopped".to_owned()),
        _ = interrupt.recv() => refuse("stopped".to_owned()),
    }
}

/// The scenarios of these names, or whose names begin with them.
fn chosen(names: &[String]) -> Outcome<Vec<Scenario>> {
    let begins = |scenario: &Scenario, name: &str| {
        scenario
            .name
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut all = plan::scenarios();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|one| begins(one, name))) {
        return refuse(format!("there is no scenario {name}; --list tells all"));
    }
    all.retain(|one| names.is_empty() || names.iter().any(|name| begins(one, name)));
    Ok(all)
}

/// For this process, and by inheritance for the servers.
fn limit_descriptors() -> Outcome<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Some(maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS)));
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
    Ok(())
}
