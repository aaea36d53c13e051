//! What this machine allows: the marks that no server here can pass. The bench `limits` uses it,
//! too.
//!
//! The CPU time is that of the thread on the side that a server would be on.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read as _, Seek as _, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::spread::{Spread, percentile_ms};

/// What is read, written or sent at once.
const PIECE_BYTES: usize = 256 << 10;
const APPEND_BYTES: usize = 4 << 10;
const HASHED_BYTES: usize = 1 << 20;

/// How much each of them does.
#[derive(Clone, Copy)]
struct Amount {
    bytes: usize,
    appends: usize,
}

const WHOLE: Amount = Amount { bytes: 1 << 30, appends: 2000 };
const QUICK: Amount = Amount { bytes: 32 << 20, appends: 50 };

/// What one run gives.
enum Figures {
    /// Megabytes a second, and CPU seconds a gigabyte.
    Rate { mb_per_s: f64, cpu_per_gb: f64 },
    /// Milliseconds that half, and all but a hundredth, stay below.
    Times { p50: f64, p99: f64 },
}

struct Limit {
    name: &'static str,
    run: fn(&Path, Amount) -> Outcome<Figures>,
}

const LIMITS: [Limit; 7] = [
    Limit { name: "loopback to memory", run: loopback_to_memory },
    Limit { name: "loopback to file", run: loopback_to_file },
    Limit { name: "file to loopback, sendfile", run: file_to_loopback },
    Limit { name: "file, page cache only", run: file_unsynced },
    Limit { name: "file, one data sync at the end", run: file_synced },
    Limit { name: "append of 4 KiB and data sync", run: synced_appends },
    Limit { name: "BLAKE3, one thread", run: blake3_one_thread },
];

/// What was measured of each limit, round by round.
#[derive(Default)]
pub(crate) struct Limits {
    measured: [Vec<Figures>; LIMITS.len()],
}

impl Limits {
    /// One more round, with files in a folder of its own below this one.
    pub(crate) fn round(&mut self, base: &Path, is_quick: bool) -> Outcome<()> {
        let amount = if is_quick { QUICK } else { WHOLE };
        fs::create_dir_all(base)?;
        for (limit, figures) in LIMITS.iter().zip(&mut self.measured) {
            let folder = tempfile::tempdir_in(base)?;
            // What was left for the disk to do before is not this one's work.
            rustix::fs::syncfs(File::open(folder.path())?)?;
            figures.push((limit.run)(folder.path(), amount)?);
        }
        Ok(())
    }

    /// The table, in Markdown: medians with the least and the most.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "| limit | | |\n|---|---|---|")?;
        for (limit, figures) in LIMITS.iter().zip(&self.measured) {
            let spread = |value: fn(&Figures) -> f64| {
                let spread = Spread::of(figures.iter().map(value).collect());
                spread.map_or_else(String::new, |spread| spread.to_string())
            };
            let first = spread(|figures| match *figures {
                Figures::Rate { mb_per_s: first, .. } | Figures::Times { p50: first, .. } => first,
            });
            let second = spread(|figures| match *figures {
                Figures::Rate { cpu_per_gb: second, .. } | Figures::Times { p99: second, .. } => {
                    second
                }
            });
            match figures.first() {
                Some(Figures::Times { .. }) => {
                    writeln!(out, "| {} | p50 {first} ms | p99 {second} ms |", limit.name)?;
                }
                _ => writeln!(out, "| {} | {first} MB/s | {second} CPU s/GB |", limit.name)?,
            }
        }
        Ok(())
    }
}

fn loopback_to_memory(_: &Path, amount: Amount) -> Outcome<Figures> {
    received(amount, |mut stream| {
        let mut piece = vec![0; PIECE_BYTES];
        while stream.read(&mut piece)? > 0 {
            black_box(&piece);
        }
        Ok(())
    })
}

fn loopback_to_file(folder: &Path, amount: Amount) -> Outcome<Figures> {
    let mut file = File::create_new(folder.join("file"))?;
    received(amount, |mut stream| {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = stream.read(&mut piece)?;
            if length == 0 {
                return Ok(());
            }
            file.write_all(&piece[..length])?;
        }
    })
}

/// Times what receives so many bytes that another thread sends.
fn received(amount: Amount, receive: impl FnOnce(TcpStream) -> io::Result<()>) -> Outcome<Figures> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sender = thread::spawn(move || {
        let piece = vec![7; PIECE_BYTES];
        let mut stream = TcpStream::connect(address)?;
        for _ in 0..amount.bytes / PIECE_BYTES {
            stream.write_all(&piece)?;
        }
        io::Result::Ok(())
    });
    let (stream, _) = listener.accept()?;
    let figures = rate(amount.bytes, || receive(stream))?;
    sender.join().map_err(|_| "the sender died")??;
    Ok(figures)
}

fn file_to_loopback(folder: &Path, amount: Amount) -> Outcome<Figures> {
    let mut file = File::create_new(folder.join("file"))?;
    write_pieces(&mut file, amount)?;
    file.rewind()?;
    rustix::fs::syncfs(&file)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let receiver = thread::spawn(move || {
        let mut stream = TcpStream::connect(address)?;
        let mut piece = vec![0; PIECE_BYTES];
        while stream.read(&mut piece)? > 0 {
            black_box(&piece);
        }
        io::Result::Ok(())
    });
    let (stream, _) = listener.accept()?;
    let figures = rate(amount.bytes, || {
        let mut left = amount.bytes;
        while left > 0 {
            match rustix::fs::sendfile(&stream, &file, None, left)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                sent => left -= sent,
            }
        }
        drop(stream);
        receiver.join().map_err(|_| io::Error::other("the receiver died"))?
    })?;
    Ok(figures)
}

fn file_unsynced(folder: &Path, amount: Amount) -> Outcome<Figures> {
    let mut file = File::create_new(folder.join("file"))?;
    rate(amount.bytes, || write_pieces(&mut file, amount))
}

fn file_synced(folder: &Path, amount: Amount) -> Outcome<Figures> {
    let mut file = File::create_new(folder.join("file"))?;
    rate(amount.bytes, || {
        write_pieces(&mut file, amount)?;
        file.sync_data()
    })
}

fn write_pieces(file: &mut File, amount: Amount) -> io::Result<()> {
    let piece = vec![7; PIECE_BYTES];
    for _ in 0..amount.bytes / PIECE_BYTES {
        file.write_all(&piece)?;
    }
    Ok(())
}

fn synced_appends(folder: &Path, amount: Amount) -> Outcome<Figures> {
    let mut file = File::create_new(folder.join("file"))?;
    let mut times = Vec::with_capacity(amount.appends);
    for _ in 0..amount.appends {
        let begin = Instant::now();
        file.write_all(&[7; APPEND_BYTES])?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(Figures::Times { p50: percentile_ms(&times, 50), p99: percentile_ms(&times, 99) })
}

fn blake3_one_thread(_: &Path, amount: Amount) -> Outcome<Figures> {
    let piece = vec![7; HASHED_BYTES];
    rate(amount.bytes, || {
        let mut hasher = blake3::Hasher::new();
        for _ in 0..amount.bytes / HASHED_BYTES {
            hasher.update(&piece);
        }
        black_box(hasher.finalize());
        Ok(())
    })
}

/// The rate at which this thread does it, and the CPU time that it takes.
fn rate(bytes: usize, work: impl FnOnce() -> io::Result<()>) -> Outcome<Figures> {
    let (cpu, begin) = (thread_cpu()?, Instant::now());
    work()?;
    let (took, cpu) = (begin.elapsed(), thread_cpu()?.saturating_sub(cpu));
    Ok(Figures::Rate {
        mb_per_s: bytes as f64 / 1e6 / took.as_secs_f64(),
        cpu_per_gb: cpu.as_secs_f64() / (bytes as f64 / 1e9),
    })
}

/// How long this thread has been on a processor, see the kernel's sched-stats.
fn thread_cpu() -> Outcome<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split_whitespace().next().ok_or("unreadable /proc schedstat")?;
    Ok(Duration::from_nanos(first.parse()?))
}
