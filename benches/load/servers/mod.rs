//! The servers that are measured: each starts fresh, on a folder of its own.

mod bare;
mod nginx;
mod node;

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Target;
use crate::usage::Watch;
use crate::{Outcome, refuse};

pub(crate) use bare::{ARGUMENT as BARE_ARGUMENT, serve as serve_bare};

/// How long a server may take to listen or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much memory is taken for each byte that comes. Who needs it next is not given just what was
/// taken and given back: with the same amount, one upload of 1 GiB behind many small files had 0.7 CPU
/// s/GB in place of the 0.35 that it has by itself; with three times as much 0.33 to 0.38.
const MEMORY_TIMES: u64 = 3;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `resumed` that promises what its peers do: what it was sent outlives the process, not more.
    AsPeers,
    /// `resumed` with its default settings.
    Default,
    /// `@tus/server` with its file store, as conformance/servers/js pins it.
    Node,
    /// nginx of Debian: no tus server, but the mark for plain files.
    Nginx,
    /// A hyper server that answers as a tus server does and keeps nothing.
    Bare,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::AsPeers, Self::Default, Self::Node, Self::Nginx, Self::Bare];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AsPeers => "resumed, as the peers",
            Self::Default => "resumed, default",
            Self::Node => "@tus/server",
            Self::Nginx => "nginx",
            Self::Bare => "bare hyper",
        }
    }

    /// Whether files are sent to it with PUT.
    pub(crate) const fn takes_put(self) -> bool {
        matches!(self, Self::Nginx)
    }

    /// Installs what a fresh machine lacks; tells why it cannot be measured.
    pub(crate) fn install(self) -> Outcome<()> {
        match self {
            Self::Nginx => nginx::install(),
            Self::Node => node::install(),
            Self::AsPeers | Self::Default | Self::Bare => Ok(()),
        }
    }
}

/// A server that runs, and ends with this value.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    resumed: PathBuf,
    folder: PathBuf,
    child: Child,
    /// Kept open, so that what the server writes there later does not end it.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts one on an empty folder, or on that of one before it.
    ///
    /// `resumed` is the program to start for the two kinds of it.
    pub(crate) fn start(kind: Kind, resumed: &Path, folder: &Path) -> Outcome<Self> {
        let (folder, resumed) = (folder.to_owned(), resumed.to_owned());
        if kind == Kind::Nginx {
            let (child, port) = nginx::start(&folder)?;
            let target = Target { authority: format!("127.0.0.1:{port}"), path: "/".to_owned() };
            let server = Self { kind, target, resumed, folder, child, _stdout: None };
            wait_for(port)?;
            return Ok(server);
        }
        let mut command = match kind {
            Kind::AsPeers | Kind::Default => resumed_command(kind, &resumed, &folder),
            Kind::Node => node::command(&folder.join("data")),
            Kind::Bare | Kind::Nginx => bare::command()?,
        };
        fs::create_dir_all(folder.join("data"))?;
        let errors = File::options().create(true).append(true).open(folder.join("errors"))?;
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn()?;
        let mut stdout = child.stdout.take().map(BufReader::new);
        let target = Target { authority: String::new(), path: String::new() };
        let mut line = String::new();
        stdout.as_mut().map(|stdout| stdout.read_line(&mut line)).transpose()?;
        let mut server = Self { kind, target, resumed, folder, child, _stdout: stdout };
        let Some(begin) = line.find("http://") else {
            return refuse(format!("it does not start (it said: {})", server.said()));
        };
        let ends = |sign: char| sign.is_whitespace() || sign == ',';
        let url = line[begin..].split(ends).next().unwrap_or_default();
        server.target = Target::parse(url)?;
        Ok(server)
    }

    /// Ends it, and starts another on the same data: its memory is that of what comes now.
    pub(crate) fn restart(&mut self) -> Outcome<()> {
        self.stop();
        *self = Self::start(self.kind, &self.resumed, &self.folder)?;
        Ok(())
    }

    /// Begins to look at its CPU time, with nothing left to do for the disk from before, and with
    /// memory at hand for so many bytes that come.
    pub(crate) fn watch(&self, bytes: u64) -> Outcome<Watch> {
        rustix::fs::syncfs(File::open(&self.folder)?)?;
        take_memory(bytes.saturating_mul(MEMORY_TIMES))?;
        Watch::begin(self.child.id())
    }

    /// The end of what it wrote to standard error.
    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(self.folder.join("errors")).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(3).collect();
        last.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    fn stop(&mut self) {
        // The id of one that has ended may be another's by now.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = id.map(|id| kill_process(id, Signal::TERM));
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The default is that of a user who gives no settings, so it logs each upload, too: to a file.
fn resumed_command(kind: Kind, program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().args(["serve", "--listen", "127.0.0.1:0"]);
    // Those who wait beyond the default of 10,000 would not be served while as many are idle.
    command.args(["--max-connections", "12000", "--data-dir"]).arg(folder.join("data"));
    if kind == Kind::AsPeers {
        command.args(["--durability", "process", "--tree", "off", "--log", "warn"]);
    }
    command
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for(port: u16) -> Outcome<()> {
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begin.elapsed() > PATIENCE {
            return refuse(format!("nothing listens on port {port}"));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Runs an install step to its end.
fn run(command: &mut Command) -> Outcome<()> {
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    refuse(format!("{command:?}: {}", said.lines().last().unwrap_or("failed")))
}

/// Takes so much memory and gives it back: the host of a virtual machine may give it out late, and
/// what that costs would count for the server that happens to be the first to need it.
fn take_memory(bytes: u64) -> Outcome<()> {
    std::hint::black_box(vec![1_u8; usize::try_from(bytes)?]);
    Ok(())
}
