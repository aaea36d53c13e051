//! The rounds of a scenario: in each, every server takes its turn, fresh and on its own folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::mem;
use std::path::Path;

use bytes::Bytes;
use tempfile::TempDir;

use crate::arguments::Arguments;
use crate::figures::Figures;
use crate::goals::Measured;
use crate::limits::Limits;
use crate::plan::{Place, Rival, Scenario};
use crate::servers::{Kind, Server};
use crate::{Outcome, machine, payload, refuse, report};

/// The most that a scenario has in memory at once: 100,000 uploads and what is recorded of them.
const MEMORY_BYTES: u64 = 2 << 30;
/// The most that a scenario has on the disk at once, and what all the small ones leave there.
const DISK_BYTES: u64 = 8 << 30;

pub(crate) struct Runner {
    arguments: Arguments,
    pattern: Bytes,
    /// Why a kind of server is not measured.
    missing: BTreeMap<Kind, String>,
    /// Folders that are removed at the end.
    kept: Vec<TempDir>,
    limits: Limits,
    /// Whether something went wrong; the rest was measured all the same.
    pub(crate) has_failed: bool,
}

impl Runner {
    pub(crate) fn new(arguments: Arguments) -> Self {
        let pattern = payload::pattern();
        let (missing, kept) = (BTreeMap::new(), Vec::new());
        let limits = Limits::default();
        Self { arguments, pattern, missing, kept, limits, has_failed: false }
    }

    /// Installs the peers that these scenarios need, or tells why they are left out.
    pub(crate) fn install(&mut self, scenarios: &[Scenario]) -> Outcome<()> {
        let rivals = scenarios.iter().flat_map(|scenario| &scenario.rivals);
        let needed: BTreeSet<Kind> = rivals.map(|rival| rival.kind).collect();
        for kind in Kind::ALL.into_iter().filter(|kind| needed.contains(kind)) {
            if let Err(error) = kind.install() {
                report::left_out(&mut io::stdout(), kind.name(), &error.to_string())?;
                self.missing.insert(kind, error.to_string());
            }
        }
        let is_there = |kind: &Kind| !self.missing.contains_key(kind);
        report::versions(&mut io::stdout(), &needed.into_iter().filter(is_there).collect())?;
        Ok(())
    }

    /// Runs all rounds of a scenario and writes its tables.
    pub(crate) async fn scenario(&mut self, scenario: &Scenario) -> Outcome<()> {
        let mut out = io::stdout();
        let base = self.base(scenario.place);
        if let Err(error) = has_room(&base, scenario.place) {
            report::left_out(&mut out, scenario.name, &error.to_string())?;
            return Ok(());
        }
        let is_there = |rival: &&Rival| !self.missing.contains_key(&rival.kind);
        let rivals = scenario.rivals.iter().filter(is_there).copied();
        let mut measured: Vec<Measured> =
            rivals.map(|rival| Measured { rival, rounds: Vec::new(), failure: None }).collect();
        for round in 0..self.arguments.rounds() {
            let mut order: Vec<usize> = (0..measured.len()).collect();
            // What drifts while a round lasts harms each as often as it helps.
            if round % 2 == 1 {
                order.reverse();
            }
            order.retain(|at| measured[*at].failure.is_none());
            for at in order {
                let rival = measured[at].rival;
                eprintln!("{}, round {}: {}", scenario.name, round + 1, rival.name());
                match self.run(rival, &base, scenario.place).await {
                    Ok(figures) => measured[at].rounds.push(figures),
                    Err(error) => measured[at].failure = Some(error.to_string()),
                }
            }
        }
        self.has_failed |= measured.iter().any(|rival| rival.failure.is_some());
        report::scenario(&mut out, scenario, &base, &measured)?;
        Ok(())
    }

    /// Measures once what the machine allows, on the disk. The rest is measured though it fails.
    pub(crate) async fn limits(&mut self) -> Outcome<()> {
        eprintln!("what the machine allows");
        let mut limits = mem::take(&mut self.limits);
        let (folder, is_quick) = (self.arguments.data_dir.clone(), self.arguments.quick);
        let round = move || {
            let measured = limits.round(&folder, is_quick);
            (limits, measured)
        };
        let (limits, measured) = tokio::task::spawn_blocking(round).await?;
        self.limits = limits;
        if let Err(error) = measured {
            self.has_failed = true;
            report::left_out(&mut io::stdout(), "what the machine allows", &error.to_string())?;
        }
        Ok(())
    }

    /// The table of what the machine allowed, from the first scenario to the last.
    pub(crate) fn report_limits(&self) -> Outcome<()> {
        let mut out = io::stdout();
        let on = machine::file_system(&self.arguments.data_dir);
        writeln!(out, "\n## What the machine allows\n")?;
        writeln!(out, "Before the first scenario and behind each. Files on {on}.\n")?;
        self.limits.write(&mut out)?;
        Ok(())
    }

    fn base(&self, place: Place) -> std::path::PathBuf {
        match place {
            Place::Memory => self.arguments.memory_dir.clone(),
            Place::Disk | Place::DiskKept => self.arguments.data_dir.clone(),
        }
    }

    /// One rival's turn.
    async fn run(&mut self, rival: Rival, base: &Path, place: Place) -> Outcome<Figures> {
        let folder = tempfile::Builder::new().prefix("resumed-load-").tempdir_in(base)?;
        let work = if self.arguments.quick { rival.work.quick() } else { rival.work };
        let mut server = Server::start(rival.kind, &self.arguments.resumed, folder.path())?;
        let figures = work.run(&mut server, &self.pattern).await;
        let figures = figures.map_err(|error| format!("{error} (it said: {})", server.said()))?;
        drop(server);
        if place == Place::DiskKept {
            self.kept.push(folder);
        }
        Ok(figures)
    }
}

fn has_room(base: &Path, place: Place) -> Outcome<()> {
    fs::create_dir_all(base)?;
    let wanted = if place == Place::Memory { MEMORY_BYTES } else { DISK_BYTES };
    let disk = rustix::fs::statvfs(base)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < wanted {
        let base = base.display();
        return refuse(format!("{base} has {} MiB free, not {}", free >> 20, wanted >> 20));
    }
    io::stdout().flush()?;
    Ok(())
}
