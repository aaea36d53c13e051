//! What is asked before the first byte is fetched: who has the file, which one it is, and what its
//! bytes have to be.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::open;
use super::source::{Facts, First, RangeFailure, Source, probe};
use super::verify::{as_blake3, fetch_groups, in_words};
use super::{Download, Getter};
use crate::client::failure::Failure;
use crate::client::retry::{Retries, random};
use crate::protocol::checksum::{Algorithm, Checksum};
use crate::protocol::tree::VerifiedGroups;

/// What stays the same while a download is attempted.
pub(super) struct Attempt<'a> {
    pub(super) download: &'a Download,
    pub(super) sources: Arc<Vec<Source>>,
    pub(super) name: String,
    pub(super) has_ranges: bool,
}

/// What the first answers told.
pub(super) struct Known {
    pub(super) first: First,
    pub(super) facts: Facts,
    pub(super) source: usize,
    pub(super) groups: Option<VerifiedGroups>,
    /// What the whole is compared with at the end.
    pub(super) digests: Vec<Checksum>,
}

impl Known {
    /// How the bytes are verified, in words.
    pub(super) fn verified(&self) -> Option<String> {
        let groups = self.groups.as_ref().map(|groups| format!("blake3:{}", groups.root()));
        groups.or_else(|| self.digests.first().map(in_words))
    }
}

impl Getter {
    /// Asks what there is to know.
    pub(super) async fn know(&self, attempt: &Attempt<'_>) -> Result<Known, RangeFailure> {
        let download = attempt.download.clone();
        let left = blocking(move || open::left(&download)).await;
        let (first, source) = self.first(attempt, left.as_ref()).await?;
        let facts = first.facts.clone();
        let expect = attempt.download.expect.as_ref();
        if let (Some(root), Some(expected)) = (facts.root, expect.and_then(as_blake3))
            && root != expected
        {
            let message = format!("the server has blake3:{root}, not blake3:{expected}");
            return Err(Failure::verification(message).into());
        }
        let groups = match (facts.root, facts.length, facts.has_ranges) {
            (Some(root), Some(length), true) => {
                let url = &attempt.sources[source].url;
                self.again(attempt, || Box::pin(fetch_groups(&self.client, url, root, length)))
                    .await?
            }
            _ => None,
        };
        let mut digests: Vec<Checksum> = expect.cloned().into_iter().collect();
        match (&groups, facts.root) {
            (Some(_), _) => digests.retain(|digest| digest.algorithm() != Algorithm::Blake3),
            (None, Some(root)) => {
                digests.extend(Checksum::new(Algorithm::Blake3, root.as_bytes().to_vec()).ok());
            }
            (None, None) => digests.extend(facts.digests.iter().cloned()),
        }
        Ok(Known { first, facts, source, groups, digests })
    }

    /// The first answer, of whichever server gives one.
    async fn first(
        &self,
        attempt: &Attempt<'_>,
        left: Option<&open::Left>,
    ) -> Result<(First, usize), Failure> {
        let sources = &attempt.sources;
        let start = left.map_or(0, |left| left.start);
        let validator = left.map(|left| &left.subject.validator);
        let mut retries = Retries::new(self.max_tries);
        let mut turn = 0;
        loop {
            let usable: Vec<usize> =
                (0..sources.len()).filter(|index| sources[*index].is_usable()).collect();
            let index = usable[turn % usable.len()];
            let source = &sources[index];
            let asked = tokio::select! {
                asked = Box::pin(probe(&self.client, source, start, validator)) => asked,
                () = self.stop.cancelled() => return Err(Failure::interrupted()),
            };
            let failure = match asked {
                Ok(first) => {
                    source.set_validator(first.facts.validator.clone());
                    return Ok((first, index));
                }
                Err(failure) => failure,
            };
            turn = turn.wrapping_add(1);
            if !failure.is_transient() && usable.len() > 1 {
                source.give_up();
                self.reporter.note(&attempt.name, &format!("{failure}; asking another server"));
                continue;
            }
            self.pause(attempt, &mut retries, failure).await?;
        }
    }

    /// Tries something again until it succeeds, or nothing helps.
    async fn again<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        attempt: &Attempt<'_>,
        work: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let mut retries = Retries::new(self.max_tries);
        loop {
            let done = tokio::select! {
                done = work() => done,
                () = self.stop.cancelled() => return Err(Failure::interrupted()),
            };
            match done {
                Ok(done) => return Ok(done),
                Err(failure) => self.pause(attempt, &mut retries, failure).await?,
            }
        }
    }

    async fn pause(
        &self,
        attempt: &Attempt<'_>,
        retries: &mut Retries,
        failure: Failure,
    ) -> Result<(), Failure> {
        let (wait, failure) = retries.after(failure, random())?;
        self.reporter.retry(&attempt.name, &failure, wait, retries.failed());
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.stop.cancelled() => Err(Failure::interrupted()),
        }
    }
}

/// Runs what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
