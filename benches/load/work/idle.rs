//! Many uploads open at once, each with a byte a second: what one costs, and whether others are
//! still answered meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Clocked;
use crate::Outcome;
use crate::client::{CONTENT, Connection, Target};
use crate::figures::{Figures, Measure};
use crate::payload::wide;
use crate::servers::Server;

/// Between two HEAD requests that ask whether the server still answers.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// How the answer to an upload that was taken whole begins.
const SERVED: &str = "HTTP/1.1 204";
/// How long an answer may take once the content is there.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(server: &Server, clients: usize, seconds: u64) -> Outcome<Figures> {
    let target = &server.target;
    let length = seconds + 1;
    let mut connection = Connection::open(target).await?;
    let mut paths = Vec::with_capacity(clients);
    for _ in 0..clients {
        paths.push(connection.create(length).await?);
    }
    let probe = connection.create(1).await?;
    let watch = server.watch(0)?;
    let before_kib = watch.now_kib()?;
    let begin = Instant::now();
    let mut streams = Vec::with_capacity(clients);
    for path in &paths {
        streams.push(open(target, path, length).await?);
    }
    let opened = begin.elapsed();
    let mut clocked = Clocked::default();
    let mut most_kib = before_kib;
    for _ in 0..seconds {
        let second = Instant::now();
        for stream in &mut streams {
            // One that the server has closed is not answered either, and counted there.
            let _ = stream.write_all(b"x").await;
        }
        while second.elapsed() < Duration::from_secs(1) {
            let asked = Instant::now();
            connection.head(&probe).await?;
            clocked.latencies.push(asked.elapsed());
            sleep(PROBE_EVERY).await;
        }
        most_kib = most_kib.max(watch.now_kib()?);
    }
    let mut served = 0;
    let mut others = BTreeMap::<String, u32>::new();
    for stream in &mut streams {
        match answer(stream).await {
            Ok(line) if line == SERVED => served += 1,
            Ok(line) => *others.entry(line).or_default() += 1,
            Err(error) => *others.entry(error.to_string()).or_default() += 1,
        }
    }
    for (answer, count) in others {
        eprintln!("{count} of {clients} open uploads: {answer}");
    }
    clocked.took = begin.elapsed();
    let mut figures = clocked.figures(&watch)?;
    let clients = wide(clients) as f64;
    figures.insert(Measure::CpuUs, watch.cpu_s()? * 1e6 / clients);
    figures.insert(Measure::OpenedS, opened.as_secs_f64());
    figures.insert(Measure::Served, f64::from(served) / clients);
    figures.insert(Measure::KibEach, (most_kib - before_kib) / clients);
    Ok(figures)
}

/// The status line of the answer, without its words.
async fn answer(stream: &mut TcpStream) -> Outcome<String> {
    let mut line = [0; SERVED.len()];
    let read = timeout(PATIENCE, stream.read_exact(&mut line)).await;
    read.map_err(|_| format!("no answer in {PATIENCE:?}"))??;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Begins an append, with the first of its bytes.
async fn open(target: &Target, path: &str, length: u64) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(&target.authority).await?;
    let (name, value) = CONTENT;
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: {}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
         {name}: {value}\r\nContent-Length: {length}\r\n\r\nx",
        target.authority
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}
