//! What `get` and `put` tell the person, or the program, that waits.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod liar;

use std::fs;
use std::time::{Duration, Instant};

use liar::get::{assert_same, pattern};
use liar::run::{errors, run};
use liar::{Act, Liar, after, head, serve, slowly};
use serde_json::Value;

const MIB: usize = 1 << 20;
const TAG: &str = "ETag: \"a\"\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_once_for_all_connections() {
    let file = pattern(8 * MIB, 9);
    let (served, begin) = (file.clone(), Instant::now());
    let server = Liar::start(move |asked| {
        let mut acts = serve(asked, &served, TAG);
        match begin.elapsed().as_millis() {
            ..800 => {
                let left = Duration::from_millis(900).saturating_sub(begin.elapsed());
                acts = after(acts, 64 << 10, Act::Pause(left));
                acts.push(Act::Close);
                acts
            }
            800..3000 => vec![Act::Close],
            _ => acts,
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["get", "--json", &server.url("/x")]).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_same(&fs::read(folder.path().join("x")).unwrap(), &file);
    let lines = String::from_utf8(output.stdout).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<Value> = events.filter(|event| event["event"] == "retry").collect();
    let rounds = told.iter().filter_map(|event| event["failed"].as_u64()).max().unwrap();
    let asked = server.asked().len();
    assert!(rounds >= 2 && asked >= 20, "{rounds} rounds, {asked} requests");
    assert!(told.len() <= 6, "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_told_once_with_both_its_states() {
    let files = [pattern(3 * MIB, 4), pattern(3 * MIB, 5)];
    let served = files.clone();
    let server = Liar::start(move |asked| {
        if asked.before == 0 {
            return after(serve(asked, &served[0], TAG), MIB, Act::Close);
        }
        let mut asked = asked.clone();
        if asked.field("if-range") == "\"a\"" {
            asked.head.fields.remove("range");
        }
        serve(&asked, &served[1], "ETag: \"b\"\r\n")
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["get", &server.url("/x")]).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_same(&fs::read(folder.path().join("x")).unwrap(), &files[1]);
    assert_told_once(&errors(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_since_an_earlier_run_is_told_once_with_both_its_states() {
    let files = [pattern(3 * MIB, 4), pattern(3 * MIB, 5)];
    let served = files.clone();
    let server = Liar::start(move |asked| match asked.before {
        0 => after(serve(asked, &served[0], TAG), MIB, Act::Close),
        _ => serve(asked, &served[1], "ETag: \"b\"\r\n"),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let url = server.url("/x");
    let cut = run(folder.path(), &["get", "-c", "1", "--max-tries", "1", &url]).await;
    assert_eq!(cut.status.code(), Some(3), "{}", errors(&cut));
    let kept = run(folder.path(), &["get", "--no-restart", &url]).await;
    assert_eq!(kept.status.code(), Some(5), "{}", errors(&kept));
    assert_told_once(&errors(&kept));
    let output = run(folder.path(), &["get", &url]).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_same(&fs::read(folder.path().join("x")).unwrap(), &files[1]);
    assert_told_once(&errors(&output));
}

#[track_caller]
fn assert_told_once(errors: &str) {
    let told: Vec<_> = errors.lines().filter(|line| line.contains("the file ")).collect();
    let [told] = told[..] else { panic!("{errors}") };
    assert!(told.contains("changed") && told.contains("was \"a\", and is \"b\" now"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_written_as_for_curl() {
    let server = Liar::start(|asked| serve(asked, b"content", TAG)).await;
    let folder = tempfile::tempdir().unwrap();
    for (rate, code) in [("20M", 0), ("500k", 0), ("20MiB", 0), ("20MB", 0), ("0", 2), ("20m/s", 2)]
    {
        let arguments = ["get", "-fq", "--limit-rate", rate, &server.url("/x")];
        let output = run(folder.path(), &arguments).await;
        assert_eq!(output.status.code(), Some(code), "{rate}: {}", errors(&output));
        assert!(code == 0 || errors(&output).contains("20M or 20MB"), "{}", errors(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_has_is_soon_given_up() {
    // No name server is asked for a label of more than 63 letters.
    let name = format!("{}.invalid", "a".repeat(64));
    let folder = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let output = run(folder.path(), &["get", &format!("http://{name}/x")]).await;
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    let told = errors(&output);
    assert!(told.contains(&format!("there is no host {name}; given up after 3")), "{told}");
    assert_eq!(told.lines().count(), 3, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_that_is_told_is_that_of_all_requests() {
    let server = Liar::start(|asked| match asked.target.as_str() {
        "/plain" => vec![Act::Pause(Duration::from_secs(1)), head("200 OK", 0, "")],
        _ => [vec![Act::Pause(Duration::from_secs(1))], serve(asked, b"content", TAG)].concat(),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    for (path, to) in [("/plain", "x"), ("/plain", "-"), ("/x", "y"), ("/x", "-")] {
        let output = run(folder.path(), &["get", "--json", "-o", to, &server.url(path)]).await;
        assert!(output.status.success(), "{}", errors(&output));
        let told = if to == "-" { &output.stderr } else { &output.stdout };
        let last = told.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap();
        let last: Value = serde_json::from_slice(last).unwrap();
        assert_eq!(last["event"], "finished");
        assert!(last["seconds"].as_f64().unwrap() >= 1.0, "{path} {to}: {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_missing_is_named_before_anything_is_asked() {
    let server = Liar::start(|asked| serve(asked, b"content", TAG)).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    fs::write(folder.path().join("list"), [server.url("/x"), server.url("/y")].join("\n")).unwrap();
    let missing = |name: &str| format!("the folder {name} is not there; make it first");
    for (to, code, words) in [
        ("new/", 7, missing("new/")),
        ("new/name", 7, missing("new")),
        ("new/er/name", 7, missing("new/er")),
        ("file/", 2, "file/ is no folder".to_owned()),
        ("file/name", 2, "file is no folder".to_owned()),
    ] {
        let output = run(folder.path(), &["get", "-o", to, &server.url("/x")]).await;
        assert_eq!(output.status.code(), Some(code), "{to}: {}", errors(&output));
        assert!(errors(&output).contains(&words), "{to}: {}", errors(&output));
    }
    let output = run(folder.path(), &["get", "-i", "list", "-o", "new"]).await;
    assert_eq!(output.status.code(), Some(7), "{}", errors(&output));
    assert!(errors(&output).contains(&missing("new")), "{}", errors(&output));
    assert!(server.asked().is_empty() && fs::read_dir(folder.path()).unwrap().count() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_is_one_event_for_who_wants_events() {
    let folder = tempfile::tempdir().unwrap();
    for (wrong, words) in [
        (&["get", "--json", "--limit-rate", "fast", "host/x"][..], "a rate is"),
        (&["get", "--json"], "<URL>"),
        (&["put", "--json", "file", "ftp://host/"], "ftp://"),
        (&["put", "--json", "--no-such-flag"], "--no-such-flag"),
        (&["get", "-o", "-", "--json", "ftp://host/"], "ftp://"),
    ] {
        let output = run(folder.path(), wrong).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let (told, other) = match wrong.contains(&"-o") {
            true => (&output.stderr, &output.stdout),
            false => (&output.stdout, &output.stderr),
        };
        let event: Value = serde_json::from_slice(told).unwrap();
        assert_eq!((&event["event"], &event["exit_code"]), (&"failed".into(), &2.into()));
        assert_eq!((&event["name"], &event["kind"]), (&wrong[0].into(), &"usage".into()));
        assert!(event["message"].as_str().unwrap().contains(words), "{event}");
        assert!(other.is_empty(), "{wrong:?}");
    }
    for text in [&["get", "--json", "--help"][..], &["get", "--", "--json", "ftp://host"]] {
        let output = run(folder.path(), text).await;
        assert!(!String::from_utf8_lossy(&output.stdout).starts_with('{'), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mirror_with_another_file_is_named() {
    let file = pattern(4 * MIB, 20);
    let start = |file: Vec<u8>, tag: &'static str| {
        Liar::start(move |asked| slowly(serve(asked, &file, tag), Duration::from_millis(40)))
    };
    let first = start(file.clone(), TAG).await;
    let same = start(file.clone(), TAG).await;
    let changed = start(pattern(4 * MIB, 21), "ETag: \"z\"\r\n").await;
    let longer = start(pattern(5 * MIB, 21), "ETag: \"y\"\r\n").await;
    let urls = [&first, &same, &changed, &longer].map(|server| server.url("/x"));
    let folder = tempfile::tempdir().unwrap();
    let arguments: Vec<&str> = ["get"].into_iter().chain(urls.iter().map(String::as_str)).collect();
    let output = run(folder.path(), &arguments).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_same(&fs::read(folder.path().join("x")).unwrap(), &file);
    let told = errors(&output);
    // In the order in which they answer, and each once.
    for (url, why) in [(&urls[2], "is \"z\", not \"a\""), (&urls[3], "5242880 bytes")] {
        let words = format!("{url} was left out: ");
        let named: Vec<_> = told.lines().filter(|line| line.contains(&words)).collect();
        assert!(named.len() == 1 && named[0].contains(why), "{told}");
    }
}
