//! `get` from several servers, some of which are of no use.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod liar;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use liar::get::{assert_same, pattern};
use liar::run::{errors, run};
use liar::{Act, Liar, serve, slowly};

const MIB: usize = 1 << 20;
const TAG: &str = "ETag: \"a\"\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_not_waited_for_at_the_end() {
    let file = pattern(4 * MIB, 30);
    let served = file.clone();
    let good =
        Liar::start(move |asked| slowly(serve(asked, &served, TAG), Duration::from_millis(10)))
            .await;
    let mute = Liar::start(|_| vec![Act::Hang]).await;
    let folder = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let output = run(folder.path(), &["get", &good.url("/x"), &mute.url("/x")]).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_same(&fs::read(folder.path().join("x")).unwrap(), &file);
    assert!(!mute.asked().is_empty(), "it was of no matter here");
    // It would be given up after 30 s.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_servers_have_another_file_at_once_it_is_fetched_anew() {
    for round in 0..8 {
        let files = Arc::new([pattern(4 * MIB, 31), pattern(4 * MIB, 32)]);
        let count = Arc::new(AtomicUsize::new(0));
        let start = || {
            let (files, count) = (Arc::clone(&files), Arc::clone(&count));
            Liar::start(move |asked| {
                // The first answer alone is of the first file.
                let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
                let (file, tag) =
                    if is_first { (&files[0], TAG) } else { (&files[1], "ETag: \"b\"\r\n") };
                slowly(serve(asked, file, tag), Duration::from_millis(20))
            })
        };
        let (one, other) = (start().await, start().await);
        let folder = tempfile::tempdir().unwrap();
        let output = run(folder.path(), &["get", &one.url("/x"), &other.url("/x")]).await;
        assert!(output.status.success(), "round {round}: {}", errors(&output));
        assert_same(&fs::read(folder.path().join("x")).unwrap(), &files[1]);
    }
}
