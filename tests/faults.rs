//! The real program on a disk that fails: every call that can fail does, at any byte. The client is
//! told so at once and in words; the other uploads go on; when the disk is well again each upload
//! goes on from an offset that is durable. After every fault the power is lost too: what was told
//! is there, so no offset was ever told that rests on a sync that failed.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod program;
mod shim;

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use program::{Answer, Program, Random, create_with, request};
use shim::clients::{Client, Fact};
use shim::disk::Disk;
use shim::trace::{Event, events};
use shim::{Fault, Shim, on};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;
/// The clients are answered within this.
const AT_ONCE: Duration = Duration::from_secs(8);
/// The disks that are looked at after each fault.
const IMAGES: u64 = 3;

/// A server with some uploads, of which each has a part in what goes wrong.
struct Scene {
    shim: Shim,
    before: Disk,
    program: Program,
    client: Client,
    /// Of 300 000 bytes it has 50 000.
    broken: usize,
    /// The same; the faults are not meant for it.
    other: usize,
    complete: usize,
    parts: (usize, usize),
}

impl Scene {
    fn new() -> Option<Self> {
        let shim = Shim::new(0)?;
        let before = Disk::of(&shim.root());
        let program = shim.start(&[]).unwrap();
        let (address, trace, uploads) = (program.address, shim.trace(), Vec::new());
        let mut client = Client { random: Random(7), address, trace, uploads };
        let broken = client.create_with("", 300_000, false, 50_000).unwrap();
        let other = client.create_with("", 300_000, false, 50_000).unwrap();
        let complete = client.create_with("", 9_000, false, 9_000).unwrap();
        let part = "Upload-Concat: partial\r\n";
        let one = client.create_with(part, 70_000, false, 70_000).unwrap();
        let two = client.create_with(part, 5_000, false, 5_000).unwrap();
        client.finish(one).unwrap();
        client.finish(two).unwrap();
        Some(Self { shim, before, program, client, broken, other, complete, parts: (one, two) })
    }

    fn id(&self, index: usize) -> &str {
        self.client.uploads[index].path.rsplit('/').next().unwrap()
    }

    /// What happens is on time.
    fn at_once<T>(&mut self, what: impl FnOnce(&mut Client) -> T) -> T {
        let begin = Instant::now();
        let done = what(&mut self.client);
        assert!(begin.elapsed() < AT_ONCE, "it took {:?}", begin.elapsed());
        done
    }

    /// How often a call failed as it was told to.
    fn faults(&self) -> usize {
        let events = events(&fs::read(self.shim.trace()).unwrap());
        events.iter().filter(|(_, event)| matches!(event, Event::Fault { .. })).count()
    }

    fn restart(&mut self) {
        self.program.kill();
        self.program = self.shim.start(&[]).unwrap();
        self.client.address = self.program.address;
    }

    /// The disk is well again, and everything goes on; then the power fails. When the program was
    /// started again meanwhile it has read what the kernel shows, which the disk need not have.
    fn recovers(mut self, fault: &Fault, restarts: bool) {
        assert!(self.faults() > 0, "{fault:?} did not happen");
        self.shim.set_faults(&[]);
        if restarts {
            self.restart();
        }
        // Asking for the offsets first: what is told counts.
        for index in 0..self.client.uploads.len() {
            self.at_once(|client| client.ask(index)).unwrap();
        }
        let checked = self.client.check();
        checked.unwrap_or_else(|what| panic!("{fault:?}: {what}: {}", self.program.log()));
        assert!(!self.program.log().contains("panicked"), "{fault:?}: {}", self.program.log());
        self.program.kill();
        self.survives_power_loss(fault);
    }

    fn survives_power_loss(mut self, fault: &Fault) {
        let events = events(&fs::read(self.shim.trace()).unwrap());
        let end = events.last().unwrap().0;
        let moments: Vec<u64> = self.client.moments().filter(|at| *at <= end).collect();
        let mut random = Random(1);
        let mut points: Vec<u64> = (1..IMAGES).map(|_| *random.one_of(&moments)).collect();
        points.push(end);
        points.sort_unstable();
        let mut events = events.iter().peekable();
        for point in points {
            while let Some((_, event)) = events.next_if(|(end, _)| *end <= point) {
                self.before.apply(event);
            }
            let again = self.shim.another();
            self.before.lose_power(random.next(), &again.root());
            let program = again.start(&[]).unwrap_or_else(|what| panic!("{fault:?}: {what}"));
            let mut client = Client {
                random: Random(point),
                address: program.address,
                trace: again.trace(),
                uploads: self.client.known_at(point),
            };
            let checked = client.check();
            checked.unwrap_or_else(|what| {
                let kept = again.keep();
                panic!("{fault:?}, power lost at {point}: {what}, {}", kept.display())
            });
        }
    }
}

/// An answer that says that the disk failed.
fn is_refusal(answer: io::Result<Answer>, statuses: &[u16], fault: &Fault) {
    let answer = answer.unwrap_or_else(|error| panic!("{fault:?}: no answer: {error}"));
    assert!(statuses.contains(&answer.status), "{fault:?}: {}", answer.text());
    assert!(answer.content.len() > 20, "{fault:?}: it says nothing: {}", answer.text());
    assert!(!answer.text().contains("/root/"), "{fault:?}: it names a path: {}", answer.text());
}

fn statuses_of(error: i32) -> &'static [u16] {
    match error {
        ENOSPC | EDQUOT => &[507],
        _ => &[500, 503],
    }
}

/// A PATCH meets this fault in the data of its upload alone: it is refused, the others go on.
fn append_meets(fault_of: impl FnOnce(&Scene) -> Fault) {
    let Some(scene) = Scene::new() else { return };
    append_in(scene, fault_of);
}

/// The same for a program that has nothing of the upload in memory, and has to read it.
fn append_after_restart_meets(fault_of: impl FnOnce(&Scene) -> Fault) {
    let Some(mut scene) = Scene::new() else { return };
    scene.restart();
    append_in(scene, fault_of);
}

fn append_in(mut scene: Scene, fault_of: impl FnOnce(&Scene) -> Fault) {
    let fault = fault_of(&scene);
    let (broken, other) = (scene.broken, scene.other);
    scene.shim.set_faults(std::slice::from_ref(&fault));
    let answer = scene.at_once(|client| client.send(broken, 100_000));
    is_refusal(answer, statuses_of(fault.error), &fault);
    let answer = scene.at_once(|client| client.send(other, 100_000));
    assert_eq!(answer.unwrap().status, 204, "{fault:?}: another upload does not go on");
    scene.recovers(&fault, false);
}

#[test]
fn data_that_cannot_be_written_is_refused_and_the_upload_goes_on_later() {
    for (error, room) in
        [(EIO, 0), (EIO, 4095), (ENOSPC, 1), (ENOSPC, 60_000), (EDQUOT, 4097), (EROFS, 0)]
    {
        append_meets(|scene| {
            let all = Fault::all(on::WRITE, scene.id(scene.broken), error);
            Fault { room: Some(room), ..all }
        });
    }
}

#[test]
fn data_whose_sync_failed_is_written_again() {
    for (error, count) in [(EIO, Some(1)), (EIO, None), (ENOSPC, Some(1)), (EDQUOT, Some(1))] {
        append_meets(|scene| Fault {
            count,
            ..Fault::all(on::SYNC, scene.id(scene.broken), error)
        });
    }
}

#[test]
fn data_that_cannot_be_opened_or_cut_is_refused() {
    for error in [EIO, EMFILE, EROFS] {
        append_meets(|scene| Fault::all(on::OPEN_WRITE, scene.id(scene.broken), error));
    }
    for on in [on::OPEN_READ, on::READ] {
        append_after_restart_meets(|scene| Fault::all(on, scene.id(scene.broken), EIO));
    }
}

/// A creation meets this fault; what is there already does not.
fn creation_meets(fault: &Fault) {
    let Some(mut scene) = Scene::new() else { return };
    scene.shim.set_faults(std::slice::from_ref(fault));
    let fields = "Upload-Length: 9\r\n";
    let address = scene.client.address;
    let answer = scene.at_once(|_| create_with(address, fields, b"123456789"));
    is_refusal(answer, statuses_of(fault.error), fault);
    let other = scene.other;
    assert_eq!(scene.client.send(other, 100_000).unwrap().status, 204, "{fault:?}");
    scene.shim.set_faults(&[]);
    scene.client.create_with("", 9_000, false, 5_000).unwrap();
    scene.recovers(fault, false);
}

#[test]
fn a_creation_whose_file_or_name_cannot_be_made_is_refused() {
    // The uploads that are there have their names.
    for (on, error) in [(on::OPEN_WRITE, ENOSPC), (on::OPEN_WRITE, EIO), (on::OPEN_WRITE, EMFILE)] {
        creation_meets(&Fault { count: Some(1), ..Fault::all(on, "/uploads/", error) });
    }
    for skip in [0, 1] {
        // First the bytes, then the name.
        creation_meets(&Fault { skip, count: Some(1), ..Fault::all(on::SYNC, "/uploads/", EIO) });
    }
}

/// A concatenation meets this fault. It is refused, or it is complete whatever becomes of joining.
fn concatenation_meets(fault: &Fault) {
    let Some(mut scene) = Scene::new() else { return };
    scene.shim.set_faults(std::slice::from_ref(fault));
    let (one, two) = scene.parts;
    let joined = scene.at_once(|client| client.join(one, two));
    match joined {
        Ok(index) => {
            let until = Instant::now() + AT_ONCE;
            while scene.faults() == 0 && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
            let path = scene.client.uploads[index].path.clone();
            let got = request(scene.client.address, ("GET", &path), "", b"").unwrap();
            assert_eq!((got.status, got.content.len()), (200, 75_000), "{fault:?}: {}", got.text());
            scene.client.learn(index, Fact::Complete);
        }
        Err(error) => assert!(error.to_string().contains("http/1.1 50"), "{fault:?}: {error}"),
    }
    let other = scene.other;
    assert_eq!(scene.client.send(other, 100_000).unwrap().status, 204, "{fault:?}");
    scene.recovers(fault, false);
}

#[test]
fn a_concatenation_is_refused_or_complete_whatever_call_fails() {
    let whole = ".parts/whole";
    for fault in [
        Fault::all(on::MKDIR, ".parts", EIO),
        Fault::all(on::LINK, ".parts", EIO),
        Fault { skip: 1, ..Fault::all(on::LINK, ".parts", EMFILE) },
        Fault { count: Some(1), ..Fault::all(on::SYNC, ".parts", EIO) },
        Fault { room: Some(70_001), ..Fault::all(on::WRITE, whole, ENOSPC) },
        Fault::all(on::WRITE, whole, EIO),
        Fault::all(on::SYNC, whole, EIO),
        Fault::all(on::RENAME, "/uploads/", EIO),
        Fault::all(on::REMOVE, ".parts", EIO),
    ] {
        concatenation_meets(&fault);
    }
}

#[test]
fn what_cannot_be_removed_is_cancelled_all_the_same() {
    let Some(mut scene) = Scene::new() else { return };
    let fault = Fault::all(on::REMOVE, scene.id(scene.broken), EIO);
    scene.shim.set_faults(std::slice::from_ref(&fault));
    let broken = scene.broken;
    if let Err(error) = scene.at_once(|client| client.cancel(broken)) {
        assert!(error.to_string().contains("http/1.1 500"), "{error}");
    }
    let head = scene.client.ask(broken).unwrap();
    assert!(matches!(head.status, 404 | 410), "{}", head.text());
    scene.recovers(&fault, false);
}

#[test]
fn a_download_whose_beginning_cannot_be_read_says_so() {
    for on in [on::READ, on::OPEN_READ] {
        let Some(mut scene) = Scene::new() else { return };
        let fault = Fault::all(on, scene.id(scene.complete), EIO);
        scene.shim.set_faults(std::slice::from_ref(&fault));
        let path = scene.client.uploads[scene.complete].path.clone();
        let got = scene.at_once(|client| request(client.address, ("GET", &path), "", b""));
        is_refusal(got, &[500], &fault);
        scene.recovers(&fault, false);
    }
}

/// The records cannot be saved: nobody is told that they were, and what is complete can be read.
fn records_meet(fault: &Fault) {
    let Some(mut scene) = Scene::new() else { return };
    scene.shim.set_faults(std::slice::from_ref(fault));
    let (broken, other, complete) = (scene.broken, scene.other, scene.complete);
    let answer = scene.at_once(|client| client.send(broken, 100_000));
    if answer.as_ref().is_ok_and(|answer| answer.status == 204) {
        // What failed once need not be what the answer rests on; the loss of power will tell.
        assert_eq!(fault.count, Some(1), "{fault:?} is not noticed");
    } else {
        is_refusal(answer, &[500, 503, 507], fault);
    }
    // The disk is well again: it is told clearly whether this is, too.
    scene.shim.set_faults(&[]);
    let answer = scene.at_once(|client| client.send(other, 100_000)).unwrap();
    assert!(matches!(answer.status, 204 | 500 | 503 | 507), "{fault:?}: {}", answer.text());
    for index in [broken, other] {
        let head = scene.at_once(|client| client.ask(index)).unwrap();
        assert!(matches!(head.status, 200 | 500 | 503), "{fault:?}: {}", head.text());
    }
    let path = scene.client.uploads[complete].path.clone();
    let got = request(scene.client.address, ("GET", &path), "", b"").unwrap();
    assert_eq!(got.status, 200, "{fault:?}: {}", got.text());
    scene.recovers(fault, true);
}

#[test]
fn records_that_cannot_be_saved_are_not_told_and_a_restart_mends_it() {
    for (error, room) in [(EIO, 0), (EIO, 30), (ENOSPC, 0), (ENOSPC, 30), (EDQUOT, 100)] {
        let all = Fault::all(on::WRITE, "!/uploads/", error);
        records_meet(&Fault { room: Some(room), ..all });
    }
    for (error, count) in [(EIO, Some(1)), (EIO, None), (ENOSPC, Some(1))] {
        records_meet(&Fault { count, ..Fault::all(on::SYNC, "!/uploads/", error) });
    }
}

#[test]
fn a_disk_that_becomes_read_only_still_serves_what_is_complete() {
    let Some(mut scene) = Scene::new() else { return };
    let fault = Fault::all(on::CHANGE, "*", EROFS);
    scene.shim.set_faults(std::slice::from_ref(&fault));
    let (broken, complete, parts) = (scene.broken, scene.complete, scene.parts);
    let answer = scene.at_once(|client| client.send(broken, 100_000));
    is_refusal(answer, &[500, 503], &fault);
    let address = scene.client.address;
    let fields = "Upload-Length: 9\r\n";
    is_refusal(create_with(address, fields, b"123456789"), &[500, 503], &fault);
    is_refusal(request(address, ("POST", "/files/"), fields, b""), &[500, 503], &fault);
    assert!(scene.at_once(|client| client.cancel(parts.0)).is_err());
    assert!(scene.at_once(|client| client.join(parts.0, parts.1)).is_err());
    let path = scene.client.uploads[complete].path.clone();
    let got = request(address, ("GET", &path), "", b"").unwrap();
    assert_eq!(got.status, 200, "{}", got.text());
    scene.recovers(&fault, true);
}

#[test]
fn no_descriptors_are_left_for_a_while() {
    let Some(mut scene) = Scene::new() else { return };
    let fault = Fault::all(on::OPEN_READ | on::OPEN_WRITE, "*", EMFILE);
    scene.shim.set_faults(std::slice::from_ref(&fault));
    let broken = scene.broken;
    let answer = scene.at_once(|client| client.send(broken, 100_000));
    is_refusal(answer, &[500, 503], &fault);
    scene.recovers(&fault, true);
}

#[test]
fn a_start_on_a_disk_that_fails_says_so_and_does_no_harm() {
    for (on, error) in [
        (on::READ, EIO),
        (on::OPEN_READ, EIO),
        (on::OPEN_WRITE, EMFILE),
        (on::WRITE, EIO),
        (on::SYNC, EIO),
        (on::CHANGE, EROFS),
        (on::WRITE | on::LENGTH, ENOSPC),
    ] {
        let Some(mut scene) = Scene::new() else { return };
        scene.program.kill();
        let fault = Fault::all(on, "*", error);
        scene.shim.set_faults(std::slice::from_ref(&fault));
        match scene.shim.start(&[]) {
            Ok(program) => scene.program = program,
            Err(said) => {
                assert!(said.contains("cannot use the data folder"), "{fault:?}: {said}");
                assert!(!said.contains("panicked"), "{fault:?}: {said}");
            }
        }
        scene.recovers(&fault, true);
    }
}
