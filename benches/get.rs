//! `resumed get` beside curl, wget2, axel and aria2c: the same file from the same nginx.
//!
//! `cargo bench --bench get`, with `-- MIB` for another length than 1 GiB, and `-- MIB WORD` for the
//! sections with this word in their title. It needs nginx and those of the others that are to be compared.
//! Files are removed between runs; each line is the median of five runs, which take turns, and the peak
//! memory of one more.
//!
//! `get` ends when the file is on the disk, the others when it is in the kernel's cache: so they are
//! also measured with a `sync` of the file after them, and all of them to a file in memory.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

const RUNS: usize = 5;
/// How far the order moves from round to round.
const TURN: usize = 2;
const RESUMED: &str = env!("CARGO_BIN_EXE_resumed");

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A server that ends with the bench.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Outcome<()> {
    let mut given = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let mib: usize = given.next().map_or(Ok(1024), |given| given.parse())?;
    let word = given.next().unwrap_or_default();
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    fs::create_dir(&root)?;
    let content = content(mib << 20);
    fs::write(root.join("file"), &content)?;
    let (_nginx, nginx) = start_nginx(folder.path(), &root)?;
    let (_resumed, upload) = start_resumed(folder.path(), &content)?;
    drop(content);
    let (plain, slow) = (format!("{nginx}/file"), format!("{nginx}/limited/file"));
    let through =
        |stalls| Ok::<_, Box<dyn Error>>(format!("{}/limited/file", proxy(&nginx, stalls)?));
    let stalling = |url: &str| vec![rival("resumed get", RESUMED, "get -q -o out URL", url)];
    let disk = folder.path();
    writeln!(io::stdout(), "{mib} MiB            median s   all runs")?;
    let mut sections = vec![
        ("nginx, no limit", [rivals(&plain, 8), synced(&plain, 8)].concat(), disk),
        ("nginx, 20 MiB/s a connection", limited(&slow), disk),
        ("the same by a proxy", stalling(&through(false)?), disk),
        ("the same, one of eight connections stalled", stalling(&through(true)?), disk),
        (
            "resumed, no limit (get verifies)",
            [rivals(&upload, 8), synced(&upload, 8)].concat(),
            disk,
        ),
    ];
    let memory = tempfile::tempdir_in("/dev/shm");
    if let Ok(memory) = &memory {
        sections.push(("nginx, to a file in memory", rivals(&plain, 8), memory.path()));
    }
    for (title, rivals, folder) in sections.iter().filter(|(title, ..)| title.contains(&word)) {
        section(title, rivals, folder)?;
    }
    Ok(())
}

fn content(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    content
}

/// A command that writes the file `out` in its folder.
#[derive(Clone)]
struct Rival {
    name: String,
    /// What has to be there for it.
    needs: String,
    program: String,
    arguments: Vec<String>,
}

fn rival(name: &'static str, program: &str, arguments: &str, url: &str) -> Rival {
    let arguments = arguments.split(' ').map(|argument| match argument {
        "URL" => url.to_owned(),
        other => other.to_owned(),
    });
    let (name, program, arguments) = (name.to_owned(), program.to_owned(), arguments.collect());
    Rival { name, needs: program.clone(), program, arguments }
}

/// The others, until what they wrote is on the disk.
fn synced(url: &str, connections: usize) -> Vec<Rival> {
    let others = rivals(url, connections).into_iter().skip(1);
    let synced = others.map(|rival| {
        let script = format!("{} {} && sync -d out", rival.program, rival.arguments.join(" "));
        let (program, arguments) = ("sh".to_owned(), vec!["-c".to_owned(), script]);
        Rival { name: format!("{} + sync", rival.name), program, arguments, ..rival }
    });
    synced.collect()
}

fn rivals(url: &str, connections: usize) -> Vec<Rival> {
    let aria2 = format!("-q --file-allocation=none -x{connections} -s{connections} -o out URL");
    vec![
        rival("resumed get", RESUMED, "get -q -o out URL", url),
        rival("curl", "curl", "-s -o out URL", url),
        rival("wget2", "wget2", "-q -O out URL", url),
        rival("axel", "axel", &format!("-q -n {connections} -o out URL"), url),
        rival("aria2c", "aria2c", &aria2, url),
    ]
}

/// Without those that use but one connection: they would take a minute.
fn limited(url: &str) -> Vec<Rival> {
    let mut rivals = rivals(url, 8);
    rivals.retain(|rival| !["curl", "wget2"].contains(&&*rival.name));
    rivals
}

fn section(title: &str, rivals: &[Rival], folder: &Path) -> Outcome<()> {
    let mut out = io::stdout();
    writeln!(out, "\n{title}")?;
    let is_there = |rival: &&Rival| Command::new(&rival.needs).arg("--version").output().is_ok();
    let there: Vec<&Rival> = rivals.iter().filter(is_there).collect();
    let mut times: Vec<Vec<Duration>> = there.iter().map(|_| Vec::new()).collect();
    for round in 0..RUNS {
        // Each is the first of a round, and behind each other one, about as often.
        for turn in 0..there.len() {
            let index = (turn + round * TURN) % there.len();
            times[index].push(run(there[index], folder)?);
        }
    }
    for (rival, mut times) in there.into_iter().zip(times) {
        times.sort_unstable();
        let all: Vec<String> =
            times.iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect();
        let median = times[RUNS / 2].as_secs_f64();
        let memory = peak_memory(rival, folder)?;
        writeln!(out, "  {:13} {median:11.2}   {}   {memory} KiB", rival.name, all.join(" "))?;
    }
    Ok(())
}

fn run(rival: &Rival, folder: &Path) -> Outcome<Duration> {
    let out = folder.join("out");
    let _ = fs::remove_file(&out);
    // What the last run left for the disk to do is not this one's work.
    rustix::fs::sync();
    let begin = Instant::now();
    let mut command = Command::new(&rival.program);
    let status =
        command.args(&rival.arguments).current_dir(folder).stdin(Stdio::null()).status()?;
    let took = begin.elapsed();
    if !status.success() || !out.exists() {
        return Err(format!("{} failed: {status}", rival.name).into());
    }
    Ok(took)
}

/// The most memory that one more run took, by `/proc` while it runs.
fn peak_memory(rival: &Rival, folder: &Path) -> Outcome<u64> {
    let _ = fs::remove_file(folder.join("out"));
    let mut command = Command::new(&rival.program);
    let child = command.args(&rival.arguments).current_dir(folder).stdin(Stdio::null()).spawn()?;
    let mut running = Running(child);
    let status = format!("/proc/{}/status", running.0.id());
    let mut peak = 0;
    while running.0.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        sleep(Duration::from_millis(5));
    }
    Ok(peak)
}

/// What is known of the connections of a proxy.
#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    has_stalled: AtomicBool,
}

/// The URL of a proxy before a server: the third connection of each run stalls after 4 MiB, if any is to.
fn proxy(server: &str, stalls: bool) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = server.trim_start_matches("http://").to_owned();
    let seen = Arc::new(Seen::default());
    spawn(move || {
        for client in listener.incoming().flatten() {
            let (server, seen) = (server.clone(), Arc::clone(&seen));
            let is_third = seen.open.fetch_add(1, Ordering::SeqCst) == 2;
            let stalls = stalls && is_third && !seen.has_stalled.swap(true, Ordering::SeqCst);
            spawn(move || {
                // The client may go whenever it likes.
                let _ = pass_on(&client, &server, stalls);
                if seen.open.fetch_sub(1, Ordering::SeqCst) == 1 {
                    seen.has_stalled.store(false, Ordering::SeqCst);
                }
            });
        }
    });
    Ok(url)
}

fn pass_on(client: &TcpStream, server: &str, stalls: bool) -> io::Result<()> {
    let upstream = TcpStream::connect(server)?;
    let (mut asks, mut asked) = (client.try_clone()?, upstream.try_clone()?);
    let asking = spawn(move || {
        let copied = io::copy(&mut asks, &mut asked);
        // A client that is gone ends both ways, also of one that stalls.
        let _ = asked.shutdown(Shutdown::Both);
        copied
    });
    let (mut from, mut to) = (&upstream, client);
    let most = if stalls { 4 << 20 } else { u64::MAX };
    let copied = io::copy(&mut (&mut from).take(most), &mut to);
    if !stalls || copied.is_err() {
        let _ = client.shutdown(Shutdown::Both);
    }
    // One that stalls lasts until the client goes.
    let _ = asking.join();
    copied.map(|_| ())
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for(port: u16) -> Outcome<()> {
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    Err("a server does not listen".into())
}

fn start_nginx(folder: &Path, root: &Path) -> Outcome<(Running, String)> {
    let port = free_port()?;
    let root = root.display();
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let config = format!(
        "{user} daemon off; master_process off; pid nginx.pid; error_log error.log;
         events {{ worker_connections 256; }}
         http {{ access_log off; sendfile on; tcp_nopush on;
           client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
           server {{ listen 127.0.0.1:{port}; root {root};
             location /limited/ {{ alias {root}/; limit_rate 20m; }} }} }}"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config)?;
    let nginx = Command::new("nginx")
        .args([OsStr::new("-p"), folder.as_os_str(), OsStr::new("-c"), path.as_os_str()])
        .stderr(Stdio::null())
        .spawn()?;
    let running = Running(nginx);
    wait_for(port)?;
    Ok((running, format!("http://127.0.0.1:{port}")))
}

/// A server of this crate with one upload, and the upload's URL.
fn start_resumed(folder: &Path, content: &[u8]) -> Outcome<(Running, String)> {
    let port = free_port()?;
    let server = Command::new(RESUMED)
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--log", "error", "--data-dir"])
        .arg(folder.join("data"))
        .stdout(Stdio::null())
        .spawn()?;
    let running = Running(server);
    wait_for(port)?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let length = content.len();
    write!(
        stream,
        "POST /files/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nTus-Resumable: 1.0.0\r\n\
         Upload-Length: {length}\r\nContent-Length: {length}\r\nConnection: close\r\n\
         Content-Type: application/offset+octet-stream\r\n\r\n"
    )?;
    stream.write_all(content)?;
    let answer = io::read_to_string(stream)?;
    let location = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location").then(|| value.to_owned())
    });
    Ok((running, location.ok_or_else(|| format!("no upload: {answer}"))?))
}
