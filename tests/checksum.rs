//! Bytes under a checksum count for nobody before they matched (tus 1.0 "Checksum").
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{CONTENT, TUS, TestServer, pattern};
use resumed::protocol::checksum::{Algorithm, Checksummer};

fn field(algorithm: Algorithm, content: &[u8]) -> String {
    let mut checksummer = Checksummer::new(algorithm);
    checksummer.update(content);
    format!("{algorithm} {}", STANDARD.encode(checksummer.finish().digest()))
}

#[tokio::test]
async fn each_algorithm_takes_what_matches_and_refuses_what_does_not() {
    let server = TestServer::start().await;
    let content = pattern(100_000);
    for algorithm in Algorithm::ALL {
        let path = server.create("Upload-Length: 100000\r\n").await;
        let wrong = field(algorithm, &content[1..]);
        let answer =
            server.append(&path, 0, &format!("Upload-Checksum: {wrong}\r\n"), &content).await;
        assert_eq!(answer.status, 460, "{algorithm}: {}", answer.text());
        assert_eq!(server.offset(&path).await, 0, "{algorithm}");
        let right = field(algorithm, &content);
        let answer =
            server.append(&path, 0, &format!("Upload-Checksum: {right}\r\n"), &content).await;
        assert_eq!(answer.status, 204, "{algorithm}: {}", answer.text());
        assert_eq!(server.get(&path, "").await.content, content);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_mismatch_in_the_middle_leaves_what_was_there() {
    let server = TestServer::start().await;
    let content = pattern(3000);
    let path = server.create("Upload-Length: 3000\r\n").await;
    assert_eq!(server.append(&path, 0, "", &content[..1000]).await.status, 204);
    let wrong = format!("Upload-Checksum: {}\r\n", field(Algorithm::Sha1, b"other"));
    assert_eq!(server.append(&path, 1000, &wrong, &content[1000..]).await.status, 460);
    assert_eq!(server.offset(&path).await, 1000);
    assert_eq!(server.append(&path, 1000, "", &content[1000..]).await.status, 204);
    let got = server.get(&path, "").await;
    assert_eq!(got.content, content);
    let digest = blake3::hash(&content).to_hex();
    assert_eq!(got.fields["etag"], format!("\"{digest}\""), "the tree was rolled back too");
    server.stop().await;
}

#[tokio::test]
async fn a_checksum_that_cannot_be_read_is_refused() {
    let server = TestServer::start().await;
    let path = server.create("Upload-Length: 5\r\n").await;
    for wrong in ["sha3 AAAA", "sha1", "sha1 AAAA", "sha1 ?", ""] {
        let fields = format!("Upload-Checksum: {wrong}\r\n");
        let answer = server.append(&path, 0, &fields, b"hello").await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text());
    }
    assert_eq!(server.offset(&path).await, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_content_cut_under_a_checksum_saves_nothing() {
    let server = TestServer::start().await;
    let content = pattern(1000);
    let path = server.create("Upload-Length: 1000\r\n").await;
    let right = field(Algorithm::Sha1, &content);
    let mut cut = server.connect().await;
    cut.send(format!(
        "PATCH {path} HTTP/1.1\r\nHost: localhost\r\n{TUS}{CONTENT}Upload-Offset: 0\r\n\
         Content-Length: 1000\r\nUpload-Checksum: {right}\r\n\r\n"
    ))
    .await;
    cut.send(&content[..999]).await;
    drop(cut);
    for _ in 0..5 {
        assert_eq!(server.offset(&path).await, 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_creation_whose_content_does_not_match_makes_nothing() {
    let server = TestServer::start().await;
    let wrong = field(Algorithm::Md5, b"other");
    let fields = format!("{TUS}{CONTENT}Upload-Length: 5\r\nUpload-Checksum: {wrong}\r\n");
    let answer = server.request("POST", "/files/", &fields, b"hello").await;
    assert_eq!(answer.status, 460, "{}", answer.text());
    assert!(!answer.fields.contains_key("location"));
    let folder = server.stop().await;
    let files = walk(&folder.path().join("uploads"));
    assert_eq!(files, 0, "its bytes are left over");
}

/// The number of files in the folders of a folder.
fn walk(folder: &std::path::Path) -> usize {
    let folders = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|path| path.is_dir()).map(|path| std::fs::read_dir(path).unwrap().count()).sum()
}

/// Sends an append in chunks with these trailers, and returns the status.
async fn in_chunks(server: &TestServer, path: &str, fields: &str, trailers: &str) -> u16 {
    let mut connection = server.connect().await;
    connection
        .send(format!(
            "PATCH {path} HTTP/1.1\r\nHost: localhost\r\n{TUS}{CONTENT}Upload-Offset: 0\r\n\
             Transfer-Encoding: chunked\r\n{fields}\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n{trailers}\r\n"
        ))
        .await;
    connection.answer("PATCH").await.status
}

#[tokio::test]
async fn a_checksum_may_come_behind_the_content() {
    let server = TestServer::start().await;
    let announced = "Trailer: Upload-Checksum\r\n";
    for algorithm in Algorithm::ALL {
        let right = format!("Upload-Checksum: {}\r\n", field(algorithm, b"hello world"));
        let wrong = format!("Upload-Checksum: {}\r\n", field(algorithm, b"hello w0rld"));
        let path = server.create("Upload-Length: 11\r\n").await;
        assert_eq!(in_chunks(&server, &path, announced, &wrong).await, 460);
        assert_eq!(in_chunks(&server, &path, announced, "").await, 400, "announced and missing");
        assert_eq!(in_chunks(&server, &path, "", &right).await, 400, "not announced");
        assert_eq!(server.offset(&path).await, 0);
        assert_eq!(in_chunks(&server, &path, announced, &right).await, 204);
        assert_eq!(server.get(&path, "").await.content, b"hello world");
    }
    server.stop().await;
}
