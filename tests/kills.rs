//! The real program is killed with SIGKILL at random times, again and again, while clients upload.
//! Whatever a client was told is there after each restart, and every byte is the one it sent.
//!
//! `RESUMED_KILLS=2000 cargo test --test kills` for more than the 200 that run by themselves;
//! `RESUMED_KILLS_SEED` repeats the clients' choices of a run (not the times of the kills).
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod program;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use program::{Program, Random, append, content, request};
use resumed::protocol::checksum::{Algorithm, Checksummer};

const KILLS: u64 = 200;
const CLIENTS: u64 = 8;
/// The longest upload in bytes.
const LONGEST: u64 = 300_000;
/// The longest metadata in bytes, before they are base64: some records have many pieces.
const LONGEST_METADATA: u64 = 6_000;

/// An upload as its client knows it.
struct Upload {
    path: String,
    metadata: String,
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
        let content = content(first, length);
        let bytes = self.random.below(LONGEST_METADATA);
        let bytes = if bytes.is_multiple_of(2) { bytes } else { bytes / 100 };
        let name = STANDARD.encode(crate::content(first, bytes));
        let metadata = format!("filename {name}");
        let fields = format!("Upload-Length: {length}\r\nUpload-Metadata: {metadata}\r\n");
        let answer = request(self.address(), ("POST", "/files/"), &fields, b"")?;
        assert_eq!(answer.status, 201, "{}", answer.head);
        let path = answer.path();
        self.acknowledgements.fetch_add(1, Ordering::Relaxed);
        self.uploads.push(Upload { path, metadata, content, acknowledged: 0 });
        Ok(())
    }

    fn learn_offset(&mut self, index: usize) -> io::Result<()> {
        let address = self.address();
        let upload = &mut self.uploads[index];
        let head = request(address, ("HEAD", &upload.path), "", b"")?;
        assert_eq!(head.status, 200, "an upload is lost: {}", head.head);
        let metadata = head.field("upload-metadata").unwrap();
        // Answers are read in lower case.
        let is_same = metadata == upload.metadata.to_lowercase().trim_end();
        assert!(is_same, "other metadata: {metadata}");
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
        let mut fields = String::new();
        if with_checksum {
            let mut checksummer = Checksummer::new(Algorithm::Sha1);
            checksummer.update(bytes);
            let digest = STANDARD.encode(checksummer.finish().digest());
            fields = format!("Upload-Checksum: sha1 {digest}\r\n");
        }
        let offset = u64::try_from(begin).unwrap();
        let answer = append(address, (&upload.path, offset), &fields, bytes)?;
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
                let rest = &upload.content[offset..];
                let offset = u64::try_from(offset).unwrap();
                let answer = append(address, (&upload.path, offset), "", rest).unwrap();
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
    let data = folder.path().join("data");
    let start = || Program::start(&data, &[], &[], &folder.path().join("log")).unwrap();
    let mut program = start();
    let server = Arc::new(Mutex::new(program.address));
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
        program.kill();
        program = start();
        *server.lock().unwrap() = program.address;
    }
    stop.store(true, Ordering::Relaxed);
    let clients: Vec<Client> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let acknowledged = acknowledgements.load(Ordering::Relaxed);
    assert!(acknowledged > kills, "the server hardly lived: {acknowledged} acknowledgements");
    for mut client in clients {
        client.check_all();
    }
    println!("{kills} kills, {acknowledged} acknowledgements, seed {seed}");
}
