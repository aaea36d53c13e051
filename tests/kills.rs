//! The real program is killed with SIGKILL at random times, again and again, while clients upload.
//! Whatever a client was told is there after each restart, and every byte is the one it sent.
//!
//! `RESUMED_KILLS=2000 cargo test --test kills` for more than the 200 that run by themselves;
//! `RESUMED_KILLS_SEED` repeats the clients' choices of a run (not the times of the kills).
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use resumed::protocol::checksum::{Algorithm, Checksummer};

const KILLS: u64 = 200;
const CLIENTS: u64 = 8;
/// The longest upload in bytes.
const LONGEST: u64 = 300_000;
/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Numbers that look random (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn start(folder: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_resumed"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"])
        .arg(folder)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let begin = line.find("http://").expect("no ready line") + "http://".len();
    let end = begin + line[begin..].find('/').unwrap();
    (child, line[begin..end].parse().unwrap())
}

/// An answer: its head in lower case, and its content.
struct Answer {
    status: u16,
    head: String,
    content: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// One request on a connection of its own; fails when the server dies meanwhile.
fn request(
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
    stream.write_all(content)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let cut = io::ErrorKind::UnexpectedEof;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or(cut)?;
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

/// An upload as its client knows it.
struct Upload {
    path: String,
    content: Vec<u8>,
    acknowledged: usize,
}

struct Client {
    random: Random,
    server: Arc<Mutex<SocketAddr>>,
    acknowledgements: Arc<AtomicU64>,
    uploads: Vec<Upload>,
}

impl Client {
    fn address(&self) -> SocketAddr {
        *self.server.lock().unwrap()
    }

    /// Creates an upload, or brings the newest one on; an error means that the server died.
    fn step(&mut self) -> io::Result<()> {
        let unfinished =
            self.uploads.last().is_some_and(|upload| upload.acknowledged < upload.content.len());
        if !unfinished {
            return self.create();
        }
        self.learn_offset(self.uploads.len() - 1)?;
        self.append()
    }

    fn create(&mut self) -> io::Result<()> {
        let length = self.random.below(LONGEST) + 1;
        let first = self.random.below(1 << 40);
        let content: Vec<u8> = (0..length)
            .map(|n| ((first + n).wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
            .collect();
        let fields = format!("Upload-Length: {length}\r\n");
        let answer = request(self.address(), ("POST", "/files/"), &fields, b"")?;
        assert_eq!(answer.status, 201, "{}", answer.head);
        let location = answer.field("location").unwrap();
        let path = location[location.find("/files/").unwrap()..].to_owned();
        self.acknowledgements.fetch_add(1, Ordering::Relaxed);
        self.uploads.push(Upload { path, content, acknowledged: 0 });
        Ok(())
    }

    fn learn_offset(&mut self, index: usize) -> io::Result<()> {
        let address = self.address();
        let upload = &mut self.uploads[index];
        let head = request(address, ("HEAD", &upload.path), "", b"")?;
        assert_eq!(head.status, 200, "an upload is lost: {}", head.head);
        let offset: usize = head.field("upload-offset").unwrap().parse().unwrap();
        let acknowledged = upload.acknowledged;
        assert!(offset >= acknowledged, "the offset went back from {acknowledged} to {offset}");
        upload.acknowledged = offset;
        Ok(())
    }

    fn append(&mut self) -> io::Result<()> {
        let address = self.address();
        let with_checksum = self.random.below(3) == 0;
        let count = usize::try_from(self.random.below(LONGEST)).unwrap() + 1;
        let upload = self.uploads.last_mut().unwrap();
        let begin = upload.acknowledged;
        let end = upload.content.len().min(begin + count);
        let bytes = &upload.content[begin..end];
        let mut fields =
            format!("Content-Type: application/offset+octet-stream\r\nUpload-Offset: {begin}\r\n");
        if with_checksum {
            let mut checksummer = Checksummer::new(Algorithm::Sha1);
            checksummer.update(bytes);
            let digest = STANDARD.encode(checksummer.finish().digest());
            fields += &format!("Upload-Checksum: sha1 {digest}\r\n");
        }
        let answer = request(address, ("PATCH", &upload.path), &fields, bytes)?;
        assert_eq!(answer.status, 204, "{}", answer.head);
        upload.acknowledged = end;
        self.acknowledgements.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Every upload has at least what was acknowledged; complete ones have the bytes that were
    /// sent, and unfinished ones are finished first.
    fn check_all(&mut self) {
        for index in 0..self.uploads.len() {
            self.learn_offset(index).unwrap();
            let address = self.address();
            let upload = &mut self.uploads[index];
            let offset = upload.acknowledged;
            if offset < upload.content.len() {
                let fields = format!(
                    "Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\n"
                );
                let rest = &upload.content[offset..];
                let answer = request(address, ("PATCH", &upload.path), &fields, rest).unwrap();
                assert_eq!(answer.status, 204, "{}", answer.head);
            }
            let got = request(address, ("GET", &upload.path), "", b"").unwrap();
            assert_eq!(got.status, 200);
            let (got_hash, hash) = (blake3::hash(&got.content), blake3::hash(&upload.content));
            assert_eq!(got_hash, hash, "other bytes came back of {}", upload.path);
            assert_eq!(got.field("etag"), Some(format!("\"{}\"", hash.to_hex()).as_str()));
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_at_random_times() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let kills = number("RESUMED_KILLS").unwrap_or(KILLS);
    let seed = number("RESUMED_KILLS_SEED").unwrap_or(1);
    let folder = tempfile::tempdir().unwrap();
    let (mut child, address) = start(folder.path());
    let server = Arc::new(Mutex::new(address));
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledgements = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let mut client = Client {
                random: Random(seed.wrapping_mul(1000) + client),
                server: Arc::clone(&server),
                acknowledgements: Arc::clone(&acknowledgements),
                uploads: Vec::new(),
            };
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if client.step().is_err() {
                        // The server is dead for now; its next address comes soon.
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                client
            })
        })
        .collect();
    let mut random = Random(seed);
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(random.below(120)));
        child.kill().unwrap();
        child.wait().unwrap();
        let (next, address) = start(folder.path());
        child = next;
        *server.lock().unwrap() = address;
    }
    stop.store(true, Ordering::Relaxed);
    let clients: Vec<Client> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let acknowledged = acknowledgements.load(Ordering::Relaxed);
    assert!(acknowledged > kills, "the server hardly lived: {acknowledged} acknowledgements");
    for mut client in clients {
        client.check_all();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    println!("{kills} kills, {acknowledged} acknowledgements, seed {seed}");
}
