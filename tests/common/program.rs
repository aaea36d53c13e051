//! The program itself, as a user runs it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Answer, CONTENT, Connection, TUS};

/// A server that runs as a process.
pub struct Program {
    pub child: Child,
    pub address: SocketAddr,
}

/// The program with these arguments, and nothing of the environment.
pub fn resumed(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resumed"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// Runs the program to its end: its exit code, and what it said.
pub fn run(args: &[&str], data: &Path) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        resumed(args).arg("--data-dir").arg(data).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A test that failed leaves no server behind.
impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts a server on this data folder.
    pub fn serve(data: &Path) -> Self {
        let mut command =
            resumed(&["serve", "--log", "warn", "--listen", "127.0.0.1:0", "--data-dir"]);
        let mut child = command.arg(data).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let begin = line.find("http://").unwrap() + "http://".len();
        let end = begin + line[begin..].find('/').unwrap();
        Self { address: line[begin..end].parse().unwrap(), child }
    }

    /// Tells it to stop, and waits until it has.
    pub fn stop(mut self) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    pub async fn request(&self, method: &str, path: &str, fields: &str, content: &[u8]) -> Answer {
        Connection::open(self.address).await.request(method, path, fields, content).await
    }

    /// Creates an upload; its id.
    pub async fn create(&self, fields: &str) -> String {
        let answer = self.request("POST", "/files/", &format!("{TUS}{fields}"), b"").await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let location = &answer.fields["location"];
        location[location.rfind('/').unwrap() + 1..].to_owned()
    }

    pub async fn append(&self, id: &str, offset: usize, content: &[u8]) {
        let fields = format!("{TUS}{CONTENT}Upload-Offset: {offset}\r\n");
        let answer = self.request("PATCH", &format!("/files/{id}"), &fields, content).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    /// Creates an upload that has all of its content; its id.
    pub async fn upload(&self, fields: &str, content: &[u8]) -> String {
        let length = content.len();
        let id = self.create(&format!("Upload-Length: {length}\r\n{fields}")).await;
        self.append(&id, 0, content).await;
        id
    }

    pub async fn head(&self, id: &str) -> Answer {
        self.request("HEAD", &format!("/files/{id}"), TUS, b"").await
    }

    pub async fn get(&self, id: &str) -> Answer {
        self.request("GET", &format!("/files/{id}"), "", b"").await
    }
}
