//! A server that answers exactly what a test wants, true or not.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod get;
#[path = "../listening/mod.rs"]
pub mod listening;
pub mod run;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use resumed::protocol::digest::Blake3Digest;
use resumed::protocol::tree::{GroupList, group_chaining_value};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use self::listening::{Head, Listening};

const MIB: usize = 1 << 20;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub head: Head,
    /// The number of requests before this one, of all connections.
    pub before: usize,
    /// The number of the connection, from 0.
    pub connection: usize,
}

impl Deref for Asked {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Asked {
    /// The first and the last byte of a `Range` with one range.
    pub fn range(&self, length: usize) -> Option<(usize, usize)> {
        let (first, last) = self.field("range").strip_prefix("bytes=")?.split_once('-')?;
        let end = length.saturating_sub(1);
        let last = last.parse().unwrap_or(end).min(end);
        Some((first.parse().ok()?, last))
    }
}

/// What the server does, one thing after the other.
#[derive(Clone, Debug)]
pub enum Act {
    Send(Vec<u8>),
    /// Nothing for so long.
    Pause(Duration),
    /// Closes the connection.
    Close,
    /// Says nothing any more, and does not close either.
    Hang,
}

/// A head with a `Content-Length`.
pub fn head(status: &str, length: usize, fields: &str) -> Act {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{fields}\r\n");
    Act::Send(head.into_bytes())
}

/// An answer without content.
pub fn bare(status: &str, fields: &str) -> Vec<Act> {
    vec![head(status, 0, fields)]
}

/// An honest answer to a request for this file, whole or a range.
pub fn serve(asked: &Asked, file: &[u8], fields: &str) -> Vec<Act> {
    match asked.range(file.len()) {
        None => vec![head("200 OK", file.len(), fields), Act::Send(file.to_vec())],
        Some((first, _)) if first >= file.len() => {
            bare("416 No", &format!("Content-Range: bytes */{}\r\n{fields}", file.len()))
        }
        Some((first, last)) => {
            let part = &file[first..=last];
            let range = format!("Content-Range: bytes {first}-{last}/{}\r\n", file.len());
            let fields = format!("Accept-Ranges: bytes\r\n{range}{fields}");
            vec![head("206 Partial Content", part.len(), &fields), Act::Send(part.to_vec())]
        }
    }
}

/// Sends the acts, but the content bit by bit, so that there is time for several connections.
pub fn slowly(acts: Vec<Act>, pause: Duration) -> Vec<Act> {
    let mut slow = Vec::new();
    for act in acts {
        match act {
            Act::Send(bytes) if bytes.len() > 64 << 10 => {
                for piece in bytes.chunks(64 << 10) {
                    slow.push(Act::Send(piece.to_vec()));
                    slow.push(Act::Pause(pause));
                }
            }
            act => slow.push(act),
        }
    }
    slow
}

/// The acts up to this many bytes of content, and then another one.
pub fn after(acts: Vec<Act>, bytes: usize, last: Act) -> Vec<Act> {
    let mut acts = acts.into_iter();
    let mut cut = vec![acts.next().unwrap()];
    if let Some(Act::Send(content)) = acts.next() {
        cut.push(Act::Send(content[..bytes.min(content.len())].to_vec()));
    }
    cut.push(last);
    cut
}

/// Answers as `resumed` does, with a tree of this file and the content of another.
pub fn with_tree(asked: &Asked, file: &[u8], sent: &[u8]) -> Vec<Act> {
    let values = (0_u64..).zip(file.chunks(MIB));
    let values = values.map(|(index, group)| group_chaining_value(index, group).unwrap()).collect();
    if asked.target.ends_with("/tree") {
        let list = GroupList::new(file.len() as u64, values).unwrap().encode();
        return vec![head("200 OK", list.len(), ""), Act::Send(list)];
    }
    let root = Blake3Digest::of(file);
    serve(asked, sent, &format!("ETag: \"{root}\"\r\nUpload-Blake3: {root}\r\n"))
}

/// Bytes, and when they were sent.
type Sent = Vec<(Instant, usize)>;

/// A running server.
pub struct Liar {
    listening: Listening,
    pub connections: Arc<AtomicUsize>,
    /// Content and heads, as far as they were sent, with the time.
    pub sent: Arc<Mutex<Sent>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Deref for Liar {
    type Target = Listening;

    fn deref(&self) -> &Listening {
        &self.listening
    }
}

impl Liar {
    /// Starts one that answers by `answer`.
    pub async fn start(answer: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let sent: Arc<Mutex<Sent>> = Arc::default();
        let answer = Arc::new(answer);
        let shared = (Arc::clone(&connections), Arc::clone(&asked), Arc::clone(&sent));
        let listening = Listening::start(move |stream, number| {
            let (connections, asked, sent) = shared.clone();
            let answer = Arc::clone(&answer);
            connections.fetch_add(1, Ordering::SeqCst);
            async move { talk(stream, number, (&asked, &sent), &*answer).await }
        });
        Self { listening: listening.await, connections, sent, asked }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

async fn talk(
    mut stream: TcpStream,
    connection: usize,
    (log, sent): (&Mutex<Vec<Asked>>, &Mutex<Sent>),
    answer: &(dyn Fn(&Asked) -> Vec<Act> + Send + Sync),
) -> std::io::Result<()> {
    let mut unread = Vec::new();
    loop {
        let Some(head) = Head::read(&mut stream, &mut unread).await? else { return Ok(()) };
        let mut asked = Asked { head, before: 0, connection };
        {
            let mut log = log.lock();
            asked.before = log.len();
            log.push(asked.clone());
        }
        for act in answer(&asked) {
            match act {
                Act::Send(bytes) => {
                    stream.write_all(&bytes).await?;
                    sent.lock().push((Instant::now(), bytes.len()));
                }
                Act::Pause(time) => sleep(time).await,
                Act::Close => return Ok(()),
                Act::Hang => std::future::pending().await,
            }
        }
    }
}
