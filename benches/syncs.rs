//! Whether small files are better made durable each by itself, or by one `syncfs` for all who wait.
//!
//! `cargo bench --bench syncs`, with `-- FOLDER` for another disk than that of the temporary folder.
//! What the store does is the first: a file system with a journal commits once for all who wait
//! anyway, and `syncfs` waits for what others write, too.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The files of one run, shared by its threads.
const FILES: usize = 4096;
const FILE_BYTES: usize = 4096;
const SHARDS: usize = 256;
/// Pairs of runs; the median ratio is told.
const RUNS: usize = 5;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = given.map_or_else(std::env::temp_dir, PathBuf::from);
    writeln!(io::stdout(), "threads   each files/s   together files/s   together / each")?;
    for threads in [1, 16, 64] {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            let each = rate(&folder, threads, None)?;
            let together = rate(&folder, threads, Some(Group::default()))?;
            runs.push((together / each, each, together));
        }
        runs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, each, together) = runs[RUNS / 2];
        writeln!(io::stdout(), "{threads:7}   {each:12.0}   {together:16.0}   {ratio:15.2}")?;
    }
    Ok(())
}

/// Files a second that so many threads make durable.
fn rate(folder: &Path, threads: usize, group: Option<Group>) -> Outcome<f64> {
    let folder = tempfile::tempdir_in(folder)?;
    for shard in 0..SHARDS {
        fs::create_dir(folder.path().join(format!("{shard:02x}")))?;
    }
    let (group, path) = (group.as_ref(), folder.path());
    let begin = Instant::now();
    thread::scope(|scope| {
        let makers =
            (0..threads).map(|maker| scope.spawn(move || make(path, maker, threads, group)));
        for maker in makers.collect::<Vec<_>>() {
            maker.join().map_err(|_| "a thread died")??;
        }
        Outcome::Ok(())
    })?;
    Ok(FILES as f64 / begin.elapsed().max(Duration::from_nanos(1)).as_secs_f64())
}

fn make(folder: &Path, maker: usize, threads: usize, group: Option<&Group>) -> io::Result<()> {
    for number in (maker..FILES).step_by(threads) {
        // As random as the ids of uploads.
        let shard =
            folder.join(format!("{:02x}", number.wrapping_mul(2_654_435_761) / 64 % SHARDS));
        let mut file = File::create_new(shard.join(number.to_string()))?;
        file.write_all(&[7; FILE_BYTES])?;
        match group {
            None => {
                file.sync_data()?;
                File::open(shard)?.sync_all()?;
            }
            Some(group) => group.sync(folder)?,
        }
    }
    Ok(())
}

/// Those who wait for a `syncfs` that begins after they asked.
#[derive(Default)]
struct Group {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_syncing: bool,
    begun: u64,
    done: u64,
}

impl Group {
    fn sync(&self, folder: &Path) -> io::Result<()> {
        let poisoned = |_| io::Error::other("a thread died");
        let mut state = self.state.lock().map_err(poisoned)?;
        let mine = state.begun + 1;
        while state.done < mine {
            if state.is_syncing {
                state = self.changed.wait(state).map_err(|_| io::Error::other("a thread died"))?;
                continue;
            }
            state.is_syncing = true;
            state.begun += 1;
            let begun = state.begun;
            drop(state);
            rustix::fs::syncfs(File::open(folder)?)?;
            state = self.state.lock().map_err(|_| io::Error::other("a thread died"))?;
            state.is_syncing = false;
            state.done = begun;
            self.changed.notify_all();
        }
        Ok(())
    }
}
