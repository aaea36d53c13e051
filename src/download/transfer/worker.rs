//! One connection after the other: claims, fetches, and tries again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::pump::Pump;
use super::store::Origin;
use crate::client::failure::{Failure, shown};
use crate::client::retry::{Retries, random};
use crate::download::plan::{Granted, Plan};
use crate::download::source::{Part, RangeFailure, Source, open_range, validator_of};

/// Who is free looks again after this time at the latest.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// An answer that is there already.
pub(super) type Opened = Option<Part>;

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) number: usize,
    pub(super) stop: CancellationToken,
}

impl Worker {
    /// Fetches until nothing is missing, or nothing helps.
    pub(super) async fn run(self, mut opened: Opened) -> Result<(), RangeFailure> {
        let shared = &self.shared;
        let mut retries = Retries::new(shared.max_tries);
        let (mut pace, mut has_moved) = (None, false);
        while let Some(granted) = self.next_claim(pace).await {
            shared.active.fetch_add(1, Ordering::Relaxed);
            let (came, outcome) = Box::pin(self.fetch(&granted, &mut opened, &retries)).await;
            let others = shared.active.fetch_sub(1, Ordering::Relaxed) > 1;
            pace = shared.plan.lock().release(granted.id, shared.now()).or(pace);
            shared.freed.notify_waiters();
            if came > 0 {
                has_moved = true;
                retries.progressed();
            }
            let Err(failure) = outcome else { continue };
            let failure = match failure {
                RangeFailure::Failed(failure) => failure,
                other => return Err(other),
            };
            // A server that does not want so many connections says so to the new ones.
            if self.number > 0 && !has_moved && others {
                return Err(failure.into());
            }
            let (wait, failure) = retries.after(failure, random())?;
            shared.progress.retry(&failure, wait, retries.failed());
            tokio::select! {
                () = sleep(wait) => {}
                () = self.when(|plan| plan.is_complete().then_some(())) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits for something to do. `None` when all is done, or is to stop.
    async fn next_claim(&self, pace: Option<u64>) -> Option<Granted> {
        let shared = &self.shared;
        let look = |plan: &mut Plan| match plan.is_complete() {
            true => Some(None),
            false => plan.claim(shared.now(), pace).map(Some),
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            found = self.when(look) => found,
        }
    }

    /// How many bytes came, and how it ended.
    async fn fetch(
        &self,
        granted: &Granted,
        opened: &mut Opened,
        retries: &Retries,
    ) -> (u64, Result<(), RangeFailure>) {
        let shared = &self.shared;
        let start = granted.range.start;
        let (part, source) = match opened.take() {
            Some(part) if part.range.start == start => (part, shared.first_source),
            _ => match self.open(granted, retries).await {
                Ok(Some(opened)) => opened,
                Ok(None) => return (0, Ok(())),
                Err(failure) => return (0, Err(failure)),
            },
        };
        let available = part.range.end.saturating_sub(start);
        let mut pump = Pump::new(shared, Origin { claim: granted.id, source }, start);
        let outcome = pump.run(part.answer, available, &self.stop).await;
        (pump.came, outcome.map_err(RangeFailure::from))
    }

    /// Asks one of the sources, another one after each failure. The answer, and the source's
    /// number; `None` when something else has to be done now.
    async fn open(
        &self,
        granted: &Granted,
        retries: &Retries,
    ) -> Result<Option<(Part, usize)>, RangeFailure> {
        let shared = &self.shared;
        let usable: Vec<(usize, &Source)> =
            shared.sources.iter().enumerate().filter(|(_, source)| source.is_usable()).collect();
        let turn = usize::try_from(retries.failed()).unwrap_or_default().wrapping_add(self.number);
        let Some((number, source)) = usable.get(turn % usable.len().max(1)).copied() else {
            return Err(Failure::unusable("no server is left to ask").into());
        };
        let asked = Instant::now();
        let opened = tokio::select! {
            opened = open_range(&shared.client, source, &granted.range, shared.length) => opened,
            () = self.stop.cancelled() => return Err(Failure::interrupted().into()),
            // It is not waited for when another connection has what it was asked for.
            () = self.when(|plan| plan.end_of(granted.id).is_none().then_some(())) => {
                return self.overtaken(number).map_or(Ok(None), Err);
            }
        };
        let (failed, why) = match opened {
            Ok(part) => {
                shared.plan.lock().answered(asked.elapsed());
                let now = validator_of(&part.answer);
                if number == shared.first_source || shared.is_mirror(&now) {
                    if source.validator().is_none() {
                        source.set_validator(now);
                    }
                    return Ok(Some((part, number)));
                }
                let how = format!("{} has another file", shown(&source.url));
                (RangeFailure::Changed(how), shared.other_file(&now))
            }
            Err(RangeFailure::Failed(failure)) if failure.is_transient() => {
                return Err(failure.into());
            }
            Err(RangeFailure::Failed(failure)) => {
                let why = failure.to_string();
                (failure.into(), why)
            }
            Err(RangeFailure::Changed(how)) => (RangeFailure::Changed(how.clone()), how),
            Err(RangeFailure::NoRanges) => {
                (RangeFailure::NoRanges, "it does not send ranges".to_owned())
            }
        };
        if shared.leave_out(number, &why) { Ok(None) } else { Err(failed) }
    }

    /// The source has not answered before others sent what it was asked for. The failure, if there
    /// is more to do and no other source to ask instead.
    fn overtaken(&self, number: usize) -> Option<RangeFailure> {
        let (shared, why) = (&self.shared, "it did not answer while others did");
        let source = &shared.sources[number];
        let never_answered = number != shared.first_source && source.validator().is_none();
        if shared.plan.lock().is_complete() || never_answered && shared.leave_out(number, why) {
            return None;
        }
        let message = format!("{} did not answer while others did", shown(&source.url));
        Some(Failure::broken_answer(message).into())
    }

    /// Looks at the plan whenever it may have changed, until something is found.
    async fn when<T>(&self, look: impl Fn(&mut Plan) -> Option<T>) -> T {
        let shared = &self.shared;
        loop {
            let freed = shared.freed.notified();
            if let Some(found) = look(&mut shared.plan.lock()) {
                return found;
            }
            tokio::select! {
                () = freed => {}
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }
}
