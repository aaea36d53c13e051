//! What the tests over sockets share: a server in this process on a port of its own, and a client
//! that sends exactly the bytes it is given.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod program;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use resumed::clock::Clock;
use resumed::engine::Engine;
use resumed::server;
use resumed::settings::Settings;
use resumed::storage::Durability;
use resumed::storage::file::FileStore;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// No test waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a port that the system picked.
pub struct TestServer {
    pub address: SocketAddr,
    pub engine: Arc<Engine>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    folder: TempDir,
}

impl TestServer {
    /// Starts one with the default settings.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts one with other settings.
    pub async fn start_with(adjust: impl FnOnce(&mut Settings)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), adjust).await
    }

    /// Starts one on the data of another that was stopped.
    pub async fn start_in(folder: TempDir, adjust: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        settings.storage.durability = Durability::Process;
        adjust(&mut settings);
        let data_folder = DataFolder::open(folder.path()).unwrap();
        let durability = settings.storage.durability;
        let records = SledStore::open(&data_folder, durability).unwrap();
        let data = FileStore::open(&data_folder, durability, 0).unwrap();
        let engine =
            Engine::new(Arc::new(records), Arc::new(data), Clock::System, settings.uploads.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn({
            let (engine, shutdown) = (Arc::clone(&engine), shutdown.clone());
            async move {
                server::run(listener, engine, &settings, shutdown).await;
                drop(data_folder);
            }
        });
        Self { address, engine, shutdown, task, folder }
    }

    /// The file of an upload's bytes; what lies beside it has this name and more.
    pub fn file(&self, path: &str) -> PathBuf {
        let id = path.rsplit('/').next().unwrap();
        self.folder.path().join("uploads").join(&id[..2]).join(id)
    }

    /// Tells it to stop, and waits until it has.
    pub async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
        self.folder
    }

    /// Tells it to stop.
    pub fn begin_to_stop(&self) {
        self.shutdown.cancel();
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// Sends one request on a connection of its own.
    pub async fn request(&self, method: &str, path: &str, fields: &str, content: &[u8]) -> Answer {
        let mut connection = self.connect().await;
        connection.request(method, path, fields, content).await
    }

    /// Creates an upload and returns its path.
    pub async fn create(&self, fields: &str) -> String {
        let answer = self.request("POST", "/files/", &format!("{TUS}{fields}"), b"").await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let location = &answer.fields["location"];
        location[location.find("/files/").unwrap()..].to_owned()
    }

    /// Creates an upload with this content and returns its path.
    pub async fn create_with(&self, fields: &str, content: &[u8]) -> String {
        let path = self.create(&format!("Upload-Length: {}\r\n{fields}", content.len())).await;
        let answer = self.append(&path, 0, "", content).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        path
    }

    pub async fn append(&self, path: &str, offset: u64, fields: &str, content: &[u8]) -> Answer {
        let fields = format!("{TUS}{CONTENT}Upload-Offset: {offset}\r\n{fields}");
        self.request("PATCH", path, &fields, content).await
    }

    pub async fn head(&self, path: &str) -> Answer {
        self.request("HEAD", path, TUS, b"").await
    }

    pub async fn get(&self, path: &str, fields: &str) -> Answer {
        self.request("GET", path, fields, b"").await
    }

    /// The offset that a HEAD tells.
    pub async fn offset(&self, path: &str) -> u64 {
        self.head(path).await.fields["upload-offset"].parse().unwrap()
    }
}

pub const TUS: &str = "Tus-Resumable: 1.0.0\r\n";
pub const CONTENT: &str = "Content-Type: application/offset+octet-stream\r\n";

/// A connection that the test writes bytes to.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    /// The interim responses before the last answer.
    pub interim: Vec<Answer>,
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// By their names in lower case.
    pub fields: HashMap<String, String>,
    pub content: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        format!("{} {:?} {}", self.status, self.fields, String::from_utf8_lossy(&self.content))
    }
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream, unread: Vec::new(), interim: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a request with a `Content-Length` and reads its answer.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        fields: &str,
        content: &[u8],
    ) -> Answer {
        let length = content.len();
        self.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{fields}\r\n"
        ))
        .await;
        self.send(content).await;
        self.answer(method).await
    }

    /// Reads the next answer, which is to a request with this method.
    pub async fn answer(&mut self, method: &str) -> Answer {
        self.interim.clear();
        loop {
            let answer = self.next_message(method).await;
            if answer.status >= 200 {
                return answer;
            }
            self.interim.push(answer);
        }
    }

    /// Reads the next response, be it the answer or an interim one.
    pub async fn next_message(&mut self, method: &str) -> Answer {
        timeout(PATIENCE, self.read_message(method)).await.expect("no answer came")
    }

    /// Whether the server ends the connection; what it says before does not matter.
    pub async fn ends(&mut self) -> bool {
        let end = async { while self.read_more().await > 0 {} };
        timeout(PATIENCE, end).await.is_ok()
    }

    /// How many bytes come before the server ends the connection.
    pub async fn bytes_until_end(&mut self) -> usize {
        assert!(self.ends().await, "the connection stays open");
        self.unread.len()
    }

    async fn read_message(&mut self, method: &str) -> Answer {
        let end = loop {
            match self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => assert_ne!(self.read_more().await, 0, "closed before an answer"),
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let pairs = lines.filter_map(|line| line.split_once(": "));
        let fields: HashMap<_, _> =
            pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let length = match fields.get("content-length") {
            Some(length) if method != "HEAD" && status != 304 => length.parse().unwrap(),
            _ => 0,
        };
        while self.unread.len() < length {
            assert_ne!(self.read_more().await, 0, "closed within an answer");
        }
        let content = self.unread.drain(..length).collect();
        Answer { status, fields, content }
    }

    /// How many bytes came; 0 at the end, be it a clean one or not.
    async fn read_more(&mut self) -> usize {
        self.stream.read_buf(&mut self.unread).await.unwrap_or(0)
    }
}

/// What lies between these cuts, from the beginning to `length`.
pub fn between(cuts: impl Iterator<Item = usize>, length: usize) -> Vec<Range<usize>> {
    let mut ends: Vec<usize> = cuts.chain([length]).collect();
    ends.sort_unstable();
    let starts = [0].into_iter().chain(ends.clone());
    starts.zip(ends).map(|(start, end)| start..end).collect()
}

/// Bytes that differ everywhere, the same ones each time.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0]).collect()
}
