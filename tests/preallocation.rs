//! Blocks that a file is given in advance: the real program takes them for content that comes fast,
//! does without them where the disk has none, and gives back those that are not filled.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod program;
mod shim;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use program::{Answer, Program, Slow, append, content, request};
use shim::trace::{Event, events};
use shim::{Fault, Shim, on};

const LENGTH: u64 = 32 << 20;
const PIECE: u64 = 3 << 20;
/// What comes first and is not preallocated, and what the file system needs for itself.
const SLACK: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with an upload of which nothing has come.
struct Scene {
    shim: Shim,
    program: Program,
    path: String,
}

impl Scene {
    fn new(length: u64) -> Option<Self> {
        let shim = Shim::new(0)?;
        let program = shim.start(&[]).unwrap();
        let length = format!("Upload-Length: {length}\r\n");
        let created = request(program.address, ("POST", "/files/"), &length, b"").unwrap();
        let path = created.expect(&[201]).unwrap().path();
        Some(Self { shim, program, path })
    }

    fn append(&self, offset: u64) -> Answer {
        let bytes = content(offset, PIECE);
        append(self.program.address, (&self.path, offset), "", &bytes).unwrap()
    }

    /// An append whose content is still to come.
    fn begin(&self, offset: u64, bytes: u64) -> Slow {
        let mut slow = Slow::open(self.program.address).unwrap();
        let head = format!(
            "PATCH {} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\n\
             Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\n\
             Content-Length: {bytes}\r\n\r\n",
            self.path
        );
        slow.send(head.as_bytes()).unwrap();
        slow
    }

    fn id(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }

    fn file(&self) -> PathBuf {
        let id = self.id();
        self.shim.root().join("data/uploads").join(&id[..2]).join(id)
    }

    /// The bytes that the file has, and those that it takes on the disk, once that is so.
    fn wait_for(&self, is_so: impl Fn(u64, u64) -> bool) -> (u64, u64) {
        let begin = Instant::now();
        loop {
            let found = fs::metadata(self.file()).map(|file| (file.len(), 512 * file.blocks()));
            match found {
                Ok((length, taken)) if is_so(length, taken) => return (length, taken),
                found => assert!(begin.elapsed() < PATIENCE, "{found:?}: {}", self.program.log()),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn what_was_taken_for_content_that_does_not_come_is_given_back() {
    let Some(scene) = Scene::new(LENGTH) else { return };
    let mut offset = 0;
    // The one stalls for a moment and goes away, the other goes away at once.
    for stalls in [true, false] {
        let mut slow = scene.begin(offset, LENGTH - offset);
        slow.send(&content(offset, PIECE)).unwrap();
        offset += PIECE;
        if stalls {
            scene.wait_for(|length, taken| length == offset && taken <= offset + SLACK);
            slow.send(&content(offset, PIECE)).unwrap();
            offset += PIECE;
        }
        drop(slow);
        scene.wait_for(|length, taken| length == offset && taken <= offset + SLACK);
    }
    let events = events(&fs::read(scene.shim.trace()).unwrap());
    let changes = events.iter().filter(|(_, event)| matches!(event, Event::SetLength { .. }));
    // It was taken and given back for each piece.
    assert!(changes.count() >= 6);
    for end in (offset..LENGTH).step_by(usize::try_from(PIECE).unwrap()) {
        let bytes = content(end, PIECE.min(LENGTH - end));
        let answer = append(scene.program.address, (&scene.path, end), "", &bytes).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    let whole = request(scene.program.address, ("GET", &scene.path), "", b"").unwrap();
    assert!(whole.content == content(0, LENGTH));
    scene.wait_for(|length, taken| length == LENGTH && taken <= LENGTH + SLACK);
}

#[test]
fn a_disk_that_has_nothing_in_advance_takes_the_content_all_the_same() {
    for error in ["ENOSPC", "EDQUOT", "EIO", "EOPNOTSUPP"] {
        let Some(scene) = Scene::new(LENGTH) else { return };
        let number = match error {
            "ENOSPC" => 28,
            "EDQUOT" => 122,
            "EIO" => 5,
            _ => 95,
        };
        scene.shim.set_faults(&[Fault::all(on::LENGTH, scene.id(), number)]);
        for piece in 0..2 {
            let answer = scene.append(piece * PIECE);
            assert_eq!(answer.status, 204, "{error}: {}", answer.text());
        }
        let events = events(&fs::read(scene.shim.trace()).unwrap());
        let failed = events.iter().filter(|(_, event)| matches!(event, Event::Fault { .. }));
        // A file system that cannot is not asked again.
        let failed = failed.count();
        assert!(failed >= 1 && (failed == 1 || error != "EOPNOTSUPP"), "{error}: {failed}");
        let head = request(scene.program.address, ("HEAD", &scene.path), "", b"").unwrap();
        assert_eq!(head.offset(), Some(2 * PIECE), "{error}");
        assert_eq!(fs::read(scene.file()).unwrap(), content(0, 2 * PIECE), "{error}");
    }
}

#[test]
fn an_append_whose_record_cannot_be_saved_gives_back_what_it_took() {
    // The first save comes behind 64 MiB.
    const SENT: u64 = 66 << 20;
    let Some(scene) = Scene::new(4 * SENT) else { return };
    let mut slow = scene.begin(0, 4 * SENT);
    scene.shim.set_faults(&[Fault::all(on::WRITE | on::SYNC, "/journal/", 28)]);
    slow.send(&content(0, SENT)).unwrap();
    let answer = slow.head().unwrap();
    assert!((500..600).contains(&answer.status), "{}", answer.head);
    scene.wait_for(|length, taken| length >= 64 << 20 && taken <= length + SLACK);
}
