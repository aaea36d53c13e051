//! The SHA-256 of the whole, where the setting asks for it (RFC 9530), and Metalink (RFC 5854).
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{TUS, TestServer, between, pattern};
use proptest::prelude::*;
use resumed::protocol::checksum::{Algorithm, Checksummer};
use resumed::settings::Settings;
use tokio::runtime::Runtime;

fn with_sha256(settings: &mut Settings) {
    settings.uploads.keeps_sha256 = true;
}

fn repr_digest(content: &[u8]) -> String {
    let mut sha256 = Checksummer::new(Algorithm::Sha256);
    sha256.update(content);
    format!("sha-256=:{}:", STANDARD.encode(sha256.finish().digest()))
}

#[tokio::test]
async fn the_digest_of_the_whole_is_told_with_every_part_of_it() {
    let server = TestServer::start_with(with_sha256).await;
    let content = pattern(100_000);
    let expected = repr_digest(&content);
    let created = format!("Upload-Length: {}\r\n", content.len());
    let path = server.create(&created).await;
    let answer = server.append(&path, 0, "", &content).await;
    assert_eq!(answer.fields["repr-digest"], expected, "the last append tells it");
    for fields in ["", "Range: bytes=5-9\r\n", "Want-Repr-Digest: sha-512=9, sha-256=1\r\n"] {
        assert_eq!(server.get(&path, fields).await.fields["repr-digest"], expected, "{fields}");
        let head = server.request("HEAD", &path, fields, b"").await;
        assert_eq!(head.fields["repr-digest"], expected, "{fields}");
    }
    assert_eq!(server.head(&path).await.fields["repr-digest"], expected);
    let lines = "Want-Repr-Digest: sha-512=3\r\nWant-Repr-Digest: sha-256=1\r\n";
    assert_eq!(server.get(&path, lines).await.fields["repr-digest"], expected);
    let lines = "Want-Repr-Digest: sha-512=3\r\nWant-Repr-Digest: sha-256=0\r\n";
    assert!(!server.get(&path, lines).await.fields.contains_key("repr-digest"));
    for unwanted in ["sha-256=0", "sha-512=3"] {
        let answer = server.get(&path, &format!("Want-Repr-Digest: {unwanted}\r\n")).await;
        assert!(!answer.fields.contains_key("repr-digest"), "{unwanted}");
    }
    let fields = &server.get(&path, "").await.fields;
    assert_eq!(fields["digest"], expected.replace("sha-256=:", "SHA-256=").trim_end_matches(':'));
    let id = path.rsplit('/').next().unwrap();
    let link = format!("<{id}.meta4>; rel=\"describedby\"; type=\"application/metalink4+xml\"");
    assert_eq!(fields["link"], link);
    server.stop().await;
}

#[tokio::test]
async fn a_metalink_file_names_the_upload_and_its_hash() {
    let server = TestServer::start_with(with_sha256).await;
    let name = STANDARD.encode("../a <b>.txt");
    let path = server.create_with(&format!("Upload-Metadata: filename {name}\r\n"), b"abc").await;
    let answer = server.get(&format!("{path}.meta4"), "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.fields["content-type"], "application/metalink4+xml");
    let xml = String::from_utf8(answer.content).unwrap();
    for part in [
        "<file name=\"a &lt;b&gt;.txt\">",
        "<size>3</size>",
        "<hash type=\"sha-256\">\
         ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad</hash>",
        &format!("<url>http://localhost{path}</url>"),
    ] {
        assert!(xml.contains(part), "{part} is not in {xml}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_final_upload_gets_its_digest_when_it_is_joined() {
    let server = TestServer::start_with(with_sha256).await;
    let one = server.create_with("Upload-Concat: partial\r\n", b"hello ").await;
    let other = server.create_with("Upload-Concat: partial\r\n", b"world").await;
    let whole = server.create(&format!("Upload-Concat: final;{one} {other}\r\n")).await;
    for _ in 0..200 {
        if server.head(&whole).await.fields.contains_key("repr-digest") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let told = &server.get(&whole, "").await.fields["repr-digest"];
    assert_eq!(*told, repr_digest(b"hello world"));
    server.stop().await;
}

#[tokio::test]
async fn without_the_setting_there_is_none() {
    let server = TestServer::start().await;
    let path = server.create_with("", b"abc").await;
    let answer = server.get(&path, "Want-Repr-Digest: sha-256=10\r\n").await;
    assert!(!answer.fields.contains_key("repr-digest") && !answer.fields.contains_key("link"));
    assert_eq!(server.request("OPTIONS", &format!("{path}.meta4"), TUS, b"").await.status, 204);
    server.stop().await;
}

fn with_pieces(settings: &mut Settings) {
    with_sha256(settings);
    settings.uploads.keeps_pieces = true;
}

/// The hashes of the pieces in a Metalink file.
async fn pieces(server: &TestServer, path: &str) -> Vec<String> {
    let answer = server.get(&format!("{path}.meta4"), "").await;
    assert_eq!(answer.status, 200);
    let xml = String::from_utf8(answer.content).unwrap();
    assert!(xml.ends_with("</metalink>\n"), "{xml}");
    let Some((_, pieces)) = xml.split_once("<pieces length=\"1048576\" type=\"sha-256\">") else {
        return Vec::new();
    };
    let (pieces, _) = pieces.split_once("</pieces>").unwrap();
    let hashes = pieces.lines().map(|line| line.trim().replace("<hash>", ""));
    hashes.map(|hash| hash.replace("</hash>", "")).filter(|hash| !hash.is_empty()).collect()
}

fn pieces_of(content: &[u8]) -> Vec<String> {
    let groups = content.chunks(1 << 20).map(|group| {
        let mut sha256 = Checksummer::new(Algorithm::Sha256);
        sha256.update(group);
        sha256.finish().digest().iter().map(|byte| format!("{byte:02x}")).collect()
    });
    groups.collect()
}

#[tokio::test]
async fn a_metalink_file_has_the_hash_of_each_piece() {
    let server = TestServer::start_with(with_pieces).await;
    let content = pattern((3 << 20) + 5);
    let path = server.create_with("", &content).await;
    assert_eq!(pieces(&server, &path).await, pieces_of(&content));
    let whole = server.create_with("", &content[..1 << 20]).await;
    assert!(pieces(&server, &whole).await.is_empty(), "one piece has the hash of the whole");
    let one = server.create_with("Upload-Concat: partial\r\n", &content[..2_000_000]).await;
    let other = server.create_with("Upload-Concat: partial\r\n", &content[2_000_000..]).await;
    let joined = server.create(&format!("Upload-Concat: final;{one} {other}\r\n")).await;
    for _ in 0..500 {
        if server.head(&joined).await.fields.contains_key("repr-digest") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(pieces(&server, &joined).await, pieces_of(&content));
    server.stop().await;
}

#[tokio::test]
async fn pieces_that_were_not_kept_from_the_beginning_on_are_not_told() {
    let server = TestServer::start_with(with_sha256).await;
    let content = pattern(3 << 20);
    let path = server.create(&format!("Upload-Length: {}\r\n", content.len())).await;
    assert_eq!(server.append(&path, 0, "", &content[..2_000_000]).await.status, 204);
    let server = TestServer::start_in(server.stop().await, with_pieces).await;
    assert_eq!(server.append(&path, 2_000_000, "", &content[2_000_000..]).await.status, 204);
    assert!(pieces(&server, &path).await.is_empty());
    assert_eq!(server.get(&path, "").await.fields["repr-digest"], repr_digest(&content));
    server.stop().await;
}

proptest! {
    // Each is several servers, one after another.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn an_upload_cut_anywhere_by_restarts_has_the_digest_of_the_whole(
        length in 1..2_500_000_usize,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        Runtime::new().unwrap().block_on(async {
            let content = pattern(length);
            let mut server = TestServer::start_with(with_pieces).await;
            let path = server.create(&format!("Upload-Length: {length}\r\n")).await;
            for piece in between(cuts.iter().map(|cut| cut.index(length)), length) {
                let offset = u64::try_from(piece.start).unwrap();
                let answer = server.append(&path, offset, "", &content[piece]).await;
                assert_eq!(answer.status, 204, "{}", answer.text());
                // That setting counts when an upload is created, not when it is resumed.
                let resume = |settings: &mut Settings| settings.uploads.keeps_pieces = true;
                server = TestServer::start_in(server.stop().await, resume).await;
            }
            let fields = server.get(&path, "").await.fields;
            assert_eq!(fields["repr-digest"], repr_digest(&content));
            assert_eq!(fields["upload-blake3"], blake3::hash(&content).to_hex().as_str());
            let expected = if length > 1 << 20 { pieces_of(&content) } else { Vec::new() };
            assert_eq!(pieces(&server, &path).await, expected);
            server.stop().await;
        });
    }
}
