//! What is sent: slices of one buffer, so that the client costs little.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

const PATTERN_BYTES: usize = 1 << 20;

/// Noise, the same in every run. Byte `i` of an upload is `pattern[i % pattern.len()]`.
pub(crate) fn pattern() -> Bytes {
    let mut noise = vec![0; PATTERN_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise.into()
}

/// Content that hands out the pattern again and again.
pub(crate) struct Payload {
    pattern: Bytes,
    at: usize,
    left: u64,
}

impl Payload {
    /// So many bytes of an upload, from this offset on.
    pub(crate) fn new(pattern: &Bytes, offset: u64, length: u64) -> Self {
        Self { pattern: pattern.clone(), at: place(pattern, offset), left: length }
    }

    pub(crate) fn empty() -> Self {
        Self { pattern: Bytes::new(), at: 0, left: 0 }
    }
}

/// The pieces of the pattern, as a checksum is made of them.
impl Iterator for Payload {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let rest = self.pattern.len() - self.at;
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest);
        let piece = self.pattern.slice(self.at..self.at + take);
        self.left -= wide(take);
        self.at = (self.at + take) % self.pattern.len();
        Some(piece)
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Whether an upload has these bytes at this offset; they may not reach over the pattern's end.
pub(crate) fn is_at(pattern: &Bytes, offset: u64, bytes: &[u8]) -> bool {
    pattern[place(pattern, offset)..].starts_with(bytes)
}

fn place(pattern: &Bytes, offset: u64) -> usize {
    usize::try_from(offset % wide(pattern.len())).unwrap_or(0)
}

/// A number of things in memory, as a number of bytes is kept.
pub(crate) fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
