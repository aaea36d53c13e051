//! The program as a person or a script runs it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tokio::task::spawn_blocking;

/// Runs the program in a folder, with this in its environment.
pub async fn run_with(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resumed"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub async fn run(folder: &Path, arguments: &[&str]) -> Output {
    run_with(folder, &[], arguments).await
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
