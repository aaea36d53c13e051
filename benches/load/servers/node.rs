//! `@tus/server` on Node, from the lock file of conformance/servers/js.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;
use crate::{Outcome, refuse};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/servers/js")
}

pub(super) fn install() -> Outcome<()> {
    if Command::new("node").arg("--version").output().is_err() {
        return refuse("there is no node; install Node.js 20 or later with npm".to_owned());
    }
    if folder().join("node_modules/@tus/server").exists() {
        return Ok(());
    }
    let arguments = ["ci", "--omit=optional", "--no-audit", "--no-fund"];
    run(Command::new("npm").args(arguments).current_dir(folder()))
}

pub(super) fn command(data: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(folder().join("tus-server.mjs")).arg(data);
    command
}
