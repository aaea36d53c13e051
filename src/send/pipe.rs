//! A stream, such as standard input: its length is known at its end, and it can be read once.
//!
//! What was read and is not known to be safe is kept, up to a bound, so that an append can be done
//! again. Another run cannot go on: what it would read cannot be known to be the same.
//!
//! - tus 1.0 "Creation", Upload-Defer-Length

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::file::Complete;
use super::plan::{Extent, Plan};
use super::source::Source;
use super::transfer::{Link, Transfer};
use super::tus::Creation;
use super::window::Window;
use super::{Sender, metadata};
use crate::client::failure::Failure;

/// What is read at once at most.
const BLOCK_BYTES: usize = 256 << 10;
/// Blocks that are read ahead of an append: together at most as much as the append has.
const BLOCKS_AHEAD: usize = 64;
/// An append has no more.
const APPEND_BYTES: u64 = 16 << 20;
/// An append begins so long after its first byte at the latest.
const LINGER: Duration = Duration::from_secs(1);

type Blocks = mpsc::Receiver<io::Result<Bytes>>;

impl Sender {
    /// Sends a stream.
    pub(super) async fn send_stream(
        &self,
        stream: Box<dyn Read + Send>,
        path: &Path,
    ) -> Result<Url, Failure> {
        let link = self.link(path);
        let mut blocks = read_ahead(stream);
        let pairs = metadata::pairs(path, &self.options);
        let mut gathered = Gathered::default();
        let failed = |error| Failure::disk("read", path, error);
        if gathered.fill(&mut blocks).await.map_err(failed)? {
            let whole = gathered.take_all();
            return self.send_memory(&link, whole, path, &pairs).await;
        }
        let source = Source::Window(Arc::clone(&gathered.window));
        let plan = Plan::new(Extent::Open(0), None, self.options.max_request_bytes);
        let creation = (Creation::Open, metadata::field(&pairs, None));
        let mut transfer = Transfer::new(&link, plan, creation, (source, 0), None);
        let progress = link.begin(None, 0);
        progress.set_connections(1);
        let send = async {
            loop {
                let end = gathered.window.lock().end();
                let extent = match gathered.is_ended {
                    false => Extent::Open(end),
                    true => Extent::Ended { length: end, is_told: false },
                };
                transfer.extend(extent);
                if let Some(url) = Box::pin(transfer.run(&progress)).await? {
                    return Ok(url);
                }
                gathered.fill(&mut blocks).await.map_err(failed)?;
            }
        };
        let url = tokio::select! {
            sent = send => sent.map_err(without_deferral)?,
            () = progress.watch() => unreachable!("it is watched for ever"),
        };
        let digest = Some(gathered.hasher.finalize().into());
        let complete = Complete { url, blake3: transfer.blake3 };
        link.finish(path, &progress, digest, complete)
    }

    /// Sends a stream that was short, as if it had been a file.
    async fn send_memory(
        &self,
        link: &Arc<Link>,
        content: Bytes,
        path: &Path,
        pairs: &[(String, String)],
    ) -> Result<Url, Failure> {
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let digest = self.options.is_digested.then(|| blake3::hash(&content).into());
        let creation = (Creation::Whole(length), metadata::field(pairs, digest));
        let plan = Plan::new(Extent::Whole(length), None, self.options.max_request_bytes);
        let mut transfer = Transfer::new(link, plan, creation, (Source::Memory(content), 0), None);
        let progress = link.begin(length, 0);
        progress.set_connections(1);
        let url = tokio::select! {
            url = Box::pin(transfer.run(&progress)) => url?,
            () = progress.watch() => unreachable!("it is watched for ever"),
        };
        let url = url.expect("all of it is here, so there is nothing to wait for");
        let complete = Complete { url, blake3: transfer.blake3 };
        link.finish(path, &progress, digest, complete)
    }
}

fn without_deferral(failure: Failure) -> Failure {
    match failure.status_code() {
        Some(status) if status.as_u16() == 400 => {
            failure.with_words("perhaps the server cannot take what has no length; send a file")
        }
        _ => failure,
    }
}

/// What was read so far.
#[derive(Default)]
struct Gathered {
    window: Arc<Mutex<Window>>,
    hasher: Box<blake3::Hasher>,
    is_ended: bool,
}

impl Gathered {
    /// Reads until there is enough for an append, or its first byte has waited for a while.
    /// Whether the stream has ended.
    async fn fill(&mut self, blocks: &mut Blocks) -> io::Result<bool> {
        let mut deadline = None;
        while !self.is_ended && !self.is_enough() {
            let next = match deadline {
                None => blocks.recv().await,
                Some(deadline) => match timeout_at(deadline, blocks.recv()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(false),
                },
            };
            match next.transpose()? {
                Some(block) => {
                    self.hasher.update(&block);
                    self.window.lock().push(block);
                }
                None => self.is_ended = true,
            }
            deadline = deadline.or_else(|| Some(Instant::now() + LINGER));
        }
        Ok(self.is_ended)
    }

    fn is_enough(&self) -> bool {
        let window = self.window.lock();
        window.end() - window.begin() >= APPEND_BYTES
    }

    fn take_all(&mut self) -> Bytes {
        let window = self.window.lock();
        let mut whole = Vec::new();
        let mut offset = window.begin();
        while offset < window.end() {
            let block = window.read(offset, window.end());
            offset += u64::try_from(block.len()).unwrap_or(u64::MAX);
            whole.extend_from_slice(&block);
        }
        whole.into()
    }
}

/// Reads on a thread of its own, as far ahead as the channel has room. Nobody joins it: it may wait
/// for a byte that never comes, and it ends with the process.
fn read_ahead(mut stream: Box<dyn Read + Send>) -> Blocks {
    let (sender, receiver) = mpsc::channel(BLOCKS_AHEAD);
    thread::spawn(move || {
        let mut buffer = vec![0; BLOCK_BYTES];
        loop {
            let read = match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_last = read.is_err();
            if sender.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}
