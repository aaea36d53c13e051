//! Carries a plan out: one upload, whatever the network does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use url::Url;

use super::content::{Meters, content};
use super::plan::{Append, Extent, Impossible, Plan, Step};
use super::record::Record;
use super::source::Source;
use super::tus::{self, Abilities, Created, Creation, Said};
use crate::client::Client;
use crate::client::failure::{Failure, shown};
use crate::client::report::{Progress, Reporter};
use crate::client::retry::{Retries, random};
use crate::protocol::digest::Blake3Digest;

/// What all uploads of one file have in common.
pub(super) struct Link {
    pub(super) client: Arc<Client>,
    /// Where uploads are created.
    pub(super) endpoint: Url,
    pub(super) reporter: Arc<Reporter>,
    /// What the person calls the file.
    pub(super) name: String,
    pub(super) max_tries: u32,
    /// When the work on the file began.
    pub(super) begun: Instant,
}

impl Link {
    /// Does something until it succeeds, or until it will not.
    pub(super) async fn retried<'a, T>(
        &self,
        mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut retries = Retries::new(self.max_tries);
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(failure) => self.pause(&mut retries, failure).await?,
            }
        }
    }

    /// Waits as long as it has to be waited after this failure.
    async fn pause(&self, retries: &mut Retries, failure: Failure) -> Result<(), Failure> {
        let (wait, failure) = retries.after(failure, random())?;
        self.reporter.retry(&self.name, &failure, wait, retries.failed());
        sleep(wait).await;
        Ok(())
    }

    /// Asks what the server can do.
    pub(super) async fn discover(&self) -> Result<Abilities, Failure> {
        let answer = Box::pin(self.client.fetch(&tus::options(&self.endpoint))).await?;
        if answer.status.is_server_error() {
            return Err(tus::refusal(answer, self.client.clock()).await);
        }
        let abilities = tus::abilities(&answer);
        answer.finish().await;
        Ok(abilities)
    }

    /// Creates an upload.
    pub(super) async fn create(
        &self,
        creation: &Creation,
        metadata: &str,
    ) -> Result<Created, Failure> {
        let request = tus::create(&self.endpoint, creation, metadata);
        let answer = Box::pin(self.client.fetch(&request)).await?;
        tus::created(answer, &self.endpoint, self.client.clock()).await
    }

    /// Asks where an upload is.
    pub(super) async fn ask(&self, url: &Url) -> Result<Said, Failure> {
        let answer = Box::pin(self.client.fetch(&tus::ask(url, &self.endpoint))).await?;
        tus::said(answer, self.client.clock()).await
    }

    /// Tells the server that an upload is not wanted any more. It would expire some day.
    pub(super) async fn cancel(&self, url: &Url) {
        if let Ok(answer) = Box::pin(self.client.fetch(&tus::cancel(url, &self.endpoint))).await {
            answer.finish().await;
        }
    }
}

/// One upload that is carried out.
pub(super) struct Transfer {
    link: Arc<Link>,
    plan: Plan,
    creation: Creation,
    metadata: String,
    source: Source,
    /// Where the upload begins in the source.
    begin: u64,
    record: Option<Record>,
    retries: Retries,
    /// Conflicts since there was progress.
    conflicts: u32,
    shown: Arc<AtomicU64>,
    /// The digest that the server tells of what it has.
    pub(super) blake3: Option<Blake3Digest>,
}

impl Transfer {
    pub(super) fn new(
        link: &Arc<Link>,
        plan: Plan,
        (creation, metadata): (Creation, String),
        (source, begin): (Source, u64),
        record: Option<Record>,
    ) -> Self {
        Self {
            plan,
            creation,
            metadata,
            source,
            begin,
            record,
            retries: Retries::new(link.max_tries),
            conflicts: 0,
            shown: Arc::default(),
            blake3: None,
            link: Arc::clone(link),
        }
    }

    /// Learns what the server has of an earlier run; that many bytes.
    pub(super) async fn settle(&mut self) -> Result<u64, Failure> {
        while let Step::Ask(url) = self.plan.next() {
            if let Err(failure) = self.ask(&url, None).await {
                self.link.pause(&mut self.retries, failure).await?;
            }
        }
        Ok(self.plan.offset().unwrap_or(0))
    }

    /// Sends all that there is to send. The URL once the upload is complete, `None` when more has
    /// to come first.
    pub(super) async fn run(&mut self, progress: &Arc<Progress>) -> Result<Option<Url>, Failure> {
        loop {
            let done = match self.plan.next() {
                Step::Done(url) => return Ok(Some(url)),
                Step::Wait => return Ok(None),
                Step::Create => self.create(progress).await,
                Step::Ask(url) => self.ask(&url, Some(progress)).await,
                Step::Append(append) => Box::pin(self.append(&append, progress)).await,
            };
            if let Err(failure) = done {
                self.plan.doubt();
                self.link.pause(&mut self.retries, failure).await?;
            }
        }
    }

    /// More bytes are there, or their end is known.
    pub(super) fn extend(&mut self, extent: Extent) {
        self.plan.extend(extent);
    }

    async fn create(&mut self, progress: &Arc<Progress>) -> Result<(), Failure> {
        let created = self.link.create(&self.creation, &self.metadata).await?;
        self.blake3 = created.blake3;
        let complete = match (&self.creation, created.blake3) {
            (Creation::Whole(length), Some(_)) => Some(*length),
            _ => None,
        };
        self.write_down(Some(&created.url)).await;
        let is_proved = match (created.challenge, &self.source, &self.creation) {
            (Some(challenge), Source::File(file), Creation::Whole(_)) => {
                self.link.prove(&created.url, challenge, file).await?
            }
            _ => false,
        };
        self.plan.created(created.url, complete.or(created.offset)).map_err(no_sense)?;
        if is_proved {
            // It is complete, and its digest is told where it is.
            self.plan.doubt();
        }
        self.retries.progressed();
        self.show(Some(progress));
        Ok(())
    }

    async fn ask(&mut self, url: &Url, progress: Option<&Arc<Progress>>) -> Result<(), Failure> {
        match self.link.ask(url).await? {
            Said::At { offset, length, blake3 } => {
                self.blake3 = blake3;
                let is_further = self.plan.told(offset, length).map_err(no_sense)?;
                self.note_progress(is_further);
                self.let_go(offset)?;
                self.show(progress);
                Ok(())
            }
            Said::Gone => self.begin_again(progress).await,
            Said::Conflict => Err(Failure::broken_answer(format!("{} is in use", shown(url)))),
            Said::TooLarge(failure) => Err(failure),
            Said::Unclear => {
                let url = shown(url);
                Err(Failure::unusable(format!("{url} does not tell how much of it is there")))
            }
        }
    }

    async fn append(&mut self, append: &Append, progress: &Arc<Progress>) -> Result<(), Failure> {
        let Append { url, offset, bytes, tells_length } = append;
        let begin = self.begin.saturating_add(*offset);
        let meters = Meters {
            limit: Arc::clone(self.link.client.rate_limit()),
            progress: Arc::clone(progress),
            shown: Arc::clone(&self.shown),
            failed: Arc::default(),
        };
        let failed = Arc::clone(&meters.failed);
        let request = tus::append(url, &self.link.endpoint, *offset, *tells_length);
        let content = content(&self.source, begin..begin.saturating_add(*bytes), meters);
        let answer = match Box::pin(self.link.client.send(&request, content)).await {
            Ok(answer) => Ok(answer),
            Err(failure) => Err(own(&failed).unwrap_or(failure)),
        };
        let mut answer = answer?;
        // What went out last may still be in a buffer here, so a refusal may have come before it,
        // too.
        let is_whole = self.shown.load(Ordering::Relaxed) >= offset.saturating_add(*bytes);
        if !is_whole || !answer.status.is_success() {
            answer.content.close_after();
        }
        match tus::said(answer, self.link.client.clock()).await? {
            Said::At { offset, blake3, .. } => {
                self.blake3 = blake3;
                let is_further = self.plan.appended(append, offset).map_err(no_sense)?;
                self.note_progress(is_further || tells_length.is_some());
                self.let_go(offset)?;
                self.show(Some(progress));
                if is_further || *bytes == 0 {
                    return Ok(());
                }
                Err(Failure::broken_answer(format!("{} took nothing of what was sent", shown(url))))
            }
            Said::Unclear => {
                self.plan.doubt();
                self.conflict(url)
            }
            Said::Conflict => {
                self.plan.doubt();
                self.conflict(url)
            }
            Said::Gone => self.begin_again(Some(progress)).await,
            Said::TooLarge(failure) => {
                if !self.plan.too_large(*bytes) {
                    return Err(failure);
                }
                let words = format!("{failure}; it is sent in smaller requests");
                self.link.reporter.note(&self.link.name, &words);
                Ok(())
            }
        }
    }

    /// What to do about a conflict is to ask; one that comes again and again is a failure.
    fn conflict(&mut self, url: &Url) -> Result<(), Failure> {
        self.conflicts = self.conflicts.saturating_add(1);
        if self.conflicts == 1 {
            return Ok(());
        }
        let url = shown(url);
        Err(Failure::broken_answer(format!("{url} is at another offset than it tells")))
    }

    async fn begin_again(&mut self, progress: Option<&Arc<Progress>>) -> Result<(), Failure> {
        if let Source::Window(window) = &self.source
            && window.lock().begin() > 0
        {
            let message = "the server lost the upload, and what was read cannot be read again";
            return Err(Failure::unusable(message));
        }
        self.plan.gone().map_err(no_sense)?;
        let message = "the server does not have the upload any more; it begins anew";
        self.link.reporter.note(&self.link.name, message);
        self.write_down(None).await;
        self.show(progress);
        Ok(())
    }

    fn note_progress(&mut self, is_further: bool) {
        if is_further {
            self.retries.progressed();
            self.conflicts = 0;
        }
    }

    /// What the server has need not be kept for another attempt.
    fn let_go(&self, offset: u64) -> Result<(), Failure> {
        if let Source::Window(window) = &self.source {
            let mut window = window.lock();
            if offset < window.begin() {
                let message = "the server lost bytes that it had, and they cannot be read again";
                return Err(Failure::unusable(message));
            }
            window.release(offset);
        }
        Ok(())
    }

    /// Makes the progress show what the server has, in place of what went out.
    fn show(&self, progress: Option<&Arc<Progress>>) {
        let offset = self.plan.offset().unwrap_or(0);
        let before = self.shown.swap(offset, Ordering::Relaxed);
        if let Some(progress) = progress {
            if before > offset {
                progress.take_back(before - offset);
            } else {
                progress.found(offset - before);
            }
        }
    }

    async fn write_down(&self, url: Option<&Url>) {
        if let Some(record) = &self.record
            && let Err(failure) = record.part(url).await
        {
            let message = format!("{failure}; another run could not go on with this one");
            self.link.reporter.note(&self.link.name, &message);
        }
    }
}

fn no_sense(impossible: Impossible) -> Failure {
    Failure::unusable(impossible.to_string()).with_words("--restart sends it anew")
}

/// The failure on this side that ended the content early.
fn own(failed: &Mutex<Option<Failure>>) -> Option<Failure> {
    failed.lock().take()
}
