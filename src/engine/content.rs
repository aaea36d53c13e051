//! The content of a request as the engine sees it: pieces, and how it ended. Gathers small pieces
//! into batches that are worth a write. Knows nothing of HTTP.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::alarm::{Alarm, from_now};
use crate::protocol::checksum::Checksum;
use crate::protocol::refusal::Refusal;
use crate::protocol::upload::Upload;

/// The bytes that are written at once: what stays in a core's cache from the socket to the page
/// cache, and keeps no async thread for long.
pub const BATCH_BYTES: usize = 256 << 10;
/// A piece of no more is copied: it may keep the whole buffer that it came in, which is 8 KiB for
/// every byte that comes by itself, and thousands of pieces make a write slow.
const SMALL_BYTES: usize = 1 << 10;
/// How long the first byte of a batch waits for others on a slow link.
const BATCH_WAIT: Duration = Duration::from_millis(100);

/// How long an append that is to end takes what comes. Who ends it may have sent that just before, on
/// another connection, and the system told of the later one first.
const GRACE: Duration = Duration::from_millis(5);

/// What comes next of a content.
#[derive(Debug)]
pub enum Piece {
    /// Some bytes, never none.
    Bytes(Bytes),
    /// The content is whole.
    End,
    /// The peer went away before it was whole.
    Cut,
    /// The peer stalled or is too slow.
    TooSlow,
}

/// The content of a request.
pub trait Content: Send {
    /// The next piece. After anything but `Bytes` it is not asked again.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece>;

    /// The checksum that came behind the content, once it has ended.
    ///
    /// # Errors
    ///
    /// `Field` or `Checksum`, when it cannot be read.
    fn trailer_checksum(&mut self) -> Result<Option<Checksum>, Refusal> {
        Ok(None)
    }

    /// Whether who sends it wants to know of a new upload before any of it is taken. Its record is
    /// saved at once then.
    fn is_announced(&self) -> bool {
        false
    }

    /// This is recorded by now, and durable. Told while more may come: of a new upload that is
    /// announced, and after each checkpoint. Must not block.
    fn recorded(&mut self, _upload: &Upload) {}
}

/// Why no more bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The content is whole.
    Whole,
    /// The peer went away.
    Cut,
    /// The peer is too slow.
    TooSlow,
    /// Another request for the upload takes over.
    Superseded,
    /// The server stops.
    Stopping,
    /// The content reaches beyond the upload's length.
    Overrun,
    /// The store has no room for more of it.
    NoRoom,
}

/// What [`Gatherer::gather`] returns with.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The bytes, in order; perhaps none.
    pub(super) pieces: Vec<Bytes>,
    /// How many they are.
    pub(super) bytes: u64,
    /// Whether this was all, and why.
    pub(super) ending: Option<Ending>,
    /// Small pieces behind the others.
    small: BytesMut,
}

impl Batch {
    fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= SMALL_BYTES {
            self.small.extend_from_slice(&bytes);
        } else {
            self.end_small();
            self.pieces.push(bytes);
        }
    }

    fn end_small(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(std::mem::take(&mut self.small).freeze());
        }
    }
}

/// Turns a content into batches.
pub(super) struct Gatherer {
    content: Box<dyn Content>,
    /// Bytes that may still come before the upload ends.
    allowance: u64,
    superseded: CancellationToken,
    stopping: CancellationToken,
    alarm: Alarm,
}

impl Gatherer {
    pub(super) fn new(
        content: Box<dyn Content>,
        allowance: u64,
        superseded: CancellationToken,
        stopping: CancellationToken,
    ) -> Self {
        Self { content, allowance, superseded, stopping, alarm: Alarm::default() }
    }

    /// The checksum that came behind the content, once it has ended.
    pub(super) fn trailer_checksum(&mut self) -> Result<Option<Checksum>, Refusal> {
        self.content.trailer_checksum()
    }

    /// Tells whoever sends the content how far it is recorded.
    pub(super) fn recorded(&mut self, upload: &Upload) {
        self.content.recorded(upload);
    }

    /// Waits for the next bytes, and a little for more of them. Returns with no bytes when none
    /// came for as long as `patience`, and with an ending when there is one. Dropping the future
    /// loses bytes.
    pub(super) async fn gather(&mut self, patience: Option<Duration>) -> Batch {
        let superseded = self.superseded.clone();
        let stopping = self.stopping.clone();
        let mut superseded = pin!(superseded.cancelled());
        let mut stopping = pin!(stopping.cancelled());
        let mut until = None;
        let mut batch = Batch::default();
        let mut grace: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|context| {
            // Bytes first: what has arrived is kept even when the append is being ended.
            let was_empty = batch.bytes == 0;
            let is_done = self.fill(&mut batch, context);
            if batch.ending.is_some() {
                return Poll::Ready(());
            }
            let told = if superseded.as_mut().poll(context).is_ready() {
                Some(Ending::Superseded)
            } else if stopping.as_mut().poll(context).is_ready() {
                Some(Ending::Stopping)
            } else {
                None
            };
            if is_done {
                // A peer that is faster than the disk always has another full batch.
                batch.ending = told;
                return Poll::Ready(());
            }
            if let Some(ending) = told {
                let grace = grace.get_or_insert_with(|| Box::pin(sleep(GRACE)));
                let is_over = grace.as_mut().poll(context).is_ready();
                batch.ending = is_over.then_some(ending);
                return if is_over { Poll::Ready(()) } else { Poll::Pending };
            }
            if was_empty && batch.bytes > 0 {
                until = Some(from_now(BATCH_WAIT));
            } else if until.is_none() {
                until = patience.map(from_now);
            }
            until.map_or(Poll::Pending, |until| self.alarm.poll(until, context))
        })
        .await;
        batch.end_small();
        batch
    }

    /// Takes what is there; whether the batch is done.
    fn fill(&mut self, batch: &mut Batch, context: &mut Context<'_>) -> bool {
        loop {
            let piece = match self.content.poll_piece(context) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return false,
            };
            batch.ending = match piece {
                Piece::Bytes(bytes) => self.take(bytes, batch),
                Piece::End => Some(Ending::Whole),
                Piece::Cut => Some(Ending::Cut),
                Piece::TooSlow => Some(Ending::TooSlow),
            };
            let is_full = usize::try_from(batch.bytes).is_ok_and(|bytes| bytes >= BATCH_BYTES);
            if is_full || batch.ending.is_some() {
                return true;
            }
        }
    }

    fn take(&mut self, bytes: Bytes, batch: &mut Batch) -> Option<Ending> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let Some(rest) = self.allowance.checked_sub(count) else {
            return Some(Ending::Overrun);
        };
        self.allowance = rest;
        batch.bytes = batch.bytes.saturating_add(count);
        batch.push(bytes);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that always has another full batch.
    struct Endless;

    impl Content for Endless {
        fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Piece> {
            Poll::Ready(Piece::Bytes(vec![1; BATCH_BYTES].into()))
        }
    }

    #[tokio::test]
    async fn content_that_never_stalls_is_ended_all_the_same() {
        let [superseded, stopping] = [(); 2].map(|()| CancellationToken::new());
        for (token, ending) in
            [(&superseded, Ending::Superseded), (&stopping, Ending::Stopping)].into_iter().rev()
        {
            let (superseded, stopping) = (superseded.clone(), stopping.clone());
            let mut gatherer = Gatherer::new(Box::new(Endless), u64::MAX, superseded, stopping);
            token.cancel();
            let batch = gatherer.gather(None).await;
            assert_eq!(batch.ending, Some(ending));
            assert_eq!(usize::try_from(batch.bytes), Ok(BATCH_BYTES));
        }
    }

    /// Pieces that are there at once.
    struct Ready(std::vec::IntoIter<Bytes>);

    impl Content for Ready {
        fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Piece> {
            Poll::Ready(self.0.next().map_or(Piece::End, Piece::Bytes))
        }
    }

    #[tokio::test]
    async fn small_pieces_are_put_together_and_long_ones_are_not_copied() {
        let long = Bytes::from(vec![7; SMALL_BYTES + 1]);
        let pieces: Vec<_> = (0..100).map(|byte| Bytes::from(vec![byte])).collect();
        let all = [&pieces[..60], std::slice::from_ref(&long), &pieces[60..]].concat();
        let content = Box::new(Ready(all.clone().into_iter()));
        let [superseded, stopping] = [(); 2].map(|()| CancellationToken::new());
        let batch = Gatherer::new(content, u64::MAX, superseded, stopping).gather(None).await;
        assert_eq!(batch.pieces.concat(), all.concat());
        assert_eq!(batch.pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [60, 1025, 40]);
        assert_eq!(batch.pieces[1].as_ptr(), long.as_ptr());
        assert_eq!((batch.bytes, batch.ending), (1125, Some(Ending::Whole)));
    }

    /// A piece that is told of one millisecond after it is asked for.
    #[derive(Default)]
    struct Late {
        arrival: Option<Pin<Box<Sleep>>>,
        has_come: bool,
    }

    impl Content for Late {
        fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
            let wait = || Box::pin(sleep(Duration::from_millis(1)));
            if self.has_come
                || self.arrival.get_or_insert_with(wait).as_mut().poll(context).is_pending()
            {
                return Poll::Pending;
            }
            self.has_come = true;
            Poll::Ready(Piece::Bytes(Bytes::from_static(b"late")))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_when_an_append_is_ended_is_taken() {
        let superseded = CancellationToken::new();
        superseded.cancel();
        let (content, stopping) = (Box::<Late>::default(), CancellationToken::new());
        let batch = Gatherer::new(content, u64::MAX, superseded, stopping).gather(None).await;
        assert_eq!(
            (batch.ending, batch.pieces.concat().as_slice()),
            (Some(Ending::Superseded), &b"late"[..])
        );
    }
}
