//! `resumed check` on folders that were damaged by hand: what it says, what it repairs, and what
//! the server says after that.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::pattern;
use common::program::{Program, run};
use serde_json::Value;
use tempfile::TempDir;

/// A data folder as a server left it, with an upload of each state.
struct Used {
    folder: TempDir,
    complete: String,
    unfinished: String,
    joined: String,
    cancelled: String,
}

const OFFSET: usize = 1_500_000;

/// Two are in no case damaged: most of the store is there then.
async fn used() -> Used {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::serve(folder.path());
    let complete = program.upload("", &pattern(3_000_000)).await;
    let unfinished = program.create("Upload-Length: 3000000\r\n").await;
    program.append(&unfinished, 0, &pattern(OFFSET)).await;
    let part = "Upload-Concat: partial\r\n";
    let (one, two) = (program.upload(part, b"abc").await, program.upload(part, b"defg").await);
    let joined =
        program.create(&format!("Upload-Concat: final;/files/{one} /files/{two}\r\n")).await;
    let cancelled = program.upload("", b"away").await;
    let fields = format!("{}Content-Length: 0\r\n", common::TUS);
    program.request("DELETE", &format!("/files/{cancelled}"), &fields, b"").await;
    // That it is joined is recorded last, when its parts are gone from the folder.
    while !program.head(&joined).await.fields.contains_key("upload-blake3") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    program.stop();
    Used { folder, complete, unfinished, joined, cancelled }
}

fn path(data: &Path, id: &str) -> PathBuf {
    data.join("uploads").join(&id[..2]).join(id)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

impl Used {
    fn copied(&self) -> TempDir {
        let copied = tempfile::tempdir().unwrap();
        copy(self.folder.path(), copied.path());
        copied
    }
}

/// What a check prints for programs: the findings, and the summary.
fn objects(printed: &str) -> (Vec<Value>, Value) {
    let mut objects: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = objects.pop().unwrap()["summary"].take();
    (objects, summary)
}

fn check(data: &Path, more: &[&str]) -> (i32, Vec<Value>, Value) {
    let (code, printed, said) = run(&[&["check", "--json"], more].concat(), data);
    assert_eq!(said, "");
    let (found, summary) = objects(&printed);
    (code, found, summary)
}

fn cut(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn lengthen(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

fn flip(path: &Path, at: u64) {
    let mut byte = [0];
    let file = File::options().read(true).write(true).open(path).unwrap();
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[tokio::test]
async fn a_store_as_a_server_left_it_is_clean() {
    let used = used().await;
    let (code, found, summary) = check(used.folder.path(), &["--deep"]);
    assert_eq!((code, found.len()), (0, 0), "{found:?}");
    assert_eq!(summary["records"], 6);
    assert_eq!(summary["complete"], 4);
    assert_eq!(summary["unfinished"], 1);
    assert_eq!(summary["gone"], 1);
    assert_eq!(summary["verified_bytes"], 3_000_000 + OFFSET + 7 + 7);
    assert_eq!(summary["unverifiable"], 0);
    let (code, printed, _) = run(&["check"], used.folder.path());
    assert_eq!(code, 0);
    assert!(printed.ends_with("clean\n"), "{printed}");
}

/// One kind of damage.
struct Damage {
    id: String,
    /// How it is done.
    done: Box<dyn Fn(&Path)>,
    /// By which name it is found.
    name: &'static str,
    /// The bytes that are recorded, and those that are there.
    bytes: (Option<u64>, Option<u64>),
    repair: &'static str,
    /// What a HEAD of the upload answers after the repair.
    status: u16,
}

/// Damage to the file of an upload.
fn damage(
    id: &str,
    done: impl Fn(&Path) + 'static,
    found: (&'static str, Option<u64>, Option<u64>),
    (repair, status): (&'static str, u16),
) -> Damage {
    let (name, recorded, there) = found;
    let done = Box::new({
        let id = id.to_owned();
        move |data: &Path| done(&path(data, &id))
    });
    Damage { id: id.to_owned(), done, name, bytes: (recorded, there), repair, status }
}

fn damages(used: &Used) -> Vec<Damage> {
    let Used { complete, unfinished, joined, cancelled, .. } = used;
    let stray = "0123456789abcdef0123456789abcdef";
    let parts = |path: &Path| path.with_extension("parts");
    let lose = ("lose", 410);
    let short = |recorded, there| ("data-short", Some(recorded), Some(there));
    vec![
        damage(
            complete,
            |file| fs::remove_file(file).unwrap(),
            ("data-missing", Some(3_000_000), None),
            lose,
        ),
        damage(complete, |file| cut(file, 2_999_999), short(3_000_000, 2_999_999), lose),
        damage(unfinished, |file| cut(file, 1_000_000), short(1_500_000, 1_000_000), lose),
        damage(complete, lengthen, ("data-long", Some(3_000_000), Some(3_000_004)), ("cut", 200)),
        damage(
            joined,
            move |file| fs::create_dir(parts(file)).unwrap(),
            ("parts-left", None, None),
            ("remove-parts", 200),
        ),
        damage(
            unfinished,
            move |file| fs::create_dir(parts(file)).unwrap(),
            ("parts-left", None, None),
            ("remove-parts", 200),
        ),
        damage(
            stray,
            |file| fs::write(file, b"what").unwrap(),
            ("no-record", None, Some(4)),
            ("set-aside", 404),
        ),
        damage(
            stray,
            move |file| {
                fs::create_dir(parts(file)).unwrap();
                fs::write(parts(file).join("000000"), b"part").unwrap();
            },
            ("no-record", None, Some(4)),
            ("set-aside", 404),
        ),
        damage(
            cancelled,
            |file| fs::write(file, b"away").unwrap(),
            ("data-of-gone", None, Some(4)),
            ("remove", 410),
        ),
    ]
}

#[tokio::test]
async fn damage_is_found_repaired_and_then_the_store_is_clean() {
    let used = used().await;
    for Damage { id, done, name, bytes, repair, status } in damages(&used) {
        let data = used.copied();
        done(data.path());
        let before = fs::read(path(data.path(), &id)).ok();
        for (more, is_repaired) in [(&[][..], false), (&["--repair"][..], true)] {
            let (code, found, summary) = check(data.path(), more);
            assert_eq!((code, found.len()), (1, 1), "{name}: {found:?}");
            assert_eq!(found[0]["upload"], id);
            assert_eq!(found[0]["finding"], name);
            assert_eq!(
                (found[0]["recorded"].as_u64(), found[0]["found"].as_u64()),
                bytes,
                "{name}"
            );
            assert_eq!(found[0]["repair"], repair);
            assert_eq!(found[0]["repaired"], is_repaired);
            assert_eq!(summary["repaired"], u64::from(is_repaired));
        }
        let (code, found, _) = check(data.path(), &["--deep"]);
        assert_eq!((code, found.len()), (0, 0), "{name}: {found:?}");
        let aside = data.path().join("lost+found").join(&id);
        if let (Some(before), "lose" | "set-aside") = (before, repair) {
            assert!(fs::read(aside).unwrap() == before, "{name}: what was there is not kept");
        }
        let program = Program::serve(data.path());
        assert_eq!(program.head(&id).await.status, status, "{name}");
        program.stop();
    }
}

#[tokio::test]
async fn a_flipped_bit_is_found_when_all_is_read_and_never_repaired() {
    let used = used().await;
    let cases = [
        (&used.complete, 2_999_999, "digest-differs", 2),
        (&used.complete, 0, "digest-differs", 0),
        (&used.complete, 1_048_576, "digest-differs", 1),
        (&used.joined, 3, "digest-differs", 0),
        (&used.unfinished, 1_048_575, "tree-differs", 0),
    ];
    for (id, at, name, group) in cases {
        let data = used.copied();
        flip(&path(data.path(), id), at);
        assert_eq!(check(data.path(), &[]).0, 0, "{name}");
        for more in [&["--deep"][..], &["--deep", "--repair"][..]] {
            let (code, found, summary) = check(data.path(), more);
            assert_eq!((code, found.len()), (1, 1), "{found:?}");
            assert_eq!(
                (&found[0]["upload"], &found[0]["finding"]),
                (&(*id).clone().into(), &name.into())
            );
            assert_eq!((&found[0]["group"], &found[0]["repaired"]), (&group.into(), &false.into()));
            assert_eq!(summary["repaired"], 0);
        }
    }
}

#[tokio::test]
async fn scratch_and_foreign_files_are_told_and_left_alone() {
    let used = used().await;
    let data = used.folder.path();
    lengthen(&path(data, &used.unfinished));
    let foreign =
        [data.join("uploads/notes.txt"), path(data, &used.complete).with_extension("bak")];
    foreign.iter().for_each(|path| fs::write(path, b"mine").unwrap());
    let (code, found, summary) = check(data, &["--repair"]);
    assert_eq!(code, 0);
    let named: Vec<_> = found.iter().map(|found| found["unknown"].as_str().unwrap()).collect();
    assert_eq!(named, foreign.each_ref().map(|path| path.to_str().unwrap()));
    assert_eq!((&summary["scratch_bytes"], &summary["unknown_files"]), (&4.into(), &2.into()));
    assert!(foreign.iter().all(|path| path.exists()));
}

#[tokio::test]
async fn a_store_whose_data_is_missing_as_a_whole_is_not_repaired_unless_forced() {
    let used = used().await;
    let data = used.folder.path();
    // Without any of it, it may be that a disk is not mounted.
    let (uploads, away) = (data.join("uploads"), data.join("away"));
    fs::rename(&uploads, &away).unwrap();
    for flags in [&["check"][..], &["check", "--repair", "--force"]] {
        let (code, printed, said) = run(flags, data);
        assert_eq!((code, printed.as_str()), (2, ""));
        assert!(said.contains("mounted"), "{said}");
    }
    fs::rename(&away, &uploads).unwrap();
    for entry in fs::read_dir(&uploads).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        }
    }
    assert_eq!(check(data, &[]).0, 1);
    let (code, printed, said) = run(&["check", "--repair"], data);
    assert_eq!((code, printed.as_str()), (2, ""));
    assert!(said.contains("5 of 5 uploads") && said.contains("--force"), "{said}");
    let (code, found, summary) = check(data, &["--repair", "--force"]);
    assert_eq!((code, found.len(), &summary["repaired"]), (1, 5, &5.into()));
    assert_eq!(check(data, &[]).0, 0);
}

#[test]
fn a_folder_that_is_none_of_ours_is_refused_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for data in [folder.path().join("none"), folder.path().to_owned()] {
        let (code, printed, said) = run(&["check", "--repair"], &data);
        assert_eq!((code, printed.as_str()), (2, ""));
        assert!(said.contains("no data folder"), "{said}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
