//! `resumed get` as a person or a script runs it.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;
mod liar;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::TestServer;
use liar::get::{assert_same, pattern};
use liar::run::{errors, run, run_with};
use liar::{Act, Asked, Liar, bare, head, serve, slowly};
use serde_json::Value;
use tokio::task::spawn_blocking;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_comes_back_verified_under_its_own_name() {
    let server = TestServer::start().await;
    let file = pattern(3 * MIB + 17, 1);
    // "../r\u{e9}sum\u{e9}.txt"
    let path =
        server.create_with("Upload-Metadata: filename Li4vcsOpc3Vtw6kudHh0\r\n", &file).await;
    let url = format!("http://{}{path}", server.address);
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["get", "--json", &url]).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_same(&fs::read(folder.path().join("r\u{e9}sum\u{e9}.txt")).unwrap(), &file);
    let lines = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = events.last().unwrap();
    assert_eq!((&events[0]["event"], &last["event"]), (&"started".into(), &"finished".into()));
    assert_eq!(last["bytes"], file.len());
    assert_eq!(last["verified"], format!("blake3:{}", blake3::hash(&file)));

    // The same again is complete at once; a damaged one is in the way, and repaired by --force.
    let again = run(folder.path(), &["get", &url]).await;
    assert!(again.status.success(), "{}", errors(&again));
    let name = folder.path().join("r\u{e9}sum\u{e9}.txt");
    let mut damaged = file.clone();
    damaged[MIB] ^= 1;
    fs::write(&name, &damaged).unwrap();
    let refused = run(folder.path(), &["get", &url]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(errors(&refused).contains("--force"), "{}", errors(&refused));
    let repaired = run(folder.path(), &["get", "--force", "--json", &url]).await;
    assert!(repaired.status.success(), "{}", errors(&repaired));
    assert!(String::from_utf8_lossy(&repaired.stdout).contains("\"moved_bytes\":1048576"));
    assert_same(&fs::read(&name).unwrap(), &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_takes_the_bytes_and_nothing_else() {
    let file = pattern(2 * MIB + 1, 2);
    let served = file.clone();
    let server = Liar::start(move |asked| {
        let mut acts = serve(asked, &served, "ETag: \"a\"\r\n");
        if asked.before == 0 {
            // Cut in the middle: it goes on from there.
            let Act::Send(content) = acts.pop().unwrap() else { panic!("no content") };
            acts.push(Act::Send(content[..MIB].to_vec()));
            acts.push(Act::Close);
        }
        acts
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["get", "--json", "-o", "-", &server.url("/x")]).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_same(&output.stdout, &file);
    assert!(errors(&output).contains("\"finished\""));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_has_its_exit_code() {
    let file = pattern(MIB, 3);
    let served = file.clone();
    let server = Liar::start(move |asked| match asked.target.as_str() {
        "/gone" => bare("404 Not Found", ""),
        "/no-http" => vec![Act::Send(b"220 mail ESMTP\r\n\r\n".to_vec()), Act::Close],
        "/circle" => bare("302 Found", "Location: /circle\r\n"),
        "/nowhere" => bare("302 Found", ""),
        "/changes" => {
            let tag = format!("ETag: \"{}\"\r\n", asked.before);
            let mut acts = serve(asked, &served, &tag);
            let Act::Send(content) = acts.pop().unwrap() else { panic!("no content") };
            acts.push(Act::Send(content[..content.len() / 2].to_vec()));
            acts.push(Act::Close);
            acts
        }
        _ => serve(asked, &served, ""),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let none = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    for (code, path, flags) in [
        (2, "/x", &["--expect", "md5:00"][..]),
        (2, "/x", &["--limit-rate", "fast"]),
        (3, "/no-http", &[]),
        (4, "/circle", &[]),
        (4, "/nowhere", &[]),
        (4, "/gone", &[]),
        (5, "/changes", &["--no-restart"]),
        (6, "/x", &["--expect", none]),
        (7, "/x", &["-o", "missing/folder/x"]),
    ] {
        let url = server.url(path);
        let output = run(folder.path(), &[&["get", &url], flags].concat()).await;
        assert_eq!(output.status.code(), Some(code), "{path} {flags:?}: {}", errors(&output));
        assert!(!errors(&output).is_empty());
    }
    assert_eq!(run(folder.path(), &["get"]).await.status.code(), Some(2));
    assert!(!folder.path().join("x").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_it_says_so_and_goes_on_later() {
    let file = pattern(4 * MIB, 4);
    let served = file.clone();
    let server = Liar::start(move |asked| {
        slowly(serve(asked, &served, "ETag: \"a\"\r\n"), Duration::from_millis(60))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_resumed"))
        .args(["get", "-c", "2", &server.url("/x")])
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let status = spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(130));
    let before = server.asked().len();
    let output = run(folder.path(), &["get", "--json", &server.url("/x")]).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_same(&fs::read(folder.path().join("x")).unwrap(), &file);
    let first = &server.asked()[before];
    assert_ne!(first.field("range"), "bytes=0-", "it begins again");
    assert_eq!(first.field("if-range"), "\"a\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_fetched_one_after_the_other_and_failures_do_not_stop_it() {
    let server = Liar::start(|asked| match asked.target.as_str() {
        "/b" => bare("404 Not Found", ""),
        _ => serve(asked, asked.target.as_bytes(), ""),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let list = ["/a", "/b", "/c"].map(|path| server.url(path)).join("\n");
    fs::write(folder.path().join("list"), list).unwrap();
    let output = run(folder.path(), &["get", "-q", "-i", "list"]).await;
    assert_eq!(output.status.code(), Some(4));
    for name in ["a", "c"] {
        assert_eq!(fs::read(folder.path().join(name)).unwrap(), format!("/{name}").as_bytes());
    }
    assert_eq!(errors(&output).lines().count(), 1, "{}", errors(&output));
    let again = run(folder.path(), &["get", "-q", "-i", "list"]).await;
    assert_eq!(errors(&again).lines().count(), 1, "what is there is done: {}", errors(&again));
    fs::write(folder.path().join("a"), "another length").unwrap();
    let again = run(folder.path(), &["get", "-q", "-i", "list"]).await;
    assert_eq!(errors(&again).lines().count(), 2, "{}", errors(&again));
    assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"another length");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_does_not_take_what_has_another_digest_for_done() {
    let digest = "Repr-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\r\n";
    let server = Liar::start(move |asked| serve(asked, b"content", digest)).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("list"), server.url("/x")).unwrap();
    fs::write(folder.path().join("x"), "another").unwrap();
    let output = run(folder.path(), &["get", "-q", "-i", "list"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
    assert_eq!(fs::read(folder.path().join("x")).unwrap(), b"another");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_and_has_the_expected_digest_is_done() {
    let server = Liar::start(|asked| serve(asked, b"content", "")).await;
    let folder = tempfile::tempdir().unwrap();
    let url = server.url("/x");
    let digest = format!("blake3:{}", blake3::hash(b"content"));
    for (there, code) in [("content", 0), ("another", 2)] {
        fs::write(folder.path().join("x"), there).unwrap();
        let output = run(folder.path(), &["get", "-q", "--expect", &digest, &url]).await;
        assert_eq!(output.status.code(), Some(code), "{}", errors(&output));
        assert_eq!(fs::read(folder.path().join("x")).unwrap(), there.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_the_environment_is_used() {
    let proxy = Liar::start(|asked| match asked.target.as_str() {
        "http://nowhere.invalid/x?y" => serve(asked, b"by the proxy", ""),
        _ => bare("500 Wrong", ""),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let variables = [("http_proxy", &*proxy.url("").replace("//", "//me:secret@"))];
    let url = "http://nowhere.invalid/x?y";
    let output = run_with(folder.path(), &variables, &["get", url]).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(fs::read(folder.path().join("x")).unwrap(), b"by the proxy");
    let asked = &proxy.asked()[0];
    assert_eq!(asked.field("host"), "nowhere.invalid");
    assert_eq!(asked.field("proxy-authorization"), "Basic bWU6c2VjcmV0");

    let direct = Liar::start(|asked| serve(asked, b"directly", "")).await;
    let variables = [("http_proxy", &*proxy.url("")), ("no_proxy", "127.0.0.1")];
    let output = run_with(folder.path(), &variables, &["get", &direct.url("/z")]).await;
    assert!(output.status.success(), "{}", errors(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_fields_go_with_each_request_and_secrets_only_where_they_were_meant_for() {
    let file = pattern(3 * MIB, 6);
    let served = file.clone();
    let fields = "ETag: \"a\"\r\n";
    let act = move |asked: &Asked| slowly(serve(asked, &served, fields), Duration::from_millis(50));
    let other = Liar::start(act).await;
    let there = format!("Location: {}\r\n", other.url("/x"));
    let server = Liar::start(move |_| bare("302 Found", &there)).await;
    let folder = tempfile::tempdir().unwrap();
    let given = ["get", "--header", "Authorization: Bearer secret", "--header", "X-Shown: yes"];
    let output = run(folder.path(), &[&given[..], &[&server.url("/x")]].concat()).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_same(&fs::read(folder.path().join("x")).unwrap(), &file);
    let (asked, elsewhere) = (server.asked(), other.asked());
    assert!(asked.iter().all(|asked| asked.field("authorization") == "Bearer secret"));
    assert!(asked.iter().chain(&elsewhere).all(|asked| asked.field("x-shown") == "yes"));
    assert!(elsewhere.len() > 1, "it came over one connection");
    assert!(elsewhere.iter().all(|asked| asked.field("authorization").is_empty()));
    let output = run(folder.path(), &["get", "--header", "no field", &server.url("/x")]).await;
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_rate_is_kept_by_all_connections_together() {
    let file = pattern(MIB, 5);
    let served = file.clone();
    let server = Liar::start(move |asked| serve(asked, &served, "ETag: \"a\"\r\n")).await;
    let folder = tempfile::tempdir().unwrap();
    let begin = std::time::Instant::now();
    let output = run(folder.path(), &["get", "--limit-rate", "512KiB", &server.url("/x")]).await;
    assert!(output.status.success(), "{}", errors(&output));
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(1700) && took < Duration::from_secs(6), "{took:?}");
    assert_same(&fs::read(folder.path().join("x")).unwrap(), &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_not_told_what_to_do_by_a_server() {
    let evil =
        "Content-Disposition: attachment; filename*=UTF-8''a/%1B%5D0%3Bevil%07%2F.profile\r\n";
    let server =
        Liar::start(move |_| vec![head("200 OK", 1, evil), Act::Send(b"x".to_vec())]).await;
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["get", &server.url("/x")]).await;
    assert!(!errors(&output).contains('\x1b'));
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["profile"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_man_pages_know_get() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(folder.path(), &["completions", shell]).await;
        assert!(String::from_utf8_lossy(&output.stdout).contains("limit-rate"), "{shell}");
    }
    let output = run(folder.path(), &["man", "."]).await;
    assert!(output.status.success(), "{}", errors(&output));
    let page = fs::read_to_string(folder.path().join("resumed-get.1")).unwrap();
    assert!(page.contains("no\\-restart"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_tls_handshake_is_tried_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cut = tokio::spawn(async move {
        for _ in 0..2 {
            drop(listener.accept().await.unwrap());
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/liar/authority.pem");
    let arguments = ["get", "--max-tries", "2", &format!("https://{address}/x")];
    let output = run_with(folder.path(), &[("SSL_CERT_FILE", authority)], &arguments).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(errors(&output).contains("given up after 2 attempts"), "{}", errors(&output));
    cut.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_from_elsewhere_are_not_passed_on_as_the_first_ones() {
    let file = pattern(200, 5);
    let server = Liar::start(move |_| {
        let part = file[100..].to_vec();
        let range = "Content-Range: bytes 100-199/200\r\n";
        vec![head("206 Partial Content", 100, range), Act::Send(part)]
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let url = server.url("/x");
    let output = run(folder.path(), &["get", "--max-tries", "2", "-o", "-", &url]).await;
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert!(output.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_comes_in_pieces_is_no_failure() {
    let file = pattern(MIB, 6);
    let served = file.clone();
    let server = Liar::start(move |asked| {
        let (first, last) = asked.range(MIB).unwrap();
        let last = last.min(first + MIB / 4 - 1);
        let range = format!("Content-Range: bytes {first}-{last}/{MIB}\r\nETag: \"a\"\r\n");
        let part = served[first..=last].to_vec();
        vec![head("206 Partial Content", part.len(), &range), Act::Send(part)]
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let url = server.url("/x");
    for to in ["-", "x"] {
        let output = run(folder.path(), &["get", "--max-tries", "1", "-o", to, &url]).await;
        assert!(output.status.success(), "{}", errors(&output));
        let got = if to == "-" { output.stdout } else { fs::read(folder.path().join(to)).unwrap() };
        assert_same(&got, &file);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_not_shown() {
    let server = Liar::start(|asked| match asked.target.as_str() {
        "/x" => {
            slowly(serve(asked, &pattern(4 * MIB, 7), "ETag: \"a\"\r\n"), Duration::from_millis(20))
        }
        _ => {
            slowly(serve(asked, &pattern(4 * MIB, 8), "ETag: \"b\"\r\n"), Duration::from_millis(20))
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let url = |path: &str| server.url(path).replace("//", "//me:secret@");
    let output = run(folder.path(), &["get", &url("/x"), &url("/y")]).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert!(errors(&output).contains("was left out"), "{}", errors(&output));
    assert!(!errors(&output).contains("secret"), "{}", errors(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_when_the_digest_of_the_upload_became_known() {
    let server = TestServer::start().await;
    let path = server.create_with("", b"0123456789").await;
    let tag = format!("\"{}\"", path.rsplit('/').next().unwrap());
    let fields = format!("If-Range: {tag}\r\nRange: bytes=5-\r\n");
    let answer = server.get(&path, &fields).await;
    assert_eq!((answer.status, answer.fields["etag"].as_str()), (206, &*tag));
    let answer = server.get(&path, "Range: bytes=5-\r\n").await;
    assert_ne!(answer.fields["etag"], tag);
}
