//! The scenarios and their goals: plain data.

use resumed::protocol::checksum::Algorithm;

use crate::figures::Measure;
use crate::goals::{Goal, at_least, at_most, ratio, share};
use crate::servers::Kind;
use crate::work::Work;

use Kind::{AsPeers, Bare, Default, Nginx, Node};

/// What an upload may cost in s/GB, and what it cost nginx on the machine that this is from.
const CPU_PER_GB: f64 = 0.40;
const NGINX_CPU_PER_GB: f64 = 0.31;
/// The same of a read, and what it cost nginx there: the whole file, and ranges.
const READ_CPU_PER_GB: f64 = 0.25;
const NGINX_GET_CPU_PER_GB: f64 = 0.05;
const NGINX_RANGE_CPU_PER_GB: f64 = 0.06;
/// The same of an append of 256 KiB in µs, and what it cost `@tus/server` there (9.31 s/GB).
const APPEND_CPU_US: f64 = 160.0;
const NODE_APPEND_CPU_US: f64 = 2441.0;
/// What is meant to be reached by a read in the end, in s/GB.
const READ_CPU_PER_GB_STRETCH: f64 = 0.10;

/// Where the data of a scenario lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In memory (tmpfs): what the servers themselves cost.
    Memory,
    /// On the disk, where each run's data is removed after it.
    Disk,
    /// On the disk, where all is kept until the end: ext4 makes files slower after many deletes.
    DiskKept,
}

/// One of those that take turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rival {
    pub(crate) kind: Kind,
    /// What tells it from another of the same kind.
    pub(crate) variant: &'static str,
    pub(crate) work: Work,
}

impl Rival {
    pub(crate) fn name(&self) -> String {
        let name = self.kind.name();
        if self.variant.is_empty() { name.to_owned() } else { format!("{name}, {}", self.variant) }
    }
}

/// What is measured in one run of rounds, and what it ought to be.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) place: Place,
    pub(crate) rivals: Vec<Rival>,
    pub(crate) goals: Vec<Goal>,
}

fn same(kinds: &[Kind], work: Work) -> Vec<Rival> {
    kinds.iter().map(|&kind| Rival { kind, variant: "", work }).collect()
}

/// All of them. Those that make many files on the disk come first, before anything was deleted.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = small();
    all.extend(large());
    all.extend(reads());
    all.push(Scenario {
        name: "concat",
        title: "4 partial uploads of 256 MiB at once, then the final one",
        place: Place::Disk,
        rivals: same(&[AsPeers, Default], Work::Concat { parts: 4, part_mib: 256 }),
        goals: [AsPeers, Default].map(|kind| at_most(kind, Measure::FinalMs, 10.0)).into(),
    });
    all.extend([checksums(), idle(2000), idle(10_000), full()]);
    all
}

fn small() -> Vec<Scenario> {
    let of = |clients, requests, place| {
        // A file system in memory is where the goals of the peers' promises are set, the disk where
        // those of the default are.
        let count = if place == Place::Memory { 10_000 } else { 5000 };
        let kinds: &[Kind] = match place {
            Place::Memory => &[AsPeers, Default, Node, Nginx, Bare],
            Place::Disk | Place::DiskKept => &[AsPeers, Default, Node],
        };
        let goals = if place == Place::Memory {
            // Rates of 18 (25) thousand a second, and 30 (45) in the end, on the same machine.
            let stretch = if requests == 2 { 30.0 / 18.0 } else { 45.0 / 25.0 };
            let rate = ratio(AsPeers, Measure::PerS, Node, 11.0);
            let mut goals = vec![rate.stretch((clients == 16).then_some(11.0 * stretch))];
            if requests == 2 {
                goals.push(at_most(AsPeers, Measure::P99Ms, 5.0));
                goals.push(at_most(AsPeers, Measure::PeakMib, 40.0));
            }
            goals
        } else {
            vec![ratio(Default, Measure::PerS, Node, 2.0)]
        };
        (place, same(kinds, Work::Small { clients, count, requests }), goals)
    };
    let scenario =
        |name, title, (place, rivals, goals)| Scenario { name, title, place, rivals, goals };
    let two_16 = "16 clients, uploads of 4 KiB in POST and PATCH";
    let two_64 = "64 clients, uploads of 4 KiB in POST and PATCH";
    let two_32 = "32 clients, uploads of 4 KiB in POST and PATCH";
    let one_16 = "16 clients, uploads of 4 KiB in one POST";
    let one_32 = "32 clients, uploads of 4 KiB in one POST";
    vec![
        scenario("small-disk-16", two_16, of(16, 2, Place::DiskKept)),
        scenario("small-disk-64", two_64, of(64, 2, Place::DiskKept)),
        scenario("small-disk-one-request", one_16, of(16, 1, Place::DiskKept)),
        scenario("small-16", two_16, of(16, 2, Place::Memory)),
        scenario("small-32", two_32, of(32, 2, Place::Memory)),
        scenario("small-64", two_64, of(64, 2, Place::Memory)),
        scenario("small-one-request", one_16, of(16, 1, Place::Memory)),
        scenario("small-32-one-request", one_32, of(32, 1, Place::Memory)),
    ]
}

/// A rate beside that of a peer: the goal, and the stretch if there is one.
type Beside = (Kind, f64, Option<f64>);

/// Rates beside peers. The default is to reach a `share` of what the other mode is to reach.
fn both_modes(goals: &[Beside], share: f64) -> Vec<Goal> {
    let modes = [(AsPeers, 1.0), (Default, share)].into_iter();
    let each = modes.flat_map(|(mode, share)| {
        goals.iter().map(move |&(peer, least, stretch)| {
            let stretch = stretch.map(|stretch| stretch * share);
            ratio(mode, Measure::MbPerS, peer, least * share).stretch(stretch)
        })
    });
    each.collect()
}

/// What a large upload is to reach.
#[derive(Clone, Copy)]
struct Aim {
    /// The rate, by that of `@tus/server`.
    node: f64,
    /// The rate in the end, by that of nginx.
    nginx_stretch: Option<f64>,
    /// The cost in the end, in s/GB.
    cpu_stretch: Option<f64>,
    peak_mib: f64,
}

fn large() -> Vec<Scenario> {
    let upload =
        |clients, mib, append_kib| Work::Upload { clients, mib, append_kib, checksum: None };
    let kinds = [AsPeers, Default, Node, Nginx];
    let modes = [(AsPeers, 1.0), (Default, 0.75)];
    let of = |name, title, work, aim: Aim| {
        let beside = [(Nginx, 0.75, aim.nginx_stretch), (Node, aim.node, None)];
        let mut goals = both_modes(&beside, 0.75);
        for (kind, rate) in modes {
            let (most, stretch) = (CPU_PER_GB / rate, aim.cpu_stretch.map(|most| most / rate));
            goals.push(at_most(kind, Measure::CpuPerGb, most).stretch(stretch));
            let (most, stretch) =
                (most / NGINX_CPU_PER_GB, stretch.map(|most| most / NGINX_CPU_PER_GB));
            goals.push(share(kind, Measure::CpuPerGb, Nginx, most).stretch(stretch));
        }
        goals.extend(modes.map(|(kind, _)| at_most(kind, Measure::PeakMib, aim.peak_mib)));
        Scenario { name, title, place: Place::Disk, rivals: same(&kinds, work), goals }
    };
    let chunked = |kind, work| Rival { kind, variant: "", work };
    let (whole, appends) = (upload(1, 512, None), upload(1, 512, Some(8192)));
    let mut chunked_8 = of(
        "chunked-8m",
        "one upload of 512 MiB in PATCHes of 8 MiB (nginx: one PUT)",
        appends,
        Aim { node: 2.4, nginx_stretch: Some(0.80), cpu_stretch: None, peak_mib: 24.0 },
    );
    chunked_8.rivals = [(AsPeers, appends), (Default, appends), (Node, appends), (Nginx, whole)]
        .map(|(kind, work)| chunked(kind, work))
        .into();
    let mut goals = both_modes(&[(Node, 5.0, Some(6.4))], 0.6);
    for (kind, rate) in [(AsPeers, 1.0), (Default, 0.6)] {
        goals.push(at_most(kind, Measure::CpuUs, APPEND_CPU_US / rate));
        let most = APPEND_CPU_US / NODE_APPEND_CPU_US / rate;
        goals.push(share(kind, Measure::CpuUs, Node, most));
    }
    let chunked_256 = Scenario {
        name: "chunked-256k",
        title: "one upload of 128 MiB in PATCHes of 256 KiB",
        place: Place::Memory,
        rivals: same(&[AsPeers, Default, Node], upload(1, 128, Some(256))),
        goals,
    };
    // Only its memory has a goal of its own.
    let at_once =
        Aim { node: 4.0, nginx_stretch: Some(0.93), cpu_stretch: Some(0.36), peak_mib: 64.0 };
    let mut memory =
        of("parallel-64", "64 uploads of 16 MiB at once", upload(64, 16, None), at_once);
    memory.goals = modes.map(|(kind, _)| at_most(kind, Measure::PeakMib, 64.0)).into();
    let alone =
        Aim { node: 2.4, nginx_stretch: Some(0.96), cpu_stretch: Some(0.30), peak_mib: 24.0 };
    vec![
        of("single", "one upload of 1 GiB in one PATCH", upload(1, 1024, None), alone),
        chunked_8,
        chunked_256,
        of("parallel-16", "16 uploads of 64 MiB at once", upload(16, 64, None), at_once),
        memory,
    ]
}

fn reads() -> Vec<Scenario> {
    let modes = [AsPeers, Default];
    let head =
        |clients| same(&[AsPeers, Default, Node, Bare], Work::Head { clients, count: 20_000 });
    let mut head_goals = Vec::new();
    for mode in modes {
        head_goals.push(ratio(mode, Measure::PerS, Bare, 0.42).stretch(0.70));
        head_goals.push(ratio(mode, Measure::PerS, Node, 17.0).stretch(28.0));
        head_goals.push(at_most(mode, Measure::P99Ms, 1.0));
    }
    let read = |clients, is_ranged| Work::Read { clients, mib: 1024, is_ranged };
    let read_goals = |least, stretch: Option<f64>, nginx_cpu_per_gb| {
        let rate = |mode| ratio(mode, Measure::MbPerS, Nginx, least).stretch(stretch);
        let mut goals = Vec::from(modes.map(rate));
        for mode in modes {
            let cpu = at_most(mode, Measure::CpuPerGb, READ_CPU_PER_GB);
            goals.push(cpu.stretch(READ_CPU_PER_GB_STRETCH));
            let most = READ_CPU_PER_GB / nginx_cpu_per_gb;
            let cpu = share(mode, Measure::CpuPerGb, Nginx, most);
            goals.push(cpu.stretch(READ_CPU_PER_GB_STRETCH / nginx_cpu_per_gb));
        }
        goals
    };
    let scenario =
        |name, title, place, rivals, goals| Scenario { name, title, place, rivals, goals };
    let ranged = "one file of 1 GiB in ranges of 4 MiB over 8 connections";
    let kinds = [AsPeers, Default, Node, Nginx];
    vec![
        scenario("head-1", "HEAD over 1 connection", Place::Memory, head(1), Vec::new()),
        scenario("head-16", "HEAD over 16 connections", Place::Memory, head(16), head_goals),
        scenario(
            "get",
            "one GET of 1 GiB",
            Place::Disk,
            same(&kinds, read(1, false)),
            read_goals(0.85, None, NGINX_GET_CPU_PER_GB),
        ),
        // @tus/server knows no ranges.
        scenario(
            "range",
            ranged,
            Place::Disk,
            same(&[AsPeers, Default, Nginx], read(8, true)),
            read_goals(0.63, Some(0.87), NGINX_RANGE_CPU_PER_GB),
        ),
    ]
}

/// The same appends, with and without a checksum on each.
fn checksums() -> Scenario {
    let variants = [
        ("no checksum", None, 1.0, None),
        ("sha1", Some(Algorithm::Sha1), 0.45, Some(0.62)),
        ("crc32c", Some(Algorithm::Crc32c), 0.95, None),
        ("blake3", Some(Algorithm::Blake3), 0.75, None),
    ];
    let (mut rivals, mut goals) = (Vec::new(), Vec::new());
    for kind in [AsPeers, Default] {
        for (variant, checksum, least, stretch) in variants {
            let work = Work::Upload { clients: 1, mib: 512, append_kib: Some(8192), checksum };
            rivals.push(Rival { kind, variant, work });
            if checksum.is_some() {
                let of = (kind, variant, Measure::MbPerS);
                let over = (kind, "no checksum", Measure::MbPerS);
                goals.push(at_least(of, Some(over), least).stretch(stretch));
            }
        }
    }
    let title = "one upload of 512 MiB in PATCHes of 8 MiB, each with Upload-Checksum";
    Scenario { name: "checksum", title, place: Place::Disk, rivals, goals }
}

fn idle(clients: usize) -> Scenario {
    let (name, title, kinds): (_, _, &[Kind]) = if clients == 2000 {
        let title = "2000 open uploads, a byte a second each; the times are of a HEAD beside them";
        ("idle-2000", title, &[AsPeers, Default, Node])
    } else {
        // @tus/server resets connections, and takes 11 s to open 6000.
        let title = "10,000 open uploads, a byte a second each, under 20,000 descriptors";
        ("idle-10000", title, &[AsPeers, Default])
    };
    let mut goals = Vec::new();
    for kind in [AsPeers, Default] {
        goals.push(at_least((kind, "", Measure::Served), None, 1.0));
        goals.push(at_most(kind, Measure::KibEach, 20.0).stretch(14.0));
    }
    Scenario {
        name,
        title,
        place: Place::Memory,
        rivals: same(kinds, Work::Idle { clients, seconds: 5 }),
        goals,
    }
}

fn full() -> Scenario {
    let pairs = [
        (Measure::SmallFull, Measure::SmallEmpty),
        (Measure::HeadFull, Measure::HeadEmpty),
        (Measure::GetFull, Measure::GetEmpty),
    ];
    let mut goals = Vec::new();
    for kind in [AsPeers, Default] {
        for (full, empty) in pairs {
            goals.push(at_least((kind, "", full), Some((kind, "", empty)), 0.9));
        }
    }
    Scenario {
        name: "full",
        title: "rates with few and with 100,000 complete uploads in the store, 16 connections",
        place: Place::Memory,
        rivals: same(&[AsPeers, Default], Work::Store { uploads: 100_000, count: 5000 }),
        goals,
    }
}
