//! Whether the rates hold when many complete uploads are in the store.

use std::sync::Arc;

use bytes::Bytes;

use super::Clocked;
use super::repeat::repeat;
use super::small::{SMALL_BYTES, heads_of, leap, send};
use crate::client::Connection;
use crate::figures::{Figures, Measure};
use crate::payload::wide;
use crate::servers::Server;
use crate::{Outcome, refuse};

const CLIENTS: usize = 16;
/// HEAD and GET cost less, so more of them give a time that can be measured.
const READS_A_SMALL: u64 = 4;
const TWO_REQUESTS: (u64, &str) = (2, "small");
const ONE_REQUEST: (u64, &str) = (1, "small");

/// Small uploads, HEAD and GET, before and after the store is filled up to `uploads`. Reads go
/// over all uploads that are there, in leaps.
pub(super) async fn run(
    server: &Server,
    pattern: &Bytes,
    uploads: u64,
    count: u64,
) -> Outcome<Figures> {
    let (_, mut paths) = send(server, pattern, (CLIENTS, count), TWO_REQUESTS).await?;
    let watch = server.watch(0)?;
    let empty = requests(server, pattern, count, &mut paths).await?;
    let missing = uploads.saturating_sub(wide(paths.len()));
    paths.extend(send(server, pattern, (CLIENTS, missing), ONE_REQUEST).await?.1);
    // Not to measure what the filling left to do for the disk.
    server.watch(0)?;
    let full = requests(server, pattern, count, &mut paths).await?;
    let mut figures = Figures::from([(Measure::PeakMib, watch.peak_kib()? / 1024.0)]);
    let names = [
        (Measure::SmallEmpty, Measure::SmallFull, Measure::SmallFullP50Ms, Measure::SmallFullP99Ms),
        (Measure::HeadEmpty, Measure::HeadFull, Measure::HeadFullP50Ms, Measure::HeadFullP99Ms),
        (Measure::GetEmpty, Measure::GetFull, Measure::GetFullP50Ms, Measure::GetFullP99Ms),
    ];
    for ((before, after, p50, p99), (empty, mut full)) in
        names.into_iter().zip(empty.into_iter().zip(full))
    {
        figures.extend([(before, empty.per_s()), (after, full.per_s())]);
        let (half, most) = full.p50_p99_ms();
        figures.extend([(p50, half), (p99, most)]);
    }
    Ok(figures)
}

/// Small uploads, HEAD and GET. The uploads are added to those that are known.
async fn requests(
    server: &Server,
    pattern: &Bytes,
    count: u64,
    known: &mut Vec<String>,
) -> Outcome<[Clocked; 3]> {
    let (small, paths) = send(server, pattern, (CLIENTS, count), TWO_REQUESTS).await?;
    known.extend(paths);
    let reads = count * READS_A_SMALL;
    let paths: Arc<[String]> = Arc::from(known.as_slice());
    let heads = heads_of(server, CLIENTS, reads, Arc::clone(&paths)).await?;
    let work = move |mut connection: Connection, number: u64| {
        let paths = Arc::clone(&paths);
        async move {
            if connection.get(leap(&paths, number), None, |_| {}).await? != SMALL_BYTES {
                return refuse("a small upload cannot be read".to_owned());
            }
            Ok(connection)
        }
    };
    let gets = repeat(&server.target, CLIENTS, reads, work).await?;
    Ok([small, heads, gets])
}
