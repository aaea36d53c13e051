//! The real program on a real file system loses power: at any point of what it wrote, all that was
//! not synced is there, gone or torn. Whatever a client was told until then is there, and its bytes
//! are those that it sent; also when the power fails again while the program recovers.
//!
//! `RESUMED_IMAGES=2000 cargo test --test loss` for more than the disks that are looked at by
//! themselves, `RESUMED_LOSS_SEED=7` for other ones. A disk on which something is lost is kept, and the
//! message tells how to look at it again.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod program;
mod shim;

use std::any::Any;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;

use program::{Program, Random};
use shim::clients::{Client, Upload};
use shim::disk::Disk;
use shim::trace::{Event, events};
use shim::{Fault, Shim, on};
use tempfile::TempDir;

const IMAGES: u64 = 120;
/// Rounds that run side by side.
const WORKERS: u64 = 2;
/// The images of one run of the clients.
const IMAGES_A_ROUND: u64 = 20;
const CLIENTS: usize = 4;
/// What each client does before the power fails, and between that and the next time.
const STEPS: u64 = 20;
const STEPS_AGAIN: u64 = 5;
/// The events in which the program starts, about.
const START: usize = 60;
/// How long a sync takes: so long that other requests come between its beginning and its end.
const SYNC_US: u32 = 300;

/// A life of the program that ended, and what its clients know.
struct Life {
    shim: Shim,
    before: Disk,
    events: Vec<(u64, Event)>,
    clients: Vec<Client>,
}

/// What the clients know, each for itself.
type Known = Vec<Vec<Upload>>;

/// Something that was lost.
struct Loss {
    what: String,
    /// The disk, where it can be looked at again.
    disk: Option<TempDir>,
}

impl From<String> for Loss {
    fn from(what: String) -> Self {
        Self { what, disk: None }
    }
}

impl Loss {
    /// What was lost, and where the disk is kept.
    fn kept(self) -> String {
        let Self { what, disk } = self;
        let Some(folder) = disk.map(TempDir::keep) else { return what };
        let folder = folder.display();
        format!("{what}\nTo look at it again:\nRESUMED_LOSS_DISK={folder} cargo test --test loss")
    }
}

/// Lets the program live on the disk of this shim: its clients check what they know, and go on.
///
/// # Errors
///
/// What is lost.
fn live(shim: Shim, known: Known, seed: u64, steps: u64, faults: &[Fault]) -> Result<Life, String> {
    let before = Disk::of(&shim.root());
    shim.set_faults(faults);
    let mut program = shim.start(&[])?;
    let mut random = Random(seed);
    let running: Vec<_> = known
        .into_iter()
        .map(|uploads| {
            let random = Random(random.next());
            let client = Client { random, address: program.address, trace: shim.trace(), uploads };
            thread::spawn(move || work(client, steps))
        })
        .collect();
    let clients =
        running.into_iter().map(|client| client.join().unwrap_or_else(|died| Err(told(&*died))));
    let clients: Result<Vec<Client>, String> = clients.collect();
    let clients = clients.map_err(|what| format!("{what}; the log:\n{}", program.log()))?;
    end(&mut program, random.below(2) == 0)?;
    let events = events(&fs::read(shim.trace()).unwrap());
    Ok(Life { shim, before, events, clients })
}

fn work(mut client: Client, steps: u64) -> Result<Client, String> {
    client.check()?;
    for _ in 0..steps {
        client.step().map_err(|error| error.to_string())?;
    }
    Ok(client)
}

/// What the panic of a thread said.
fn told(died: &(dyn Any + Send)) -> String {
    died.downcast_ref::<String>().cloned().unwrap_or_else(|| "a client died".to_owned())
}

fn end(program: &mut Program, is_told: bool) -> Result<(), String> {
    if is_told {
        let status = program.stop();
        if !status.success() {
            return Err(format!("ended with {status}: {}", program.log()));
        }
    } else {
        program.kill();
    }
    match program.log().contains("panicked") {
        true => Err(format!("something panicked: {}", program.log())),
        false => Ok(()),
    }
}

impl Life {
    /// Where the power may fail: while the program starts, right after a client was told something,
    /// and anywhere.
    fn points(&self, count: u64, random: &mut Random) -> Vec<u64> {
        let moments: Vec<u64> = self.clients.iter().flat_map(Client::moments).collect();
        let is_folder = |event: &Event| matches!(event, Event::CreateFolder { .. });
        let events = self.events.iter().filter(|(_, event)| !is_folder(event));
        let anywhere: Vec<u64> = events.map(|(end, _)| *end).collect();
        let mut points: Vec<u64> = (0..count)
            .map(|_| match random.below(8) {
                0 => *random.one_of(&anywhere[..anywhere.len().min(START)]),
                number if number < 4 && !moments.is_empty() => *random.one_of(&moments),
                _ => *random.one_of(&anywhere),
            })
            .collect();
        points.sort_unstable();
        points
    }

    /// Lets the power fail so often, and one time in four again after that.
    fn lose_power(mut self, count: u64, random: &mut Random, depth: u64) -> Result<u64, Loss> {
        let mut events = self.events.iter().peekable();
        let mut images = 0;
        for point in self.points(count, random) {
            while let Some((_, event)) = events.next_if(|(end, _)| *end <= point) {
                self.before.apply(event);
            }
            let seed = random.next();
            let known: Known = self.clients.iter().map(|client| client.known_at(point)).collect();
            let again = self.shim.another();
            self.before.lose_power(seed, &again.root());
            let goes_on = depth > 0 && random.below(4) == 0;
            let steps = if goes_on { STEPS_AGAIN } else { 0 };
            let life = live(again, known.clone(), seed, steps, &[]);
            images += 1;
            match life {
                Ok(life) if goes_on => images += life.lose_power(2, random, depth - 1)?,
                Ok(_) => {}
                Err(what) => {
                    return Err(self.loss(point, seed, &known, &what));
                }
            }
        }
        Ok(images)
    }

    /// A loss, with the disk.
    fn loss(&self, point: u64, seed: u64, known: &Known, what: &str) -> Loss {
        let disk = tempfile::tempdir().unwrap();
        let folder = disk.path();
        fs::create_dir(folder.join("disk")).unwrap();
        self.before.lose_power(seed, &folder.join("disk"));
        fs::write(folder.join("known.json"), serde_json::to_vec(known).unwrap()).unwrap();
        let trace = folder.join("trace");
        fs::copy(self.shim.trace(), &trace).unwrap();
        let trace = trace.display();
        let what = format!("{what}\nThe power failed at {point} of {trace}, seed {seed}.");
        Loss { what, disk: Some(disk) }
    }
}

/// One run of clients, and what becomes of it.
fn round(shim: Shim, seed: u64, count: u64, faults: &[Fault]) -> Result<u64, Loss> {
    let nothing = vec![Vec::new(); CLIENTS];
    let life = live(shim, nothing, seed, STEPS, faults)?;
    life.lose_power(count, &mut Random(seed), 2)
}

fn look_again(folder: &Path, shim: Shim) {
    Disk::of(&folder.join("disk")).lose_power(0, &shim.root());
    let known: Known =
        serde_json::from_slice(&fs::read(folder.join("known.json")).unwrap()).unwrap();
    if let Err(what) = live(shim, known, 0, 0, &[]) {
        panic!("{what}");
    }
}

#[test]
fn whatever_was_acknowledged_survives_a_power_loss_on_a_real_file_system() {
    let Some(shim) = Shim::new(SYNC_US) else { return };
    if let Some(folder) = std::env::var_os("RESUMED_LOSS_DISK") {
        return look_again(Path::new(&folder), shim);
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let wanted = number("RESUMED_IMAGES").unwrap_or(IMAGES);
    let first = number("RESUMED_LOSS_SEED").unwrap_or(1);
    let images: u64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let shim = &shim;
                scope.spawn(move || {
                    let mut images = 0;
                    let mut seed = first.wrapping_mul(1_000_003).wrapping_add(worker);
                    while images < wanted / WORKERS {
                        let count = IMAGES_A_ROUND.min(wanted / WORKERS - images);
                        images += round(shim.another(), seed, count, &[])
                            .unwrap_or_else(|loss| panic!("seed {seed}: {}", loss.kept()));
                        seed = seed.wrapping_add(WORKERS);
                    }
                    images
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    println!("{images} disks after a loss of power, seed {first}");
}

/// The test can fail: it does when the disk says that it synced and did not.
#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let Some(shim) = Shim::new(SYNC_US) else { return };
    for lies_about in ["/uploads/", "!/uploads/"] {
        let lies = [Fault::all(on::SYNC, lies_about, 0)];
        let found = (0..5).any(|seed| round(shim.another(), seed, IMAGES_A_ROUND, &lies).is_err());
        assert!(found, "nothing was lost by a disk that does not sync {lies_about}");
    }
}

/// Files on a disk of its own, as they are after a loss of power with each of some seeds.
fn after_power_loss(events: &[Event]) -> Vec<Option<Vec<u8>>> {
    let before = tempfile::tempdir().unwrap();
    let mut disk = Disk::of(before.path());
    let root = fs::metadata(before.path()).unwrap().ino();
    for event in events {
        match event.clone() {
            // The root has no number that a test could know.
            Event::SyncBegins { inode: 1, ticket } => {
                disk.apply(&Event::SyncBegins { inode: root, ticket });
            }
            event => disk.apply(&event),
        }
    }
    let look = |seed| {
        let after = tempfile::tempdir().unwrap();
        disk.lose_power(seed, after.path());
        fs::read(after.path().join("file")).ok()
    };
    (0..50).map(look).collect()
}

fn begins(inode: u64, ticket: u64) -> Event {
    Event::SyncBegins { inode, ticket }
}

fn ends(inode: u64, ticket: u64) -> Event {
    Event::SyncEnds { inode, ticket }
}

fn written(offset: u64, bytes: &[u8]) -> Event {
    Event::Write { inode: 2, offset, bytes: bytes.into() }
}

#[test]
fn a_sync_of_a_file_keeps_its_bytes_and_one_of_its_folder_its_name() {
    let created = Event::CreateFile { inode: 2, path: "file".to_owned() };
    let mut events = vec![created, written(0, &[7; 5000]), begins(2, 1), ends(2, 1)];
    let nameless = after_power_loss(&events);
    assert!(nameless.contains(&None), "a name that was not synced is always there");
    events.extend([begins(1, 2), written(5000, &[8; 5000]), ends(1, 2)]);
    let named = after_power_loss(&events);
    let bytes = |found: &Option<Vec<u8>>| found.clone().expect("a synced name is gone");
    assert!(named.iter().all(|found| bytes(found)[..5000] == [7; 5000]));
    assert!(named.iter().any(|found| bytes(found).len() < 10_000), "all is always there");
    assert!(named.iter().any(|found| bytes(found).ends_with(&[8])), "nothing more is ever there");
}

#[test]
fn a_sync_after_one_that_failed_keeps_only_what_was_written_between_them() {
    let found = after_power_loss(&[
        Event::CreateFile { inode: 2, path: "file".to_owned() },
        begins(1, 1),
        ends(1, 1),
        written(0, &[7; 5000]),
        begins(2, 2),
        Event::SyncFails { inode: 2, ticket: 2 },
        written(5000, &[8; 5000]),
        begins(2, 3),
        ends(2, 3),
    ]);
    let found: Vec<Vec<u8>> = found.into_iter().map(Option::unwrap).collect();
    assert!(found.iter().all(|bytes| bytes[5000..] == [8; 5000]));
    assert!(found.iter().any(|bytes| bytes[..5000] != [7; 5000]), "the failed sync is believed");
}
