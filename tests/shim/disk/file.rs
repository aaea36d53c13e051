//! The bytes of one file: what is durable, and what was written since.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use crate::program::{Random, mixed};

/// The kernel writes pages.
pub const PAGE: u64 = 4096;
/// A disk writes sectors whole.
const SECTOR: u64 = 512;

/// The content of a file. A page that is not there is zeros.
#[derive(Clone, Default)]
pub struct Pages {
    pub length: u64,
    pub pages: BTreeMap<u64, Box<[u8; 4096]>>,
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

impl Pages {
    pub fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        let mut pages = Self::default();
        for (number, page) in (0..).zip(bytes.chunks(size(PAGE))) {
            if page.iter().any(|byte| *byte != 0) {
                pages.put(number * PAGE, page);
            }
        }
        pages.length = u64::try_from(bytes.len()).unwrap();
        pages
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = size(at % PAGE);
            let (now, later) = rest.split_at(rest.len().min(size(PAGE) - within));
            let page = self.pages.entry(at / PAGE).or_insert_with(|| Box::new([0; 4096]));
            page[within..within + now.len()].copy_from_slice(now);
            at += u64::try_from(now.len()).unwrap();
            rest = later;
        }
    }

    fn clear(&mut self, range: Range<u64>) {
        for (number, page) in self.pages.range_mut(range.start / PAGE..) {
            let begin = range.start.saturating_sub(number * PAGE).min(PAGE);
            let end = range.end.saturating_sub(number * PAGE).min(PAGE);
            if begin < end {
                page[size(begin)..size(end)].fill(0);
            }
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => {
                self.put(*offset, bytes);
                self.length = change.length_after(self.length);
            }
            Change::Length(length) => self.set_length(*length),
        }
    }

    fn set_length(&mut self, length: u64) {
        self.clear(length..u64::MAX);
        self.pages.retain(|number, _| number * PAGE < length);
        self.length = length;
    }
}

enum Change {
    Write { offset: u64, bytes: Rc<[u8]> },
    Length(u64),
}

impl Change {
    fn length_after(&self, before: u64) -> u64 {
        match self {
            Self::Write { offset, bytes } => {
                before.max(offset + u64::try_from(bytes.len()).unwrap())
            }
            Self::Length(length) => *length,
        }
    }
}

/// What is known of a change.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// Not synced; decided when the power fails.
    Open,
    Durable,
    /// The sync that was to make it durable failed: never decided by a later one.
    Adrift,
}

/// A file on the disk.
pub struct Bytes {
    base: Pages,
    changes: Vec<(Fate, Change)>,
    /// So many changes before those are part of the base.
    merged: usize,
}

/// How the power takes what was not synced of a file.
#[derive(Clone, Copy)]
enum Loss {
    Everything,
    Nothing,
    /// Of each unit of this many bytes, what was written after some time.
    Units(u64),
}

impl Bytes {
    pub fn durable(base: Pages) -> Self {
        Self { base, changes: Vec::new(), merged: 0 }
    }

    pub fn write(&mut self, offset: u64, bytes: Rc<[u8]>) {
        self.changes.push((Fate::Open, Change::Write { offset, bytes }));
    }

    pub fn set_length(&mut self, length: u64) {
        self.changes.push((Fate::Open, Change::Length(length)));
    }

    /// How many changes there were, ever.
    pub fn changes(&self) -> usize {
        self.merged + self.changes.len()
    }

    /// The first so many changes are durable, unless they are adrift.
    pub fn make_durable(&mut self, count: usize) {
        self.decide(count, Fate::Durable);
        let first = self.changes.iter().position(|(fate, _)| *fate != Fate::Durable);
        for (_, change) in self.changes.drain(..first.unwrap_or(self.changes.len())) {
            self.base.apply(&change);
            self.merged += 1;
        }
    }

    /// The first so many changes will not be durable by any sync.
    pub fn give_up(&mut self, count: usize) {
        self.decide(count, Fate::Adrift);
    }

    fn decide(&mut self, count: usize, to: Fate) {
        for (fate, _) in self.changes.iter_mut().take(count.saturating_sub(self.merged)) {
            if *fate == Fate::Open {
                *fate = to;
            }
        }
    }

    /// What the file may be after the power failed.
    pub fn after_power_loss(&self, random: &mut Random) -> Pages {
        let loss = match random.below(6) {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            2 | 3 => Loss::Units(SECTOR),
            _ => Loss::Units(PAGE),
        };
        let dice = Dice { seed: random.next(), loss, open: self.open() };
        let has_garbage = random.below(3) == 0;
        let mut file = self.base.clone();
        let mut length = self.base.length;
        // The length has a unit of its own.
        let survives_in_length = |at, fate| dice.survives(u64::MAX / SECTOR * SECTOR, at, fate);
        let kept =
            self.changes.iter().zip(0..).filter(|((fate, _), at)| survives_in_length(*at, *fate));
        for ((_, change), _) in kept {
            length = change.length_after(length);
        }
        for ((fate, change), at) in self.changes.iter().zip(0_u64..) {
            match change {
                Change::Write { offset, bytes } => {
                    for unit in units(*offset, bytes.len()) {
                        let piece = &bytes[size(unit.start - offset)..size(unit.end - offset)];
                        if dice.survives(unit.start, at, *fate) {
                            file.put(unit.start, piece);
                        } else if has_garbage && unit.start >= self.base.length {
                            file.put(unit.start, &garbage(dice.seed ^ unit.start, piece.len()));
                        }
                    }
                }
                Change::Length(to) => {
                    let last =
                        file.pages.last_key_value().map_or(0, |(number, _)| (number + 1) * PAGE);
                    for unit in units(*to, size(last.saturating_sub(*to))) {
                        if dice.survives(unit.start, at, *fate) {
                            file.clear(unit);
                        }
                    }
                }
            }
        }
        file.set_length(length);
        file
    }

    /// The number of the first change that is open, and the count of those behind it.
    fn open(&self) -> (u64, u64) {
        let count = u64::try_from(self.changes.len()).unwrap();
        let first = self.changes.iter().position(|(fate, _)| *fate == Fate::Open);
        let first = first.map_or(count, |first| u64::try_from(first).unwrap());
        (first, count - first)
    }
}

/// Decides, the same each time.
struct Dice {
    seed: u64,
    loss: Loss,
    open: (u64, u64),
}

impl Dice {
    /// Whether this change is on the disk, in the sector at `begin`.
    fn survives(&self, begin: u64, change: u64, fate: Fate) -> bool {
        let unit = match self.loss {
            Loss::Units(unit) => begin / unit * unit,
            Loss::Everything | Loss::Nothing => 0,
        };
        let number = mixed(self.seed ^ mixed(unit));
        match fate {
            Fate::Durable => true,
            Fate::Adrift => mixed(number ^ change).is_multiple_of(2),
            Fate::Open => match self.loss {
                Loss::Everything => false,
                Loss::Nothing => true,
                Loss::Units(_) => change < self.open.0 + number % (self.open.1 + 1),
            },
        }
    }
}

/// The range in pieces that lie in one sector each.
fn units(offset: u64, length: usize) -> impl Iterator<Item = Range<u64>> {
    let end = offset + u64::try_from(length).unwrap();
    let mut at = offset;
    std::iter::from_fn(move || {
        let begin = at;
        at = end.min((begin / SECTOR + 1) * SECTOR);
        (begin < at).then_some(begin..at)
    })
}

/// What lay on that sector of the disk before.
fn garbage(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..length).map(|_| random.next().to_le_bytes()[0]).collect()
}
