//! Where work on files and records runs: where it is asked for as long as it is quick, else on a
//! thread that may wait.
//!
//! A write goes to the page cache, and a new file to the folder's, in less time than it takes to
//! wake another thread and be woken by it; and the other thread finds neither the bytes in its
//! core's cache nor warm memory to put the next ones in. (1 GiB on tmpfs in one PATCH: 1.2 s of
//! processor time by `spawn_blocking`, 1.2 s by `block_in_place`, 0.95 s in place.) But the kernel
//! makes those wait who write faster than the disk takes it, and a folder may have to be read. So
//! work that is usually quick is timed. Once some of it waited, all of it goes to other threads
//! until none waits any more.
//!
//! While it waits, the async thread that it holds up may be the one that looks after all sockets,
//! and nobody would wake another one for that. So one thread is always left free of such work, and
//! a thread of ours looks on: it wakes that one when work in place takes long, and sends all other
//! work elsewhere meanwhile. A disk that hangs holds others up for two of its ticks.
//!
//! Work that always waits (a sync) never runs here.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// Work that took longer waited for something; a batch takes a hundredth to a tenth of it. Once may
/// be chance: the core was needed elsewhere, which is mostly over after two or three of the
/// kernel's time slices.
const SLOW: Duration = Duration::from_millis(10);
/// Twice within this time is none.
const SOON: Duration = Duration::from_millis(100);
/// Nor is this, even once.
const VERY_SLOW: Duration = Duration::from_millis(25);
/// For how long no work is done in place after some waited.
const CAUTION: Duration = Duration::from_secs(1);
/// For how long a place that is taken is waited for: most work in place is done by then, and
/// another thread would not have been woken. No task may be left waiting in the meantime: tokio
/// keeps one that yields where no other thread finds it, and work in place that hangs would keep it
/// for as long.
const BRIEFLY: Duration = Duration::from_micros(25);
/// How often it is looked whether work in place gets on.
const TICK: Duration = VERY_SLOW;

/// How work behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Waits {
    /// It waits only when something is wrong with the disk, or it has too much to do.
    Seldom,
    /// It waits for the disk.
    ForTheDisk,
}

/// Remembers when work waited last.
#[derive(Debug)]
pub(in crate::storage) struct Pace {
    begin: Instant,
    /// When work was slow last, in ms since `begin`.
    slow_at: AtomicU64,
    /// Until when no work is done in place, likewise.
    careful_until: AtomicU64,
    in_place: AtomicUsize,
    /// How much work in place has ended.
    ended: AtomicU64,
    watch: OnceLock<Watch>,
}

/// The thread that looks on.
#[derive(Debug)]
struct Watch {
    /// `None` when it could not be started: then nothing runs in place.
    thread: Option<Thread>,
    is_asleep: Arc<AtomicBool>,
    /// How much may run in place at once.
    most: usize,
}

impl Default for Pace {
    fn default() -> Self {
        // So that nothing seems to have been slow at the very start.
        let begin = Instant::now().checked_sub(SOON).unwrap_or_else(Instant::now);
        Self {
            begin,
            slow_at: AtomicU64::default(),
            careful_until: AtomicU64::default(),
            in_place: AtomicUsize::default(),
            ended: AtomicU64::default(),
            watch: OnceLock::default(),
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        if let Some(thread) = self.watch.get().and_then(|watch| watch.thread.as_ref()) {
            thread.unpark();
        }
    }
}

impl Pace {
    /// What the work gives; `None` when it died on another thread. A future that is dropped does
    /// not end what has begun.
    pub(in crate::storage) async fn run<T: Send + 'static>(
        self: Arc<Self>,
        waits: Waits,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if waits == Waits::ForTheDisk {
            return spawn_blocking(work).await.ok();
        }
        match self.place() {
            Some(place) => Some(place.run(work)),
            None => spawn_blocking(move || self.timed(work)).await.ok(),
        }
    }

    /// A place for work that waits seldom, if there is one now or in a moment.
    pub(in crate::storage) fn place(self: &Arc<Self>) -> Option<Place> {
        let mut since = None;
        loop {
            if let Some(place) = self.free_place() {
                return Some(place);
            }
            let since = *since.get_or_insert_with(Instant::now);
            if !self.may_be_free_soon() || since.elapsed() > BRIEFLY {
                return None;
            }
            spin_loop();
        }
    }

    fn free_place(self: &Arc<Self>) -> Option<Place> {
        if self.is_careful() {
            return None;
        }
        let watch = self.watch.get_or_init(|| Watch::start(self));
        let count = |now: usize| (now < watch.most).then_some(now.saturating_add(1));
        self.in_place.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).ok()?;
        let place = Place(Arc::clone(self));
        if watch.is_asleep.load(Ordering::SeqCst)
            && let Some(thread) = &watch.thread
        {
            thread.unpark();
        }
        Some(place)
    }

    fn may_be_free_soon(&self) -> bool {
        !self.is_careful() && self.watch.get().is_some_and(|watch| watch.most > 0)
    }

    fn is_careful(&self) -> bool {
        let until = self.careful_until.load(Ordering::Relaxed);
        // Mostly nothing ever waited, and the clock need not be read.
        until > 0 && ms(self.begin.elapsed()) < until
    }

    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = work();
        self.took(begin.elapsed());
        done
    }

    fn took(&self, time: Duration) {
        if time < SLOW {
            return;
        }
        let now = ms(self.begin.elapsed());
        let before = self.slow_at.swap(now, Ordering::Relaxed);
        if time >= VERY_SLOW || now.saturating_sub(before) < ms(SOON) {
            self.careful_until.fetch_max(now.saturating_add(ms(CAUTION)), Ordering::Relaxed);
        }
    }
}

/// Leave to do one piece of work in place.
pub(in crate::storage) struct Place(Arc<Pace>);

impl Place {
    pub(in crate::storage) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        self.0.timed(work)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
        self.0.in_place.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Watch {
    fn start(pace: &Arc<Pace>) -> Self {
        let runtime = Handle::current();
        let most = runtime.metrics().num_workers().saturating_sub(1);
        let is_asleep = Arc::new(AtomicBool::new(false));
        let (pace, asleep) = (Arc::downgrade(pace), Arc::clone(&is_asleep));
        let started = (most > 0).then(|| {
            let name = thread::Builder::new().name("pace".to_owned());
            name.spawn(move || look_on(&pace, &asleep, &runtime))
        });
        let thread = match started {
            Some(Ok(started)) => Some(started.thread().clone()),
            Some(Err(error)) => {
                tracing::warn!(%error, "no thread for looking on; writing takes longer");
                None
            }
            None => None,
        };
        let most = if thread.is_some() { most } else { 0 };
        Self { thread, is_asleep, most }
    }
}

/// Looks on until there is no pace any more.
fn look_on(pace: &Weak<Pace>, is_asleep: &AtomicBool, runtime: &Handle) {
    let mut before = None;
    loop {
        {
            let Some(pace) = pace.upgrade() else { return };
            let now = pace.ended.load(Ordering::SeqCst);
            let is_at_work = pace.in_place.load(Ordering::SeqCst) > 0;
            if is_at_work && before == Some(now) {
                pace.took(VERY_SLOW);
                // Wakes a thread that has nothing to do, which then looks after the sockets.
                drop(runtime.spawn(async {}));
            }
            if !is_at_work && before == Some(now) {
                is_asleep.store(true, Ordering::SeqCst);
                if pace.in_place.load(Ordering::SeqCst) == 0 {
                    drop(pace);
                    thread::park();
                }
                is_asleep.store(false, Ordering::SeqCst);
            }
            before = Some(now);
        }
        thread::sleep(TICK);
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::{current, sleep};

    use tokio::task::yield_now;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_moves_to_other_threads_while_some_waits() {
        let (pace, here) = (Arc::new(Pace::default()), current().id());
        let run = |work: fn()| {
            Arc::clone(&pace).run(Waits::Seldom, move || {
                work();
                current().id()
            })
        };
        assert_eq!(run(|| ()).await, Some(here));
        assert_eq!(run(|| sleep(VERY_SLOW)).await, Some(here));
        assert_ne!(run(|| sleep(VERY_SLOW)).await, Some(here));
        assert_ne!(run(|| ()).await, Some(here));
        sleep(CAUTION);
        assert_eq!(run(|| ()).await, Some(here));
        let synced = Arc::clone(&pace).run(Waits::ForTheDisk, || current().id()).await;
        assert_ne!(synced, Some(here));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_finds_the_place_taken_for_long_goes_elsewhere() {
        let (pace, here) = (Arc::new(Pace::default()), current().id());
        let place = pace.free_place();
        assert!(place.is_some() && pace.free_place().is_none());
        let run = || Arc::clone(&pace).run(Waits::Seldom, || current().id());
        assert_ne!(run().await, Some(here));
        drop(place);
        assert_eq!(run().await, Some(here));
    }

    #[tokio::test]
    async fn the_only_thread_is_left_free() {
        let (pace, here) = (Arc::new(Pace::default()), current().id());
        assert_ne!(pace.run(Waits::Seldom, || current().id()).await, Some(here));
    }

    #[test]
    fn one_hiccup_is_no_wait_and_two_are() {
        let pace = Pace::default();
        pace.took(SLOW);
        assert!(!pace.is_careful());
        pace.took(SLOW);
        assert!(pace.is_careful());
        let pace = Pace::default();
        pace.took(VERY_SLOW);
        assert!(pace.is_careful());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn others_are_served_while_work_in_place_hangs() {
        let pace = Arc::new(Pace::default());
        let (go_on, gone_on) = mpsc::channel::<()>();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hanging = Arc::clone(&pace);
        // It runs on the thread that looks after the sockets: that told it of the connection.
        let hang = tokio::spawn(async move {
            listener.accept().await.unwrap();
            hanging.run(Waits::Seldom, move || gone_on.recv()).await.unwrap().unwrap();
            listener
        });
        let another = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = another.local_addr().unwrap();
        let served = tokio::spawn(async move {
            another.accept().await.unwrap();
        });
        let (told, tell) = mpsc::channel();
        let looking = Arc::clone(&pace);
        thread::spawn(move || {
            // Until then both threads have gone to sleep, one of them over the sockets.
            sleep(Duration::from_millis(100));
            std::net::TcpStream::connect(address).unwrap();
            while looking.in_place.load(Ordering::SeqCst) == 0 {
                sleep(Duration::from_millis(1));
            }
            std::net::TcpStream::connect(at).unwrap();
            let begin = Instant::now();
            let others_are_served = || served.is_finished() && looking.is_careful();
            while !others_are_served() && begin.elapsed() < Duration::from_secs(20) {
                sleep(Duration::from_millis(1));
            }
            told.send(others_are_served()).unwrap();
            go_on.send(()).unwrap();
        });
        hang.await.unwrap();
        assert!(tell.recv().unwrap());
        while pace.in_place.load(Ordering::SeqCst) > 0 {
            yield_now().await;
        }
    }
}
