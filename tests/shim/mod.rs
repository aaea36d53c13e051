//! The real program on a disk that loses what was not synced, and that fails when it is told.
//!
//! `shim.c` says how. It needs Linux on x86-64, a C compiler and leave to install a seccomp filter, and
//! no privilege; where it cannot run, [`Shim::new`] says `SKIPPED` and the test shows nothing, which
//! `conformance/run` counts.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod clients;
pub mod disk;
pub mod trace;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::program::Program;

/// What the folders may take together, generously.
const ROOM_BYTES: u64 = 1 << 30;

/// Kinds of calls, as `shim.c` has them.
pub mod on {
    pub const OPEN_READ: u32 = 1;
    pub const OPEN_WRITE: u32 = 2;
    pub const READ: u32 = 4;
    pub const WRITE: u32 = 8;
    pub const SYNC: u32 = 16;
    pub const RENAME: u32 = 32;
    pub const LINK: u32 = 64;
    pub const REMOVE: u32 = 128;
    pub const MKDIR: u32 = 256;
    pub const LENGTH: u32 = 512;
    /// All that changes something.
    pub const CHANGE: u32 = OPEN_WRITE | WRITE | SYNC | RENAME | LINK | REMOVE | MKDIR | LENGTH;
}

/// What goes wrong with the disk.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which calls, of [`on`].
    pub on: u32,
    /// Found in the path of the file; `*` is any, `!x` one without x.
    pub path: String,
    /// What the call ends with. For a sync, 0 is a disk that lies.
    pub error: i32,
    /// This many calls go well first.
    pub skip: u32,
    /// This many fail then, or all.
    pub count: Option<u32>,
    /// Writes go well until this many bytes were written.
    pub room: Option<u64>,
}

impl Fault {
    /// All such calls fail.
    pub fn all(on: u32, path: &str, error: i32) -> Self {
        Self { on, path: path.to_owned(), error, skip: 0, count: None, room: None }
    }

    fn line(&self) -> String {
        let count = self.count.map_or(-1, i64::from);
        let room = self.room.map_or(-1, |room| i64::try_from(room).unwrap());
        format!("{} {} {} {} {count} {room}\n", self.on, self.path, self.error, self.skip)
    }
}

/// A folder whose changes are traced.
pub struct Shim {
    library: PathBuf,
    /// It has `root` with the folder of the data, the trace, the control file and the log.
    work: TempDir,
    sync_us: u32,
}

impl Shim {
    /// A folder with nothing in it; `None`, and a line that says why, where there can be none.
    pub fn new(sync_us: u32) -> Option<Self> {
        static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match LIBRARY.get_or_init(library) {
            Ok(library) => Some(Self::with(library.clone(), sync_us)),
            Err(why) => {
                // Not by `println`: the test runner would keep it to itself.
                let thread = std::thread::current();
                let test = thread.name().unwrap_or_default();
                let told = format!("\nSKIPPED {test}: {}\n", why.trim().replace('\n', " "));
                std::io::stdout().write_all(told.as_bytes()).unwrap();
                assert!(std::env::var_os("RESUMED_SHIM_REQUIRED").is_none(), "{why}");
                None
            }
        }
    }

    fn with(library: PathBuf, sync_us: u32) -> Self {
        let work = tempfile::tempdir_in(place()).unwrap();
        fs::create_dir(work.path().join("root")).unwrap();
        fs::write(work.path().join("trace"), b"").unwrap();
        // Whoever starts on another folder was without power before.
        fs::write(work.path().join("boot_id"), format!("{}\n", work.path().display())).unwrap();
        Self { library, work, sync_us }
    }

    /// A folder beside this one.
    pub fn another(&self) -> Self {
        Self::with(self.library.clone(), self.sync_us)
    }

    /// What is below is traced.
    pub fn root(&self) -> PathBuf {
        self.work.path().canonicalize().unwrap().join("root")
    }

    pub fn trace(&self) -> PathBuf {
        self.work.path().join("trace")
    }

    /// How long the trace is: what was acknowledged until now has to survive a loss of power from
    /// here on.
    pub fn traced(&self) -> u64 {
        fs::metadata(self.trace()).unwrap().len()
    }

    /// Keeps the folder for whoever wants to look, and says where.
    pub fn keep(self) -> PathBuf {
        self.work.keep()
    }

    /// Makes the disk fail so from now on; an empty list mends it.
    pub fn set_faults(&self, faults: &[Fault]) {
        let text: String = faults.iter().map(Fault::line).collect();
        let new = self.work.path().join("control.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.control()).unwrap();
    }

    fn control(&self) -> PathBuf {
        self.work.path().join("control")
    }

    /// Starts the program on this disk.
    ///
    /// # Errors
    ///
    /// What it wrote, when it did not get ready.
    pub fn start(&self, arguments: &[&str]) -> Result<Program, String> {
        let mut environment = environment(&self.library, &self.root(), &self.trace());
        environment.push(("SHIM_CONTROL", self.control().into()));
        environment.push(("SHIM_BOOT", self.work.path().join("boot_id").into()));
        environment.push(("SHIM_SYNC_US", self.sync_us.to_string().into()));
        let log = self.work.path().join("log");
        Program::start(&self.root().join("data"), arguments, &environment, &log)
    }
}

/// Where the folders are: in memory where there is room, since no sync is carried out anyway.
fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let has_room = rustix::fs::statvfs(memory)
        .is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) > ROOM_BYTES);
    if has_room { memory.to_owned() } else { std::env::temp_dir() }
}

fn environment(library: &Path, root: &Path, trace: &Path) -> Vec<(&'static str, OsString)> {
    vec![("LD_PRELOAD", library.into()), ("SHIM_ROOT", root.into()), ("SHIM_TRACE", trace.into())]
}

/// Compiles the shim, and sees whether it works here.
fn library() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/shim.c");
    let name = format!("shim-{}.so", env!("CARGO_CRATE_NAME"));
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let new = library.with_extension(std::process::id().to_string());
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-shared", "-fPIC", "-o"])
        .args([&new, &source])
        .output()
        .map_err(|error| format!("there is no C compiler `cc`: {error}"))?;
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !compiled.status.success() {
        return Err(format!("the shim does not compile here: {}", told(&compiled.stderr)));
    }
    // One that is in use goes on being what it is.
    fs::rename(new, &library).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let run = Command::new(env!("CARGO_BIN_EXE_resumed"))
        .arg("--version")
        .env_clear()
        .envs(environment(&library, folder.path(), &trace))
        .output()
        .unwrap();
    if !run.status.success() || !trace.exists() {
        return Err(format!("the shim does not work here: {}", told(&run.stderr)));
    }
    Ok(library)
}
