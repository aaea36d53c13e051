//! What the BLAKE3 tree costs an upload: one upload of 2 GiB over loopback with the tree off, then
//! one with it on, and so on; the median of the ratios of such pairs. The promise is 0.85.
//!
//! `cargo bench --bench tree`, with `-- FOLDER` for another disk than that of the temporary folder.
//! `BENCH_MIB` and `BENCH_PAIRS` set other numbers than 2048 and 5.

use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use resumed::clock::Clock;
use resumed::engine::Engine;
use resumed::server;
use resumed::settings::Settings;
use resumed::storage::Durability;
use resumed::storage::file::FileStore;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PIECE_BYTES: usize = 1 << 20;

fn main() -> Outcome<()> {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = given.map_or_else(std::env::temp_dir, PathBuf::from);
    let mib = number("BENCH_MIB", 2048)?;
    let pairs = number("BENCH_PAIRS", 5)?;
    let mut out = io::stdout();
    for durability in [Durability::Process, Durability::PowerLoss] {
        writeln!(out, "{durability:?}: tree off, tree on (MiB/s), ratio")?;
        let mut ratios = Vec::new();
        for _ in 0..pairs {
            let off = rate(&folder, durability, false, mib)?;
            let on = rate(&folder, durability, true, mib)?;
            writeln!(out, "{off:8.0} {on:8.0} {:6.3}", on / off)?;
            ratios.push(on / off);
        }
        ratios.sort_by(f64::total_cmp);
        writeln!(out, "median ratio {:.3}", ratios[ratios.len() / 2])?;
    }
    Ok(())
}

fn number(name: &str, usual: u32) -> Outcome<u32> {
    std::env::var(name).map_or(Ok(usual), |text| Ok(text.parse()?))
}

/// The MiB per second of one upload, from its first byte to its last answer.
fn rate(folder: &Path, durability: Durability, keeps_tree: bool, mib: u32) -> Outcome<f64> {
    let folder = tempfile::tempdir_in(folder)?;
    let mut settings = Settings::default();
    settings.storage.durability = durability;
    settings.uploads.keeps_tree = keeps_tree;
    let runtime = tokio::runtime::Runtime::new()?;
    let data_folder = DataFolder::open(folder.path())?;
    let records = SledStore::open(&data_folder, durability)?;
    let data = FileStore::open(&data_folder, durability, 0)?;
    let policy = settings.uploads.clone();
    let engine = Engine::new(Arc::new(records), Arc::new(data), Clock::System, policy);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let serving =
        runtime.spawn(async move { server::run(listener, engine, &settings, shutdown).await });
    let path = create(address, mib)?;
    let begin = Instant::now();
    append(address, &path, mib)?;
    let took = begin.elapsed();
    stop.cancel();
    runtime.block_on(serving)?;
    Ok(f64::from(mib) / took.as_secs_f64())
}

fn create(address: SocketAddr, mib: u32) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    let bytes = u64::from(mib) << 20;
    write!(
        stream,
        "POST /files/ HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\n\
         Upload-Length: {bytes}\r\nContent-Length: 0\r\n\r\n"
    )?;
    let head = head(&stream)?;
    let location = head.iter().find_map(|line| line.strip_prefix("location: "));
    let location = location.ok_or_else(|| format!("no Location in {head:?}"))?;
    let at = location.find("/files/").ok_or("a Location elsewhere")?;
    Ok(location[at..].to_owned())
}

fn append(address: SocketAddr, path: &str, mib: u32) -> Outcome<()> {
    // No two groups alike, or a file system that compresses would cheat.
    let mut piece = vec![0; PIECE_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut piece);
    let mut stream = TcpStream::connect(address)?;
    let bytes = u64::from(mib) << 20;
    write!(
        stream,
        "PATCH {path} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: {bytes}\r\n\r\n"
    )?;
    for number in 0..mib {
        piece[..4].copy_from_slice(&number.to_le_bytes());
        stream.write_all(&piece)?;
    }
    let head = head(&stream)?;
    if !head.first().is_some_and(|line| line.starts_with("HTTP/1.1 204")) {
        return Err(format!("the append was answered {head:?}").into());
    }
    Ok(())
}

/// The lines of the head of an answer.
fn head(stream: &TcpStream) -> Outcome<Vec<String>> {
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    Ok(lines)
}
