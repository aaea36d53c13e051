//! What is done with a server: each kind of work in a file of its own. Setting up and looking
//! whether all arrived stay outside the clock.

mod concat;
mod idle;
mod read;
mod repeat;
mod small;
mod store;
mod upload;

use std::time::Duration;

use bytes::Bytes;
use resumed::protocol::checksum::Algorithm;

use crate::Outcome;
use crate::figures::{Figures, Measure};
use crate::payload::MIB;
use crate::servers::Server;
use crate::spread::percentile_ms;
use crate::usage::Watch;

/// A kind of work, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// So many clients at once send one upload each, whole or in appends of `append_kib`.
    Upload { clients: usize, mib: u64, append_kib: Option<u64>, checksum: Option<Algorithm> },
    /// Uploads of 4 KiB, in two requests each or in one.
    Small { clients: usize, count: u64, requests: u64 },
    /// HEAD requests for one upload that is not complete.
    Head { clients: usize, count: u64 },
    /// One file, whole or in ranges of 4 MiB over so many connections.
    Read { clients: usize, mib: u64, is_ranged: bool },
    /// Partial uploads at once, then the final upload of them.
    Concat { parts: u64, part_mib: u64 },
    /// Uploads that are open at once, with a byte a second each.
    Idle { clients: usize, seconds: u64 },
    /// Rates before and after so many uploads are in the store.
    Store { uploads: u64, count: u64 },
}

impl Work {
    /// Little of the same: to see that it works, not to measure.
    pub(crate) fn quick(self) -> Self {
        let fewer_mib = |mib: u64| (mib / 16).max(4);
        match self {
            Self::Upload { clients, mib, append_kib, checksum } => {
                let mib = (mib / 16).max(1);
                Self::Upload { clients, mib, append_kib, checksum }
            }
            Self::Small { clients, requests, .. } => Self::Small { clients, count: 400, requests },
            Self::Head { clients, .. } => Self::Head { clients, count: 400 },
            Self::Read { clients, mib, is_ranged } => {
                Self::Read { clients, mib: fewer_mib(mib), is_ranged }
            }
            Self::Concat { parts, part_mib } => {
                Self::Concat { parts, part_mib: fewer_mib(part_mib) }
            }
            Self::Idle { clients, .. } => Self::Idle { clients: clients / 20, seconds: 2 },
            Self::Store { .. } => Self::Store { uploads: 500, count: 200 },
        }
    }

    /// Does it, on a server that has just started.
    pub(crate) async fn run(self, server: &mut Server, pattern: &Bytes) -> Outcome<Figures> {
        match self {
            Self::Upload { clients, mib, append_kib, checksum } => {
                let cut = upload::Cut { length: mib * MIB, append_kib, checksum };
                upload::run(server, pattern, clients, cut).await
            }
            Self::Small { clients, count, requests } => {
                small::uploads(server, pattern, (clients, count), requests).await
            }
            Self::Head { clients, count } => small::heads(server, clients, count).await,
            Self::Read { clients, mib, is_ranged } => {
                read::run(server, pattern, clients, (mib * MIB, is_ranged)).await
            }
            Self::Concat { parts, part_mib } => {
                concat::run(server, pattern, parts, part_mib * MIB).await
            }
            Self::Idle { clients, seconds } => idle::run(server, clients, seconds).await,
            Self::Store { uploads, count } => store::run(server, pattern, uploads, count).await,
        }
    }
}

/// What the clock saw.
#[derive(Default)]
struct Clocked {
    took: Duration,
    bytes: u64,
    requests: u64,
    latencies: Vec<Duration>,
}

impl Clocked {
    fn per_s(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    /// The times that half and that 99 in a hundred of the requests do not exceed.
    fn p50_p99_ms(&mut self) -> (f64, f64) {
        self.latencies.sort_unstable();
        (percentile_ms(&self.latencies, 50), percentile_ms(&self.latencies, 99))
    }

    /// With what the server used meanwhile.
    fn figures(mut self, watch: &Watch) -> Outcome<Figures> {
        let mut figures = Figures::new();
        let seconds = self.took.as_secs_f64();
        let cpu_s = watch.cpu_s()?;
        if self.bytes > 0 {
            figures.insert(Measure::MbPerS, self.bytes as f64 / 1e6 / seconds);
            figures.insert(Measure::CpuPerGb, cpu_s / (self.bytes as f64 / 1e9));
        }
        if self.requests > 0 {
            figures.insert(Measure::PerS, self.per_s());
            figures.insert(Measure::CpuUs, cpu_s * 1e6 / self.requests as f64);
        }
        if !self.latencies.is_empty() {
            let (p50, p99) = self.p50_p99_ms();
            figures.extend([(Measure::P50Ms, p50), (Measure::P99Ms, p99)]);
        }
        figures.insert(Measure::PeakMib, watch.peak_kib()? / 1024.0);
        Ok(figures)
    }
}
