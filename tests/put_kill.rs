//! `put` is killed at random times, again and again, and ends in the right bytes.
//!
//! `RESUMED_PUT_KILLS` sets the number of kills, of all uploads together.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;
mod faulty;

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::TestServer;
use faulty::{command, pattern};
use serde_json::Value;
use tokio::time::sleep;

const LENGTH: usize = (33 << 20) + 4321;

fn kills() -> u32 {
    std::env::var("RESUMED_PUT_KILLS").map_or(40, |kills| kills.parse().unwrap())
}

fn start(state: &Path, file: &Path, parts: &str, url: &str) -> Child {
    let file = file.to_str().unwrap();
    let arguments = ["--json", "--limit-rate", "12MiB", "-c", parts, file, url];
    command(state, &arguments).stdout(Stdio::piped()).spawn().unwrap()
}

/// The events that a process told before it ended.
fn events(child: Child) -> Vec<Value> {
    let output = child.wait_with_output().unwrap().stdout;
    let lines = String::from_utf8_lossy(&output).into_owned();
    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn present(events: &[Value]) -> Option<u64> {
    let started = events.iter().find(|event| event["event"] == "started")?;
    started["present_bytes"].as_u64()
}

/// One upload after the other, each killed until it gets through, until there were enough kills.
async fn uploads(server: Arc<TestServer>, seed: u8, parts: &str, killed: Arc<AtomicU32>) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (folder.path().join("file"), folder.path().join("state"));
    let url = format!("http://{}/files/", server.address);
    let mut completed = 0;
    while killed.load(Ordering::SeqCst) < kills() {
        // Other bytes each time, or the server has them already.
        let mut content = pattern(LENGTH);
        content.iter_mut().step_by(1000).for_each(|byte| *byte ^= seed);
        content[0] = u8::try_from(completed).unwrap();
        std::fs::write(&file, &content).unwrap();
        let mut best = 0;
        loop {
            let begin = Instant::now();
            let mut child = start(&state, &file, parts, &url);
            let patience = Duration::from_millis(u64::from(getrandom::u32().unwrap() % 2500));
            let is_enough = killed.load(Ordering::SeqCst) >= kills();
            let status = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break Some(status),
                    None if !is_enough && begin.elapsed() >= patience => break None,
                    None => sleep(Duration::from_millis(5)).await,
                }
            };
            if status.is_none() {
                child.kill().unwrap();
                killed.fetch_add(1, Ordering::SeqCst);
            }
            let events = events(child);
            if let Some(present) = present(&events) {
                assert!(present >= best, "{best} bytes were there, and {present} were later");
                best = present;
            }
            let is_finished = events.last().is_some_and(|event| event["event"] == "finished");
            // Killed on its way out, it has left nothing to go on with.
            if status.is_none() && !is_finished {
                continue;
            }
            assert!(status.is_none_or(|status| status.success()), "{status:?} {events:?}");
            let last = events.last().unwrap();
            let path = last["url"].as_str().unwrap().strip_prefix("http://").unwrap();
            let path = &path[path.find('/').unwrap()..];
            assert!(server.get(path, "").await.content == content, "other bytes arrived");
            completed += 1;
            break;
        }
    }
    completed
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_time_it_goes_on_from_where_the_server_is() {
    let server = Arc::new(TestServer::start().await);
    let killed = Arc::new(AtomicU32::new(0));
    let tasks = [(1, "1"), (2, "1"), (3, "2")].map(|(seed, parts)| {
        tokio::spawn(uploads(Arc::clone(&server), seed, parts, Arc::clone(&killed)))
    });
    let mut completed = 0;
    for task in tasks {
        completed += task.await.unwrap();
    }
    assert!(killed.load(Ordering::SeqCst) >= kills() && completed >= 3, "{completed}");
}
