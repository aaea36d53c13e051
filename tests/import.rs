//! `resumed import` from folders laid out as tusd does, and clients that go on after it.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use common::program::{Program, resumed, run};
use common::{CONTENT, TUS, pattern};
use serde_json::{Value, json};
use tempfile::TempDir;

const FINISHED: &str = "11110000000000000000000000000001";
const UNFINISHED: &str = "22220000000000000000000000000002";
const DEFERRED: &str = "33330000000000000000000000000003";
const EMPTY: &str = "44440000000000000000000000000004";
const ONE: &str = "55550000000000000000000000000005";
const TWO: &str = "66660000000000000000000000000006";
const FINAL: &str = "77770000000000000000000000000007";

/// A folder of tusd, and an empty one for the data.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(scene.tusd()).unwrap();
        scene
    }

    fn tusd(&self) -> PathBuf {
        self.folder.path().join("tusd")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes the two files of an upload as tusd 2 does, run as `tusd -upload-dir ./then`.
    fn add(&self, id: &str, content: &[u8], facts: &Value) {
        let mut info = json!({
            "ID": id, "Size": 0, "SizeIsDeferred": false, "Offset": 0, "MetaData": {},
            "IsPartial": false, "IsFinal": false, "PartialUploads": null,
            "Storage": {
                "InfoPath": format!("then/{id}.info"), "Path": format!("then/{id}"),
                "Type": "filestore",
            },
        });
        for (key, value) in facts.as_object().unwrap() {
            info[key] = value.clone();
        }
        let path = self.tusd().join(id);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::write(self.tusd().join(format!("{id}.info")), info.to_string()).unwrap();
    }

    fn import(&self, more: &[&str]) -> (i32, String) {
        let tusd = self.tusd();
        let args = [&["import", "--from", "tusd", tusd.to_str().unwrap()], more].concat();
        let (code, printed, said) = run(&args, &self.data());
        (code, printed + &said)
    }

    fn data_of(&self, id: &str) -> PathBuf {
        self.data().join("uploads").join(&id[..2]).join(id)
    }

    fn list_of(&self, id: &str) -> PathBuf {
        self.data_of(id).with_extension("tree")
    }

    /// All files of tusd with what is in them.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.tusd()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
        files.sort();
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    fs::metadata(one).unwrap().ino() == fs::metadata(other).unwrap().ino()
}

fn filled() -> Scene {
    let scene = Scene::new();
    let content = pattern(3_000_000);
    let meta = json!({ "filename": "wörld.txt", "filetype": "text/plain" });
    scene.add(FINISHED, &content, &json!({ "Size": 3_000_000, "MetaData": meta }));
    scene.add(UNFINISHED, &content[..1_500_000], &json!({ "Size": 3_000_000, "Offset": 7 }));
    scene.add(DEFERRED, b"abc", &json!({ "SizeIsDeferred": true }));
    scene.add(EMPTY, b"", &json!({}));
    scene.add(ONE, b"one", &json!({ "Size": 3, "IsPartial": true }));
    scene.add(TWO, b"two", &json!({ "Size": 3, "IsPartial": true }));
    let parts = json!({ "Size": 6, "IsFinal": true, "PartialUploads": [ONE, TWO] });
    scene.add(FINAL, b"onetwo", &parts);
    scene
}

#[tokio::test]
async fn clients_go_on_at_the_same_ids() {
    let scene = filled();
    let before = scene.contents();
    let content = pattern(3_000_000);
    let (code, said) = scene.import(&[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("took over 5 finished and 2 unfinished uploads"), "{said}");
    let program = Program::serve(&scene.data());

    let got = program.get(FINISHED).await;
    assert!(got.content == content, "other bytes came back");
    assert_eq!(got.fields["etag"], format!("\"{}\"", blake3::hash(&content)));
    let metadata = &program.head(FINISHED).await.fields["upload-metadata"];
    assert_eq!(metadata, "filename d8O2cmxkLnR4dA==,filetype dGV4dC9wbGFpbg==");
    assert_eq!(program.head(EMPTY).await.fields["upload-length"], "0");

    assert_eq!(program.head(UNFINISHED).await.fields["upload-offset"], "1500000");
    assert!(program.head(UNFINISHED).await.fields.contains_key("upload-expires"));
    program.append(UNFINISHED, 1_500_000, &content[1_500_000..]).await;
    let got = program.get(UNFINISHED).await;
    assert!(got.content == content, "other bytes came back");
    assert_eq!(got.fields["etag"], format!("\"{}\"", blake3::hash(&content)));
    // The one that was taken whole and the one that was gone on with have the same list.
    let lists = [FINISHED, UNFINISHED].map(|id| fs::read(scene.list_of(id)).unwrap());
    assert_eq!(lists[0].len(), 24 + 3 * 32);
    assert_eq!(lists[0], lists[1]);

    let head = program.head(DEFERRED).await;
    assert_eq!((&*head.fields["upload-offset"], &*head.fields["upload-defer-length"]), ("3", "1"));
    let fields = format!("{TUS}{CONTENT}Upload-Offset: 3\r\nUpload-Length: 5\r\n");
    let path = format!("/files/{DEFERRED}");
    assert_eq!(program.request("PATCH", &path, &fields, b"de").await.status, 204);
    assert_eq!(program.get(DEFERRED).await.content, b"abcde");

    let head = program.head(FINAL).await;
    assert_eq!(head.fields["upload-concat"], format!("final;/files/{ONE} /files/{TWO}"));
    assert_eq!(program.get(FINAL).await.content, b"onetwo");
    assert_eq!(program.head(ONE).await.fields["upload-concat"], "partial");
    let of_parts = format!("Upload-Concat: final;/files/{TWO} /files/{ONE}\r\n");
    let joined = program.create(&of_parts).await;
    assert_eq!(program.get(&joined).await.content, b"twoone");
    program.stop();

    assert!(scene.contents() == before, "the folder of tusd was changed");
    let (code, printed, _) = run(&["check", "--deep"], &scene.data());
    assert_eq!(code, 0, "{printed}");
}

#[test]
fn finished_uploads_are_linked_and_unfinished_ones_never() {
    for (more, is_linked) in [(&[][..], true), (&["--link"][..], true), (&["--copy"][..], false)] {
        let scene = filled();
        assert_eq!(scene.import(more).0, 0);
        for (id, is_linked) in [(FINISHED, is_linked), (UNFINISHED, false), (DEFERRED, false)] {
            let (from, to) = (scene.tusd().join(id), scene.data_of(id));
            assert_eq!(is_same_file(&from, &to), is_linked, "{id} {more:?}");
            assert!(fs::read(from).unwrap() == fs::read(to).unwrap());
        }
        assert_eq!(run(&["check", "--deep"], &scene.data()).0, 0);
    }
}

#[tokio::test]
async fn an_import_done_again_takes_only_what_is_missing() {
    let scene = filled();
    assert_eq!(scene.import(&[]).0, 0);
    let program = Program::serve(&scene.data());
    program.append(UNFINISHED, 1_500_000, b"more").await;
    program.stop();
    let late = "88880000000000000000000000000008";
    scene.add(late, b"late", &json!({ "Size": 4 }));
    let (code, said) = scene.import(&[]);
    assert_eq!(code, 0);
    let counts = "took over 1 finished and 0 unfinished uploads, 1 by a link; 7 were here already";
    assert!(said.starts_with(counts), "{said}");
    let program = Program::serve(&scene.data());
    assert_eq!(program.head(UNFINISHED).await.fields["upload-offset"], "1500004");
    assert_eq!(program.get(late).await.content, b"late");
    program.stop();
}

#[tokio::test]
async fn what_a_cut_import_left_is_no_obstacle_and_the_source_stays_whole() {
    let scene = filled();
    for (id, is_link) in [(FINISHED, true), (UNFINISHED, false)] {
        fs::create_dir_all(scene.data_of(id).parent().unwrap()).unwrap();
        if is_link {
            fs::hard_link(scene.tusd().join(id), scene.data_of(id)).unwrap();
        } else {
            fs::write(scene.data_of(id), b"half").unwrap();
        }
    }
    let before = scene.contents();
    assert_eq!(scene.import(&[]).0, 0);
    assert!(scene.contents() == before, "the folder of tusd was changed");
    assert_eq!(run(&["check", "--deep"], &scene.data()).0, 0);
}

#[tokio::test]
async fn a_final_upload_that_tusd_did_not_finish_is_made_of_its_parts() {
    let scene = Scene::new();
    scene.add(ONE, b"one", &json!({ "Size": 3, "IsPartial": true }));
    scene.add(TWO, b"two", &json!({ "Size": 3, "IsPartial": true }));
    let parts = json!({ "Size": 6, "IsFinal": true, "PartialUploads": [ONE, TWO] });
    scene.add(FINAL, b"onet", &parts);
    assert_eq!(scene.import(&[]).0, 0);
    let program = Program::serve(&scene.data());
    assert_eq!(program.head(FINAL).await.fields["upload-length"], "6");
    // The sweep may be at it right now.
    while !program.head(FINAL).await.fields.contains_key("upload-offset") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(program.get(FINAL).await.content, b"onetwo");
    program.stop();
}

#[test]
fn what_cannot_be_taken_over_is_named_and_the_rest_is_taken() {
    let scene = filled();
    let add =
        |id: &str, content: &[u8], size: u64| scene.add(id, content, &json!({ "Size": size }));
    add("project/upload", b"abc", 3);
    add("abc+multipart", b"abc", 3);
    let longer = "99990000000000000000000000000009";
    add(longer, b"abc", 2);
    let missing = "aaaa000000000000000000000000000a";
    add(missing, b"abc", 3);
    fs::remove_file(scene.tusd().join(missing)).unwrap();
    let locked = "bbbb000000000000000000000000000b";
    add(locked, b"ab", 3);
    let lock = scene.tusd().join(format!("{locked}.lock"));
    fs::write(&lock, format!("{}\n", std::process::id())).unwrap();
    fs::write(scene.tusd().join("other.info"), "{}").unwrap();
    let (code, said) = scene.import(&[]);
    assert_eq!(code, 1);
    for name in ["project/upload", "abc+multipart", longer, missing, locked, "other"] {
        let line = format!("skipped {}.info: ", scene.tusd().join(name).display());
        assert_eq!(said.matches(&line).count(), 1, "{name}: {said}");
    }
    assert!(said.contains("5 finished and 2 unfinished") && said.contains("6 skipped"), "{said}");
    // Whoever had the lock is gone.
    fs::write(lock, "4194305").unwrap();
    assert!(scene.import(&[]).1.contains("0 finished and 1 unfinished"));
    assert_eq!(run(&["check", "--deep"], &scene.data()).0, 0);
}

#[test]
fn data_is_taken_from_where_a_hook_put_it() {
    let scene = Scene::new();
    let elsewhere = scene.folder.path().join("elsewhere.bin");
    fs::write(&elsewhere, b"else").unwrap();
    let info = format!("then/{FINISHED}.info");
    let storage = json!({ "Type": "filestore", "Path": elsewhere, "InfoPath": info });
    scene.add(FINISHED, b"", &json!({ "Size": 4, "Storage": storage }));
    fs::create_dir(scene.tusd().join("inner")).unwrap();
    fs::write(scene.tusd().join("inner/b.bin"), b"inner").unwrap();
    let info = format!("then/{UNFINISHED}.info");
    let storage = json!({ "Type": "filestore", "Path": "then/inner/b.bin", "InfoPath": info });
    scene.add(UNFINISHED, b"", &json!({ "Size": 9, "Storage": storage }));
    assert_eq!(scene.import(&[]).0, 0);
    assert_eq!(fs::read(scene.data_of(FINISHED)).unwrap(), b"else");
    assert_eq!(fs::read(scene.data_of(UNFINISHED)).unwrap(), b"inner");
}

#[test]
fn a_data_folder_in_use_and_a_folder_that_is_none_are_refused() {
    let scene = filled();
    let program = Program::serve(&scene.data());
    let (code, said) = scene.import(&[]);
    assert_eq!(code, 2);
    assert!(said.contains(&format!("process {}", program.child.id())), "{said}");
    program.stop();
    let none = scene.folder.path().join("none");
    let mut command = resumed(&["import", "--from", "tusd"]);
    command.arg(&none).arg("--data-dir").arg(&none);
    assert_eq!(command.output().unwrap().status.code(), Some(2));
    assert!(!none.exists());
}
