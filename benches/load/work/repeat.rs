//! The same request many times, over several connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use super::Clocked;
use crate::Outcome;
use crate::client::{Connection, Target};

/// Does the work of each number below `count`, over `clients` connections that take the next one
/// as they become free. The work gives its connection back.
pub(super) async fn repeat<W, F>(
    target: &Target,
    clients: usize,
    count: u64,
    work: W,
) -> Outcome<Clocked>
where
    W: Fn(Connection, u64) -> F + Send + Sync + 'static,
    F: Future<Output = Outcome<Connection>> + Send,
{
    let connections = Connection::open_all(target, clients).await?;
    let (work, next) = (Arc::new(work), Arc::new(AtomicU64::new(0)));
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let (work, next) = (Arc::clone(&work), Arc::clone(&next));
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Outcome::Ok(latencies);
                }
                let begin = Instant::now();
                connection = work(connection, number).await?;
                latencies.push(begin.elapsed());
            }
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    Ok(Clocked { took: begin.elapsed(), requests: count, latencies, bytes: 0 })
}
