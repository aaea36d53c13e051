//! A file of a known length comes over several connections into its part file, and the journal
//! follows.
//!
//! It begins with the one connection that the first answer came on. The others are opened when that
//! one does not bring the file fast enough; see [`Ramp`].

mod keeper;
mod pump;
mod store;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::keeper::Keeper;
use self::worker::Worker;
use super::journal::{Journal, Validator};
use super::part::PartFile;
use super::plan::Plan;
use super::source::{Part, RangeFailure, Source};
use crate::client::Client;
use crate::client::failure::{Failure, FailureKind, shown};
use crate::client::report::Progress;
use crate::protocol::tree::VerifiedGroups;

/// What all connections hold back together before it is written, unless they are very many.
const ALL_BATCHES_BYTES: u64 = 12 << 20;

/// What all connections of one download share.
pub(super) struct Shared {
    pub(super) client: Arc<Client>,
    pub(super) progress: Progress,
    pub(super) sources: Arc<Vec<Source>>,
    /// The number of the source that answered first: its file is the one that is fetched.
    pub(super) first_source: usize,
    /// The state of the file that is fetched.
    pub(super) validator: Validator,
    /// Whether the content is known to be right by a digest, whoever sends it.
    pub(super) is_pinned: bool,
    pub(super) length: u64,
    pub(super) part: PartFile,
    pub(super) groups: Option<Arc<VerifiedGroups>>,
    pub(super) plan: Mutex<Plan>,
    pub(super) max_tries: u32,
    pub(super) begin: Instant,
    pub(super) freed: Notify,
    pub(super) active: AtomicUsize,
    /// The time that connections spent on writing, in microseconds.
    pub(super) writing_us: AtomicU64,
    pub(super) wrong: Mutex<BTreeMap<u64, u32>>,
    /// Held by who leaves out a source: two that fail at the same moment must not leave out each
    /// other.
    pub(super) leaving_out: Mutex<()>,
}

impl Shared {
    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Asks nothing more of this source, and says why, as long as another one is left. Whether one
    /// is.
    fn leave_out(&self, number: usize, why: &str) -> bool {
        let _one_at_a_time = self.leaving_out.lock();
        let mut others = self.sources.iter().enumerate();
        if !others.any(|(other, source)| other != number && source.is_usable()) {
            return false;
        }
        let source = &self.sources[number];
        if source.is_usable() {
            source.give_up();
            let message = format!("{} was left out: {why}", shown(&source.url));
            self.progress.note(&message);
        }
        true
    }

    /// Why a file of this state is none to go on with.
    fn other_file(&self, validator: &Validator) -> String {
        match (&validator.etag, &self.validator.etag) {
            (Some(there), Some(fetched)) if there != fetched => {
                format!("the ETag of its file is {there}, not {fetched}")
            }
            _ => "nothing tells that it has the same file".to_owned(),
        }
    }

    /// How many bytes each connection had better write at once.
    fn batch_bytes(&self) -> u64 {
        let active = u64::try_from(self.active.load(Ordering::Relaxed)).unwrap_or(1);
        self.part.batch_bytes(ALL_BATCHES_BYTES / active.max(1))
    }

    /// Whether bytes of this state of a file may stand beside those of the first source.
    fn is_mirror(&self, validator: &Validator) -> bool {
        let own = validator.strong_etag();
        self.is_pinned || own.is_some() && own == self.validator.strong_etag()
    }
}

/// Fetches what the plan lacks, on at most so many connections. The journal is up to date when it
/// returns, also after a failure and when `stop` was cancelled.
pub(super) async fn run(
    shared: &Arc<Shared>,
    opened: Option<Part>,
    max_connections: usize,
    journal: &Arc<Mutex<Journal>>,
    stop: &CancellationToken,
) -> Result<(), RangeFailure> {
    let halt = stop.child_token();
    let (workers, refusals) = (JoinSet::new(), Refusals::default());
    let mut crew = Crew { shared, workers, halt: halt.clone(), spawned: 0, refusals };
    crew.spawn(opened);
    let mut keeper = Keeper::new(shared, journal);
    let outcome = crew.run(max_connections, &mut keeper, stop).await;
    halt.cancel();
    while crew.workers.join_next().await.is_some() {}
    let saved = keeper.end().await;
    outcome.and(saved.map_err(RangeFailure::from))
}

/// The connections at work.
struct Crew<'a> {
    shared: &'a Arc<Shared>,
    workers: JoinSet<Result<(), RangeFailure>>,
    halt: CancellationToken,
    spawned: usize,
    refusals: Refusals,
}

impl Crew<'_> {
    fn spawn(&mut self, opened: Option<Part>) {
        let (shared, stop) = (Arc::clone(self.shared), self.halt.clone());
        let worker = Worker { shared, number: self.spawned, stop };
        self.workers.spawn(worker.run(opened));
        self.spawned = self.spawned.saturating_add(1);
    }

    async fn run(
        &mut self,
        max_connections: usize,
        keeper: &mut Keeper,
        stop: &CancellationToken,
    ) -> Result<(), RangeFailure> {
        let shared = self.shared;
        let mut ramp = Ramp::new(shared);
        let mut watch = std::pin::pin!(shared.progress.watch());
        loop {
            tokio::select! {
                ended = self.workers.join_next() => match ended {
                    None => return Ok(()),
                    Some(Ok(ended)) => self.ended(ended)?,
                    Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                },
                () = sleep_until(ramp.at.max(self.refusals.until)),
                    if self.workers.len() < max_connections =>
                {
                    let most = self.refusals.most_more(shared.progress.bytes());
                    let most = most.min(max_connections - self.workers.len());
                    if ramp.grants_one(shared, most) {
                        self.spawn(None);
                    }
                }
                () = sleep_until(keeper.at) => keeper.save().await?,
                () = sleep_until(keeper.look_at) => keeper.look().await?,
                () = &mut watch => {}
                () = stop.cancelled() => return Err(Failure::paused().into()),
            }
            shared.progress.set_connections(shared.active.load(Ordering::Relaxed));
        }
    }

    /// A connection ended. That is a failure of the whole only if no other is left, or none would
    /// do better.
    fn ended(&mut self, ended: Result<(), RangeFailure>) -> Result<(), RangeFailure> {
        match ended {
            Err(RangeFailure::Failed(failure))
                if !self.workers.is_empty()
                    && matches!(failure.kind(), FailureKind::Network | FailureKind::Status) =>
            {
                let moved = self.shared.progress.bytes();
                if self.refusals.add(Instant::now(), failure.retry_after(), moved) {
                    let left = self.workers.len();
                    let message = format!("{failure}; going on with {left} connections for now");
                    self.shared.progress.note(&message);
                }
                Ok(())
            }
            ended => ended,
        }
    }
}

/// Connections that came to nothing: another one is tried after a while, each time after a longer
/// one.
#[derive(Debug)]
struct Refusals {
    count: u32,
    until: Instant,
    /// What had come when the last one was refused.
    moved: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { count: 0, until: Instant::now(), moved: 0 }
    }
}

impl Refusals {
    const FIRST_PAUSE: Duration = Duration::from_secs(5);
    const MOST_DOUBLINGS: u32 = 6;
    const MOST_ASKED: Duration = Duration::from_secs(3600);

    /// One more, which perhaps asks for a while. Whether it is the first one; those that come
    /// together count once.
    fn add(&mut self, now: Instant, asked: Option<Duration>, moved: u64) -> bool {
        self.moved = moved;
        if self.count == 0 || now >= self.until {
            let doublings = self.count.min(Self::MOST_DOUBLINGS);
            let pause = Self::FIRST_PAUSE.saturating_mul(1 << doublings);
            self.until = now + pause.max(asked.unwrap_or_default().min(Self::MOST_ASKED));
            self.count = self.count.saturating_add(1);
            return self.count == 1;
        }
        false
    }

    /// How many may be opened at once now. None while nothing comes: where the others fail, it
    /// would only begin to count its attempts anew.
    fn most_more(&self, moved: u64) -> usize {
        match self.count {
            0 => usize::MAX,
            _ if moved == self.moved => 0,
            _ => 1,
        }
    }
}

/// Decides when further connections are opened. More of them help where a server or the way
/// there holds each of them back, and cost where nothing does: so not if the file will be there in
/// half a second anyway, and not, for a while, if the one brings more than such limits do, or waits
/// for the disk.
///
/// They are opened a moment apart. A server that holds connections back by pauses, as nginx does,
/// would otherwise send to all of them at the same moments, each behind the others.
struct Ramp {
    at: Instant,
    /// How many are yet to be opened without another look.
    due: usize,
    apart: Duration,
    before: (Instant, u64),
    writing_us: u64,
}

impl Ramp {
    const FIRST_LOOK: Duration = Duration::from_millis(20);
    const NEXT_LOOK: Duration = Duration::from_millis(100);
    /// In bytes a second.
    const FAST: u64 = 256 << 20;

    fn new(shared: &Shared) -> Self {
        let now = Instant::now();
        let before = (now, shared.progress.bytes());
        let (at, apart) = (now + Self::FIRST_LOOK, Self::NEXT_LOOK);
        Self { at, due: 0, apart, before, writing_us: 0 }
    }

    /// Whether to open another one now, where there may be so many more of them.
    fn grants_one(&mut self, shared: &Shared, most: usize) -> bool {
        if self.due == 0 {
            self.due = self.look(shared).min(most);
            let shares = u32::try_from(self.due).unwrap_or(u32::MAX).saturating_add(1);
            self.apart = Self::NEXT_LOOK / shares;
        }
        self.due = self.due.min(most);
        self.at = Instant::now() + self.apart;
        let is_one = self.due > 0;
        self.due = self.due.saturating_sub(1);
        is_one
    }

    /// How many more there had better be.
    fn look(&mut self, shared: &Shared) -> usize {
        let (now, bytes) = (Instant::now(), shared.progress.bytes());
        let ms = u64::try_from((now - self.before.0).as_millis()).unwrap_or(u64::MAX).max(1);
        let moved = bytes.saturating_sub(self.before.1);
        self.before = (now, bytes);
        let wrote_us = shared.writing_us.load(Ordering::Relaxed);
        let writing_us = wrote_us.saturating_sub(std::mem::replace(&mut self.writing_us, wrote_us));
        let active = u64::try_from(shared.active.load(Ordering::Relaxed)).unwrap_or(1).max(1);
        if writing_us / active > ms.saturating_mul(500) {
            return 0;
        }
        wanted(moved.saturating_mul(1000) / ms, shared.length.saturating_sub(bytes))
    }
}

fn wanted(bytes_per_s: u64, rest: u64) -> usize {
    let left_ms = rest.saturating_mul(1000) / bytes_per_s.max(1);
    match (left_ms, bytes_per_s >= Ramp::FAST) {
        (..500, _) => 0,
        (..5000, true) => 0,
        (_, true) => 1,
        (_, false) => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_opened_where_one_is_held_back() {
        const MIB: u64 = 1 << 20;
        assert_eq!(wanted(0, 100 * MIB), usize::MAX, "nothing comes");
        assert_eq!(wanted(20 * MIB, 1000 * MIB), usize::MAX);
        assert_eq!(wanted(20 * MIB, 5 * MIB), 0, "it is nearly there");
        assert_eq!(wanted(1000 * MIB, 1000 * MIB), 0, "nothing holds it back");
        assert_eq!(wanted(1000 * MIB, 100_000 * MIB), 1, "it takes long all the same");
    }

    #[test]
    fn what_was_refused_is_tried_again_after_longer_and_longer_times() {
        let begin = Instant::now();
        let mut refusals = Refusals { count: 0, until: begin, moved: 0 };
        assert_eq!(refusals.most_more(0), usize::MAX);
        assert!(refusals.add(begin, None, 7) && !refusals.add(begin, None, 7), "it is told once");
        assert_eq!((refusals.most_more(8), refusals.until - begin), (1, Duration::from_secs(5)));
        assert_eq!(refusals.most_more(7), 0, "nothing came since");
        for expected_s in [10, 20, 40, 80, 160, 320, 320] {
            let now = refusals.until;
            assert!(!refusals.add(now, None, 8) && !refusals.add(now, None, 8));
            assert_eq!(refusals.until - now, Duration::from_secs(expected_s));
        }
        let (now, asked) = (refusals.until, Duration::from_secs(400));
        refusals.add(now, Some(asked), 8);
        assert_eq!(refusals.until - now, asked, "a server may ask for longer");
    }
}
