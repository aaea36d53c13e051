//! The command line of the bench.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;

/// Measure `resumed` beside other servers.
#[derive(Parser, Debug)]
pub(crate) struct Arguments {
    /// The scenarios to run, or the beginnings of their names; all when none is given
    pub(crate) scenarios: Vec<String>,
    /// Rounds; in each, all servers take their turn [default: 5, with --quick 1]
    #[arg(long)]
    runs: Option<NonZeroUsize>,
    /// Little work: to see that it works, not to measure
    #[arg(long)]
    pub(crate) quick: bool,
    /// Folder on the disk for the scenarios that need one
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub(crate) data_dir: PathBuf,
    /// Folder in memory for the scenarios that need one
    #[arg(long, default_value = "/dev/shm")]
    pub(crate) memory_dir: PathBuf,
    /// Another program than this build's, such as one from before a change
    #[arg(long, default_value = env!("CARGO_BIN_EXE_resumed"))]
    pub(crate) resumed: PathBuf,
    /// Tell the names of the scenarios and end
    #[arg(long)]
    pub(crate) list: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    pub(crate) fn rounds(&self) -> usize {
        self.runs.map_or(if self.quick { 1 } else { 5 }, NonZeroUsize::get)
    }
}
