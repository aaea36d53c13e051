//! One download from its first request to the file with its name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::journal::{self, Journal, Subject};
use super::know::{Attempt, Known};
use super::names;
use super::open::{self, OnChange, guess};
use super::part::{PartFile, journal_path};
use super::plan::{Plan, Spans};
use super::source::{RangeFailure, Source};
use super::transfer::{self, Shared};
use super::verify::check_digests;
use crate::client::failure::{Failure, FailureKind, shown};
use crate::client::report::Reporter;
use crate::client::{Client, blocking};
use crate::protocol::checksum::Checksum;

/// A file that changes more often while it is fetched is given up.
const MAX_RESTARTS: usize = 5;
/// Longer local files take a while to be looked at, which is said …
pub(super) const LONG_BYTES: u64 = 1 << 30;
/// … and if it took so long the connection that waited is not used any more.
const LONG_LOOK: Duration = Duration::from_secs(3);

/// Where a file goes to.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// This file, a name in this folder, or a name in the working directory.
    Path(Option<PathBuf>),
}

/// A file to fetch.
#[derive(Clone, Debug)]
pub struct Download {
    /// Where it is; all of them are the same file.
    pub urls: Vec<Url>,
    /// Where it goes to.
    pub to: Destination,
    /// What its bytes have to be.
    pub expect: Option<Checksum>,
    /// Whether it is one of a list: what is there, as long as on the server, is taken for what an
    /// earlier run of the list brought.
    pub is_listed: bool,
}

/// Fetches files.
pub struct Getter {
    /// Sends the requests.
    pub client: Arc<Client>,
    /// Tells how it goes.
    pub reporter: Arc<Reporter>,
    /// The connections of one download at most.
    pub connections: usize,
    /// The attempts in a row without progress; 0 is without an end.
    pub max_tries: u32,
    /// Whether a file that is there may be replaced.
    pub force: bool,
    /// Whether a changed file is a failure.
    pub no_restart: bool,
    /// Stops everything; what is there is kept.
    pub stop: CancellationToken,
}

impl Download {
    /// What it is called before its file has a name.
    pub fn name(&self) -> String {
        match &self.to {
            Destination::Stdout => "-".to_owned(),
            Destination::Path(given) => match guess(self, given.as_deref()) {
                Some(path) => file_name(&path),
                None => self.urls.first().map(shown).unwrap_or_default(),
            },
        }
    }
}

impl Getter {
    /// Fetches one file. Stopped or failed it leaves what is needed to go on.
    ///
    /// # Errors
    /// Why it is not there.
    pub async fn get(&self, download: &Download) -> Result<(), Failure> {
        let begin = Instant::now();
        if let Destination::Path(Some(given)) = &download.to {
            let given = given.clone();
            blocking(move || open::look_for_folder(&given)).await?;
        }
        let mut failure = match self.get_from(download, &download.urls, begin).await {
            Err(failure) if failure.kind() == FailureKind::Verification => failure,
            done => return done,
        };
        // One of several servers may be the one that is wrong; but what went to standard output
        // cannot be taken back.
        if download.urls.len() > 1 && !matches!(download.to, Destination::Stdout) {
            for url in download.urls.chunks(1) {
                let one = shown(&url[0]);
                self.reporter.note(&download.name(), &format!("{failure}; trying {one} alone"));
                failure = match self.get_from(download, url, begin).await {
                    Err(failure) if failure.kind() != FailureKind::Interrupted => failure,
                    done => return done,
                };
            }
        }
        Err(failure)
    }

    async fn get_from(
        &self,
        download: &Download,
        urls: &[Url],
        begin: Instant,
    ) -> Result<(), Failure> {
        let mut has_ranges = true;
        let mut on_change = if self.no_restart { OnChange::Fail } else { OnChange::Tell };
        for restarts_left in (0..=MAX_RESTARTS).rev() {
            let sources = urls.iter().cloned().map(Source::new).collect();
            let name = download.name();
            let sources = Arc::new(sources);
            let attempt = Attempt { download, sources, name, has_ranges, begin, on_change };
            match Box::pin(self.attempt(&attempt)).await {
                Ok(()) => return Ok(()),
                Err(RangeFailure::Failed(failure)) => return Err(failure),
                Err(RangeFailure::Changed(how)) if self.no_restart => {
                    return Err(Failure::changed(how));
                }
                Err(RangeFailure::Changed(how)) if restarts_left == 0 => {
                    let words = format!("{how}; given up after {MAX_RESTARTS} restarts");
                    return Err(Failure::changed(words));
                }
                Err(RangeFailure::Changed(how)) => {
                    self.reporter.note(&attempt.name, &format!("{how}; starting again"));
                    on_change = OnChange::GoOn;
                }
                Err(RangeFailure::NoRanges) => {
                    has_ranges = false;
                    let message = "the server does not keep to ranges: starting again without them";
                    self.reporter.note(&attempt.name, message);
                }
            }
        }
        let restarts = MAX_RESTARTS;
        Err(Failure::changed(format!("the file changed again after {restarts} restarts")))
    }

    /// Work on local files, which is left when the person says stop.
    pub(super) async fn locally<T: Send + 'static, E: From<Failure> + Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicBool) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        tokio::select! {
            done = blocking(move || work(&told)) => done,
            () = self.stop.cancelled() => {
                stop.store(true, Ordering::Relaxed);
                Err(Failure::interrupted().into())
            }
        }
    }

    async fn attempt(&self, attempt: &Attempt<'_>) -> Result<(), RangeFailure> {
        let known = Box::pin(self.know(attempt)).await?;
        if known.facts.is_coded {
            self.reporter.note(&attempt.name, "the server sends it coded; it is stored so");
        }
        match &attempt.download.to {
            Destination::Stdout => Box::pin(self.to_stdout(attempt, known)).await,
            Destination::Path(given) => {
                let (url, disposition) = (&known.facts.url, known.facts.disposition.as_deref());
                let target = match guess(attempt.download, given.as_deref()) {
                    // The name in the URL that was given goes before that of a redirect.
                    Some(guess) if disposition.is_none() => guess,
                    _ => names::target(given.as_deref(), disposition, url),
                };
                Box::pin(self.to_path(attempt, known, target)).await
            }
        }
    }

    async fn to_path(
        &self,
        attempt: &Attempt<'_>,
        known: Known,
        target: PathBuf,
    ) -> Result<(), RangeFailure> {
        if self.is_here(attempt, &known, &target).await? {
            return Ok(());
        }
        let (opened, force) = (target.clone(), self.force);
        let is_replaced = force || known.groups.is_some();
        let part = blocking(move || {
            let part = PartFile::open(&opened)?;
            if !force && opened.symlink_metadata().is_ok() {
                part.discard_empty();
                return Ok(None);
            }
            if !is_replaced {
                open::refuse_foreign(&opened, &part)?;
            }
            Ok::<_, Failure>(Some(part))
        })
        .await?;
        let Some(part) = part else {
            // Another process gave it its name just now.
            return match self.is_here(attempt, &known, &target).await? {
                true => Ok(()),
                false => Err(Failure::usage(format!("{} came and went", target.display())).into()),
            };
        };
        match known.facts.length {
            Some(_) if known.facts.has_ranges && attempt.has_ranges && known.tells_changes() => {
                Box::pin(self.in_ranges(attempt, known, target, part)).await
            }
            _ => Box::pin(self.in_order(attempt, known, target, part)).await,
        }
    }

    /// From a server that can.
    async fn in_ranges(
        &self,
        attempt: &Attempt<'_>,
        known: Known,
        target: PathBuf,
        part: PartFile,
    ) -> Result<(), RangeFailure> {
        let name = file_name(&target);
        let verified = known.verified();
        let Known { first, facts, source, groups, digests } = known;
        let length = facts.length.unwrap_or_default();
        let url = shown(&attempt.sources[source].url);
        let root = groups.as_ref().map(|groups| groups.root());
        let subject = Subject::new(url.clone(), length, facts.validator.clone(), root);
        let (on_change, path) = (attempt.on_change, target.clone());
        let (list, asked) = (groups.clone(), Instant::now());
        let is_read_again = !digests.is_empty();
        let (part, start, journal) = self
            .locally(move |stop| {
                let how = (list.as_deref(), on_change);
                let start = open::start(&path, &part, &subject, how, stop)?;
                if start.present.total() > 0 {
                    // What an earlier run wrote may not have been synced.
                    part.sync()?;
                }
                if !is_read_again {
                    part.let_go(length);
                }
                let journal = Journal::new(&journal_path(&path), subject, start.present.clone());
                Ok::<_, RangeFailure>((part, start, journal))
            })
            .await?;
        // A server does not wait for ever for somebody who does not read.
        let opened = first.content.filter(|_| asked.elapsed() < LONG_LOOK);
        if let Some(note) = &start.note {
            self.reporter.note(&name, note);
        }
        let plan = Plan::new(length, groups.is_some(), start.present)
            .taking_turns(self.client.rate_limit().is_limited());
        let progress = self
            .reporter
            .begin(&name, &url, Some(length), plan.present_bytes())
            .since(attempt.begin);
        let shared = Arc::new(Shared {
            client: Arc::clone(&self.client),
            progress,
            sources: Arc::clone(&attempt.sources),
            first_source: source,
            validator: facts.validator,
            is_pinned: groups.is_some() || attempt.download.expect.is_some(),
            length,
            part,
            groups,
            plan: Mutex::new(plan),
            max_tries: self.max_tries,
            begin: Instant::now(),
            freed: Notify::new(),
            active: AtomicUsize::new(0),
            writing_us: AtomicU64::new(0),
            wrong: Mutex::default(),
            leaving_out: Mutex::default(),
        });
        let journal = Arc::new(Mutex::new(journal));
        let moved = transfer::run(&shared, opened, self.connections, &journal, &self.stop);
        Box::pin(moved).await?;
        self.conclude(&shared, journal, digests, &target).await?;
        shared.progress.finish(Some(&target.to_string_lossy()), verified.as_deref());
        Ok(())
    }

    /// Gives the complete part file its name, if it has the right bytes.
    async fn conclude(
        &self,
        shared: &Arc<Shared>,
        journal: Arc<Mutex<Journal>>,
        digests: Vec<Checksum>,
        target: &Path,
    ) -> Result<(), Failure> {
        let (force, to, work) = (self.force, target.to_owned(), Arc::clone(shared));
        self.locally(move |stop| {
            let path = journal_path(&to);
            match check_digests(work.part.path(), work.length, &digests, stop) {
                Err(failure) if failure.kind() == FailureKind::Verification => {
                    // Nobody knows which bytes are wrong: none of them may serve again.
                    journal::empty(&path)?;
                    return Err(failure);
                }
                checked => checked?,
            }
            let mut journal = journal.lock();
            if journal.is_begun() {
                journal.written(Spans::from(vec![(0, work.length)]))?;
            }
            work.part.publish(&to, force)?;
            open::forget_journal(&to);
            Ok(())
        })
        .await
    }
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
