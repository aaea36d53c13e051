//! The machine that figures are of. The bench `limits` uses it, too.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

/// The command line that gave the figures.
pub(crate) fn command(bench: &str) -> String {
    let given: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let dashes = if given.is_empty() { "" } else { " -- " };
    format!("`cargo bench --bench {bench}{dashes}{}`", given.join(" "))
}

/// The processors and the kernel.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |model| model.trim_start_matches([' ', '\t', ':']));
    let count = available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{count} CPUs ({model}), Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

/// The type of the file system that a folder lies on, from the mount that has the longest path.
pub(crate) fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holds = fields.filter(|(at, _)| folder.starts_with(at));
    let found = holds.max_by_key(|(at, _)| at.len());
    found.map_or_else(|| "an unknown file system".to_owned(), |(_, kind)| kind.to_owned())
}
