//! What `get` does with bytes that are not those that were promised.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod liar;

use std::fs;

use liar::get::{Setup, assert_same, pattern};
use liar::{Liar, serve, with_tree};
use resumed::client::failure::FailureKind;
use resumed::download::verify::parse_expected;
use resumed::protocol::digest::Blake3Digest;

const MIB: usize = 1 << 20;
const TAG: &str = "ETag: \"a\"\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_group_is_fetched_again_alone() {
    let file = pattern(5 * MIB + 9, 15);
    let mut wrong = file.clone();
    wrong[2 * MIB + 5] ^= 1;
    let served = file.clone();
    let server = Liar::start(move |asked| {
        let sent = if asked.before == 0 { &wrong } else { &served };
        with_tree(asked, &served, sent)
    })
    .await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
    let ranges: Vec<_> =
        server.asked().iter().map(|asked| asked.field("range").to_owned()).collect();
    assert_eq!(ranges, ["bytes=0-", "", &format!("bytes={}-{}", 2 * MIB, 3 * MIB - 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_stays_wrong_is_named_and_the_rest_is_kept() {
    let file = pattern(5 * MIB, 16);
    let mut wrong = file.clone();
    wrong[3 * MIB] ^= 1;
    let (served, sent) = (file.clone(), wrong.clone());
    let server = Liar::start(move |asked| with_tree(asked, &served, &sent)).await;
    let setup = Setup::new();
    let failure = setup.get(&[server.url("/x")]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Verification);
    assert!(failure.to_string().contains("group 3"), "{failure}");
    assert!(!setup.path().exists());

    let served = file.clone();
    let mended = Liar::start(move |asked| with_tree(asked, &served, &served)).await;
    setup.get(&[mended.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
    let bytes: usize = mended
        .asked()
        .iter()
        .filter_map(|asked| {
            let (first, last) = asked.range(5 * MIB)?;
            Some(last + 1 - first)
        })
        .sum();
    assert!(bytes <= 3 * MIB, "{bytes} bytes were asked for again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_older_local_file_serves_as_a_start() {
    let file = pattern(6 * MIB + 3, 17);
    let served = file.clone();
    let server = Liar::start(move |asked| with_tree(asked, &served, &served)).await;
    for name in ["file", "file.part"] {
        let mut setup = Setup::new();
        let mut damaged = file.clone();
        damaged[4 * MIB] ^= 1;
        damaged.truncate(6 * MIB);
        fs::write(setup.folder.path().join(name), &damaged).unwrap();
        if name == "file" {
            let failure = setup.get(&[server.url("/x")]).await.unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage, "{failure}");
            assert_same(&setup.content(), &damaged);
            setup.force = true;
        }
        let before = server.asked().len();
        setup.get(&[server.url("/x")]).await.unwrap();
        assert_same(&setup.content(), &file);
        let asked: Vec<_> = server.asked()[before..]
            .iter()
            .filter_map(|asked| asked.range(file.len()).filter(|(first, _)| *first > 0))
            .collect();
        assert_eq!(asked, [(4 * MIB, 5 * MIB - 1), (6 * MIB, file.len() - 1)]);
        assert_eq!(setup.names(), ["file"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_here_already_is_not_fetched() {
    let file = pattern(2 * MIB, 18);
    let served = file.clone();
    let server = Liar::start(move |asked| with_tree(asked, &served, &served)).await;
    let setup = Setup::new();
    fs::write(setup.path(), &file).unwrap();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_than_expected_never_get_the_name() {
    let file = pattern(2 * MIB, 19);
    let served = file.clone();
    let digest = "Repr-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\r\n";
    let server = Liar::start(move |asked| match asked.target.as_str() {
        "/digest" => serve(asked, &served, digest),
        _ => serve(asked, &served, TAG),
    })
    .await;
    let wrong = format!("blake3:{}", Blake3Digest::of(b"other"));
    let right = format!("blake3:{}", Blake3Digest::of(&file));
    let mut setup = Setup::new();
    for (path, expect) in [("/x", Some(&wrong)), ("/digest", None)] {
        setup.expect = expect.map(|expect| parse_expected(expect).unwrap());
        let failure = setup.get(&[server.url(path)]).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Verification, "{failure}");
        assert!(!setup.path().exists());
    }
    setup.expect = Some(parse_expected(&right).unwrap());
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
}
