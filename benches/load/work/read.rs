//! One file, read whole or in ranges. It is stored by another process of the same server, so that
//! the memory is that of reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;

use super::Clocked;
use super::repeat::repeat;
use super::upload::store;
use crate::client::Connection;
use crate::figures::Figures;
use crate::payload::{MIB, is_at};
use crate::servers::Server;
use crate::{Outcome, refuse};

const RANGE_BYTES: u64 = 4 * MIB;
/// So much of the first piece is compared: an offset that is wrong shows, at no cost.
const COMPARED_BYTES: usize = 64;

/// `file` is the length, and whether it is read in ranges.
pub(super) async fn run(
    server: &mut Server,
    pattern: &Bytes,
    clients: usize,
    file: (u64, bool),
) -> Outcome<Figures> {
    let (length, is_ranged) = file;
    let mut connection = Connection::open(&server.target).await?;
    let path = store(&mut connection, server, pattern, (length, "/file")).await?;
    let first = store(&mut connection, server, pattern, (MIB, "/first")).await?;
    drop(connection);
    server.restart()?;
    let mut connection = Connection::open(&server.target).await?;
    connection.get(&first, None, |_| {}).await?;
    let watch = server.watch(0)?;
    if is_ranged {
        let mut clocked = ranges(server, pattern, clients, (path, length)).await?;
        clocked.bytes = length;
        return clocked.figures(&watch);
    }
    let mut is_right = false;
    let begin = Instant::now();
    let got = connection.get(&path, None, |piece| is_right = starts(pattern, 0, piece)).await?;
    let took = begin.elapsed();
    if got != length || !is_right {
        return refuse(format!("{got} bytes of {length} came, or others than were sent"));
    }
    Clocked { took, bytes: length, latencies: vec![took], ..Clocked::default() }.figures(&watch)
}

async fn ranges(
    server: &Server,
    pattern: &Bytes,
    clients: usize,
    file: (String, u64),
) -> Outcome<Clocked> {
    let (path, length) = file;
    let pattern = pattern.clone();
    let work = move |mut connection: Connection, number: u64| {
        let (path, pattern) = (path.clone(), pattern.clone());
        async move {
            let begin = number * RANGE_BYTES;
            let end = length.min(begin + RANGE_BYTES);
            let is_right = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&is_right);
            let look = |piece: &[u8]| seen.store(starts(&pattern, begin, piece), Ordering::Relaxed);
            let got = connection.get(&path, Some((begin, end)), look).await?;
            if got != end - begin || !is_right.load(Ordering::Relaxed) {
                return refuse(format!("the range at {begin} is not what was sent"));
            }
            Ok(connection)
        }
    };
    repeat(&server.target, clients, length.div_ceil(RANGE_BYTES), work).await
}

fn starts(pattern: &Bytes, offset: u64, piece: &[u8]) -> bool {
    is_at(pattern, offset, &piece[..piece.len().min(COMPARED_BYTES)])
}
