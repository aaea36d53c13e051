//! Large uploads: whole, in appends, under checksums, many at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use resumed::protocol::checksum::{Algorithm, Checksummer};
use tokio::task::JoinSet;

use super::Clocked;
use crate::client::{Connection, Target};
use crate::figures::Figures;
use crate::payload::{KIB, MIB, Payload, wide};
use crate::servers::Server;
use crate::{Outcome, refuse};

/// The length of an upload, and how it is cut into appends.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) length: u64,
    pub(super) append_kib: Option<u64>,
    pub(super) checksum: Option<Algorithm>,
}

/// The checksum of the content at an offset of the pattern, of a length.
type Checksums = HashMap<(u64, u64), String>;

pub(super) async fn run(
    server: &Server,
    pattern: &Bytes,
    clients: usize,
    cut: Cut,
) -> Outcome<Figures> {
    let target = &server.target;
    store(&mut Connection::open(target).await?, server, pattern, (MIB, "/first")).await?;
    let checksums = Arc::new(checksums(pattern, cut));
    let takes_put = server.kind.takes_put();
    let watch = server.watch(wide(clients) * cut.length)?;
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (target, pattern, sums) = (target.clone(), pattern.clone(), Arc::clone(&checksums));
        tasks.spawn(async move {
            if takes_put {
                let path = format!("/file-{client}");
                let begin = Instant::now();
                Connection::open(&target).await?.put(&path, &pattern, cut.length).await?;
                return Ok((path, vec![begin.elapsed()]));
            }
            send(&target, &pattern, cut, &sums).await
        });
    }
    let mut clocked = Clocked { bytes: wide(clients) * cut.length, ..Clocked::default() };
    let mut paths = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (path, latencies) = done??;
        paths.push(path);
        clocked.latencies.extend(latencies);
    }
    clocked.took = begin.elapsed();
    if cut.append_kib.is_some() {
        clocked.requests = wide(clocked.latencies.len());
    }
    let figures = clocked.figures(&watch)?;
    let mut connection = Connection::open(target).await?;
    for path in paths.iter().filter(|_| !takes_put) {
        let offset = connection.head(path).await?;
        if offset != cut.length {
            return refuse(format!("{offset} bytes arrived where {} were sent", cut.length));
        }
    }
    Ok(figures)
}

/// Stores one file outside the clock, and returns its path; the name is for those that take PUT.
pub(super) async fn store(
    connection: &mut Connection,
    server: &Server,
    pattern: &Bytes,
    file: (u64, &str),
) -> Outcome<String> {
    let (length, name) = file;
    if server.kind.takes_put() {
        connection.put(name, pattern, length).await?;
        return Ok(name.to_owned());
    }
    let path = connection.create(length).await?;
    connection.append(&path, (pattern, 0, length), None).await?;
    Ok(path)
}

async fn send(
    target: &Target,
    pattern: &Bytes,
    cut: Cut,
    checksums: &Checksums,
) -> Outcome<(String, Vec<Duration>)> {
    let mut connection = Connection::open(target).await?;
    let path = connection.create(cut.length).await?;
    let mut latencies = Vec::new();
    for (offset, length) in appends(cut) {
        let checksum = checksums.get(&(offset % MIB, length)).map(String::as_str);
        let begin = Instant::now();
        connection.append(&path, (pattern, offset, length), checksum).await?;
        latencies.push(begin.elapsed());
    }
    Ok((path, latencies))
}

/// The offset and the length of each append.
fn appends(cut: Cut) -> impl Iterator<Item = (u64, u64)> {
    let most = cut.append_kib.map_or(cut.length, |kib| kib * KIB);
    let count = cut.length.div_ceil(most);
    (0..count).map(move |number| (number * most, most.min(cut.length - number * most)))
}

/// Made before the clock starts: the pattern comes again and again, so there are few.
fn checksums(pattern: &Bytes, cut: Cut) -> Checksums {
    let mut checksums = HashMap::new();
    let Some(algorithm) = cut.checksum else { return checksums };
    for (offset, length) in appends(cut) {
        checksums.entry((offset % MIB, length)).or_insert_with(|| {
            let mut checksummer = Checksummer::new(algorithm);
            for piece in Payload::new(pattern, offset, length) {
                checksummer.update(&piece);
            }
            checksummer.finish().to_string()
        });
    }
    checksums
}
