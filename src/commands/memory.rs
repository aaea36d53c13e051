//! What the server asks of glibc's allocator, which by itself keeps much of what was freed. Other
//! allocators are left alone.

/// Sets the allocator up, before there is a second thread.
#[cfg(target_env = "gnu")]
pub(super) fn set_up() {
    glibc::keep_few_heaps();
    glibc::give_back_when_quiet();
}

#[cfg(not(target_env = "gnu"))]
pub(super) fn set_up() {}

#[cfg(target_env = "gnu")]
mod glibc {
    use std::env;
    use std::num::NonZero;
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::time::{ClockId, clock_gettime};

    /// How often it is looked how much the process had to do.
    const TICK: Duration = Duration::from_millis(250);
    /// The processor time that makes a tick busy, and that is used at least between two times of giving
    /// back.
    const BUSY: Duration = Duration::from_millis(25);
    /// So many times what giving back took is used before the next time: a large heap that is full of
    /// holes takes 10 ms or more, and others that ask it for memory wait as long.
    const SHARE: u32 = 20;

    /// Has the allocator keep as many heaps as there are CPUs, unless the environment says how many:
    /// glibc's makes eight times as many, and what one thread took and another gave back stays in each.
    /// 80,000 uploads with metadata of 15 KB took 494 MiB with them, and 322 without, as fast.
    #[allow(unsafe_code)]
    pub(super) fn keep_few_heaps() {
        if ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"].iter().any(|name| env::var_os(name).is_some()) {
            return;
        }
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let heaps = libc::c_int::try_from(cpus).unwrap_or(libc::c_int::MAX);
        // SAFETY: no other thread runs yet, and no memory is handed over. Where it is refused, heaps are
        // as many as they were.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps) };
    }

    /// Gives the system back what is free, whenever much was done since the last time and now little is.
    /// Of itself glibc gives back only what is free at the end of a heap, and what sled frees behind a
    /// burst of saves lies anywhere. While there is much to do, the same memory would be asked for at once
    /// again, and would have to wait: a heap is locked as long as it is looked through.
    pub(super) fn give_back_when_quiet() {
        let looking = thread::Builder::new().name("memory".to_owned()).spawn(|| {
            let (mut last_tick, mut last_time, mut pause) = (Duration::ZERO, Duration::ZERO, BUSY);
            loop {
                thread::sleep(TICK);
                let now = processor_time();
                let is_busy = now.saturating_sub(last_tick) >= BUSY;
                last_tick = now;
                if !is_busy && now.saturating_sub(last_time) >= pause {
                    give_back();
                    // Without what giving back took.
                    last_time = processor_time();
                    last_tick = last_time;
                    pause = BUSY.max(last_time.saturating_sub(now).saturating_mul(SHARE));
                }
            }
        });
        if let Err(error) = looking {
            tracing::warn!(%error, "no thread for giving memory back; the process keeps what it once had");
        }
    }

    /// The processor time of all threads so far.
    fn processor_time() -> Duration {
        clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
    }

    #[allow(unsafe_code)]
    fn give_back() {
        let begin = Instant::now();
        // SAFETY: it may be called at any time, by any thread; no memory is handed over.
        unsafe { libc::malloc_trim(0) };
        tracing::debug!(took = ?begin.elapsed(), "gave free memory back");
    }
}
