//! Many small requests: uploads of 4 KiB, and HEAD.

use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;

use super::repeat::repeat;
use super::{Clocked, Figures};
use crate::client::Connection;
use crate::payload::{MIB, wide};
use crate::servers::{Kind, Server};
use crate::{Outcome, refuse};

/// The length of a small upload.
pub(super) const SMALL_BYTES: u64 = 4096;
/// So many of the requests come first, outside the clock: Node compiles what it runs often.
const WARM_UP_PERCENT: u64 = 10;

/// `many` are the clients, and how many uploads they send in all.
pub(super) async fn uploads(
    server: &Server,
    pattern: &Bytes,
    many: (usize, u64),
    requests: u64,
) -> Outcome<Figures> {
    let (clients, count) = many;
    let first = (clients, count * WARM_UP_PERCENT / 100);
    send(server, pattern, first, (requests, "first")).await?;
    let watch = server.watch(0)?;
    let (mut clocked, paths) = send(server, pattern, many, (requests, "small")).await?;
    clocked.bytes = count * SMALL_BYTES;
    let figures = clocked.figures(&watch)?;
    let mut connection = Connection::open(&server.target).await?;
    // Bare hyper keeps nothing, and nginx has told with its status that it has the file.
    let is_tus = !matches!(server.kind, Kind::Bare | Kind::Nginx);
    for path in paths.iter().step_by(100).filter(|_| is_tus) {
        if connection.head(path).await? != SMALL_BYTES {
            return refuse("a small upload did not arrive".to_owned());
        }
    }
    Ok(figures)
}

/// Sends small uploads, in so many requests each, and returns their paths. What takes PUT gets
/// files of names that begin with the given one.
pub(super) async fn send(
    server: &Server,
    pattern: &Bytes,
    many: (usize, u64),
    how: (u64, &'static str),
) -> Outcome<(Clocked, Vec<String>)> {
    let ((clients, count), (requests, name)) = (many, how);
    let takes_put = server.kind.takes_put();
    let paths = Arc::new(Mutex::new(Vec::new()));
    let (pattern, kept) = (pattern.clone(), Arc::clone(&paths));
    let work = move |mut connection: Connection, number: u64| {
        let (pattern, kept) = (pattern.clone(), Arc::clone(&kept));
        async move {
            let path = if takes_put {
                let path = format!("/{name}-{number}");
                connection.put(&path, &pattern, SMALL_BYTES).await?;
                path
            } else if requests == 1 {
                connection.create_with(&pattern, SMALL_BYTES).await?
            } else {
                let path = connection.create(SMALL_BYTES).await?;
                connection.append(&path, (&pattern, 0, SMALL_BYTES), None).await?;
                path
            };
            kept.lock().map_err(|_| "a client died")?.push(path);
            Ok(connection)
        }
    };
    let clocked = repeat(&server.target, clients, count, work).await?;
    let paths = std::mem::take(&mut *paths.lock().map_err(|_| "a client died")?);
    if wide(paths.len()) != count {
        return refuse(format!("{} of {count} uploads were sent", paths.len()));
    }
    Ok((clocked, paths))
}

/// HEAD of one upload that is not complete.
pub(super) async fn heads(server: &Server, clients: usize, count: u64) -> Outcome<Figures> {
    let paths: Arc<[String]> =
        Arc::new([Connection::open(&server.target).await?.create(MIB).await?]);
    let first = count * WARM_UP_PERCENT / 100;
    heads_of(server, clients, first, Arc::clone(&paths)).await?;
    let watch = server.watch(0)?;
    heads_of(server, clients, count, paths).await?.figures(&watch)
}

/// HEAD of uploads in turn, in leaps, so that those made together are not asked for together.
pub(super) async fn heads_of(
    server: &Server,
    clients: usize,
    count: u64,
    paths: Arc<[String]>,
) -> Outcome<Clocked> {
    let work = move |mut connection: Connection, number: u64| {
        let paths = Arc::clone(&paths);
        async move {
            connection.head(leap(&paths, number)).await?;
            Ok(connection)
        }
    };
    repeat(&server.target, clients, count, work).await
}

/// One of the paths, far from that of the number before.
pub(super) fn leap(paths: &[String], number: u64) -> &str {
    const LEAP: u64 = 7919;
    let at = number.wrapping_mul(LEAP) % wide(paths.len()).max(1);
    usize::try_from(at).ok().and_then(|at| paths.get(at)).map_or("/", String::as_str)
}
