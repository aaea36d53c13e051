//! Partial uploads sent at once, and the final upload that joins them.

use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::Clocked;
use crate::client::Connection;
use crate::figures::{Figures, Measure};
use crate::payload::Payload;
use crate::servers::Server;
use crate::{Outcome, refuse};

pub(super) async fn run(
    server: &Server,
    pattern: &Bytes,
    parts: u64,
    part_bytes: u64,
) -> Outcome<Figures> {
    let watch = server.watch(parts * part_bytes)?;
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..parts {
        let (target, pattern) = (server.target.clone(), pattern.clone());
        tasks.spawn(async move {
            let mut connection = Connection::open(&target).await?;
            let length = part_bytes.to_string();
            let fields = [("Upload-Length", length.as_str()), ("Upload-Concat", "partial")];
            let path = connection.post(&fields, Payload::empty(), "POST of a part").await?;
            let begin = Instant::now();
            connection.append(&path, (&pattern, 0, part_bytes), None).await?;
            Outcome::Ok((number, path, begin.elapsed()))
        });
    }
    let (mut paths, mut latencies) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (number, path, took) = done??;
        paths.push((number, path));
        latencies.push(took);
    }
    paths.sort();
    let paths: Vec<String> = paths.into_iter().map(|(_, path)| path).collect();
    let joined = format!("final;{}", paths.join(" "));
    let mut connection = Connection::open(&server.target).await?;
    let sent = begin.elapsed();
    let fields = [("Upload-Concat", joined.as_str())];
    let path = connection.post(&fields, Payload::empty(), "the final POST").await?;
    let took = begin.elapsed();
    let bytes = parts * part_bytes;
    let mut figures = Clocked { took, bytes, latencies, ..Clocked::default() }.figures(&watch)?;
    figures.insert(Measure::FinalMs, (took - sent).as_secs_f64() * 1e3);
    let offset = connection.head(&path).await?;
    if offset != bytes {
        return refuse(format!("the final upload has {offset} bytes, not {bytes}"));
    }
    Ok(figures)
}
