//! `get` against servers that break, change their minds and lie.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod liar;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use liar::get::{Setup, assert_same, pattern};
use liar::{Act, Liar, after, bare, head, serve, slowly};
use resumed::client::failure::FailureKind;

const MIB: usize = 1 << 20;
const TAG: &str = "ETag: \"a\"\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_file_comes_over_several_connections() {
    let file = pattern(4 * MIB + 77, 1);
    let served = file.clone();
    let server =
        Liar::start(move |asked| slowly(serve(asked, &served, TAG), Duration::from_millis(40)))
            .await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
    assert_eq!(setup.names(), ["file"], "nothing is left behind");
    let asked = server.asked();
    assert_eq!(asked[0].field("range"), "bytes=0-");
    assert!(asked.len() >= 4, "{}", asked.len());
    assert!(asked[1..].iter().all(|asked| asked.field("if-range") == "\"a\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_answers_go_on_where_they_were_cut() {
    let file = pattern(3 * MIB, 2);
    let served = file.clone();
    let server =
        Liar::start(move |asked| after(serve(asked, &served, TAG), 700_000, Act::Close)).await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
    let mut starts: Vec<_> =
        server.asked().iter().map(|asked| asked.range(3 * MIB).unwrap().0).collect();
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), server.asked().len(), "no place is asked for twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_connection_is_taken_over_by_another() {
    let file = pattern(8 * MIB, 3);
    let served = file.clone();
    let server = Liar::start(move |asked| {
        let acts = serve(asked, &served, TAG);
        if asked.before == 0 {
            after(acts, 100_000, Act::Hang)
        } else {
            slowly(acts, Duration::from_millis(10))
        }
    })
    .await;
    let mut setup = Setup::new();
    setup.stall_timeout = Duration::from_secs(50);
    let begin = Instant::now();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_same(&setup.content(), &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_meanwhile_is_fetched_again_and_never_mixed() {
    let files = [pattern(3 * MIB, 4), pattern(3 * MIB, 5)];
    let served = files.clone();
    let answer = move |asked: &liar::Asked| {
        if asked.before == 0 {
            return after(serve(asked, &served[0], "ETag: \"a\"\r\n"), MIB, Act::Close);
        }
        let is_same = ["", "\"b\""].contains(&asked.field("if-range"));
        let mut asked = asked.clone();
        if !is_same {
            asked.head.fields.remove("range");
        }
        serve(&asked, &served[1], "ETag: \"b\"\r\n")
    };
    let server = Liar::start(answer.clone()).await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &files[1]);

    let server = Liar::start(answer).await;
    let mut setup = Setup::new();
    setup.no_restart = true;
    let failure = setup.get(&[server.url("/x")]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Changed, "{failure}");
    assert!(!setup.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_if_range_does_not_mix_the_versions() {
    // It goes on with ranges of the new file, as if nothing had happened.
    let files = [pattern(3 * MIB, 6), pattern(3 * MIB, 7)];
    let served = files.clone();
    let server = Liar::start(move |asked| match asked.before {
        0 => after(serve(asked, &served[0], "ETag: \"a\"\r\n"), MIB, Act::Close),
        _ => serve(asked, &served[1], "ETag: \"b\"\r\n"),
    })
    .await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &files[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_length_is_another_file() {
    let files = [pattern(3 * MIB, 8), pattern(2 * MIB, 9)];
    let served = files.clone();
    let server = Liar::start(move |asked| match asked.before {
        0 => after(serve(asked, &served[0], ""), MIB, Act::Close),
        _ => serve(asked, &served[1], ""),
    })
    .await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &files[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_was_not_asked_for_is_not_believed() {
    let file = pattern(2 * MIB, 10);
    let served = file.clone();
    let server = Liar::start(move |asked| match asked.before {
        0 => after(serve(asked, &served, TAG), MIB, Act::Close),
        1 => {
            // Bytes from elsewhere, and it says so.
            let range = format!("Content-Range: bytes 0-99/{}\r\n{TAG}", served.len());
            vec![head("206 Partial Content", 100, &range), Act::Send(served[..100].to_vec())]
        }
        2 => vec![head("206 Partial Content", 100, TAG), Act::Send(served[..100].to_vec())],
        _ => serve(asked, &served, TAG),
    })
    .await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_in_place_of_a_range_ends_in_the_whole() {
    let file = pattern(2 * MIB, 11);
    let served = file.clone();
    let server = Liar::start(move |asked| {
        let acts = serve(asked, &served, TAG);
        match asked.before {
            0 => after(acts, MIB, Act::Close),
            _ => vec![head("200 OK", served.len(), TAG), Act::Send(served.clone())],
        }
    })
    .await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_redirects_and_refusals_have_exit_codes_of_their_own() {
    let server = Liar::start(|asked| match asked.target.as_str() {
        "/circle" => bare("302 Found", "Location: /circle\r\n"),
        "/gone" => bare("410 Gone", ""),
        _ => bare("503 Later", "Retry-After: 0\r\n"),
    })
    .await;
    for (path, kind, asked) in [
        ("/circle", FailureKind::Status, 11),
        ("/gone", FailureKind::Status, 1),
        ("/later", FailureKind::Status, 2),
    ] {
        let before = server.asked().len();
        let mut setup = Setup::new();
        setup.max_tries = 2;
        let failure = setup.get(&[server.url(path)]).await.unwrap_err();
        assert_eq!(failure.kind(), kind, "{path}: {failure}");
        assert_eq!(server.asked().len() - before, asked, "{path}");
        assert!(setup.names().is_empty(), "{:?}", setup.names());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured() {
    let file = pattern(1000, 12);
    let served = file.clone();
    let server = Liar::start(move |asked| match asked.before {
        0 => bare("429 Too Many Requests", "Retry-After: 2\r\n"),
        _ => serve(asked, &served, TAG),
    })
    .await;
    let setup = Setup::new();
    let begin = Instant::now();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(2));
    assert_same(&setup.content(), &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_allows_one_connection_is_fetched_from_over_one() {
    let file = pattern(3 * MIB, 13);
    for refusal in ["503 Too Many Connections", "403 Forbidden"] {
        let served = file.clone();
        let server = Liar::start(move |asked| match asked.connection {
            0 => slowly(serve(asked, &served, TAG), Duration::from_millis(30)),
            _ => bare(refusal, ""),
        })
        .await;
        let setup = Setup::new();
        let begin = Instant::now();
        setup.get(&[server.url("/x")]).await.unwrap();
        assert_same(&setup.content(), &file);
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert!(server.asked().len() < 8, "{}", server.asked().len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_without_ranges_or_length_stream() {
    let file = pattern(2 * MIB + 5, 14);
    let served = file.clone();
    let server = Liar::start(move |asked| match (asked.target.as_str(), asked.before) {
        ("/plain", 0) => {
            let acts = vec![head("200 OK", served.len(), ""), Act::Send(served.clone())];
            after(acts, MIB, Act::Close)
        }
        ("/plain", _) => vec![head("200 OK", served.len(), ""), Act::Send(served.clone())],
        _ => vec![
            Act::Send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec()),
            Act::Send(served.clone()),
            Act::Close,
        ],
    })
    .await;
    for path in ["/plain", "/endless"] {
        let setup = Setup::new();
        setup.get(&[server.url(path)]).await.unwrap();
        assert_same(&setup.content(), &file);
        assert_eq!(setup.names(), ["file"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_a_file() {
    let server = Liar::start(|asked| serve(asked, b"", TAG)).await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_eq!(setup.content(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_takes_part_only_with_the_same_file() {
    let file = pattern(4 * MIB, 20);
    let other = pattern(4 * MIB, 21);
    let start = |file: Vec<u8>, tag: &'static str| {
        Liar::start(move |asked| slowly(serve(asked, &file, tag), Duration::from_millis(30)))
    };
    let first = start(file.clone(), TAG).await;
    let same = start(file.clone(), TAG).await;
    let different = start(other, "ETag: \"z\"\r\n").await;
    let setup = Setup::new();
    setup.get(&[first.url("/x"), same.url("/x"), different.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
    assert!(!same.asked().is_empty());

    let gone = Liar::start(|_| bare("404 Not Found", "")).await;
    let setup = Setup::new();
    setup.get(&[gone.url("/x"), first.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_says_nothing_does_not_hold_up_the_start() {
    let mute = Liar::start(|_| vec![Act::Hang]).await;
    let other = Liar::start(|asked| serve(asked, b"content", TAG)).await;
    let mut setup = Setup::new();
    setup.stall_timeout = Duration::from_secs(50);
    let begin = Instant::now();
    setup.get(&[mute.url("/x"), other.url("/x")]).await.unwrap();
    assert_eq!(setup.content(), b"content");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_on_a_server_without_ranges_is_noticed() {
    let files = [pattern(3 * MIB, 22), pattern(3 * MIB, 23)];
    let served = files.clone();
    let answer = move |asked: &liar::Asked| {
        let (number, tag) = if asked.before == 0 { (0, "a") } else { (1, "b") };
        let fields = format!("ETag: \"{tag}\"\r\n");
        let acts = vec![head("200 OK", 3 * MIB, &fields), Act::Send(served[number].clone())];
        if asked.before == 0 { after(acts, MIB, Act::Close) } else { acts }
    };
    let server = Liar::start(answer.clone()).await;
    let mut setup = Setup::new();
    setup.no_restart = true;
    let failure = setup.get(&[server.url("/x")]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Changed, "{failure}");
    let server = Liar::start(answer).await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &files[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_became_shorter_than_what_is_here_is_noticed() {
    const SAME: &str = "Last-Modified: Sat, 01 Jan 2022 00:00:00 GMT\r\n";
    let files = [pattern(3 * MIB, 24), pattern(MIB, 25)];
    let served = files.clone();
    let server = Liar::start(move |asked| match asked.target.as_str() {
        _ if asked.before == 0 => after(serve(asked, &served[0], SAME), 2 * MIB, Act::Close),
        _ if asked.before == 1 => bare("503 Later", ""),
        _ => serve(asked, &served[1], SAME),
    })
    .await;
    let mut setup = Setup::new();
    (setup.max_tries, setup.no_restart, setup.connections) = (1, true, 1);
    setup.get(&[server.url("/x")]).await.unwrap_err();
    setup.max_tries = 2;
    let failure = setup.get(&[server.url("/x")]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Changed, "{failure}");
    setup.no_restart = false;
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &files[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_on_the_same_server_keeps_the_password() {
    let server = Liar::start(|asked| match asked.target.as_str() {
        "/a" => bare("302 Found", &format!("Location: http://{}/b\r\n", asked.field("host"))),
        _ => serve(asked, b"secret", ""),
    })
    .await;
    let setup = Setup::new();
    setup.get(&[server.url("/a").replace("//", "//me:secret@")]).await.unwrap();
    let asked = server.asked();
    let fields: Vec<_> = asked.iter().map(|asked| asked.field("authorization")).collect();
    assert_eq!(fields, ["Basic bWU6c2VjcmV0"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_refused_are_tried_again_later() {
    let file = pattern(3 * MIB, 26);
    let (served, begin) = (file.clone(), Instant::now());
    let server = Liar::start(move |asked| {
        if asked.connection > 0 && begin.elapsed() < Duration::from_secs(2) {
            return bare("503 Too Many Connections", "");
        }
        slowly(serve(asked, &served, TAG), Duration::from_millis(200))
    })
    .await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &file);
    assert!(begin.elapsed() < Duration::from_millis(9200), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_change_nothing_would_tell_is_never_mixed() {
    let files = [pattern(3 * MIB, 26), pattern(3 * MIB, 27)];
    let served = files.clone();
    let server = Liar::start(move |asked| match asked.before {
        0 => after(serve(asked, &served[0], ""), MIB, Act::Close),
        _ => slowly(serve(asked, &served[1], ""), Duration::from_millis(40)),
    })
    .await;
    let setup = Setup::new();
    setup.get(&[server.url("/x")]).await.unwrap();
    assert_same(&setup.content(), &files[1]);
    assert_eq!(server.asked().len(), 2, "more than one connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_neither_written_through_nor_replaced() {
    let server = Liar::start(|asked| serve(asked, b"content", TAG)).await;
    let setup = Setup::new();
    let (folder, url) = (setup.folder.path(), [server.url("/x")]);
    let (victim, part) = (folder.join("victim"), folder.join("file.part"));
    fs::write(&victim, "mine").unwrap();
    symlink(&victim, &part).unwrap();
    assert_eq!(setup.get(&url).await.unwrap_err().kind(), FailureKind::Usage);
    assert_eq!(fs::read(&victim).unwrap(), b"mine");
    fs::remove_file(&part).unwrap();
    symlink("nowhere", folder.join("file")).unwrap();
    assert_eq!(setup.get(&url).await.unwrap_err().kind(), FailureKind::Usage);
    fs::remove_file(folder.join("file")).unwrap();
    let _fifo = UnixListener::bind(folder.join("file")).unwrap();
    assert_eq!(setup.get(&url).await.unwrap_err().kind(), FailureKind::Usage);
}
