//! Makes the records anew from all that can be read, when a person says so.

use std::fs;
use std::io;

use super::failure;
use super::index::{self, applied, decode, read};
use super::open;
use super::recover::{doing, remove_all};
use super::replay::{Replay, finish, no_record};
use super::trust::Mark;
use crate::storage::folder::DataFolder;
use crate::storage::journal::{Chain, Entry, Found, Journal, write_base};
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
/// before is kept as `records.damaged` and `journal.damaged`. Done again after a crash, it ends in
/// the same. Blocks.
///
/// # Errors
///
/// [`Failure::Damaged`] when nothing is there to make them from; [`Failure::Full`] and [`Failure::Io`].
/// Nothing that was readable is lost then.
pub fn rebuild(folder: &DataFolder) -> Result<Rebuilt, StorageError> {
    let rebuilding = "making the records anew";
    let io = |source| StorageError::io(rebuilding, None, source);
    let durability = Durability::PowerLoss;
    let (records, journal) = (folder.records(), folder.journal());
    let new = records.with_extension("new");
    remove_all(&new).map_err(io)?;
    let chain = Chain::open(&journal).map_err(io)?;
    if chain.is_empty() && !records.exists() {
        let why = "neither its journal nor its records are there; put one of them back from a copy";
        return Err(doing(Failure::Damaged(why.to_owned()), rebuilding));
    }
    let mut unreadable = Vec::new();
    let database = open::open(&new)?;
    let mut last = salvage(&chain, &database, &mut unreadable)
        .map_err(|failure| doing(failure, rebuilding))?;
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
    finish(&database, last).map_err(|failure| doing(failure, rebuilding))?;
    let count = index::records(&database).count();
    database.flush().map_err(|error| doing(failure(error), rebuilding))?;
    if !unreadable.is_empty() || chain.is_empty() {
        let aside = journal.with_extension("damaged");
        if journal.exists() {
            remove_all(&aside).and_then(|()| fs::rename(&journal, &aside)).map_err(io)?;
        }
        let chain = Chain::open(&journal).map_err(io)?;
        let mut journal_new = Journal::open(&chain, last, durability).map_err(io)?;
        let point = journal_new.begin_base().map_err(io)?;
        write_base(&journal, point, index::records(&database), durability)
            .map_err(|failure| doing(failure, rebuilding))?;
    }
    drop(database);
    replace(folder, durability, last).map_err(io)?;
    Ok(Rebuilt { records: u64::try_from(count).unwrap_or(u64::MAX), unreadable })
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
    let mut found = index::records(old);
    let read_to = loop {
        let (id, record) = match found.next() {
            Some(Ok(found)) => found,
            Some(Err(failure)) => break Err(failure),
            None => break Ok(()),
        };
        match decode(id, &record) {
            Ok(stored) if read(new, id)?.is_none_or(|known| known.version < stored.version) => {
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
