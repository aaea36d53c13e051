//! What a disk may hold after the power failed, from what was written and synced.
//!
//! As strict as POSIX allows: a sync of a file makes its bytes and its length durable, and not its name;
//! a sync of a folder makes the names in it durable, and not what is in the files. Of what was not
//! synced, any page (or only sectors of it) may be there as it was at any time since, a length may be
//! older or newer than the bytes, and of the changes of a folder any first part. Where a length is
//! there and its bytes are not, they are zeros or garbage.
//!
//! After a sync that failed, what it was to make durable may be there or not whatever is synced
//! later: the kernel takes pages that it could not write for clean.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::trace::Event;
use crate::program::{Random, mixed};

mod file;

use self::file::Bytes;
pub use self::file::Pages;

/// A file system, as it is for the program and as it may be on the disk.
pub struct Disk {
    objects: Vec<Object>,
    /// Inodes are used again; this is who has them now.
    inodes: HashMap<u64, usize>,
    /// Syncs that began: how far each object had come.
    syncs: HashMap<u64, Vec<(usize, usize)>>,
}

enum Object {
    File(Bytes),
    Folder(Names),
}

/// The first object.
const ROOT: usize = 0;

/// Names that one call gives or takes away: two when a file is renamed within a folder.
type Renaming = Vec<(String, Option<usize>)>;

#[derive(Default)]
struct Names {
    now: BTreeMap<String, usize>,
    /// What was there at the beginning.
    base: BTreeMap<String, usize>,
    changes: Vec<Renaming>,
    /// So many of the changes are durable.
    durable: usize,
}

impl Names {
    fn change(&mut self, renaming: Renaming) {
        apply(&mut self.now, &renaming);
        self.changes.push(renaming);
    }

    fn after_power_loss(&self, random: &mut Random) -> BTreeMap<String, usize> {
        let open = self.changes.len() - self.durable;
        let kept = match random.below(4) {
            0 => 0,
            1 => open,
            _ => usize::try_from(random.below(u64::try_from(open).unwrap() + 1)).unwrap(),
        };
        let mut names = self.base.clone();
        for renaming in &self.changes[..self.durable + kept] {
            apply(&mut names, renaming);
        }
        names
    }
}

fn apply(names: &mut BTreeMap<String, usize>, renaming: &Renaming) {
    for (name, object) in renaming {
        match object {
            Some(object) => names.insert(name.clone(), *object),
            None => names.remove(name),
        };
    }
}

impl Disk {
    /// A disk with what is in this folder, all of it durable.
    pub fn of(folder: &Path) -> Self {
        let mut disk = Self { objects: Vec::new(), inodes: HashMap::new(), syncs: HashMap::new() };
        disk.scan(folder);
        disk
    }

    fn scan(&mut self, path: &Path) -> usize {
        let found = fs::symlink_metadata(path).unwrap();
        if let Some(object) = self.inodes.get(&found.ino()) {
            return *object;
        }
        let object = self.add(found.ino(), Object::Folder(Names::default()));
        if found.is_dir() {
            let mut names = BTreeMap::new();
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let inner = self.scan(&entry.path());
                names.insert(entry.file_name().into_string().unwrap(), inner);
            }
            let base = names.clone();
            self.objects[object] = Object::Folder(Names { now: names, base, ..Names::default() });
        } else {
            self.objects[object] = Object::File(Bytes::durable(Pages::read(path)));
        }
        object
    }

    fn add(&mut self, inode: u64, object: Object) -> usize {
        self.objects.push(object);
        self.inodes.insert(inode, self.objects.len() - 1);
        self.objects.len() - 1
    }

    /// What the program did.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::CreateFile { inode, path } => {
                let file = self.add(*inode, Object::File(Bytes::durable(Pages::default())));
                self.name(path, Some(file));
            }
            Event::CreateFolder { inode, path } => {
                let folder = self.add(*inode, Object::Folder(Names::default()));
                self.name(path, Some(folder));
            }
            Event::Link { from, to } => {
                let object = self.find(from);
                self.name(to, Some(object));
            }
            Event::Rename { from, to } => self.rename(from, to),
            Event::Remove { path } => self.name(path, None),
            Event::Write { inode, offset, bytes } => {
                self.file(*inode).write(*offset, Rc::clone(bytes));
            }
            Event::SetLength { inode, length } => self.file(*inode).set_length(*length),
            Event::SyncBegins { inode, ticket } => {
                let marks = self.marks(*inode);
                self.syncs.insert(*ticket, marks);
            }
            Event::SyncEnds { ticket, .. } => self.end_sync(*ticket, true),
            Event::SyncFails { ticket, .. } => self.end_sync(*ticket, false),
            Event::Fault { .. } | Event::Unknown { .. } => {}
        }
    }

    fn marks(&self, inode: u64) -> Vec<(usize, usize)> {
        let mark = |object: usize| match &self.objects[object] {
            Object::File(file) => (object, file.changes()),
            Object::Folder(folder) => (object, folder.changes.len()),
        };
        match inode {
            0 => (0..self.objects.len()).map(mark).collect(),
            _ => vec![mark(self.inodes[&inode])],
        }
    }

    fn end_sync(&mut self, ticket: u64, is_durable: bool) {
        for (object, mark) in self.syncs.remove(&ticket).unwrap() {
            match &mut self.objects[object] {
                Object::File(file) if is_durable => file.make_durable(mark),
                Object::File(file) => file.give_up(mark),
                Object::Folder(folder) if is_durable => folder.durable = folder.durable.max(mark),
                // A folder is not forgotten: file systems keep a journal of these.
                Object::Folder(_) => {}
            }
        }
    }

    fn file(&mut self, inode: u64) -> &mut Bytes {
        match &mut self.objects[self.inodes[&inode]] {
            Object::File(file) => file,
            Object::Folder(_) => panic!("a folder was written to"),
        }
    }

    fn folder(&mut self, object: usize) -> &mut Names {
        match &mut self.objects[object] {
            Object::Folder(folder) => folder,
            Object::File(_) => panic!("a file is no folder"),
        }
    }

    fn find(&self, path: &str) -> usize {
        path.split('/').filter(|name| !name.is_empty()).fold(ROOT, |object, name| {
            match &self.objects[object] {
                Object::Folder(folder) => folder.now[name],
                Object::File(_) => panic!("{path} leads through a file"),
            }
        })
    }

    fn name(&mut self, path: &str, object: Option<usize>) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.find(folder);
        self.folder(folder).change(vec![(name.to_owned(), object)]);
    }

    fn rename(&mut self, from: &str, to: &str) {
        let object = self.find(from);
        let (old_folder, old) = from.rsplit_once('/').unwrap_or(("", from));
        let (new_folder, new) = to.rsplit_once('/').unwrap_or(("", to));
        if old_folder == new_folder {
            let folder = self.find(old_folder);
            let renaming = vec![(old.to_owned(), None), (new.to_owned(), Some(object))];
            self.folder(folder).change(renaming);
        } else {
            self.name(to, Some(object));
            self.name(from, None);
        }
    }

    /// Makes in this empty folder what the disk may hold when the power fails now.
    pub fn lose_power(&self, seed: u64, folder: &Path) {
        self.make(ROOT, seed, folder, &mut HashMap::new());
    }

    fn make(&self, object: usize, seed: u64, path: &Path, made: &mut HashMap<usize, PathBuf>) {
        // The same whatever else is there, and in whatever order it is come by.
        let mut random = Random(mixed(seed ^ (u64::try_from(object).unwrap() << 32)));
        match &self.objects[object] {
            Object::Folder(folder) => {
                if object != ROOT {
                    fs::create_dir(path).unwrap();
                }
                for (name, inner) in folder.after_power_loss(&mut random) {
                    self.make(inner, seed, &path.join(name), made);
                }
            }
            Object::File(file) => {
                if let Some(before) = made.get(&object) {
                    fs::hard_link(before, path).unwrap();
                    return;
                }
                made.insert(object, path.to_owned());
                let pages = file.after_power_loss(&mut random);
                let to = File::create(path).unwrap();
                for (number, page) in &pages.pages {
                    to.write_all_at(page.as_slice(), number * file::PAGE).unwrap();
                }
                to.set_len(pages.length).unwrap();
            }
        }
    }
}
