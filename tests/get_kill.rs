//! `get` is killed at random times, again and again, and ends in the right bytes.
//!
//! `RESUMED_GET_KILLS` sets the number of kills, of all downloads together.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod liar;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use liar::get::{assert_same, pattern};
use liar::{Liar, serve, slowly, with_tree};
use resumed::download::journal;
use resumed::download::part::journal_path;
use tokio::time::sleep;

const MIB: usize = 1 << 20;
const LENGTH: usize = 24 * MIB + 4321;
/// What a server may have sent that nobody wanted: a closed connection had it on the way.
const ON_THE_WAY: u64 = 2 << 20;

fn kills() -> u32 {
    std::env::var("RESUMED_GET_KILLS").map_or(100, |kills| kills.parse().unwrap())
}

fn start(url: &str, target: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_resumed"))
        .args(["get", "--quiet", "-c", "4", "-o"])
        .arg(target)
        .arg(url)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the journal says is there; nothing when there is none.
fn remembered(target: &Path) -> u64 {
    journal::load(&journal_path(target)).map_or(0, |(_, there)| there.total())
}

/// One download after the other, each killed until it gets through, until there were enough kills.
async fn downloads(seed: u8, has_tree: bool, killed: Arc<AtomicU32>) -> u32 {
    let file = pattern(LENGTH, seed);
    let served = file.clone();
    let server = Liar::start(move |asked| {
        let acts = if has_tree {
            with_tree(asked, &served, &served)
        } else {
            serve(asked, &served, "ETag: \"a\"\r\n")
        };
        slowly(acts, Duration::from_millis(25))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("file");
    let mut completed = 0;
    let mut last = false;
    loop {
        let before = remembered(&target);
        server.sent.lock().clear();
        let begin = Instant::now();
        let mut child = start(&server.url("/x"), &target);
        let patience = Duration::from_millis(u64::from(rand() % 4500));
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if !last && begin.elapsed() >= patience => break None,
                None => sleep(Duration::from_millis(5)).await,
            }
        };
        let Some(status) = status else {
            let at = Instant::now();
            child.kill().unwrap();
            child.wait().unwrap();
            check_loss(&server, &target, before, at);
            last = killed.fetch_add(1, Ordering::SeqCst) + 1 >= kills();
            if target.exists() && !journal_path(&target).exists() {
                // It was done but for its exit.
                assert_same(&fs::read(&target).unwrap(), &file);
                fs::remove_file(&target).unwrap();
            }
            continue;
        };
        assert!(status.success(), "{status}");
        assert_same(&fs::read(&target).unwrap(), &file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something is left behind");
        fs::remove_file(&target).unwrap();
        completed += 1;
        if killed.load(Ordering::SeqCst) >= kills() {
            return completed;
        }
    }
}

/// What was sent more than two seconds before the kill is remembered, unless the file got its name.
fn check_loss(server: &Liar, target: &Path, before: u64, killed_at: Instant) {
    let old = killed_at.checked_sub(Duration::from_secs(2)).unwrap();
    let sent: usize =
        server.sent.lock().iter().filter(|(at, _)| *at < old).map(|(_, bytes)| bytes).sum();
    let sent = u64::try_from(sent).unwrap();
    let there = if target.exists() { LENGTH as u64 } else { remembered(target) };
    assert!(there <= LENGTH as u64);
    assert!(
        there + ON_THE_WAY >= (before + sent).min(LENGTH as u64),
        "{before} bytes were there, {sent} were sent until 2 s before the kill, {there} are known"
    );
}

fn rand() -> u32 {
    getrandom::u32().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_time_it_goes_on_and_loses_no_more_than_two_seconds() {
    let killed = Arc::new(AtomicU32::new(0));
    let tasks = (0..6_u8).map(|seed| {
        let killed = Arc::clone(&killed);
        tokio::spawn(downloads(seed, seed % 2 == 0, killed))
    });
    let mut completed = 0;
    for task in tasks.collect::<Vec<_>>() {
        completed += task.await.unwrap();
    }
    assert!(killed.load(Ordering::SeqCst) >= kills() && completed >= 6, "{completed}");
}
