//! The program itself, stopped and started again: what it acknowledged is there.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::time::{Duration, Instant};

use common::program::{Program, run};
use common::{CONTENT, Connection, TUS, pattern};
use rustix::process::{Pid, Signal, kill_process};

fn signal(program: &Program, signal: Signal) {
    let id = i32::try_from(program.child.id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

/// A line of its status, in KiB.
fn memory(program: &Program, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn create(program: &Program, length: usize) -> String {
    program.create(&format!("Upload-Length: {length}\r\n")).await
}

async fn offset(program: &Program, id: &str) -> usize {
    program.head(id).await.fields["upload-offset"].parse().unwrap()
}

/// Begins an append of `length` bytes and sends some of them.
async fn begin_append(program: &Program, id: &str, length: usize, bytes: &[u8]) -> Connection {
    let mut peer = Connection::open(program.address).await;
    peer.send(format!(
        "PATCH /files/{id} HTTP/1.1\r\nHost: localhost\r\n{TUS}{CONTENT}Upload-Offset: 0\r\n\
         Content-Length: {length}\r\n\r\n"
    ))
    .await;
    peer.send(bytes).await;
    peer
}

#[tokio::test]
async fn a_killed_server_goes_on_from_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let content = pattern(3_000_000);
    let mut program = Program::serve(folder.path());
    let id = create(&program, content.len()).await;
    let mut acknowledged = 0;
    for round in 1..=5 {
        let end = round * 500_000;
        program.append(&id, acknowledged, &content[acknowledged..end]).await;
        acknowledged = end;
        drop(program);
        program = Program::serve(folder.path());
        assert_eq!(offset(&program, &id).await, acknowledged);
    }
    program.append(&id, acknowledged, &content[acknowledged..]).await;
    let got = program.get(&id).await;
    assert!(got.content == content, "other bytes came back");
}

#[tokio::test]
async fn a_server_told_to_stop_saves_what_came_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let content = pattern(1_000_000);
    let mut program = Program::serve(folder.path());
    let id = create(&program, content.len()).await;
    let mut peer = begin_append(&program, &id, content.len(), &content[..400_000]).await;
    // An answered request on another connection: the append has been begun by then, and its bytes
    // wait in the socket at the least.
    create(&program, 1).await;
    let begin = Instant::now();
    signal(&program, Signal::TERM);
    assert_eq!(peer.answer("PATCH").await.status, 503);
    drop(peer);
    assert!(program.child.wait().unwrap().success());
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    let program = Program::serve(folder.path());
    let offset = offset(&program, &id).await;
    assert!((1..=400_000).contains(&offset), "{offset}");
    program.append(&id, offset, &content[offset..]).await;
    let got = program.get(&id).await;
    assert!(got.content == content, "other bytes came back");
    program.stop();
}

#[test]
fn a_second_server_is_told_who_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::serve(folder.path());
    let (code, _, said) = run(&["serve", "--listen", "127.0.0.1:0"], folder.path());
    assert_ne!(code, 0);
    assert!(said.contains(&format!("process {}", program.child.id())), "{said}");
    program.stop();
}

#[test]
fn a_wrong_setting_is_named_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (code, _, said) = run(&["serve", "--max-length", "ten"], &data);
    assert_eq!(code, 2);
    assert!(
        said.contains("max-length") && said.contains("\"ten\"") && said.contains("10GiB"),
        "{said}"
    );
    assert!(!data.exists());
}

#[tokio::test]
async fn memory_does_not_grow_with_the_content() {
    const LENGTH: usize = 512 << 20;
    let folder = tempfile::tempdir().unwrap();
    let program = Program::serve(folder.path());
    let id = create(&program, LENGTH).await;
    let piece = pattern(1 << 20);
    let mut peer = begin_append(&program, &id, LENGTH, b"").await;
    for _ in 0..LENGTH / piece.len() {
        peer.send(&piece).await;
    }
    assert_eq!(peer.answer("PATCH").await.status, 204);
    let peak = memory(&program, "VmHWM");
    assert!(peak < 64 << 10, "{peak} KiB at the most");
}

#[tokio::test]
async fn many_connections_wait_for_a_server_that_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::serve(folder.path());
    signal(&program, Signal::STOP);
    let mut waiting = Vec::new();
    // Less than the 4096 that the system allows (net.core.somaxconn; 128 before Linux 5.4).
    for _ in 0..500 {
        let connection = Connection::open(program.address);
        waiting.push(tokio::time::timeout(Duration::from_secs(10), connection).await.unwrap());
    }
    signal(&program, Signal::CONT);
    for connection in &mut waiting {
        assert_eq!(connection.request("OPTIONS", "/files/", TUS, b"").await.status, 200);
    }
}

#[cfg(target_env = "gnu")]
#[tokio::test]
async fn what_many_connections_took_is_given_back_when_they_are_gone() {
    const MANY: usize = 100;
    const SENT: usize = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let program = Program::serve(folder.path());
    let mut ids = Vec::new();
    for _ in 0..MANY {
        ids.push(create(&program, SENT + 1).await);
    }
    let before = memory(&program, "VmRSS");
    let mut open = Vec::new();
    for id in &ids {
        open.push(begin_append(&program, id, SENT + 1, &vec![1; SENT]).await);
    }
    // Until all of it is written, and what that took is given back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let most = memory(&program, "VmRSS");
    assert!(most > before + 50 * MANY as u64, "{before} KiB, and then {most}");
    // So slowly that there is never much to do. What was taken last is kept, so that a heap has
    // something at its end.
    for peer in open.drain(..MANY - 10) {
        drop(peer);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begin = Instant::now();
    let mut now = most;
    while now > most - (most - before) / 4 {
        assert!(begin.elapsed() < Duration::from_secs(30), "{before}, {most}, and still {now} KiB");
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = memory(&program, "VmRSS");
    }
}
