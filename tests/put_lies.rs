//! `put` against a server that cuts, stalls, forgets and lies.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod faulty;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use faulty::{Ended, Fault, Faulty, pattern, put};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// A file to send, and a place for the state.
struct Bench {
    folder: TempDir,
    content: Vec<u8>,
}

impl Bench {
    fn new(length: usize) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), content: pattern(length) };
        fs::write(bench.file(), &bench.content).unwrap();
        bench
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("file.bin")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Sends the file with these flags.
    async fn put(&self, server: &Faulty, flags: &[&str]) -> Ended {
        let (file, url) = (self.file(), server.url());
        let arguments = [flags, &[file.to_str().unwrap(), &url]].concat();
        put(&self.state(), &arguments, None).await
    }

    fn assert_sent(&self, server: &Faulty, number: usize) {
        assert!(server.upload(number).content == self.content, "other bytes arrived");
    }

    fn sessions(&self) -> usize {
        let folder = fs::read_dir(self.state().join("resumed/put")).unwrap();
        let is_session =
            |path: &Path| path.extension().is_some_and(|extension| extension == "json");
        folder.filter(|entry| is_session(&entry.as_ref().unwrap().path())).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_stalled_or_unheard_is_gone_on_with() {
    let bench = Bench::new(5 * MIB);
    let server = Faulty::start(|asked| match (asked.method.as_str(), asked.before) {
        ("PATCH", 0) => Fault::Cut(MIB + 17),
        ("PATCH", 1) => Fault::Stall(MIB),
        ("HEAD", 1) => Fault::Unheard,
        ("PATCH", 2) => Fault::Unheard,
        _ => Fault::None,
    })
    .await;
    let ended = bench.put(&server, &["--stall-timeout", "500ms"]).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert_eq!(ended.output, format!("http://{}/files/0\n", server.address));
    bench.assert_sent(&server, 0);
    let appends = server.asked().into_iter().filter(|asked| asked.method == "PATCH");
    let offsets: Vec<usize> = appends.map(|asked| asked.number("upload-offset")).collect();
    assert_eq!(offsets, [0, MIB + 17, 2 * MIB + 17]);
    assert_eq!(bench.sessions(), 0, "a session is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_run_goes_on_and_begins_anew_when_the_upload_is_gone() {
    for gone in ["404 Not Found", "410 Gone"] {
        let bench = Bench::new(3 * MIB);
        let server = Faulty::start(move |asked| match (asked.method.as_str(), asked.before) {
            ("PATCH", 0 | 1) => Fault::Cut(MIB),
            ("HEAD", 1) => Fault::Answer(gone),
            _ => Fault::None,
        })
        .await;
        for at in [0, MIB] {
            let ended = bench.put(&server, &["--max-tries", "1"]).await;
            assert_eq!(ended.code, 3, "{}", ended.errors);
            assert_eq!(server.upload(0).content.len(), at + MIB);
            assert_eq!(bench.sessions(), 1);
        }
        let ended = bench.put(&server, &["--max-tries", "1"]).await;
        assert_eq!(ended.code, 0, "{}", ended.errors);
        assert!(ended.errors.contains("begins anew"), "{}", ended.errors);
        assert_eq!(server.methods(), "POST PATCH HEAD PATCH HEAD POST PATCH");
        bench.assert_sent(&server, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_is_asked_again_when_it_wants_to_be() {
    let bench = Bench::new(MIB);
    let server = Faulty::start(|asked| match (asked.method.as_str(), asked.before) {
        ("POST", 0) => Fault::Answer("503 Service Unavailable\r\nRetry-After: 2"),
        ("PATCH", 0) => Fault::Answer("423 Locked"),
        ("HEAD", 0) => Fault::Answer("429 Too Many Requests"),
        _ => Fault::None,
    })
    .await;
    let begin = Instant::now();
    let ended = bench.put(&server, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert_eq!(server.methods(), "POST POST PATCH HEAD HEAD PATCH");
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    bench.assert_sent(&server, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_asked_about_and_offsets_that_cannot_be_are_not_believed() {
    let bench = Bench::new(3 * MIB);
    let server = Faulty::start(|asked| match (asked.method.as_str(), asked.before) {
        ("PATCH", 0) => Fault::Answer("409 Conflict"),
        ("PATCH", 1) => Fault::Cut(MIB),
        ("PATCH", 2) => Fault::Answer("204 No Content\r\nUpload-Offset: 99999999"),
        _ => Fault::None,
    })
    .await;
    let ended = bench.put(&server, &[]).await;
    assert_eq!(ended.code, 3, "{}", ended.errors);
    assert!(ended.errors.contains("99999999"), "{}", ended.errors);
    let ended = bench.put(&server, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    bench.assert_sent(&server, 0);

    for lie in [3 * MIB + 1, usize::MAX / 2] {
        let server = Faulty::start(move |asked| match asked.method.as_str() {
            "PATCH" => Fault::Cut(MIB),
            "HEAD" => Fault::Lie(lie),
            _ => Fault::None,
        })
        .await;
        let ended = bench.put(&server, &[]).await;
        assert_eq!(ended.code, 3, "{}", ended.errors);
        assert!(ended.output.is_empty(), "{}", ended.output);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_nothing_is_given_up() {
    let bench = Bench::new(MIB);
    let server = Faulty::start(|asked| match asked.method.as_str() {
        "PATCH" => Fault::Answer("409 Conflict"),
        _ => Fault::None,
    })
    .await;
    let begin = Instant::now();
    let ended = bench.put(&server, &["--max-tries", "2"]).await;
    assert_eq!(ended.code, 3, "{}", ended.errors);
    assert!(ended.errors.contains("given up after 2 attempts"), "{}", ended.errors);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_is_not_gone_on_with() {
    let bench = Bench::new(2 * MIB);
    let server = Faulty::start(|asked| match (asked.method.as_str(), asked.before) {
        ("PATCH", 0) => Fault::Cut(MIB),
        _ => Fault::None,
    })
    .await;
    assert_eq!(bench.put(&server, &["--max-tries", "1"]).await.code, 3);
    let asked = server.asked().len();

    let mut other = bench.content.clone();
    other[5] ^= 1;
    fs::write(bench.file(), &other).unwrap();
    let ended = bench.put(&server, &[]).await;
    assert_eq!((ended.code, server.asked().len()), (5, asked), "{}", ended.errors);
    assert!(ended.errors.contains("--restart"), "{}", ended.errors);

    // Written anew, and the same: only its times differ.
    fs::write(bench.file(), &bench.content).unwrap();
    let ended = bench.put(&server, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    bench.assert_sent(&server, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_cancels_what_was_begun() {
    let mut bench = Bench::new(2 * MIB);
    let server = Faulty::start(|asked| match (asked.method.as_str(), asked.before) {
        ("PATCH", 0) => Fault::Cut(MIB),
        _ => Fault::None,
    })
    .await;
    assert_eq!(bench.put(&server, &["--max-tries", "1"]).await.code, 3);
    bench.content.truncate(MIB / 2);
    fs::write(bench.file(), &bench.content).unwrap();
    let ended = bench.put(&server, &["--restart"]).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert!(server.upload(0).is_gone);
    bench.assert_sent(&server, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_sent_never_completes() {
    let bench = Bench::new(16 * MIB);
    let path = bench.file();
    let server = Faulty::start(move |asked| {
        if asked.method == "PATCH" {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, b"more").unwrap();
        }
        Fault::None
    })
    .await;
    let ended = bench.put(&server, &["--limit-rate", "40MiB"]).await;
    assert_eq!(ended.code, 5, "{}", ended.errors);
    assert!(server.upload(0).content.len() < bench.content.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_large_for_a_proxy_become_smaller() {
    let bench = Bench::new(5 * MIB);
    let server = Faulty::start(|asked| {
        if asked.method == "PATCH" && asked.number("content-length") > 2 * MIB {
            return Fault::Answer("413 Content Too Large");
        }
        Fault::None
    })
    .await;
    let ended = bench.put(&server, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    bench.assert_sent(&server, 0);
    let server = Faulty::start(|_| Fault::None).await;
    assert_eq!(bench.put(&server, &["--max-request", "2MiB"]).await.code, 0);
    assert_eq!(server.methods(), "POST PATCH PATCH PATCH");
    bench.assert_sent(&server, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tus_server_is_told() {
    let bench = Bench::new(MIB);
    for (answer, code, words) in [
        ("200 OK", 3, "does not speak tus"),
        ("401 Unauthorized", 4, "401"),
        ("201 Created", 3, "did not say where"),
        ("201 Created\r\nLocation: ftp://host/", 3, "did not say where"),
        ("413 Content Too Large", 4, "413"),
    ] {
        let server = Faulty::start(move |_| Fault::Answer(answer)).await;
        let ended = bench.put(&server, &[]).await;
        assert_eq!(ended.code, code, "{}", ended.errors);
        assert!(ended.errors.contains(words), "{}", ended.errors);
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_do_not_go_where_the_server_points_to() {
    let bench = Bench::new(1000);
    let other = Faulty::start(|_| Fault::None).await;
    let origin = format!("http://{}", other.address);
    let server = Faulty::start_with((faulty::ALL, origin), |_| Fault::None).await;
    let flags = ["-H", "Authorization: Bearer secret", "-H", "X-Shown: yes", "--max-tries", "1"];
    // The other server has no such upload: all that matters is what it was told.
    bench.put(&server, &flags).await;
    let asked = other.asked();
    assert_eq!(server.asked()[0].field("authorization"), "Bearer secret");
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.field("authorization").is_empty()));
    assert_eq!(asked[0].field("x-shown"), "yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_limit_is_no_stall() {
    let bench = Bench::new(80 << 10);
    let server = Faulty::start(|_| Fault::None).await;
    let flags = ["--limit-rate", "25KiB", "--stall-timeout", "1s", "--max-tries", "1"];
    let begin = Instant::now();
    let ended = bench.put(&server, &flags).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert!(begin.elapsed() > Duration::from_secs(2), "{:?}", begin.elapsed());
    bench.assert_sent(&server, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_not_shown() {
    let bench = Bench::new(1000);
    let server = Faulty::start(|asked| match asked.method.as_str() {
        "PATCH" => Fault::Answer("409 Conflict"),
        _ => Fault::None,
    })
    .await;
    let url = server.url().replace("//", "//me:secret@");
    let arguments = ["--max-tries", "2", bench.file().to_str().unwrap(), &url].map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = put(&bench.state(), &arguments, None).await;
    assert_eq!(ended.code, 3, "{}", ended.errors);
    assert!(ended.errors.contains("another offset"), "{}", ended.errors);
    assert!(!ended.errors.contains("secret"), "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_is_not_repeated_elsewhere_unless_it_is_to_be() {
    let bench = Bench::new(1000);
    for (redirect, methods, code) in [
        ("303 See Other\r\nLocation: /files/", "POST", 4),
        ("307 Temporary Redirect\r\nLocation: /files/", "POST POST PATCH", 0),
    ] {
        let server = Faulty::start(move |asked| match (asked.method.as_str(), asked.before) {
            ("POST", 0) => Fault::Answer(redirect),
            _ => Fault::None,
        })
        .await;
        let ended = bench.put(&server, &[]).await;
        assert_eq!((ended.code, &*server.methods()), (code, methods), "{}", ended.errors);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_tells_what_was_there_what_remains_and_how_long_all_took() {
    let server = Faulty::start(|asked| match (asked.method.as_str(), asked.before) {
        ("PATCH", 0 | 1) => Fault::Cut(MIB),
        ("HEAD", 1) => Fault::Answer("503 Later\r\nRetry-After: 1"),
        _ => Fault::None,
    })
    .await;
    let bench = Bench::new(3 * MIB);
    let cut = bench.put(&server, &["--max-tries", "1"]).await;
    assert_eq!(cut.code, 3, "{}", cut.errors);
    let cut = bench.put(&server, &["--max-tries", "1"]).await;
    assert_eq!(cut.code, 3, "{}", cut.errors);
    let words = "3.00 MiB: 1.00 MiB there already, 2.00 MiB to go\n";
    assert!(cut.errors.contains(words), "{}", cut.errors);
    let ended = bench.put(&server, &["--json"]).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    bench.assert_sent(&server, 0);
    let last: serde_json::Value =
        serde_json::from_str(ended.output.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["moved_bytes"]), (&"finished".into(), &MIB.into()));
    assert!(last["seconds"].as_f64().unwrap() >= 1.0, "{last}");
}
