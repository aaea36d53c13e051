//! Makes the records anew from all that can be read, when a person says so.

use std::fs;
use std::io;
use std::path::Path;

use super::index::{self, applied, decode, guarded, read};
use super::recover::{doing, remove_all};
use super::replay::{Replay, finish, no_record};
use super::trust::Mark;
use super::{open, pieces};
use crate::storage::folder::{DataFolder, sync_folder};
use crate::storage::journal::{BasePoint, Chain, Entry, Found, write_base};
use crate::storage::{Durability, Failure, StorageError};

/// What became of a rebuilding.
#[derive(Debug)]
pub struct Rebuilt {
    /// The records that there are now.
    pub records: u64,
    /// What could not be read, each in words for a person.
    pub unreadable: Vec<String>,
}

/// Makes the database and, if anything of it was unreadable, the journal anew: from the journal,
/// and from the old database as far as that is ahead of what the journal tells. What was there
/// before is kept as `records.damaged` and `journal.damaged`. Done again after a failure or a crash,
/// it ends in the same. Blocks.
///
/// # Errors
///
/// [`Failure::Damaged`] when nothing is there to make them from; [`Failure::Full`] and [`Failure::Io`].
/// Nothing that was readable is lost then.
pub fn rebuild(folder: &DataFolder) -> Result<Rebuilt, StorageError> {
    let new = folder.records().with_extension("new");
    open::with_room_kept(&folder.records(), || {
        let rebuilt =
            remove_all(&new).map_err(Failure::from).and_then(|()| make_anew(folder, &new));
        if rebuilt.is_err() {
            // Whatever was the matter: the room is needed.
            let _ = remove_all(&new);
        }
        rebuilt.map_err(|failure| doing(failure, "making the records anew"))
    })
}

fn make_anew(folder: &DataFolder, new: &Path) -> Result<Rebuilt, Failure> {
    let durability = Durability::PowerLoss;
    let (records, journal) = (folder.records(), folder.journal());
    let chain = Chain::open(&journal)?;
    if chain.is_empty() && !records.exists() {
        let why = "neither its journal nor its records are there; put one of them back from a copy";
        return Err(Failure::Damaged(why.to_owned()));
    }
    let mut unreadable = Vec::new();
    let database = open::open(new).map_err(|error| error.failure)?;
    let mut last = salvage(&chain, &database, &mut unreadable)?;
    let old = records.exists().then(|| open::open(&records).map_err(|error| error.failure));
    let known = old.as_ref().and_then(|old| applied(old.as_ref().ok()?).ok()?).unwrap_or(0);
    if !chain.is_empty() && known > last {
        unreadable.push(format!("the journal ends at save {last}, and the records know {known}"));
    }
    if chain.is_empty() || !unreadable.is_empty() {
        let merged = old.map_or(Ok(()), |old| merge(&old?, &database, &mut last, &mut unreadable));
        if let Err(failure) = merged {
            unreadable.push(format!("the old database: {failure}"));
        }
    }
    finish(&database, last)?;
    let count = index::records(&database)
        .try_fold(0_u64, |count, record| record.map(|_| count.saturating_add(1)))?;
    guarded(|| database.flush())?;
    let aside = journal.with_extension("damaged");
    let kept = journal.with_extension("damaged-new");
    if chain.is_empty() || !unreadable.is_empty() {
        if chain.is_empty() {
            fs::create_dir_all(&journal)?;
        } else {
            link_all(&journal, &kept)?;
        }
        journal.parent().map_or(Ok(()), sync_folder)?;
        // Until it has its name the old files count, and nothing of them is touched.
        let point = BasePoint::behind(&chain, last);
        write_base(&journal, point, index::records(&database), durability)?;
    }
    if kept.exists() {
        // Also what another attempt did not come to.
        remove_all(&aside)?;
        fs::rename(&kept, &aside)?;
    }
    drop(database);
    replace(folder, durability, last)?;
    Ok(Rebuilt { records: count, unreadable })
}

/// Gives the files of the journal another name each: they outlive what is done to the first one.
fn link_all(journal: &Path, kept: &Path) -> io::Result<()> {
    // Of another attempt, whose files are those of the journal still, or what a base stands for.
    remove_all(kept)?;
    fs::create_dir(kept)?;
    for entry in fs::read_dir(journal)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::hard_link(entry.path(), kept.join(entry.file_name()))?;
        }
    }
    sync_folder(kept)
}

/// Puts what can be read of the journal into the database.
fn salvage(
    chain: &Chain,
    database: &sled::Db,
    unreadable: &mut Vec<String>,
) -> Result<u64, Failure> {
    let mut replay = Replay::new(database);
    let last = chain.walk(None, |found| {
        match found {
            Found::Entry(entry, _) => match failure_of(entry) {
                None => replay.take(entry)?,
                // It does not take the place of the one before.
                Some(why) => unreadable.push(why),
            },
            Found::Damage(damage) => unreadable.push(damage.to_string()),
        }
        Ok::<_, Failure>(())
    })?;
    // Without the count: that comes when all is done.
    replay.apply()?;
    Ok(last)
}

fn failure_of(entry: Entry<'_>) -> Option<String> {
    match entry {
        Entry::Save { id, record } => decode(id, record).err().map(|why| no_record(id, &why)),
        Entry::Delete { .. } | Entry::End { .. } => None,
    }
}

/// Takes over what the old database has and the new one has not, or only in an older version.
fn merge(
    old: &sled::Db,
    new: &sled::Db,
    last: &mut u64,
    unreadable: &mut Vec<String>,
) -> Result<(), Failure> {
    let mut replay = Replay::new(new);
    let mut found = index::entries(old);
    let read_to = loop {
        let (id, entry) = match found.next() {
            Some(Ok(found)) => found,
            Some(Err(failure)) => break Err(failure),
            None => break Ok(()),
        };
        let record = pieces::whole(old, id, entry)
            .and_then(|record| record.map(|record| Ok((decode(id, &record)?, record))).transpose());
        match record {
            Ok(Some((stored, record)))
                if read(new, id)?.is_none_or(|known| known.version < stored.version) =>
            {
                replay.take(Entry::Save { id, record: &record })?;
            }
            Ok(_) => {}
            Err(why) => unreadable.push(format!("the old database: {}", no_record(id, &why))),
        }
    };
    // Also what was read before the first that cannot be.
    replay.apply()?;
    *last = applied(old)?.unwrap_or(0).max(*last);
    read_to
}

/// Puts the new database in the place of the old one.
fn replace(folder: &DataFolder, durability: Durability, last: u64) -> io::Result<()> {
    let records = folder.records();
    let (new, aside) = (records.with_extension("new"), records.with_extension("damaged"));
    if records.exists() {
        remove_all(&aside)?;
        fs::rename(&records, &aside)?;
    }
    fs::rename(&new, &records)?;
    Mark::of(&records, durability).close(last)
}
