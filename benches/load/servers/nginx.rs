//! nginx: PUT by its dav module, GET by sendfile, no access log.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{free_port, run};
use crate::Outcome;

pub(super) fn install() -> Outcome<()> {
    if is_there() {
        return Ok(());
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "--no-install-recommends", "nginx"]);
    if run(&mut install).is_err() {
        // A fresh machine has no package lists yet.
        run(Command::new("apt-get").arg("update"))?;
        run(&mut install)?;
    }
    if is_there() { Ok(()) } else { Err("nginx is installed but cannot be run".into()) }
}

fn is_there() -> bool {
    Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok()
}

/// Starts one with two workers, and returns its port.
pub(super) fn start(folder: &Path) -> Outcome<(Child, u16)> {
    let port = free_port()?;
    fs::create_dir_all(folder.join("data"))?;
    let path = folder.join("nginx.conf");
    fs::write(&path, configuration(port))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(&path);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok((child, port))
}

/// Temporary files lie on the same file system, so that they are moved and not copied.
fn configuration(port: u16) -> String {
    // Its workers would have no right to a folder of root's.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "{user} daemon off; worker_processes 2; pid nginx.pid; error_log error.log;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
           client_max_body_size 0; client_body_buffer_size 256k; client_body_temp_path b;
           proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
           server {{
             listen 127.0.0.1:{port} backlog=4096; root data;
             location / {{ dav_methods PUT DELETE; }}
           }}
         }}"
    )
}
