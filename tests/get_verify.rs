//! What `get` does with bytes that are not those that were promised.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod liar;

use std::fs;
use std::time::Duration;

use liar::get::{Setup, assert_same, pattern};
use liar::{Act, Liar, after, bare, head, serve, slowly, with_tree};
use resumed::client::failure::FailureKind;
use resumed::download::journal::{Journal, Subject, Validator};
use resumed::download::part::{journal_path, part_path};
use resumed::download::plan::Spans;
use resumed::download::verify::parse_expected;
use resumed::protocol::checksum::{Algorithm, Checksum, Checksummer};
use resumed::protocol::digest::Blake3Digest;

const MIB: usize = 1 << 20;
const TAG: &str = "ETag: \"a\"\r\n";

fn sha256(bytes: &[u8]) -> Checksum {
    let mut running = Checksummer::new(Algorithm::Sha256);
    running.update(bytes);
    running.finish()
}

/// What an earlier run left of a file with this tag: a part file, and a journal that knows of its
/// first bytes.
fn leave(setup: &Setup, url: &str, part: &[u8], there: u64, etag: &str) {
    fs::write(part_path(&setup.path()), part).unwrap();
    let validator = Validator { etag: Some(etag.to_owned()), last_modified: None };
    let subject = Subject::new(url.to_owned(), part.len() as u64, validator, None);
    let mut journal = Journal::new(&journal_path(&setup.path()), subject, Spans::default());
    journal.written(Spans::from(vec![(0, there)])).unwrap();
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_its_ranges_is_verified_all_the_same() {
    let file = pattern(3 * MIB, 22);
    let mut wrong = file.clone();
    wrong[2 * MIB] ^= 1;
    let served = file.clone();
    let server = Liar::start(move |asked| match asked.range(3 * MIB) {
        _ if asked.before == 0 => after(with_tree(asked, &served, &served), MIB, Act::Close),
        Some((1.., _)) => vec![head("200 OK", wrong.len(), ""), Act::Send(wrong.clone())],
        _ => with_tree(asked, &served, &wrong),
    })
    .await;
    let mut setup = Setup::new();
    setup.expect = parse_expected(&format!("blake3:{}", Blake3Digest::of(&file))).ok();
    let failure = setup.get(&[server.url("/x")]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Verification, "{failure}");
    assert!(!setup.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_here_is_compared_with_what_is_expected() {
    let file = pattern(2 * MIB, 23);
    let served = file.clone();
    let server = Liar::start(move |asked| with_tree(asked, &served, &served)).await;
    let mut setup = Setup::new();
    fs::write(setup.path(), &file).unwrap();
    setup.expect = Some(sha256(b"other"));
    let failure = setup.get(&[server.url("/x")]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Verification, "{failure}");
    setup.expect = Some(sha256(&file));
    setup.get(&[server.url("/x")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_killed_run_finished_is_compared_with_what_is_expected() {
    let file = pattern(MIB, 24);
    let served = file.clone();
    let server = Liar::start(move |asked| serve(asked, &served, TAG)).await;
    let url = server.url("/x");
    let mut setup = Setup::new();
    leave(&setup, &url, &file, MIB as u64, "\"a\"");
    fs::rename(part_path(&setup.path()), setup.path()).unwrap();
    setup.expect = Some(sha256(b"other"));
    let failure = setup.get(std::slice::from_ref(&url)).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Usage, "{failure}");
    setup.expect = Some(sha256(&file));
    setup.get(&[url]).await.unwrap();
    assert_eq!(setup.names(), ["file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_does_not_outlive_the_bytes_that_it_tells_of() {
    let file = pattern(2 * MIB, 25);
    let served = file.clone();
    let server = Liar::start(move |_| {
        let whole = vec![head("200 OK", served.len(), TAG), Act::Send(served.clone())];
        after(whole, 100_000, Act::Close)
    })
    .await;
    let mut setup = Setup::new();
    setup.max_tries = 1;
    leave(&setup, &server.url("/x"), &file, MIB as u64, "\"a\"");
    setup.get(&[server.url("/x")]).await.unwrap_err();
    assert_eq!(setup.names(), ["file.part", "file.part.journal"]);
    assert_eq!(fs::read(setup.folder.path().join("file.part.journal")).unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_the_digest_was_known_is_verified_by_it() {
    let file = pattern(3 * MIB, 26);
    let served = file.clone();
    let server = Liar::start(move |asked| with_tree(asked, &served, &served)).await;
    let setup = Setup::new();
    let mut damaged = file.clone();
    damaged[MIB / 2] ^= 1;
    let etag = format!("\"{}\"", Blake3Digest::of(&file));
    leave(&setup, &server.url("/x"), &damaged, 2 * MIB as u64, &etag);
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_with_wrong_bytes_is_left_out() {
    let file = pattern(8 * MIB, 27);
    let (served, wrong) = (file.clone(), pattern(8 * MIB, 28));
    let pause = Duration::from_millis(10);
    let right = Liar::start(move |asked| slowly(with_tree(asked, &served, &served), pause)).await;
    let served = file.clone();
    let lying = Liar::start(move |asked| slowly(with_tree(asked, &served, &wrong), pause)).await;
    let setup = Setup::new();
    setup.get(&[lying.url("/x"), right.url("/x"), lying.url("/y")]).await.unwrap();
    assert_same(&setup.content(), &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_digest_than_expected_is_left_out() {
    let (file, other) = (pattern(2 * MIB, 29), pattern(2 * MIB, 30));
    let served = file.clone();
    let right = Liar::start(move |asked| with_tree(asked, &served, &served)).await;
    let different = Liar::start(move |asked| with_tree(asked, &other, &other)).await;
    let mut setup = Setup::new();
    setup.expect = parse_expected(&format!("blake3:{}", Blake3Digest::of(&file))).ok();
    setup.get(&[different.url("/x"), right.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
    let mut setup = Setup::new();
    setup.expect = parse_expected(&format!("blake3:{}", Blake3Digest::of(&file))).ok();
    let failure = setup.get(&[different.url("/x")]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Verification, "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_that_are_wrong_together_are_tried_one_by_one() {
    let (file, other) = (pattern(4 * MIB, 31), pattern(4 * MIB, 32));
    let start = |file: Vec<u8>| {
        Liar::start(move |asked| slowly(serve(asked, &file, ""), Duration::from_millis(20)))
    };
    let (right, different) = (start(file.clone()).await, start(other).await);
    let mut setup = Setup::new();
    setup.expect = Some(sha256(&file));
    setup.get(&[different.url("/x"), right.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_list_a_file_is_verified_as_a_whole() {
    let file = pattern(2 * MIB, 33);
    let served = file.clone();
    let server = Liar::start(move |asked| match asked.target.as_str() {
        "/moved" => bare("302 Found", "Location: /busy\r\n"),
        "/busy/tree" => bare("503 Service Unavailable", ""),
        _ => with_tree(asked, &served, &served),
    })
    .await;
    let mut setup = Setup::new();
    setup.max_tries = 2;
    setup.get(&[server.url("/moved")]).await.unwrap();
    assert_same(&setup.content(), &file);
    let asked = |target: &str| server.asked().iter().filter(|asked| asked.target == target).count();
    assert_eq!((asked("/busy/tree"), asked("/moved/tree")), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_file_of_another_program_is_left_alone() {
    let file = pattern(MIB, 28);
    let served = file.clone();
    for has_ranges in [true, false] {
        let served = served.clone();
        let server = Liar::start(move |asked| match has_ranges {
            true => serve(asked, &served, TAG),
            false => vec![head("200 OK", served.len(), TAG), Act::Send(served.clone())],
        })
        .await;
        let mut setup = Setup::new();
        let (part, url) = (setup.folder.path().join("file.part"), [server.url("/x")]);
        fs::write(&part, "of a browser").unwrap();
        let failure = setup.get(&url).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Usage, "{failure}");
        assert_eq!(fs::read(&part).unwrap(), b"of a browser");
        assert_eq!(setup.names(), ["file.part"]);
        setup.force = true;
        setup.get(&url).await.unwrap();
        assert_same(&setup.content(), &file);
        assert_eq!(setup.names(), ["file"]);
    }
}
