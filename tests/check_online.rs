//! `resumed check` while a server runs, and when the records themselves are damaged.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use common::program::{Program, run};
use common::{CONTENT, Connection, TUS, pattern};
use serde_json::Value;

fn path(data: &Path, id: &str) -> PathBuf {
    data.join("uploads").join(&id[..2]).join(id)
}

/// What a check finds: its exit code, the names, and the summary.
fn check(data: &Path, more: &[&str]) -> (i32, Vec<String>, Value) {
    let (code, printed, said) = run(&[&["check", "--json"], more].concat(), data);
    assert_eq!(said, "");
    let mut objects: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = objects.pop().unwrap()["summary"].take();
    let names = objects.iter().filter_map(|object| object["finding"].as_str().map(str::to_owned));
    (code, names.collect(), summary)
}

#[tokio::test]
async fn while_a_server_runs_damage_is_found_and_nothing_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::serve(folder.path());
    let id = program.upload("", &pattern(3_000_000)).await;
    let other = program.create("Upload-Length: 9\r\n").await;
    let mut append = Connection::open(program.address).await;
    append
        .send(format!(
            "PATCH /files/{other} HTTP/1.1\r\nHost: localhost\r\n{TUS}{CONTENT}\
             Upload-Offset: 0\r\nContent-Length: 9\r\n\r\nabc"
        ))
        .await;
    let (code, found, summary) = check(folder.path(), &["--deep"]);
    assert_eq!((code, found.len()), (0, 0), "{found:?}");
    assert_eq!((&summary["records"], &summary["verified_bytes"]), (&2.into(), &3_000_000.into()));

    let file = File::options().write(true).open(path(folder.path(), &id)).unwrap();
    file.write_all_at(b"x", 2_000_000).unwrap();
    let (code, found, _) = check(folder.path(), &["--deep"]);
    assert_eq!((code, found), (1, vec!["digest-differs".to_owned()]));
    file.set_len(1).unwrap();
    let (code, found, _) = check(folder.path(), &[]);
    assert_eq!((code, found), (1, vec!["data-short".to_owned()]));
    for more in ["--repair", "--rebuild"] {
        let (code, printed, said) = run(&["check", more], folder.path());
        assert_eq!((code, printed.as_str()), (2, ""));
        assert!(said.contains(&format!("process {}", program.child.id())), "{said}");
    }
    append.send("defghi").await;
    assert_eq!(append.answer("PATCH").await.status, 204);
    assert_eq!(program.get(&other).await.content, b"abcdefghi");
    program.stop();
}

/// One client that does all that leaves files and records of different times.
async fn make_traffic(program: &Program, round: usize) {
    let content = pattern(100_000 + round);
    let id = program.upload("", &content).await;
    let half = program.create(&format!("Upload-Length: {}\r\n", content.len())).await;
    program.append(&half, 0, &content[..50_000]).await;
    let part = "Upload-Concat: partial\r\n";
    let (one, two) = (program.upload(part, b"abc").await, program.upload(part, b"defg").await);
    program.create(&format!("Upload-Concat: final;/files/{one} /files/{two}\r\n")).await;
    for id in [id, one] {
        let gone = program.request("DELETE", &format!("/files/{id}"), TUS, b"").await;
        assert_eq!(gone.status, 204);
    }
    program.append(&half, 50_000, &content[50_000..]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_busy_server_does_is_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::sync::Arc::new(Program::serve(folder.path()));
    let clients: Vec<_> = (0..3)
        .map(|client| {
            let program = std::sync::Arc::clone(&program);
            tokio::spawn(async move {
                for round in 0.. {
                    make_traffic(&program, client + 3 * round).await;
                }
            })
        })
        .collect();
    let mut records = 0;
    for round in 0..6 {
        let data = folder.path().to_owned();
        let more: &[&str] = if round % 2 == 0 { &[] } else { &["--deep"] };
        let checked = tokio::task::spawn_blocking(move || check(&data, more));
        let (code, found, summary) = checked.await.unwrap();
        assert_eq!((code, found.len()), (0, 0), "{found:?} {summary}");
        let now = summary["records"].as_u64().unwrap();
        assert!(now > records, "the check does not see what is saved");
        records = now;
    }
    for client in clients {
        client.abort();
        assert!(client.await.unwrap_err().is_cancelled(), "a client met an error");
    }
}

/// The newest file of the journal.
fn journal(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    files.max().unwrap()
}

#[tokio::test]
async fn a_lost_database_is_made_anew_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::serve(folder.path());
    let id = program.upload("", b"content").await;
    program.stop();
    fs::remove_dir_all(folder.path().join("records")).unwrap();
    assert_eq!(check(folder.path(), &[]).0, 0);
    let (code, printed, _) = run(&["check", "--rebuild"], folder.path());
    assert_eq!(code, 0);
    assert!(printed.starts_with("1 records were made anew\n"), "{printed}");
    let program = Program::serve(folder.path());
    assert_eq!(program.get(&id).await.content, b"content");
    program.stop();
}

#[tokio::test]
async fn a_damaged_journal_is_told_and_rebuilt_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::serve(folder.path());
    let id = program.upload("", b"content").await;
    program.upload("", b"other").await;
    program.stop();
    // In the first frame: what comes behind it shows that it was acknowledged.
    File::options()
        .write(true)
        .open(journal(folder.path()))
        .unwrap()
        .write_all_at(b"?", 60)
        .unwrap();
    for more in [&["check"][..], &["check", "--repair"][..]] {
        let (code, printed, said) = run(more, folder.path());
        assert_eq!((code, printed.as_str()), (2, ""));
        assert!(said.contains("resumed check --rebuild"), "{said}");
    }
    let (code, printed, _) = run(&["check", "--rebuild"], folder.path());
    assert_eq!(code, 1, "{printed}");
    assert!(printed.starts_with("could not be read: "), "{printed}");
    assert_eq!(check(folder.path(), &[]).0, 0);
    let program = Program::serve(folder.path());
    assert_eq!(program.get(&id).await.content, b"content");
    program.stop();
}
