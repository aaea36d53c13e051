//! Reads the frames of one file, and finds those behind damage.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::MAGIC;
use super::frame::{ALIGNMENT, HEADER_BYTES, Header};

/// The bytes that are read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// The frames of one file, from the first one on.
pub(super) struct Frames {
    file: File,
    /// Where the next frame begins.
    at: u64,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    buffer_at: u64,
}

/// What comes next in a file.
pub(super) enum Step {
    /// A frame: its number, where its payload begins, and the payload.
    Frame { number: u64, payload_at: u64, payload: Vec<u8> },
    /// Bytes that are no frame; behind them there is one again.
    Damage { at: u64 },
    /// No further frame.
    End,
}

impl Frames {
    /// Opens a file; one that does not begin as a journal does has its first frame behind damage.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::of(File::open(path)?))
    }

    pub(super) fn of(file: File) -> Self {
        Self { file, at: 0, buffer: Vec::new(), buffer_at: 0 }
    }

    /// The end of the last frame that was read.
    pub(super) fn end(&self) -> u64 {
        self.at
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }

    pub(super) fn next(&mut self) -> io::Result<Step> {
        if self.at == 0 {
            let magic = self.bytes(0, MAGIC.len())?;
            if magic != MAGIC {
                return self.behind(0);
            }
            self.at = MAGIC.len() as u64;
        }
        match self.frame(self.at)? {
            Some((header, payload)) => {
                let payload_at = self.at.saturating_add(HEADER_BYTES as u64);
                self.at = self.at.saturating_add(header.frame_bytes());
                Ok(Step::Frame { number: header.number, payload_at, payload })
            }
            None => self.behind(self.at),
        }
    }

    /// Looks for a frame behind bytes that are none.
    fn behind(&mut self, at: u64) -> io::Result<Step> {
        let alignment = ALIGNMENT as u64;
        let mut next = at.saturating_add(1).next_multiple_of(alignment);
        loop {
            let header = self.bytes(next, HEADER_BYTES)?;
            let Ok(header) = <&[u8; HEADER_BYTES]>::try_from(header) else { return Ok(Step::End) };
            if Header::parse(header).is_some() && self.frame(next)?.is_some() {
                self.at = next;
                return Ok(Step::Damage { at });
            }
            next = next.saturating_add(alignment);
        }
    }

    /// The frame that begins here.
    fn frame(&mut self, at: u64) -> io::Result<Option<(Header, Vec<u8>)>> {
        let header = self.bytes(at, HEADER_BYTES)?;
        let header = <&[u8; HEADER_BYTES]>::try_from(header).ok().and_then(Header::parse);
        let Some(header) = header else { return Ok(None) };
        let Ok(length) = usize::try_from(header.length) else { return Ok(None) };
        let payload = self.bytes(at.saturating_add(HEADER_BYTES as u64), length)?;
        let is_whole = payload.len() == length && header.fits(payload);
        Ok(is_whole.then(|| (header, payload.to_vec())))
    }

    /// So many bytes of the file, or as many as there are.
    fn bytes(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let is_here = |reader: &Self| {
            let begin = usize::try_from(at.checked_sub(reader.buffer_at)?).ok()?;
            let end = begin.checked_add(count)?;
            (end <= reader.buffer.len()).then_some(begin..end)
        };
        if is_here(self).is_none() {
            self.fill(at, count.max(BUFFER_BYTES))?;
        }
        let range = is_here(self).unwrap_or(0..self.buffer.len().min(count));
        Ok(&self.buffer[range])
    }

    fn fill(&mut self, at: u64, count: usize) -> io::Result<()> {
        let length = self.file.metadata()?.len().saturating_sub(at);
        let count = usize::try_from(length).map_or(count, |length| count.min(length));
        self.buffer.resize(count, 0);
        self.buffer_at = at;
        let mut filled = 0;
        while filled < count {
            let from = at.saturating_add(filled as u64);
            match self.file.read_at(&mut self.buffer[filled..], from) {
                Ok(0) => break,
                Ok(more) => filled = filled.saturating_add(more),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}
