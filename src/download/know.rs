//! What is asked before the first byte is fetched: who has the file, which one it is, and what its
//! bytes have to be.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep};
use url::Url;

use super::journal::Validator;
use super::open;
use super::source::{Facts, First, RangeFailure, Source, probe};
use super::verify::{as_blake3, fetch_groups, in_words};
use super::{Download, Getter};
use crate::client::failure::{Failure, FailureKind, shown};
use crate::client::retry::{Retries, random};
use crate::client::{Request, blocking};
use crate::protocol::checksum::{Algorithm, Checksum};
use crate::protocol::digest::Blake3Digest;
use crate::protocol::tree::VerifiedGroups;

/// The attempts at a list of groups: a download can do without it.
const LIST_TRIES: u32 = 5;

/// Where there are several servers, one that says nothing is waited for so long before another is
/// asked, and twice as long each time that all were asked in vain.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);

/// What stays the same while a download is attempted.
pub(super) struct Attempt<'a> {
    pub(super) download: &'a Download,
    pub(super) sources: Arc<Vec<Source>>,
    pub(super) name: String,
    pub(super) has_ranges: bool,
    /// When the work on the download began.
    pub(super) begin: Instant,
    /// What is done when the file changed since an earlier one.
    pub(super) on_change: open::OnChange,
}

/// What the first answers told.
pub(super) struct Known {
    pub(super) first: First,
    pub(super) facts: Facts,
    pub(super) source: usize,
    pub(super) groups: Option<Arc<VerifiedGroups>>,
    /// What the whole is compared with at the end.
    pub(super) digests: Vec<Checksum>,
}

impl Known {
    /// How the bytes are verified, in words.
    pub(super) fn verified(&self) -> Option<String> {
        let groups = self.groups.as_ref().map(|groups| format!("blake3:{}", groups.root()));
        groups.or_else(|| self.digests.first().map(in_words))
    }

    /// Whether it would be noticed if bytes of two states of the file came together.
    pub(super) fn tells_changes(&self) -> bool {
        let Validator { etag, last_modified } = &self.facts.validator;
        let is_verified = self.groups.is_some() || !self.digests.is_empty();
        is_verified || etag.is_some() || last_modified.is_some()
    }
}

impl Getter {
    /// Asks what there is to know.
    pub(super) async fn know(&self, attempt: &Attempt<'_>) -> Result<Known, RangeFailure> {
        let download = attempt.download.clone();
        let left = match attempt.has_ranges {
            true => blocking(move || open::left(&download)).await,
            false => None,
        };
        let (first, source) = self.first(attempt, left.as_ref()).await?;
        let facts = first.facts.clone();
        let expect = attempt.download.expect.as_ref();
        let groups = match (facts.root, facts.length, facts.has_ranges) {
            (Some(root), Some(length), true) => {
                let source = &attempt.sources[source];
                self.groups(attempt, source, &facts.url, (root, length)).await?
            }
            _ => None,
        };
        let mut digests: Vec<Checksum> = expect.cloned().into_iter().collect();
        match (&groups, facts.root) {
            (Some(_), _) => digests.retain(|digest| digest.algorithm() != Algorithm::Blake3),
            // The one that is expected is the same.
            (None, Some(_)) if expect.and_then(as_blake3).is_some() => {}
            (None, Some(root)) => {
                digests.extend(Checksum::new(Algorithm::Blake3, root.as_bytes().to_vec()).ok());
            }
            (None, None) => digests.extend(facts.digests.iter().cloned()),
        }
        Ok(Known { first, facts, source, groups, digests })
    }

    /// The list of groups, where the bytes really are. Without one the whole is compared with the
    /// root.
    async fn groups(
        &self,
        attempt: &Attempt<'_>,
        source: &Source,
        url: &Url,
        (root, length): (Blake3Digest, u64),
    ) -> Result<Option<Arc<VerifiedGroups>>, Failure> {
        let mut upload = Request::new(Method::GET, url.clone());
        upload.is_elsewhere = url.origin() != source.url.origin();
        let mut retries = Retries::new(match self.max_tries {
            0 => LIST_TRIES,
            tries => tries.min(LIST_TRIES),
        });
        let failure = loop {
            let fetched = tokio::select! {
                fetched = Box::pin(fetch_groups(&self.client, &upload, root, length)) => fetched,
                () = self.stop.cancelled() => return Err(Failure::interrupted()),
            };
            let failure = match fetched {
                Ok(groups) => return Ok(groups.map(Arc::new)),
                Err(failure) => failure,
            };
            match self.pause(attempt, &mut retries, failure).await {
                Ok(()) => {}
                Err(failure) if failure.kind() == FailureKind::Interrupted => return Err(failure),
                Err(failure) => break failure,
            }
        };
        let message = format!("{failure}; the bytes are verified when all of them are here");
        self.reporter.note(&attempt.name, &message);
        Ok(None)
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
            let is_only = usable.len() == 1;
            let rounds = u32::try_from(turn / usable.len()).unwrap_or(u32::MAX).min(16);
            let asked = tokio::select! {
                asked = Box::pin(probe(&self.client, source, start, validator)) => asked,
                () = sleep(FIRST_PATIENCE * 2_u32.pow(rounds)), if !is_only => {
                    let message = format!("{} says nothing; asking another server", shown(&source.url));
                    self.reporter.note(&attempt.name, &message);
                    turn = turn.wrapping_add(1);
                    continue;
                }
                () = self.stop.cancelled() => return Err(Failure::interrupted()),
            };
            let failure = match asked.and_then(|first| as_expected(first, attempt)) {
                Ok(first) => {
                    source.set_validator(first.facts.validator.clone());
                    return Ok((first, index));
                }
                Err(failure) => failure,
            };
            turn = turn.wrapping_add(1);
            if !failure.is_transient() && !is_only {
                source.give_up();
                self.reporter.note(&attempt.name, &format!("{failure}; asking another server"));
                continue;
            }
            self.pause(attempt, &mut retries, failure).await?;
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

/// Whether the server says itself that its file is another one than the person wants.
fn as_expected(first: First, attempt: &Attempt<'_>) -> Result<First, Failure> {
    let expect = attempt.download.expect.as_ref().and_then(as_blake3);
    match (first.facts.root, expect) {
        (Some(root), Some(expected)) if root != expected => {
            let url = shown(&first.facts.url);
            let message = format!("{url} has blake3:{root}, not blake3:{expected}");
            Err(Failure::verification(message))
        }
        _ => Ok(first),
    }
}
