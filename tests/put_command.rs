//! `resumed put` as a person or a script runs it.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;
mod faulty;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use common::TestServer;
use faulty::{Fault, Faulty, command, pattern, put};
use resumed::engine::InstantUpload;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const MIB: usize = 1 << 20;

fn path_of(url: &str) -> String {
    url[url.find("/files/").unwrap()..].trim_end().to_owned()
}

fn file(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_uploaded_with_its_name_and_verified_and_then_costs_one_request() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let content = pattern(3 * MIB + 17);
    let file = file(folder.path(), "na\u{ef}ve.png", &content);
    let url = format!("http://{}/files/", server.address);
    let ended = put(folder.path(), &[&file, &url, "-m", "k=v"], None).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    let answer = server.get(&path_of(&ended.output), "").await;
    assert!(answer.content == content);
    assert_eq!(answer.fields["content-type"], "image/png");
    assert!(answer.fields["content-disposition"].contains("na%C3%AFve.png"));

    let ended = put(folder.path(), &["--json", &file, &url], None).await;
    let events: Vec<Value> =
        ended.output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["moved_bytes"]), (&"finished".into(), &0.into()));
    assert_eq!(last["verified"], format!("blake3:{}", blake3::hash(&content)));
    let answer = server.get(&path_of(last["url"].as_str().unwrap()), "").await;
    assert!(answer.content == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_files_are_uploaded_and_one_that_is_not_there_stops_no_other() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = (0..5).map(|n| pattern(n * 100_000)).collect();
    let mut arguments: Vec<String> =
        (0..5).map(|n| file(folder.path(), &n.to_string(), &contents[n])).collect();
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    arguments.insert(0, missing.clone());
    arguments.extend([format!("http://{}/files/", server.address), "-j2".into(), "-q".into()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = put(folder.path(), &arguments, None).await;
    assert_eq!(ended.code, 7, "{}", ended.errors);
    assert!(ended.errors.contains(&missing) && ended.errors.lines().count() == 1);
    let mut lines: Vec<&str> = ended.output.lines().collect();
    lines.sort_by_key(|line| line.rsplit('/').next().unwrap().to_owned());
    assert_eq!(lines.len(), 5);
    for (line, content) in lines.iter().zip(&contents) {
        let (url, _) = line.split_once("  ").unwrap();
        assert!(server.get(&path_of(url), "").await.content == *content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_joined_and_then_cancelled_where_the_server_can() {
    let content = pattern(50 * MIB);
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path(), "file", &content);
    for (extensions, appends, is_cancelled) in [
        ("creation,concatenation,termination", 3, true),
        ("creation,concatenation", 3, false),
        ("creation,termination", 1, false),
    ] {
        let server = Faulty::start_with((extensions, String::new()), |asked| {
            match (asked.method.as_str(), asked.before) {
                ("PATCH", 1) => Fault::Cut(MIB),
                ("POST", 3) => Fault::Answer("500 Oops"),
                _ => Fault::None,
            }
        })
        .await;
        let ended = put(folder.path(), &["-c3", &file, &server.url()], None).await;
        assert_eq!(ended.code, 0, "{}", ended.errors);
        let uploads = server.uploads.lock().clone();
        let whole = uploads.last().unwrap();
        assert!(whole.content == content);
        assert!(whole.fields["upload-metadata"].contains("blake3 "));
        let methods = server.methods();
        let expected = if appends == 3 { 4 } else { 1 };
        assert_eq!(methods.matches("PATCH").count(), expected, "{methods}");
        assert_eq!(uploads.iter().filter(|upload| upload.is_gone).count() == 3, is_cancelled);
        assert!(!whole.is_gone);
        assert_eq!(ended.errors.contains("cannot join"), appends == 1, "{}", ended.errors);
    }
    // The same with a server that knows what arrived.
    let server = TestServer::start().await;
    let url = format!("http://{}/files/", server.address);
    let ended = put(folder.path(), &["-c3", &file, &url], None).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert!(server.get(&path_of(&ended.output), "").await.content == content);
    assert!(ended.errors.contains("verified"), "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_sent_be_it_short_or_long() {
    let folder = tempfile::tempdir().unwrap();
    for (length, is_open) in [(0, false), (5, false), (40 * MIB, true), (32 * MIB, true)] {
        let content = pattern(length);
        let server = Faulty::start(|asked| match (asked.method.as_str(), asked.before) {
            ("PATCH", 1) => Fault::Cut(3 * MIB),
            ("PATCH", 2) => Fault::Unheard,
            _ => Fault::None,
        })
        .await;
        let flags = ["--name", "x.txt", "-", &server.url()];
        let ended = put(folder.path(), &flags, Some(content.clone())).await;
        assert_eq!(ended.code, 0, "{}", ended.errors);
        let upload = server.upload(0);
        assert!(upload.content == content && upload.length == Some(length));
        assert_eq!(upload.fields.contains_key("upload-defer-length"), is_open);
        assert!(upload.fields["upload-metadata"].starts_with("filename eC50eHQ="));
    }
    let server = TestServer::start().await;
    let content = pattern(20 * MIB);
    let url = format!("http://{}/files/", server.address);
    let ended = put(folder.path(), &["-", &url], Some(content.clone())).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert!(server.get(&path_of(&ended.output), "").await.content == content);
    assert!(ended.errors.contains("verified"), "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_take_what_has_no_length_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Faulty::start_with(("creation", String::new()), |_| Fault::None).await;
    let ended = put(folder.path(), &["-", &server.url()], Some(pattern(20 * MIB))).await;
    assert_eq!(ended.code, 4, "{}", ended.errors);
    assert!(ended.errors.contains("has no length"), "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_says_so_and_another_goes_on() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let content = pattern(8 * MIB);
    let file = file(folder.path(), "file", &content);
    let url = format!("http://{}/files/", server.address);
    let arguments = ["--json", "--limit-rate", "2MiB", &file, &url];
    let mut child = command(folder.path(), &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut told = String::new();
    while !told.contains("\"progress\"") {
        let mut bytes = [0; 1000];
        let count = output.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "{told}");
        told.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    let id = i32::try_from(child.id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    output.read_to_string(&mut told).unwrap();
    assert!(told.contains("\"interrupted\""), "{told}");

    let ended = put(folder.path(), &["--json", &file, &url], None).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    let first: Value = serde_json::from_str(ended.output.lines().next().unwrap()).unwrap();
    assert!(first["present_bytes"].as_u64().unwrap() > 0, "{first}");
    let last: Value = serde_json::from_str(ended.output.lines().last().unwrap()).unwrap();
    let path = path_of(last["url"].as_str().unwrap());
    assert!(server.get(&path, "").await.content == content);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = file(folder.path(), "one", b"1");
    let url = "http://127.0.0.1:9/files/";
    let path = folder.path().to_str().unwrap();
    for wrong in [
        vec![one.as_str()],
        vec![&one, "ftp://host/"],
        vec![&one, &one],
        vec![path, url],
        vec!["-", "-", url],
        vec!["--name", "x", &one, &one, url],
        vec!["-m", "no pair", &one, url],
        vec!["-c", "0", &one, url],
    ] {
        let ended = put(folder.path(), &wrong, None).await;
        assert_eq!(ended.code, 2, "{wrong:?}: {}", ended.errors);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_without_a_scheme_is_http_unless_it_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path(), "file", b"content");
    let server = Faulty::start(|_| Fault::None).await;
    let url = server.url();
    let ended = put(folder.path(), &[&file, url.strip_prefix("http://").unwrap()], None).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert_eq!(server.upload(0).content, b"content");
    let ended = put(folder.path(), &[&file, &file], None).await;
    assert!(ended.errors.contains("the URL is missing behind it"), "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_cancelled_also_when_an_earlier_run_joined_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path(), "file", &pattern(33 * MIB));
    let server = Faulty::start(|asked| match (asked.method.as_str(), asked.before) {
        ("HEAD", 0) => Fault::Answer("500 Oops"),
        _ => Fault::None,
    })
    .await;
    let arguments = ["-c2", "--max-tries", "1", &file, &server.url()];
    let ended = put(folder.path(), &arguments, None).await;
    assert_eq!(ended.code, 4, "{}", ended.errors);
    let ended = put(folder.path(), &arguments, None).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    let gone: Vec<bool> = server.uploads.lock().iter().map(|upload| upload.is_gone).collect();
    assert_eq!(gone, [true, true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_at_an_offset_that_cannot_be_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path(), "file", &pattern(33 * MIB));
    let server = Faulty::start(|asked| match asked.method.as_str() {
        "HEAD" => Fault::Lie(99 * MIB),
        _ => Fault::None,
    })
    .await;
    let arguments = ["-c2", "--max-tries", "1", &file, &server.url()];
    let ended = put(folder.path(), &arguments, None).await;
    assert_eq!(ended.code, 3, "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_nobody_writes_to_can_be_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let arguments = [pipe.to_str().unwrap(), "http://127.0.0.1:9/files/"];
    let mut child = command(folder.path(), &arguments).stderr(Stdio::null()).spawn().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let begin = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > std::time::Duration::from_secs(5) {
            child.kill().unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_server_has_is_proved_to_be_here_in_place_of_being_sent() {
    let server = TestServer::start_with(|settings| {
        settings.uploads.instant_upload = InstantUpload::Everyone
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let content = pattern(34 * MIB);
    let file = file(folder.path(), "file", &content);
    let url = format!("http://{}/files/", server.address);
    for (connections, is_sent) in [("1", true), ("1", false), ("2", false)] {
        let ended = put(folder.path(), &["--json", "-c", connections, &file, &url], None).await;
        assert_eq!(ended.code, 0, "{}", ended.errors);
        let last: Value = serde_json::from_str(ended.output.lines().last().unwrap()).unwrap();
        let expected = if is_sent { content.len() } else { 0 };
        assert_eq!(last["moved_bytes"], expected, "{last}");
        assert_eq!(last["verified"], format!("blake3:{}", blake3::hash(&content)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_only_says_it_is_empty_is_sent_whole() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}/files/", server.address);
    let ended = put(folder.path(), &["/proc/version", &url], None).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    let answer = server.get(&path_of(&ended.output), "").await;
    assert_eq!(answer.content, fs::read("/proc/version").unwrap());
}
