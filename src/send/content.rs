//! A range of a source as the content of a request: read one block ahead, at the rate that is
//! allowed, counted as it goes out piece by piece.

use std::error::Error;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::source::{BLOCK_BYTES, Source};
use crate::client::failure::Failure;
use crate::client::rate::RateLimit;
use crate::client::report::Progress;
use crate::client::{RequestContent, joined};

/// Under a limit of the rate no piece has to have more.
const LEAST_PIECE_BYTES: usize = 512;

/// What watches the bytes of one upload go out.
#[derive(Clone)]
pub(super) struct Meters {
    pub(super) limit: Arc<RateLimit>,
    pub(super) progress: Arc<Progress>,
    /// Where the upload is, as the progress shows it.
    pub(super) shown: Arc<AtomicU64>,
    /// Why the content ended early, when that was our own doing.
    pub(super) failed: Arc<Mutex<Option<Failure>>>,
}

/// The bytes of `range`, with its length as their `Content-Length`.
pub(super) fn content(source: &Source, range: Range<u64>, meters: Meters) -> RequestContent {
    let left = range.end.saturating_sub(range.start);
    let state = State { source: source.clone(), range, meters, ahead: None, block: Bytes::new() };
    let blocks = try_unfold(state, |mut state| async move {
        let block = state.next().await?;
        Ok(block.map(|block| (block, state)))
    });
    Exact { blocks: Box::pin(blocks), left }.boxed_unsync()
}

type Read = Result<Bytes, Failure>;
type Fault = Box<dyn Error + Send + Sync>;

struct State {
    source: Source,
    /// What was not yet begun to be read.
    range: Range<u64>,
    meters: Meters,
    ahead: Option<JoinHandle<Read>>,
    /// What was read and has not gone out.
    block: Bytes,
}

impl State {
    /// The next piece. It is paid for before it goes out, and so never the whole block at once.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.block.is_empty() {
            let Some(block) = self.next_block().await? else { return Ok(None) };
            self.block = block;
        }
        let most = self.meters.limit.piece_bytes(LEAST_PIECE_BYTES..=BLOCK_BYTES);
        let piece = self.block.split_to(most.min(self.block.len()));
        self.meters.limit.take(piece.len()).await;
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.meters.progress.add(bytes);
        self.meters.shown.fetch_add(bytes, Ordering::Relaxed);
        Ok(Some(piece))
    }

    async fn next_block(&mut self) -> Result<Option<Bytes>, Fault> {
        let read = match self.ahead.take() {
            Some(ahead) => joined(ahead).await,
            None if self.range.is_empty() => return Ok(None),
            None => self.source.read(self.range.start, self.range.end).await,
        };
        let block = match read {
            Ok(block) if block.is_empty() => return Err("the bytes are not here".into()),
            Ok(block) => block,
            Err(failure) => {
                let words = failure.to_string();
                *self.meters.failed.lock() = Some(failure);
                return Err(words.into());
            }
        };
        let bytes = u64::try_from(block.len()).unwrap_or(u64::MAX);
        self.range.start = self.range.start.saturating_add(bytes);
        if let (Source::File(file), false) = (&self.source, self.range.is_empty()) {
            let (file, Range { start, end }) = (Arc::clone(file), self.range.clone());
            self.ahead = Some(tokio::task::spawn_blocking(move || file.read(start, end)));
        }
        Ok(Some(block))
    }
}

/// A stream of which the length is known.
struct Exact<S> {
    blocks: Pin<Box<S>>,
    left: u64,
}

impl<S: Stream<Item = Result<Bytes, Fault>>> Body for Exact<S> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let polled = self.blocks.as_mut().poll_next(context);
        polled.map(|next| {
            next.map(|read| {
                read.map(|block| {
                    let bytes = u64::try_from(block.len()).unwrap_or(u64::MAX);
                    self.left = self.left.saturating_sub(bytes);
                    Frame::data(block)
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
