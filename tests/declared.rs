//! A digest that a client declares when it creates an upload is what the whole upload has, or it
//! is never there (RFC 9530 "Repr-Digest", and `blake3` in the metadata).
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{CONTENT, TUS, TestServer, pattern};
use resumed::protocol::checksum::{Algorithm, Checksummer};

const LENGTH: usize = 2_500_000;

fn blake3_of(content: &[u8]) -> String {
    let digest = STANDARD.encode(blake3::hash(content).to_hex().as_str());
    format!("Upload-Metadata: filename d29ybGQ=,blake3 {digest}\r\n")
}

fn repr_digest_of(content: &[u8]) -> String {
    let mut sha256 = Checksummer::new(Algorithm::Sha256);
    sha256.update(content);
    format!("Repr-Digest: sha-256=:{}:\r\n", STANDARD.encode(sha256.finish().digest()))
}

/// The same content with another byte at its end: another file of the same name and length.
fn other(content: &[u8]) -> Vec<u8> {
    let mut other = content.to_vec();
    *other.last_mut().unwrap() ^= 1;
    other
}

#[tokio::test]
async fn an_upload_with_the_declared_digest_completes() {
    let server = TestServer::start_with(|settings| settings.uploads.keeps_tree = false).await;
    let content = pattern(LENGTH);
    for declared in [blake3_of(&content), repr_digest_of(&content)] {
        let path = server.create(&format!("Upload-Length: {LENGTH}\r\n{declared}")).await;
        for (start, end) in [(0, 1_000_000), (1_000_000, 1_048_577), (1_048_577, LENGTH)] {
            let offset = u64::try_from(start).unwrap();
            let answer = server.append(&path, offset, "", &content[start..end]).await;
            assert_eq!(answer.status, 204, "{}", answer.text());
        }
        assert_eq!(server.get(&path, "").await.content, content);
    }
    server.stop().await;
}

#[tokio::test]
async fn an_upload_resumed_with_another_file_of_the_same_name_and_length_is_refused() {
    let server = TestServer::start().await;
    let content = pattern(LENGTH);
    for declared in [blake3_of(&content), repr_digest_of(&content)] {
        let path = server.create(&format!("Upload-Length: {LENGTH}\r\n{declared}")).await;
        assert_eq!(server.append(&path, 0, "", &content[..1_000_000]).await.status, 204);
        let rest = other(&content)[1_000_000..].to_vec();
        let refused = server.append(&path, 1_000_000, "", &rest).await;
        assert_eq!(refused.status, 460, "{}", refused.text());
        for gone in [server.head(&path).await, server.get(&path, "").await] {
            assert_eq!(gone.status, 410, "{}", gone.text());
        }
        assert_eq!(server.append(&path, 0, "", &content).await.status, 410);
    }
    let folder = server.stop().await;
    let left = files(&folder.path().join("uploads"));
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_creation_whose_content_has_another_digest_makes_nothing() {
    let server = TestServer::start().await;
    for (length, content) in [(5, b"hello".as_slice()), (0, b"")] {
        for declared in [blake3_of(b"other"), repr_digest_of(b"other")] {
            let fields = format!("{TUS}{CONTENT}Upload-Length: {length}\r\n{declared}");
            let refused = server.request("POST", "/files/", &fields, content).await;
            assert_eq!(refused.status, 460, "{}", refused.text());
            assert!(!refused.fields.contains_key("location"));
        }
    }
    let folder = server.stop().await;
    let left = files(&folder.path().join("uploads"));
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_declared_digest_that_cannot_be_read_is_refused_or_ignored() {
    let server = TestServer::start().await;
    for wrong in ["blake3", "blake3 YWJj"] {
        let fields = format!("{TUS}Upload-Length: 5\r\nUpload-Metadata: {wrong}\r\n");
        let refused = server.request("POST", "/files/", &fields, b"").await;
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
    // RFC 9530 §3: what is malformed or of an algorithm that is not known is ignored.
    for ignored in ["sha-256=abc", "sha-256", "unixsum=:AAAA:"] {
        let fields = format!("Repr-Digest: {ignored}\r\n");
        let path = server.create_with(&fields, b"hello").await;
        assert_eq!(server.get(&path, "").await.content, b"hello");
    }
    server.stop().await;
}

/// What lies in the folders of a folder.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let list = |folder: &std::path::Path| {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
    };
    list(folder).filter(|path| path.is_dir()).flat_map(|path| list(&path)).collect()
}

/// What a final upload comes to: its status as a download, once that is known.
async fn settled(server: &TestServer, path: &str) -> u16 {
    for _ in 0..500 {
        match server.get(path, "").await.status {
            409 => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            status => return status,
        }
    }
    panic!("the upload stays unfinished");
}

#[tokio::test]
async fn a_final_upload_with_another_digest_can_never_be_downloaded() {
    let server = TestServer::start().await;
    let content = pattern(LENGTH);
    let (first, second) = content.split_at(1_234_567);
    let one = server.create_with("Upload-Concat: partial\r\n", first).await;
    let two = server.create_with("Upload-Concat: partial\r\n", second).await;
    for (order, status) in [([&one, &two], 200), ([&two, &one], 410)] {
        for declared in [blake3_of(&content), repr_digest_of(&content)] {
            let [first, second] = order;
            let fields = format!("Upload-Concat: final;{first} {second}\r\n{declared}");
            let path = server.create(&fields).await;
            assert_eq!(settled(&server, &path).await, status);
            if status == 200 {
                assert_eq!(server.get(&path, "").await.content, content);
            }
        }
    }
    // Declared before its parts are there.
    let late = server.create("Upload-Concat: partial\r\nUpload-Length: 2\r\n").await;
    let digest = blake3_of(b"other");
    let path = server.create(&format!("Upload-Concat: final;{late}\r\n{digest}")).await;
    assert_eq!(server.get(&path, "").await.status, 409);
    assert_eq!(server.append(&late, 0, "", b"ab").await.status, 204);
    assert_eq!(settled(&server, &path).await, 410);
    server.stop().await;
}
