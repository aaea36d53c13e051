//! The list of chaining values beside an upload: a client that trusts only the root can verify
//! every group with it (`docs/tree-format.md`).
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Answer, TUS, TestServer, between, pattern};
use proptest::prelude::*;
use resumed::protocol::digest::Blake3Digest;
use resumed::protocol::tree::{GroupList, VerifiedGroups};
use tokio::runtime::Runtime;

const GROUP: usize = 1 << 20;

/// What a client does that trusts the root alone.
fn check(content: &[u8], answer: &Answer) -> VerifiedGroups {
    assert_eq!(answer.status, 200, "{}", answer.status);
    let root = Blake3Digest::of(content);
    assert_eq!(answer.fields["upload-blake3"], root.to_string());
    assert_eq!(answer.fields["etag"], format!("\"{root}.tree\""));
    let groups = GroupList::decode(&answer.content).unwrap().check(root).unwrap();
    assert_eq!(usize::try_from(groups.length()), Ok(content.len()));
    for (index, group) in (0..).zip(content.chunks(GROUP)) {
        assert!(groups.verify(index, group), "group {index}");
    }
    groups
}

fn list_file(server: &TestServer, path: &str) -> PathBuf {
    let file = server.file(path);
    file.with_extension("tree")
}

#[tokio::test]
async fn each_group_of_a_complete_upload_can_be_verified_by_its_root() {
    let server = TestServer::start().await;
    for length in [0, 1, GROUP, GROUP + 1, 2 * GROUP, 3 * GROUP + 5] {
        let content = pattern(length);
        let path = if length == 0 {
            server.create("Upload-Length: 0\r\n").await
        } else {
            server.create_with("", &content).await
        };
        let got = server.get(&path, "").await;
        let root = Blake3Digest::of(&content).to_string();
        assert_eq!(got.fields["etag"], format!("\"{root}\""), "{length}");
        assert_eq!(got.fields["upload-blake3"], root);
        let told = server.head(&path).await;
        assert_eq!(told.fields["upload-blake3"], root);
        let list = server.get(&format!("{path}/tree"), "").await;
        check(&content, &list);
        assert_eq!(list.fields["content-type"], "application/vnd.resumed.tree");
        let head = server.request("HEAD", &format!("{path}/tree"), "", b"").await;
        assert_eq!(head.fields["content-length"], list.content.len().to_string());
        let known = format!("If-None-Match: {}\r\n", list.fields["etag"]);
        assert_eq!(server.get(&format!("{path}/tree"), &known).await.status, 304);
    }
    server.stop().await;
}

#[tokio::test]
async fn only_a_complete_upload_with_a_tree_has_a_list() {
    let server = TestServer::start().await;
    let path = server.create("Upload-Length: 5\r\n").await;
    assert_eq!(server.get(&format!("{path}/tree"), "").await.status, 409);
    assert_eq!(server.append(&path, 0, "", b"hello").await.status, 204);
    assert_eq!(server.request("POST", &format!("{path}/tree"), TUS, b"").await.status, 405);
    assert_eq!(server.get(&format!("{path}/root"), "").await.status, 404);
    assert_eq!(server.request("DELETE", &path, TUS, b"").await.status, 204);
    assert_eq!(server.get(&format!("{path}/tree"), "").await.status, 410);
    let unknown = format!("/files/{}/tree", "0".repeat(32));
    assert_eq!(server.get(&unknown, "").await.status, 404);
    server.stop().await;
    let server = TestServer::start_with(|settings| settings.uploads.keeps_tree = false).await;
    let path = server.create_with("", b"hello").await;
    assert_eq!(server.get(&format!("{path}/tree"), "").await.status, 404);
    assert!(!server.head(&path).await.fields.contains_key("upload-blake3"));
    server.stop().await;
}

#[tokio::test]
async fn a_list_that_is_lost_or_damaged_is_made_anew() {
    let server = TestServer::start().await;
    let content = pattern(3 * GROUP + 5);
    let path = server.create_with("", &content).await;
    let file = list_file(&server, &path);
    let kept = fs::read(&file).unwrap();
    let url = format!("{path}/tree");
    assert_eq!(server.get(&url, "").await.content, kept, "it is sent as it lies");
    let mut flipped = kept.clone();
    flipped[60] ^= 1;
    for damaged in [flipped, kept[..100].to_vec(), Vec::new(), [&kept[..], b"more"].concat()] {
        fs::write(&file, damaged).unwrap();
        check(&content, &server.get(&url, "").await);
    }
    fs::remove_file(&file).unwrap();
    check(&content, &server.get(&url, "").await);
    assert_eq!(fs::read(&file).unwrap(), kept);
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_no_longer_have_their_root_get_no_list() {
    let server = TestServer::start().await;
    let path = server.create_with("", &pattern(2 * GROUP)).await;
    let mut bytes = fs::read(server.file(&path)).unwrap();
    bytes[GROUP + 7] ^= 1;
    fs::write(server.file(&path), bytes).unwrap();
    let url = format!("{path}/tree");
    // The list was kept while the bytes arrived: with it a client finds the damage.
    let groups = check(&pattern(2 * GROUP), &server.get(&url, "").await);
    let got = server.get(&path, "").await.content;
    assert!(groups.verify(0, &got[..GROUP]) && !groups.verify(1, &got[GROUP..]));
    fs::remove_file(list_file(&server, &path)).unwrap();
    assert_eq!(server.get(&url, "").await.status, 500);
    server.stop().await;
}

#[tokio::test]
async fn a_checksum_mismatch_rolls_the_list_back() {
    let server = TestServer::start().await;
    let content = pattern(4 * GROUP);
    let path = server.create(&format!("Upload-Length: {}\r\n", content.len())).await;
    let (first, rest) = content.split_at(3 * GROUP / 2);
    assert_eq!(server.append(&path, 0, "", first).await.status, 204);
    let wrong = "Upload-Checksum: crc32c AAAAAA==\r\n";
    let offset = u64::try_from(first.len()).unwrap();
    assert_eq!(server.append(&path, offset, wrong, &vec![7; rest.len()]).await.status, 460);
    assert_eq!(server.append(&path, offset, "", rest).await.status, 204);
    check(&content, &server.get(&format!("{path}/tree"), "").await);
    server.stop().await;
}

#[tokio::test]
async fn a_final_upload_has_a_list_of_its_own() {
    let server = TestServer::start().await;
    let content = pattern(3 * GROUP);
    let (first, second) = content.split_at(GROUP / 2 + 3);
    let one = server.create_with("Upload-Concat: partial\r\n", first).await;
    let other = server.create_with("Upload-Concat: partial\r\n", second).await;
    let whole = server.create(&format!("Upload-Concat: final;{one} {other}\r\n")).await;
    let url = format!("{whole}/tree");
    let mut answer = server.get(&url, "").await;
    for _ in 0..200 {
        if answer.status != 503 {
            break;
        }
        assert!(answer.fields.contains_key("retry-after"));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        answer = server.get(&url, "").await;
    }
    check(&content, &answer);
    assert!(list_file(&server, &whole).exists(), "it was kept while the digest was computed");
    server.stop().await;
}

proptest! {
    // Each is a server of its own, and some MiB.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn an_upload_cut_anywhere_has_the_list_of_the_whole(
        length in prop_oneof![
            (GROUP - 2..GROUP + 2), (2 * GROUP - 2..2 * GROUP + 2), (1..4 * GROUP)
        ],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        Runtime::new().unwrap().block_on(async {
            let content = pattern(length);
            let server = TestServer::start().await;
            let path = server.create(&format!("Upload-Length: {length}\r\n")).await;
            for piece in between(cuts.iter().map(|cut| cut.index(length)), length) {
                let offset = u64::try_from(piece.start).unwrap();
                let answer = server.append(&path, offset, "", &content[piece]).await;
                assert_eq!(answer.status, 204, "{}", answer.text());
            }
            let kept = fs::read(list_file(&server, &path)).ok();
            assert_eq!(kept.is_some(), length > GROUP, "one group needs no list");
            let sent = server.get(&format!("{path}/tree"), "").await;
            check(&content, &sent);
            assert!(kept.is_none_or(|kept| kept == sent.content), "it was made anew");
            server.stop().await;
        });
    }
}
