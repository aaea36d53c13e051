//! What this machine allows, by itself.
//!
//! `cargo bench --bench limits`, with `-- [--runs N] [--data-dir FOLDER] [--quick]`. The bench
//! `load` measures the same between its scenarios. Told are medians of rounds in which all take
//! their turn.

#[path = "load/limits.rs"]
mod limits;
#[path = "load/machine.rs"]
mod machine;
#[path = "load/spread.rs"]
mod spread;

use std::error::Error;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;

use crate::limits::Limits;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measure what this machine allows.
#[derive(Parser)]
struct Arguments {
    /// Rounds; in each, all take their turn [default: 5, with --quick 1]
    #[arg(long)]
    runs: Option<NonZeroUsize>,
    /// Folder on the disk that is measured
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    data_dir: PathBuf,
    /// Little work: to see that it works, not to measure
    #[arg(long)]
    quick: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let rounds = arguments.runs.map_or(if arguments.quick { 1 } else { 5 }, NonZeroUsize::get);
    let mut limits = Limits::default();
    for _ in 0..rounds {
        limits.round(&arguments.data_dir, arguments.quick)?;
    }
    let mut out = io::stdout();
    let (machine, on) = (machine::describe(), machine::file_system(&arguments.data_dir));
    writeln!(out, "{}", machine::command("limits"))?;
    writeln!(
        out,
        "\n{machine}, files on {on}. Rounds: {rounds}, told are medians (least–most). MB and GB are 10^6 \
         and 10^9 bytes.\n"
    )?;
    limits.write(&mut out)?;
    Ok(())
}
