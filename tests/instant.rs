//! Uploads whose bytes are here already need not be sent, and do not lie here twice
//! (`docs/instant-upload.md`).
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{CONTENT, TUS, TestServer, pattern};
use resumed::engine::InstantUpload;
use resumed::protocol::checksum::{Algorithm, Checksummer};
use resumed::protocol::fields::{Dictionary, Member};

const LENGTH: usize = 3_000_000;

fn declared(content: &[u8]) -> String {
    let digest = STANDARD.encode(blake3::hash(content).to_hex().as_str());
    format!("Upload-Length: {}\r\nUpload-Metadata: blake3 {digest}\r\n", content.len())
}

async fn start(instant_upload: InstantUpload) -> TestServer {
    TestServer::start_with(|settings| settings.uploads.instant_upload = instant_upload).await
}

/// The file of an upload, once it lies in one piece.
async fn inode(server: &TestServer, path: &str) -> u64 {
    for _ in 0..500 {
        if let Ok(found) = fs::metadata(server.file(path)) {
            return found.ino();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the bytes of {path} are not in place");
}

/// Waits until two uploads share their bytes.
async fn share(server: &TestServer, one: &str, other: &str) -> bool {
    for _ in 0..500 {
        if inode(server, one).await == inode(server, other).await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn an_upload_that_is_here_is_complete_without_a_byte() {
    let server = start(InstantUpload::Owner).await;
    let content = pattern(LENGTH);
    let first = server.create_with("", &content).await;
    let path = server.create(&declared(&content)).await;
    let head = server.head(&path).await;
    assert_eq!(head.fields["upload-offset"], LENGTH.to_string());
    assert_eq!(head.fields["upload-blake3"], blake3::hash(&content).to_hex().as_str());
    // What tus-js-client does that knows nothing of it: 409, then HEAD, and it is content.
    assert_eq!(server.append(&path, 0, "", &content[..10]).await.status, 409);
    assert_eq!(server.get(&path, "").await.content, content);
    assert!(share(&server, &first, &path).await);
    for removed in [&first, &path] {
        assert_eq!(server.request("DELETE", removed, TUS, b"").await.status, 204);
        let other = if removed == &first { &path } else { &first };
        let status = server.get(other, "").await.status;
        assert_eq!(status, if removed == &first { 200 } else { 410 });
    }
    server.stop().await;
}

#[tokio::test]
async fn the_one_that_was_there_may_be_cancelled_before_the_other_is_in_place() {
    let server = start(InstantUpload::Owner).await;
    let content = pattern(LENGTH);
    let first = server.create_with("", &content).await;
    let path = server.create(&declared(&content)).await;
    assert_eq!(server.request("DELETE", &first, TUS, b"").await.status, 204);
    assert_eq!(server.get(&path, "").await.content, content);
    let list = server.get(&format!("{path}/tree"), "").await;
    assert_eq!(list.status, 200, "{}", list.status);
    let server = TestServer::start_in(server.stop().await, |_| {}).await;
    assert_eq!(server.get(&path, "").await.content, content);
    server.stop().await;
}

#[tokio::test]
async fn only_the_same_digest_and_length_of_a_complete_upload_count() {
    let server = start(InstantUpload::Owner).await;
    let content = pattern(LENGTH);
    let unfinished = server.create(&declared(&content)).await;
    server.append(&unfinished, 0, "", &content[..10]).await;
    let cancelled = server.create_with("", &content).await;
    assert_eq!(server.request("DELETE", &cancelled, TUS, b"").await.status, 204);
    let path = server.create(&declared(&content)).await;
    assert_eq!(server.offset(&path).await, 0);
    server.create_with("", &content).await;
    let wrong_length = declared(&content).replace(&LENGTH.to_string(), "2999999");
    let path = server.create(&wrong_length).await;
    assert_eq!(server.offset(&path).await, 0);
    let path = server.create(&declared(&content[1..])).await;
    assert_eq!(server.offset(&path).await, 0);
    let path = server.create("Upload-Length: 3000000\r\n").await;
    assert_eq!(server.offset(&path).await, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_repr_digest_finds_uploads_whose_sha256_is_known() {
    let server = TestServer::start_with(|settings| settings.uploads.keeps_sha256 = true).await;
    let content = pattern(LENGTH);
    server.create_with("", &content).await;
    let mut sha256 = Checksummer::new(Algorithm::Sha256);
    sha256.update(&content);
    let digest = STANDARD.encode(sha256.finish().digest());
    let fields = format!("Upload-Length: {LENGTH}\r\nRepr-Digest: sha-256=:{digest}:\r\n");
    let path = server.create(&fields).await;
    assert_eq!(server.get(&path, "").await.content, content);
    server.stop().await;
}

#[tokio::test]
async fn a_creation_with_little_content_is_completed_all_the_same() {
    let server = start(InstantUpload::Owner).await;
    let content = pattern(LENGTH);
    server.create_with("", &content).await;
    let fields = format!("{TUS}{CONTENT}{}", declared(&content));
    let answer = server.request("POST", "/files/", &fields, &content[..100_000]).await;
    assert_eq!((answer.status, &*answer.fields["upload-offset"]), (201, "3000000"));
    server.stop().await;
}

#[tokio::test]
async fn all_of_the_content_is_taken_rather_than_what_may_be_damaged() {
    let server = start(InstantUpload::Owner).await;
    let content = pattern(LENGTH);
    let first = server.create_with("", &content).await;
    let mut bytes = content.clone();
    bytes[2_000_000] ^= 1;
    fs::write(server.file(&first), &bytes).unwrap();
    let fields = format!("{TUS}{CONTENT}{}", declared(&content));
    let answer = server.request("POST", "/files/", &fields, &content).await;
    assert_eq!(answer.status, 201);
    let (_, path) = answer.fields["location"].rsplit_once("/files/").unwrap();
    let found = server.get(&format!("/files/{path}"), "").await.content;
    assert!(found == content, "what is served is not what was sent");
    // Other bytes than were declared do not pass for those that are here.
    assert_eq!(server.request("POST", "/files/", &fields, &bytes).await.status, 460);
    server.stop().await;
}

#[tokio::test]
async fn content_under_a_checksum_is_checked_though_it_is_here() {
    let server = start(InstantUpload::Owner).await;
    let content = pattern(LENGTH);
    server.create_with("", &content).await;
    let wrong = STANDARD.encode([0; 20]);
    let fields = format!("{TUS}{CONTENT}{}Upload-Checksum: sha1 {wrong}\r\n", declared(&content));
    let answer = server.request("POST", "/files/", &fields, &content[..100_000]).await;
    assert_eq!(answer.status, 460);
    server.stop().await;
}

#[tokio::test]
async fn instant_upload_can_be_switched_off() {
    let server = start(InstantUpload::Off).await;
    let content = pattern(LENGTH);
    server.create_with("", &content).await;
    let path = server.create(&declared(&content)).await;
    assert_eq!(server.offset(&path).await, 0);
    assert!(!server.head(&path).await.fields.contains_key("upload-challenge"));
    server.stop().await;
}

#[tokio::test]
async fn equal_uploads_share_their_bytes_and_part_without_harm() {
    let server = start(InstantUpload::Off).await;
    let content = pattern(LENGTH);
    let first = server.create_with("", &content).await;
    let second = server.create_with("", &content).await;
    let third = server.create_with("", &content).await;
    let other = server.create_with("", &content[1..]).await;
    assert!(share(&server, &first, &second).await && share(&server, &first, &third).await);
    assert_ne!(inode(&server, &first).await, inode(&server, &other).await);
    assert_eq!(server.request("DELETE", &first, TUS, b"").await.status, 204);
    for path in [&second, &third] {
        assert_eq!(server.get(path, "").await.content, content);
        assert_eq!(server.append(path, 3_000_000, "", b"").await.status, 204);
        assert_eq!(server.append(path, 3_000_000, "", b"more").await.status, 413);
        assert_eq!(server.append(path, 0, "", &content).await.status, 409);
    }
    assert_eq!(server.request("DELETE", &second, TUS, b"").await.status, 204);
    assert_eq!(server.get(&third, "").await.content, content);
    server.stop().await;
}

#[tokio::test]
async fn a_good_copy_is_not_given_up_for_one_that_was_damaged() {
    let server = start(InstantUpload::Off).await;
    let content = pattern(LENGTH);
    let first = server.create_with("", &content).await;
    let mut bytes = content.clone();
    bytes[2_000_000] ^= 1;
    fs::write(server.file(&first), bytes).unwrap();
    let second = server.create_with("", &content).await;
    // The comparing ends before the server does, or it would share later.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_ne!(inode(&server, &first).await, inode(&server, &second).await);
    assert_eq!(server.get(&second, "").await.content, content);
    server.stop().await;
}

/// What `docs/instant-upload.md` says.
fn proof(challenge: &str, content: &[u8]) -> String {
    let challenge = Dictionary::parse(challenge).unwrap();
    let key = challenge.value("key").unwrap().bare().unwrap().as_bytes().unwrap();
    let mut hasher = blake3::Hasher::new_keyed(key.try_into().unwrap());
    let Some(Member::InnerList(groups, _)) = challenge.value("groups") else { panic!("no groups") };
    for group in groups {
        let group = usize::try_from(group.bare.as_unsigned().unwrap()).unwrap();
        hasher.update(content.chunks(1 << 20).nth(group).unwrap());
    }
    let proof = STANDARD.encode(hasher.finalize().as_bytes());
    format!("{TUS}Upload-Proof: :{proof}:\r\n")
}

#[tokio::test]
async fn everyone_has_to_prove_possession() {
    let server = start(InstantUpload::Everyone).await;
    let content = pattern(70 << 20);
    server.create_with("", &content).await;
    let path = server.create(&declared(&content)).await;
    let head = server.head(&path).await;
    assert_eq!(head.fields["upload-offset"], "0", "a digest gives nothing away");
    let challenge = head.fields["upload-challenge"].clone();
    let url = format!("{path}/proof");
    assert_eq!(server.request("POST", &url, TUS, b"").await.status, 400);
    let wrong = proof(&challenge, &pattern((70 << 20) + 1)[1..]);
    let refused = server.request("POST", &url, &wrong, b"").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(server.offset(&path).await, 0);
    for _ in 0..2 {
        let answer = server.request("POST", &url, &proof(&challenge, &content), b"").await;
        assert_eq!((answer.status, &*answer.fields["upload-offset"]), (204, "73400320"));
    }
    assert!(server.get(&path, "").await.content == content);
    server.stop().await;
}

#[tokio::test]
async fn a_challenge_does_not_tell_whether_the_bytes_are_here() {
    let server = start(InstantUpload::Everyone).await;
    let content = pattern(100_000);
    let path = server.create(&declared(&content)).await;
    let challenge = server.head(&path).await.fields["upload-challenge"].clone();
    let url = format!("{path}/proof");
    let answer = server.request("POST", &url, &proof(&challenge, &content), b"").await;
    assert_eq!(answer.status, 403);
    // It is an upload like any other.
    assert_eq!(server.append(&path, 0, "", &content[..10]).await.status, 204);
    assert!(!server.head(&path).await.fields.contains_key("upload-challenge"));
    let answer = server.request("POST", &url, &proof(&challenge, &content), b"").await;
    assert_eq!(answer.status, 403);
    assert_eq!(server.append(&path, 10, "", &content[10..]).await.status, 204);
    server.stop().await;
}
