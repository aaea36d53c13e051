//! The CPU time and memory of a server and its children, from `/proc`.

use std::fs;

use crate::Outcome;

/// A server that is looked at, and the CPU time it had taken when that began.
pub(crate) struct Watch {
    processes: Vec<u32>,
    begin_s: f64,
}

impl Watch {
    /// Looks at this process and all below it, as they are now.
    pub(crate) fn begin(process: u32) -> Outcome<Self> {
        let processes = family(process);
        let begin_s = cpu_s(&processes)?;
        Ok(Self { processes, begin_s })
    }

    /// The CPU seconds since the beginning.
    pub(crate) fn cpu_s(&self) -> Outcome<f64> {
        Ok(cpu_s(&self.processes)? - self.begin_s)
    }

    /// The most memory since the processes began. Pages that several of them have count for each.
    pub(crate) fn peak_kib(&self) -> Outcome<f64> {
        self.memory_kib("VmHWM:")
    }

    /// The memory at this moment.
    pub(crate) fn now_kib(&self) -> Outcome<f64> {
        self.memory_kib("VmRSS:")
    }

    fn memory_kib(&self, name: &str) -> Outcome<f64> {
        let mut sum = 0.0;
        for process in &self.processes {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            let kib: f64 = kib.ok_or("no memory in /proc")?;
            sum += kib;
        }
        Ok(sum)
    }
}

fn family(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let threads = fs::read_dir(format!("/proc/{process}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
        next += 1;
    }
    found
}

/// User and system time of all threads, also of those that have ended.
fn cpu_s(processes: &[u32]) -> Outcome<f64> {
    let mut ticks = 0;
    for process in processes {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // Behind the name, which is in parentheses and may have spaces: utime and stime, proc(5).
        let (_, fields) = stat.rsplit_once(')').ok_or("unreadable /proc stat")?;
        let times = fields.split_whitespace().skip(11).take(2);
        ticks += times.filter_map(|time| time.parse::<u32>().ok()).sum::<u32>();
    }
    let ticks_a_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(f64::from(ticks) / f64::from(ticks_a_second))
}
