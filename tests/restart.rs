//! The program itself, stopped and started again: what it acknowledged is there.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{CONTENT, Connection, TUS, pattern};
use rustix::process::{Pid, Signal, kill_process};

struct Program {
    child: Child,
    address: SocketAddr,
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resumed"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Program {
    fn start(folder: &Path) -> Self {
        let mut command = command(folder);
        let mut child = command.args(["--log", "warn"]).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let begin = line.find("http://").unwrap() + "http://".len();
        let end = begin + line[begin..].find('/').unwrap();
        Self { address: line[begin..end].parse().unwrap(), child }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// A line of its status, in KiB.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    async fn create(&self, length: usize) -> String {
        let fields = format!("{TUS}Upload-Length: {length}\r\n");
        let answer = self.connect().await.request("POST", "/files/", &fields, b"").await;
        let location = &answer.fields["location"];
        location[location.find("/files/").unwrap()..].to_owned()
    }

    async fn append(&self, path: &str, offset: usize, bytes: &[u8]) -> u16 {
        let fields = format!("{TUS}{CONTENT}Upload-Offset: {offset}\r\n");
        self.connect().await.request("PATCH", path, &fields, bytes).await.status
    }

    async fn offset(&self, path: &str) -> usize {
        let head = self.connect().await.request("HEAD", path, TUS, b"").await;
        head.fields["upload-offset"].parse().unwrap()
    }

    /// Begins an append of `length` bytes and sends some of them.
    async fn begin_append(&self, path: &str, length: usize, bytes: &[u8]) -> Connection {
        let mut peer = self.connect().await;
        peer.send(format!(
            "PATCH {path} HTTP/1.1\r\nHost: localhost\r\n{TUS}{CONTENT}Upload-Offset: 0\r\n\
             Content-Length: {length}\r\n\r\n"
        ))
        .await;
        peer.send(bytes).await;
        peer
    }
}

#[tokio::test]
async fn a_killed_server_goes_on_from_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let content = pattern(3_000_000);
    let mut program = Program::start(folder.path());
    let path = program.create(content.len()).await;
    let mut acknowledged = 0;
    for round in 1..=5 {
        let end = round * 500_000;
        assert_eq!(program.append(&path, acknowledged, &content[acknowledged..end]).await, 204);
        acknowledged = end;
        program.signal(Signal::KILL);
        program.wait();
        program = Program::start(folder.path());
        assert_eq!(program.offset(&path).await, acknowledged);
    }
    assert_eq!(program.append(&path, acknowledged, &content[acknowledged..]).await, 204);
    let got = program.connect().await.request("GET", &path, "", b"").await;
    assert!(got.content == content, "other bytes came back");
    program.signal(Signal::KILL);
    program.wait();
}

#[tokio::test]
async fn a_server_told_to_stop_saves_what_came_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let content = pattern(1_000_000);
    let program = Program::start(folder.path());
    let path = program.create(content.len()).await;
    let mut peer = program.begin_append(&path, content.len(), &content[..400_000]).await;
    // An answered request on another connection: the append has been begun by then, and its bytes
    // wait in the socket at the least.
    program.create(1).await;
    let begin = Instant::now();
    program.signal(Signal::TERM);
    assert_eq!(peer.answer("PATCH").await.status, 503);
    drop(peer);
    assert!(program.wait().success());
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    let program = Program::start(folder.path());
    let offset = program.offset(&path).await;
    assert!((1..=400_000).contains(&offset), "{offset}");
    assert_eq!(program.append(&path, offset, &content[offset..]).await, 204);
    let got = program.connect().await.request("GET", &path, "", b"").await;
    assert!(got.content == content, "other bytes came back");
    program.signal(Signal::TERM);
    assert!(program.wait().success());
}

#[test]
fn a_second_server_is_told_who_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let second = command(folder.path()).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("process {}", program.child.id())), "{said}");
    program.signal(Signal::TERM);
    program.wait();
}

#[test]
fn a_wrong_setting_is_named_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut child = command(&data).args(["--max-length", "ten"]).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(
        said.contains("max-length") && said.contains("\"ten\"") && said.contains("10GiB"),
        "{said}"
    );
    assert!(!data.exists());
}

#[tokio::test]
async fn memory_does_not_grow_with_the_content() {
    const LENGTH: usize = 512 << 20;
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let path = program.create(LENGTH).await;
    let piece = pattern(1 << 20);
    let mut peer = program.begin_append(&path, LENGTH, b"").await;
    for _ in 0..LENGTH / piece.len() {
        peer.send(&piece).await;
    }
    assert_eq!(peer.answer("PATCH").await.status, 204);
    let peak = program.memory("VmHWM");
    assert!(peak < 64 << 10, "{peak} KiB at the most");
    program.signal(Signal::KILL);
    program.wait();
}

#[tokio::test]
async fn many_connections_wait_for_a_server_that_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    program.signal(Signal::STOP);
    let mut waiting = Vec::new();
    for _ in 0..500 {
        waiting
            .push(tokio::time::timeout(Duration::from_secs(10), program.connect()).await.unwrap());
    }
    program.signal(Signal::CONT);
    for connection in &mut waiting {
        assert_eq!(connection.request("OPTIONS", "/files/", TUS, b"").await.status, 200);
    }
    program.signal(Signal::KILL);
    program.wait();
}

#[cfg(target_env = "gnu")]
#[tokio::test]
async fn what_many_connections_took_is_given_back_when_they_are_gone() {
    const MANY: usize = 100;
    const SENT: usize = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let mut paths = Vec::new();
    for _ in 0..MANY {
        paths.push(program.create(SENT + 1).await);
    }
    let before = program.memory("VmRSS");
    let mut open = Vec::new();
    for path in &paths {
        open.push(program.begin_append(path, SENT + 1, &vec![1; SENT]).await);
    }
    // Until all of it is written, and what that took is given back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let most = program.memory("VmRSS");
    assert!(most > before + 50 * MANY as u64, "{before} KiB, and then {most}");
    // So slowly that there is never much to do. What was taken last is kept, so that a heap has
    // something at its end.
    for peer in open.drain(..MANY - 10) {
        drop(peer);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begin = Instant::now();
    let mut now = most;
    while now > most - (most - before) / 4 {
        assert!(begin.elapsed() < Duration::from_secs(30), "{before}, {most}, and still {now} KiB");
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = program.memory("VmRSS");
    }
    program.signal(Signal::KILL);
    program.wait();
}
