//! Slow and hostile peers: each wait for one ends, and none stops the others.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use common::{CONTENT, Connection, TUS, TestServer, pattern};

const SHORT: Duration = Duration::from_millis(300);

async fn impatient() -> TestServer {
    TestServer::start_with(|settings| {
        settings.connections.header_timeout = SHORT;
        settings.connections.idle_timeout = SHORT;
    })
    .await
}

#[tokio::test]
async fn a_peer_that_does_not_finish_a_head_is_left() {
    let server = impatient().await;
    let beginnings =
        ["", "P", "PRI * HTTP/2.0\r\n", "GET /files/ HTTP/1.1\r\nHost: loc", "GET / HTTP/1.1\r\n"];
    for begun in beginnings {
        let mut peer = server.connect().await;
        peer.send(begun).await;
        assert!(peer.ends().await, "{begun:?}");
    }
    // The same for the second request of a connection, and for one that never comes.
    for begun in ["", "GET "] {
        let mut peer = server.connect().await;
        assert_eq!(peer.request("OPTIONS", "/files/", "", b"").await.status, 200);
        peer.send(begun).await;
        assert!(peer.ends().await, "{begun:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_finish_a_head_does_not_keep_the_server_from_its_end() {
    let server = TestServer::start().await;
    let mut peer = server.connect().await;
    peer.send("GET /files/ HTTP/1.1\r\nHost: loc").await;
    assert_eq!(server.get("/", "").await.status, 404);
    let begin = Instant::now();
    server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(peer.ends().await);
}

/// Begins an append of 1000 bytes.
async fn begin_append(server: &TestServer, path: &str) -> Connection {
    let mut peer = server.connect().await;
    peer.send(format!(
        "PATCH {path} HTTP/1.1\r\nHost: localhost\r\n{TUS}{CONTENT}Upload-Offset: 0\r\n\
         Content-Length: 1000\r\n\r\n"
    ))
    .await;
    peer
}

#[tokio::test]
async fn what_a_peer_sent_before_it_stalled_is_kept() {
    let server = impatient().await;
    let path = server.create("Upload-Length: 1000\r\n").await;
    let mut peer = begin_append(&server, &path).await;
    peer.send(&pattern(1000)[..700]).await;
    let answer = peer.answer("PATCH").await;
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert_eq!(server.offset(&path).await, 700);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_trickles_below_the_least_rate_is_left() {
    let server = TestServer::start_with(|settings| {
        settings.connections.min_rate_bytes_per_s = Some(1000);
        settings.connections.min_rate_grace = Duration::from_secs(1);
    })
    .await;
    let path = server.create("Upload-Length: 1000\r\n").await;
    let mut peer = begin_append(&server, &path).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let answer = loop {
        tokio::select! {
            answer = peer.answer("PATCH") => break answer,
            _ = ticks.tick() => {}
        }
        peer.send(b"x").await;
    };
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert!((5..100).contains(&server.offset(&path).await));
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answer_is_left() {
    let server = impatient().await;
    let content = vec![7; 64 << 20];
    let path = server.create_with("", &content).await;
    let mut peer = server.connect().await;
    peer.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    // Longer than the server waits, while its buffers are full.
    tokio::time::sleep(SHORT * 5).await;
    assert!(peer.bytes_until_end().await < content.len(), "it was sent all the same");
    server.stop().await;
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_their_turn() {
    let server = TestServer::start_with(|settings| settings.connections.max_connections = 3).await;
    let mut first: Vec<Connection> = Vec::new();
    for _ in 0..3 {
        let mut peer = server.connect().await;
        assert_eq!(peer.request("OPTIONS", "/files/", "", b"").await.status, 200);
        first.push(peer);
    }
    let mut fourth = server.connect().await;
    fourth.send("OPTIONS /files/ HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let waited = tokio::time::timeout(SHORT, fourth.answer("OPTIONS")).await;
    assert!(waited.is_err(), "it was served beyond the cap");
    drop(first.pop());
    assert_eq!(fourth.answer("OPTIONS").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_head_or_metadata_that_is_too_large_is_refused() {
    let server = TestServer::start_with(|settings| {
        settings.connections.max_header_bytes = 8 << 10;
        settings.uploads.limits.max_metadata_bytes = 1000;
    })
    .await;
    // What fits into the buffer for reading, and what does not.
    for bytes in [9000, 100 << 10, 1 << 20] {
        let fields = format!("X-Long: {}\r\n", "x".repeat(bytes));
        assert_eq!(server.request("OPTIONS", "/files/", &fields, b"").await.status, 431, "{bytes}");
    }
    let mut unfinished = server.connect().await;
    let head =
        format!("OPTIONS /files/ HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "x".repeat(9000));
    unfinished.send(&head).await;
    let answered = tokio::time::timeout(SHORT, unfinished.answer("OPTIONS")).await;
    assert_eq!(answered.expect("it is not waited for").status, 431);
    let fields = format!("X-Long:{}x\r\n", " ".repeat(9000));
    assert_eq!(server.request("OPTIONS", "/files/", &fields, b"").await.status, 431, "spaces");
    let fields = format!("X-Long: {}\r\n", "x".repeat(8000));
    assert_eq!(server.request("OPTIONS", "/files/", &fields, b"").await.status, 200);
    let metadata = format!("{TUS}Upload-Length: 1\r\nUpload-Metadata: a {}\r\n", "A".repeat(1000));
    let answer = server.request("POST", "/files/", &metadata, b"").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("1000 at most"), "{}", answer.text());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_stalled_appends_do_not_stop_an_upload() {
    // Both ends of each connection are in this process.
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let server = TestServer::start().await;
    let mut peers = Vec::new();
    for _ in 0..2000 {
        let path = server.create("Upload-Length: 1000\r\n").await;
        let mut peer = begin_append(&server, &path).await;
        peer.send(b"x").await;
        peers.push(peer);
    }
    let content = pattern(3_000_000);
    let path = server.create_with("", &content).await;
    assert_eq!(server.get(&path, "").await.content, content);
    server.stop().await;
}
