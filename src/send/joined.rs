//! The upload that joins the parts of a file (tus 1.0 "Concatenation").

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use url::Url;

use super::Sender;
use super::file::{Complete, Errand};
use super::session::Session;
use super::transfer::Link;
use super::tus::{Creation, LONG_PATIENCE, Said};
use crate::client::failure::{Failure, shown};
use crate::client::with_credentials;

/// How long a server that will tell the digest of what it joined is waited for, in steps.
const WAITS_MS: [u64; 6] = [0, 100, 200, 400, 800, 1500];

/// A longer wait for the join is told.
const QUIET: Duration = Duration::from_secs(5);

impl Sender {
    /// Joins complete parts, and cancels them when the whole does not need them any more.
    pub(super) async fn join(&self, errand: &Errand, parts: Vec<Url>) -> Result<Complete, Failure> {
        let link = &errand.link;
        let creation = Creation::Final(parts.clone());
        let attempt = || -> BoxFuture<'_, _> { Box::pin(link.create(&creation, &errand.metadata)) };
        let created = link.retried(attempt).await?;
        if let Err(failure) = errand.records.joined(Some(&created.url)).await {
            link.reporter.note(&link.name, &failure.to_string());
        }
        let Some(complete) = self.look_at(errand, created.url).await? else {
            let message = "the server joined the parts, and they are not what was declared";
            return Err(Failure::verification(message));
        };
        self.cancel_parts(link, parts).await?;
        Ok(complete)
    }

    async fn cancel_parts(&self, link: &Link, parts: Vec<Url>) -> Result<(), Failure> {
        if self.abilities(link).await?.termination {
            for part in parts {
                link.cancel(&part).await;
            }
        }
        Ok(())
    }

    /// The upload that an earlier run made of the parts, if it is still there.
    pub(super) async fn joined_before(
        &self,
        errand: &Errand,
        session: &Session,
    ) -> Result<Option<Complete>, Failure> {
        let Some(url) = session.joined.clone() else { return Ok(None) };
        let url = with_credentials(url, &errand.link.endpoint);
        let complete = self.look_at(errand, url).await?;
        let endpoint = &errand.link.endpoint;
        let parts = session.parts.iter().filter_map(|part| part.url.clone());
        let parts = parts.map(|part| with_credentials(part, endpoint)).collect();
        match complete {
            // That run may have ended before it cancelled them.
            Some(_) => self.cancel_parts(&errand.link, parts).await?,
            // What is left of the parts is gone on with.
            None => drop(errand.records.joined(None).await),
        }
        Ok(complete)
    }

    /// Looks until the upload is complete, and for a moment more for its digest. `None` when it is gone.
    ///
    /// # Errors
    /// It is not complete after a long time, or never will be.
    async fn look_at(&self, errand: &Errand, url: Url) -> Result<Option<Complete>, Failure> {
        let (link, length) = (&errand.link, errand.file.stamp.length);
        let tells_digest = errand.blake3.is_some() && self.abilities(link).await?.blake3;
        let mut waits = WAITS_MS.into_iter();
        let (begin, mut is_told) = (Instant::now(), false);
        loop {
            let said = link.retried(|| Box::pin(link.ask(&url))).await?;
            match said {
                Said::Gone => return Ok(None),
                Said::At { offset, blake3, .. } if offset == length => {
                    if let (true, None, Some(ms)) = (tells_digest, blake3, waits.next()) {
                        sleep(Duration::from_millis(ms)).await;
                        continue;
                    }
                    return Ok(Some(Complete { url, blake3 }));
                }
                Said::At { offset, .. } if offset > length => {
                    let url = shown(&url);
                    let message =
                        format!("{url} is at {offset}, beyond the {length} bytes there are");
                    return Err(Failure::unusable(message).with_words("--restart sends it anew"));
                }
                Said::At { .. } | Said::Unclear | Said::Conflict
                    if begin.elapsed() >= LONG_PATIENCE =>
                {
                    let message = format!("{} has not joined the parts yet", shown(&url));
                    let words = "the same command looks again, --restart sends it anew";
                    return Err(Failure::broken_answer(message).with_words(words));
                }
                // A server need not tell an offset before it has joined the parts.
                Said::At { .. } | Said::Unclear | Said::Conflict => {
                    if !is_told && begin.elapsed() >= QUIET {
                        is_told = true;
                        link.reporter.note(&link.name, "the server is still joining the parts");
                    }
                    sleep(Duration::from_secs(1)).await;
                }
                Said::TooLarge(failure) => return Err(failure),
            }
        }
    }
}
