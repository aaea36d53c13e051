//! Two equal `get` commands at about the same time in the same folder.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod liar;

use std::fs;
use std::time::Duration;

use liar::get::{assert_same, pattern};
use liar::run::{errors, run};
use liar::{Act, Liar, head, serve, slowly};

const ROUNDS: usize = 50;
const BYTES: usize = 300_000;

#[tokio::test(flavor = "multi_thread")]
async fn one_fetches_the_file_and_the_other_says_so_or_does_it_again() {
    let file = pattern(BYTES, 1);
    let served = file.clone();
    let server = Liar::start(move |asked| {
        let pause = Duration::from_millis(asked.before as u64 % 7);
        let acts = match asked.target.as_str() {
            "/plain" => vec![head("200 OK", BYTES, ""), Act::Send(served.clone())],
            _ => serve(asked, &served, "ETag: \"a\"\r\n"),
        };
        slowly(acts, pause)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut second = 0;
    for round in 0..ROUNDS {
        let path = ["/x", "/plain"][round % 2];
        let flags = [&["get"][..], &["get", "--force"]][round / 2 % 2];
        let url = server.url(path);
        let arguments = [flags, &["-o", "x", &url]].concat();
        // At once, in the middle of the other, and when that ends.
        let wait = Duration::from_millis(round as u64 * 13 % 71);
        let later = async {
            tokio::time::sleep(wait).await;
            run(folder.path(), &arguments).await
        };
        let (one, other) = tokio::join!(run(folder.path(), &arguments), later);
        let told = format!("round {round}\n{}\n{}", errors(&one), errors(&other));
        assert_same(&fs::read(folder.path().join("x")).expect(&told), &file);
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["x"], "{told}");
        assert!(one.status.success() || other.status.success(), "{told}");
        for output in [&one, &other] {
            match output.status.code() {
                Some(0) => {}
                Some(2) => {
                    let told = errors(output);
                    let is_clear = told.contains("another process is downloading")
                        || told.contains("x exists; --force");
                    assert!(is_clear, "round {round}: {told}");
                    second += 1;
                }
                other => panic!("{other:?} {told}"),
            }
        }
        fs::remove_file(folder.path().join("x")).unwrap();
    }
    assert!(second > 0, "they never met");
}
