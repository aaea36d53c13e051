//! The tables, in Markdown.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use crate::arguments::Arguments;
use crate::figures::Measure;
use crate::goals::Measured;
use crate::machine;
use crate::plan::Scenario;
use crate::servers::Kind;

/// The command that gave the tables, and the machine.
pub(crate) fn header(out: &mut impl Write, arguments: &Arguments) -> io::Result<()> {
    writeln!(out, "{}", machine::command("load"))?;
    if arguments.quick {
        writeln!(
            out,
            "\n**Quick: far less work than the titles say. These figures tell nothing.**"
        )?;
    }
    let (machine, rounds) = (machine::describe(), arguments.rounds());
    writeln!(
        out,
        "\n{machine}. Rounds: {rounds}, told are medians (least–most). MB and GB are 10^6 and 10^9 bytes."
    )
}

/// The figures of a scenario, and its goals.
pub(crate) fn scenario(
    out: &mut impl Write,
    scenario: &Scenario,
    folder: &Path,
    measured: &[Measured],
) -> io::Result<()> {
    let on = machine::file_system(folder);
    writeln!(out, "\n## {}: {}\n\nData on {on}.\n", scenario.name, scenario.title)?;
    let (sound, failed): (Vec<_>, Vec<_>) =
        measured.iter().partition(|rival| rival.failure.is_none());
    let rounds = sound.iter().flat_map(|rival| &rival.rounds);
    let measures: BTreeSet<Measure> = rounds.flat_map(|round| round.keys().copied()).collect();
    let titles: Vec<&str> = measures.iter().map(|measure| measure.title()).collect();
    writeln!(out, "| server | {} |", titles.join(" | "))?;
    writeln!(out, "|---|{}", "---|".repeat(titles.len()))?;
    for rival in sound {
        let cell = |&measure: &Measure| {
            rival.spread(measure).map_or_else(|| "–".to_owned(), |spread| spread.to_string())
        };
        let cells: Vec<String> = measures.iter().map(cell).collect();
        writeln!(out, "| {} | {} |", rival.rival.name(), cells.join(" | "))?;
    }
    for rival in failed {
        left_out(out, &rival.rival.name(), rival.failure.as_deref().unwrap_or_default())?;
    }
    if !scenario.goals.is_empty() {
        writeln!(
            out,
            "\n| figure | median (least–most) | goal | | stretch |\n|---|---|---|---|---|"
        )?;
    }
    for goal in &scenario.goals {
        writeln!(out, "{}", goal.line(measured))?;
    }
    out.flush()
}

/// A peer that is not measured, and why.
pub(crate) fn left_out(out: &mut impl Write, name: &str, why: &str) -> io::Result<()> {
    writeln!(out, "\nLeft out: {name}: {why}")
}

/// The versions of the peers that are measured.
pub(crate) fn versions(out: &mut impl Write, kinds: &BTreeSet<Kind>) -> io::Result<()> {
    let first = |program: &str, flag: &str| {
        let output = Command::new(program).arg(flag).output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).lines().next().map(str::to_owned)
    };
    let mut versions = Vec::new();
    if kinds.contains(&Kind::Nginx) {
        versions.extend(first("nginx", "-v"));
    }
    if kinds.contains(&Kind::Node) {
        versions.extend(first("node", "--version").map(|version| format!("Node.js {version}")));
    }
    if versions.is_empty() { Ok(()) } else { writeln!(out, "\nPeers: {}.", versions.join(", ")) }
}
