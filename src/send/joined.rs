//! The upload that joins the parts of a file (tus 1.0 "Concatenation").

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;
use url::Url;

use super::Sender;
use super::file::{Complete, Errand};
use super::session::Session;
use super::transfer::Link;
use super::tus::{Creation, Said};
use crate::client::failure::Failure;
use crate::client::with_credentials;

/// How long a server that will tell the digest of what it joined is waited for, in steps.
const WAITS_MS: [u64; 6] = [0, 100, 200, 400, 800, 1500];

impl Sender {
    /// Joins complete parts, and cancels them when the whole does not need them any more.
    pub(super) async fn join(&self, errand: &Errand, parts: Vec<Url>) -> Result<Complete, Failure> {
        let link = &errand.link;
        let creation = Creation::Final(parts.clone());
        // The server may have to copy everything before it answers.
        let patient = Link {
            client: self.patient.clone(),
            endpoint: link.endpoint.clone(),
            reporter: link.reporter.clone(),
            name: link.name.clone(),
            max_tries: link.max_tries,
        };
        let attempt =
            || -> BoxFuture<'_, _> { Box::pin(patient.create(&creation, &errand.metadata)) };
        let created = link.retried(attempt).await?;
        if let Err(failure) = errand.records.joined(Some(&created.url)).await {
            link.reporter.note(&link.name, &failure.to_string());
        }
        let Some(complete) = self.look_at(errand, created.url).await? else {
            let message = "the server joined the parts, and they are not what was declared";
            return Err(Failure::verification(message));
        };
        if self.abilities(link).await?.termination {
            for part in parts {
                link.cancel(&part).await;
            }
        }
        Ok(complete)
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
        if complete.is_none() {
            // What is left of the parts is gone on with.
            let _ = errand.records.joined(None).await;
        }
        Ok(complete)
    }

    /// Looks until the upload is complete, and for a moment more for its digest. `None` when it is gone.
    async fn look_at(&self, errand: &Errand, url: Url) -> Result<Option<Complete>, Failure> {
        let (link, length) = (&errand.link, errand.file.stamp.length);
        let tells_digest = errand.blake3.is_some() && self.abilities(link).await?.blake3;
        let mut waits = WAITS_MS.into_iter();
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
                // A server need not tell an offset before it has joined the parts.
                Said::At { .. } | Said::Unclear | Said::Conflict => {
                    sleep(Duration::from_secs(1)).await;
                }
                Said::TooLarge(failure) => return Err(failure),
            }
        }
    }
}
