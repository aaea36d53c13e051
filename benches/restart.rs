//! How long the program takes to start with a million upload records, and how much memory.
//!
//! `cargo bench --bench restart`, with `-- RECORDS FOLDER` for another number and another disk than
//! that of the temporary folder. Each way that it can have ended is measured three times, and the
//! median told: the time to the ready line, and the most memory it had when a client was answered
//! then.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::Upload;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;
use resumed::storage::{Durability, RecordStore};
use rustix::process::{Pid, Signal, kill_process};

/// Those who save at once.
const SAVERS: u64 = 64;
const RUNS: usize = 3;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let mut given = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let records = given.next().map_or(Ok(1_000_000), |records| records.parse::<u64>())?;
    let folder = given.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    let begin = Instant::now();
    tokio::runtime::Runtime::new()?.block_on(fill(folder.path(), records))?;
    let rate = u128::from(records) * 1000 / begin.elapsed().as_millis().max(1);
    writeln!(io::stdout(), "{records} records were saved, {rate} a second")?;
    for name in ["records", "journal"] {
        let bytes = bytes(&folder.path().join(name))?;
        writeln!(io::stdout(), "{name}: {} MiB", bytes >> 20)?;
    }
    writeln!(io::stdout(), "ended by           ready ms   peak MiB")?;
    for (name, signal) in [("SIGTERM", Signal::TERM), ("SIGKILL", Signal::KILL)] {
        // The first start is behind another end.
        run(folder.path(), signal)?;
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(run(folder.path(), signal)?);
        }
        print(name, runs)?;
    }
    let mark = folder.path().join("records.state");
    fs::write(mark, r#"{"open":{"boot":"another","since":0}}"#)?;
    print("a loss of power", vec![run(folder.path(), Signal::TERM)?])
}

fn print(name: &str, mut runs: Vec<(Duration, u64)>) -> Outcome<()> {
    runs.sort_unstable();
    let (took, _) = runs[runs.len() / 2];
    let peak = runs.iter().map(|(_, peak)| *peak).max().unwrap_or(0);
    Ok(writeln!(io::stdout(), "{name:16} {:10} {:10}", took.as_millis(), peak >> 10)?)
}

/// Saves records as they come about: each is made, and saved once more when it is complete.
async fn fill(folder: &Path, records: u64) -> Outcome<()> {
    let store = SledStore::open(&DataFolder::open(folder)?, Durability::Process)?;
    let store = Arc::new(store);
    let savers = (0..SAVERS).map(|saver| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let metadata = "filename d29ybGQucGRm,filetype YXBwbGljYXRpb24vcGRm";
            let metadata = Metadata::parse(metadata).unwrap_or_default();
            for _ in (saver..records).step_by(usize::try_from(SAVERS)?) {
                let mut id = [0; 16];
                getrandom::fill(&mut id)?;
                let id = UploadId::from_bytes(id);
                let now = Timestamp(1_700_000_000_000);
                let upload = Upload::new(id, Some(0), metadata.clone(), now);
                let version = store.save(upload.clone(), None).await?;
                store.save(upload.completed(None, now), Some(version)).await?;
            }
            Outcome::Ok(())
        })
    });
    for saver in savers.collect::<Vec<_>>() {
        saver.await??;
    }
    Ok(())
}

/// Starts the program, asks it something, tells how long it took to be ready and its peak memory
/// in KiB, and ends it.
fn run(folder: &Path, signal: Signal) -> Outcome<(Duration, u64)> {
    let begin = Instant::now();
    let mut server = Command::new(env!("CARGO_BIN_EXE_resumed"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let took = begin.elapsed();
    let peak = ask(&line).and_then(|()| peak(&server));
    end(&mut server, signal)?;
    Ok((took, peak?))
}

fn end(server: &mut Child, signal: Signal) -> Outcome<()> {
    let pid = i32::try_from(server.id())?;
    kill_process(Pid::from_raw(pid).ok_or("no process")?, signal)?;
    server.wait()?;
    Ok(())
}

fn ask(ready: &str) -> Outcome<()> {
    let address = ready.split("://").nth(1).and_then(|rest| rest.split('/').next());
    let mut connection = TcpStream::connect(address.ok_or("no ready line")?)?;
    let id = "0123456789abcdef".repeat(2);
    write!(connection, "HEAD /files/{id} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\n")?;
    write!(connection, "Connection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 404") { Ok(()) } else { Err(answer.into()) }
}

fn peak(server: &Child) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.ok_or("no peak")?.trim().trim_end_matches(" kB").parse()?)
}

fn bytes(folder: &Path) -> io::Result<u64> {
    let mut sum = 0_u64;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += match entry.file_type()?.is_dir() {
            true => bytes(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(sum)
}
