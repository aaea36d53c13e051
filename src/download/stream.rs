//! Bytes in order over one connection: to standard output, and from servers that know no ranges or
//! no length.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::part::PartFile;
use super::source::{First, Part, RangeFailure, Source, open_range, open_whole};
use super::verify::compare;
use crate::client::failure::Failure;
use crate::client::report::Progress;
use crate::client::retry::{Retries, random};
use crate::client::{Client, blocking};
use crate::protocol::checksum::{Checksum, Checksummer};
use crate::protocol::tree::{GROUP_BYTES, GroupHasher, VerifiedGroups};

/// Bytes are handed over in pieces of this length.
const PIECE_BYTES: usize = 1 << 20;

/// Where bytes go to, in order.
#[derive(Clone)]
pub(super) enum Sink {
    /// Standard output.
    Stdout,
    /// A file, from its beginning.
    File(Arc<PartFile>),
}

impl Sink {
    async fn write(&self, at: u64, pieces: Vec<Bytes>) -> Result<(), Failure> {
        let sink = self.clone();
        let written = blocking(move || match sink {
            Self::File(part) => part.write(at, &pieces),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                let mut written = pieces.iter().try_for_each(|piece| out.write_all(piece));
                written = written.and_then(|()| out.flush());
                written.map_err(|error| Failure::disk("write", Path::new("standard output"), error))
            }
        });
        written.await
    }
}

/// One stream of bytes from the beginning to the end.
pub(super) struct Stream<'a> {
    pub(super) client: &'a Client,
    pub(super) source: &'a Source,
    pub(super) progress: &'a Progress,
    pub(super) sink: Sink,
    /// Whether the server knows ranges, so that a cut stream goes on.
    pub(super) has_ranges: bool,
    pub(super) length: Option<u64>,
    pub(super) groups: Option<&'a VerifiedGroups>,
    /// Digests of the whole, compared at the end.
    pub(super) digests: &'a [Checksum],
    pub(super) max_tries: u32,
}

/// What is there of it.
struct State {
    at: u64,
    held: Vec<Bytes>,
    held_bytes: usize,
    running: Vec<Checksummer>,
    /// The last group that came wrong, and how often it did.
    wrong: (u64, u32),
}

impl State {
    /// Where the next byte to come belongs.
    fn end(&self) -> u64 {
        self.at.saturating_add(u64::try_from(self.held_bytes).unwrap_or(u64::MAX))
    }
}

impl Stream<'_> {
    /// Takes it all, beginning with the first answer if that has the first bytes. The number of bytes.
    pub(super) async fn run(
        &self,
        first: First,
        stop: &CancellationToken,
    ) -> Result<u64, RangeFailure> {
        let running = self.digests.iter().map(|digest| Checksummer::new(digest.algorithm()));
        let mut state = State {
            at: 0,
            held: Vec::new(),
            held_bytes: 0,
            running: running.collect(),
            wrong: (0, 0),
        };
        let mut retries = Retries::new(self.max_tries);
        let mut best = 0;
        let mut opened = first.content.filter(|part| part.range.start == 0);
        if self.length == Some(0) {
            compare(state.running, self.digests)?;
            return Ok(0);
        }
        loop {
            let outcome = tokio::select! {
                outcome = Box::pin(self.attempt(opened.take(), &mut state)) => outcome,
                () = self.progress.watch() => Ok(()),
                () = stop.cancelled() => return Err(Failure::interrupted().into()),
            };
            let failure = match outcome {
                Ok(()) => break,
                Err(RangeFailure::Failed(failure)) => failure,
                Err(other) => return Err(other),
            };
            if !self.has_ranges {
                (state.held, state.held_bytes) = (Vec::new(), 0);
            }
            // What came before and had to be given up is no progress.
            if state.end() > best {
                best = state.end();
                retries.progressed();
            }
            let failure = self.may_go_on(failure, &mut state)?;
            let (wait, failure) = retries.after(failure, random())?;
            self.progress.retry(&failure, wait, retries.failed());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return Err(Failure::interrupted().into()),
            }
        }
        compare(state.running, self.digests)?;
        Ok(state.at)
    }

    /// Without ranges a file is begun anew, and what is in a pipe cannot be taken back.
    fn may_go_on(&self, failure: Failure, state: &mut State) -> Result<Failure, RangeFailure> {
        if self.has_ranges || state.at == 0 {
            return Ok(failure);
        }
        match self.sink {
            Sink::Stdout => {
                let words = "the server knows no ranges, so this cannot go on";
                Err(failure.with_words(words).for_good().into())
            }
            Sink::File(_) => {
                self.progress.take_back(state.at);
                state.at = 0;
                let running =
                    self.digests.iter().map(|digest| Checksummer::new(digest.algorithm()));
                state.running = running.collect();
                Ok(failure)
            }
        }
    }

    async fn attempt(
        &self,
        mut opened: Option<Part>,
        state: &mut State,
    ) -> Result<(), RangeFailure> {
        loop {
            let part = match (opened.take(), self.has_ranges, self.length) {
                (Some(part), ..) => part,
                (None, true, Some(length)) => {
                    open_range(self.client, self.source, &(state.end()..length), length).await?
                }
                (None, ..) => open_whole(self.client, self.source, self.length).await?,
            };
            let end = part.range.end;
            self.take(part, state).await?;
            match self.length {
                // The server sends less at once than it was asked for.
                Some(length) if self.has_ranges && state.end() == end && end < length => {}
                Some(length) if state.end() < length => {
                    return Err(Failure::broken_answer("an answer ended too early").into());
                }
                _ => return Ok(self.pass_on(state).await?),
            }
        }
    }

    async fn take(&self, part: Part, state: &mut State) -> Result<(), Failure> {
        let Part { range, mut answer } = part;
        while let Some(mut bytes) = answer.content.next().await? {
            let left = range.end.saturating_sub(state.end());
            if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > left {
                return Err(Failure::broken_answer("an answer has more bytes than it said"));
            }
            while !bytes.is_empty() {
                let room = self.room(state);
                let piece = bytes.split_to(room.min(bytes.len()));
                state.held_bytes = state.held_bytes.saturating_add(piece.len());
                state.held.push(piece);
                if self.room(state) == 0 {
                    self.pass_on(state).await?;
                }
            }
        }
        Ok(())
    }

    /// What may still be held: up to the end of a group, so that it can be verified.
    fn room(&self, state: &State) -> usize {
        let limit = match self.groups {
            None => PIECE_BYTES,
            Some(_) => {
                let to_end = GROUP_BYTES.saturating_sub(state.at % GROUP_BYTES);
                usize::try_from(to_end).unwrap_or(PIECE_BYTES)
            }
        };
        limit.saturating_sub(state.held_bytes)
    }

    async fn pass_on(&self, state: &mut State) -> Result<(), Failure> {
        let pieces = std::mem::take(&mut state.held);
        let bytes = u64::try_from(std::mem::take(&mut state.held_bytes)).unwrap_or(u64::MAX);
        if pieces.is_empty() {
            return Ok(());
        }
        if let Some(groups) = self.groups {
            let index = state.at / GROUP_BYTES;
            let mut hasher = GroupHasher::new(index);
            if let Some(hasher) = &mut hasher {
                pieces.iter().for_each(|piece| hasher.update(piece));
            }
            if !hasher.is_some_and(|hasher| groups.verify_hashed(&hasher)) {
                let before = if state.wrong.0 == index { state.wrong.1 } else { 0 };
                state.wrong = (index, before.saturating_add(1));
                let what = format!("group {index} (from byte {} on) came wrong", state.at);
                return if state.wrong.1 < 3 {
                    Err(Failure::broken_answer(what))
                } else {
                    Err(Failure::verification(format!("{what} {} times", state.wrong.1)))
                };
            }
        }
        for running in &mut state.running {
            pieces.iter().for_each(|piece| running.update(piece));
        }
        self.sink.write(state.at, pieces).await?;
        state.at = state.at.saturating_add(bytes);
        self.progress.add(bytes);
        Ok(())
    }
}
