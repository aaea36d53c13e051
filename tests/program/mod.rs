//! The real program as a process, and a client of it that sends one request a connection.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// No answer takes longer, nor does a start.
pub const PATIENCE: Duration = Duration::from_secs(20);
const TUS_CONTENT: &str = "Content-Type: application/offset+octet-stream\r\n";

/// Numbers that look random (SplitMix64).
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let number = self.below(u64::try_from(of.len()).unwrap());
        &of[usize::try_from(number).unwrap()]
    }
}

/// A number that depends on all bits of this one.
pub fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A running server; it is killed when this is dropped.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    log: PathBuf,
}

impl Program {
    /// Starts one with its data in `folder`, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// What it wrote, when it ended, or did not get ready in time.
    pub fn start(
        folder: &Path,
        arguments: &[&str],
        environment: &[(&str, OsString)],
        log: &Path,
    ) -> Result<Self, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_resumed"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"])
            .arg(folder)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (OsStr::new(name), value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(log).unwrap())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (told, ready) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(output).read_line(&mut line);
            let _ = told.send(line);
        });
        let line = ready.recv_timeout(PATIENCE).unwrap_or_default();
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once('/'));
        if let Some((address, _)) = address {
            return Ok(Self { child, address: address.parse().unwrap(), log: log.to_owned() });
        }
        let ended = child.try_wait().unwrap();
        let _ = child.kill();
        let ended = ended.or_else(|| child.wait().ok());
        Err(format!("did not get ready ({ended:?}): {}", fs::read_to_string(log).unwrap()))
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Tells it to stop, and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        let id = i32::try_from(self.child.id()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("it does not stop: {}", self.log());
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An answer: its head in lower case, and its content.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub content: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn offset(&self) -> Option<u64> {
        self.field("upload-offset").map(|offset| offset.parse().unwrap())
    }

    /// The path of what was created.
    pub fn path(&self) -> String {
        let location = self.field("location").unwrap();
        location[location.find("/files/").unwrap()..].to_owned()
    }

    /// That this is the status.
    ///
    /// # Errors
    ///
    /// It is another one.
    pub fn expect(self, statuses: &[u16]) -> io::Result<Self> {
        if statuses.contains(&self.status) {
            return Ok(self);
        }
        Err(io::Error::other(format!("not {statuses:?}: {}", self.text())))
    }

    /// What a person wants to see of it.
    pub fn text(&self) -> String {
        let shown = &self.content[..self.content.len().min(200)];
        format!("{}{}", self.head, String::from_utf8_lossy(shown))
    }
}

/// One request on a connection of its own; fails when the server dies meanwhile.
pub fn request(
    address: SocketAddr,
    (method, path): (&str, &str),
    fields: &str,
    content: &[u8],
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = content.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Tus-Resumable: 1.0.0\r\nContent-Length: {length}\r\n{fields}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    // An answer that comes before all was sent counts.
    let sent = stream.write_all(content);
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let cut = io::ErrorKind::UnexpectedEof;
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return sent.and(read).and(Err(cut.into()));
    };
    let content = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).unwrap().to_lowercase();
    let status = head[9..12].parse().unwrap();
    let answer = Answer { status, head, content };
    let length = answer.field("content-length").map_or(0, |length| length.parse().unwrap());
    if method != "HEAD" && answer.content.len() < length {
        return Err(cut.into());
    }
    Ok(answer)
}

/// A connection that content is sent on piece by piece, and answers are read from meanwhile.
pub struct Slow {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Slow {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The head of the next message, be it an interim or the last one.
    pub fn head(&mut self) -> io::Result<Answer> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap().to_lowercase();
                let status = head[9..12].parse().unwrap();
                return Ok(Answer { status, head, content: Vec::new() });
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.unread.extend_from_slice(&more[..count]),
            }
        }
    }
}

/// A PATCH with these bytes.
pub fn append(
    address: SocketAddr,
    (path, offset): (&str, u64),
    fields: &str,
    content: &[u8],
) -> io::Result<Answer> {
    let fields = format!("{TUS_CONTENT}Upload-Offset: {offset}\r\n{fields}");
    request(address, ("PATCH", path), &fields, content)
}

/// A creation with content.
pub fn create_with(address: SocketAddr, fields: &str, content: &[u8]) -> io::Result<Answer> {
    request(address, ("POST", "/files/"), &format!("{TUS_CONTENT}{fields}"), content)
}

/// Bytes that differ everywhere, and from those of any other `first`.
pub fn content(first: u64, length: u64) -> Vec<u8> {
    (0..length)
        .map(|n| (first.wrapping_add(n).wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect()
}
