//! Opens the database and the journal, and makes the database say what the journal says.
//!
//! The journal is what was promised. The database may lag behind it (a process died before it
//! flushed), and is made anew from it where it cannot be believed or opened. A journal that is
//! itself damaged is not guessed at: an operator has to say so, by `resumed check --rebuild`.

use std::fs;
use std::io;
use std::path::Path;

use super::database::reopened;
use super::index::{applied, each, guarded};
use super::open;
use super::replay::{Replay, finish};
use super::trust::{Mark, Trust};
use crate::storage::folder::DataFolder;
use crate::storage::journal::{Chain, Damage, Found, Journal};
use crate::storage::{Durability, Failure, StorageError};

/// When more frames than this had to be looked through, it is made sure that the next start need not.
const REOPEN_FRAMES: u64 = 4096;
/// What a person is told to do about a journal that is damaged.
pub const REMEDY: &str = "with the server stopped, `resumed check --rebuild` makes the records anew \
                      from all that can be read";

/// Opens both.
///
/// # Errors
///
/// [`Failure::Damaged`] says what is wrong with the journal, and how it is repaired.
pub(super) fn open_both(
    folder: &DataFolder,
    durability: Durability,
) -> Result<(sled::Db, Journal), StorageError> {
    open::with_room_kept(&folder.records(), || try_open(folder, durability))
}

fn try_open(
    folder: &DataFolder,
    durability: Durability,
) -> Result<(sled::Db, Journal), StorageError> {
    let io = |source| StorageError::io("opening the journal of the records", None, source);
    let mut chain = Chain::open(&folder.journal()).map_err(io)?;
    let is_new = chain.is_empty() && !folder.records().exists();
    let mark = Mark::of(&folder.records(), durability);
    if is_new && mark.exists() {
        let why = "its journal and its records are not there; put them back from a copy, or remove \
                   records.state to begin without them (`resumed check --repair` sets the data of \
                   the old ones aside then)";
        return Err(damaged(why.to_owned()));
    }
    if is_new {
        // First of all: sled syncs nothing that it makes, and what the loss of power leaves of it
        // can be taken for damage only where there is a journal to make it anew from.
        Journal::open(&chain, 0, durability).and_then(|mut journal| journal.begin()).map_err(io)?;
        chain = Chain::open(&folder.journal()).map_err(io)?;
    }
    let found = if is_new { Err(Unusable::New) } else { find(folder, &chain, &mark)? };
    let found = match found {
        Ok((database, Has { after, known })) => match replay(&chain, after, known, &database)? {
            Ok(last) => Ok((database, last, after.unwrap_or(0))),
            Err(why) => Err(Unusable::Damaged(why)),
        },
        Err(why) => Err(why),
    };
    let (mut database, last, mut since) = match found {
        Ok(found) => found,
        Err(why) => {
            verify(&chain)?;
            set_aside(&folder.records(), &why)
                .and_then(|()| mark.open(0))
                .map_err(|error| StorageError::io("setting the old records aside", None, error))?;
            let (database, last) = make_anew(&chain, &folder.records())?;
            (database, last, 0)
        }
    };
    if last.saturating_sub(since) > REOPEN_FRAMES {
        // So that it need not be looked through again after the next crash.
        guarded(|| database.flush()).map_err(|failure| doing(failure, "flushing the records"))?;
        database = reopened(database, &folder.records(), last)?;
        since = last;
    }
    mark.open(since).map_err(io)?;
    let journal = Journal::open(&chain, last, durability).map_err(io)?;
    Ok((database, journal))
}

/// The database as it was found, and what it has; or why it is not used.
type Usable = Result<(sled::Db, Has), Unusable>;

/// What a database has of the journal.
struct Has {
    /// The frames behind this one have to be put into it; all when it is `None`.
    after: Option<u64>,
    /// The last frame that it says was put into it: the journal had that.
    known: u64,
}

fn find(folder: &DataFolder, chain: &Chain, mark: &Mark) -> Result<Usable, StorageError> {
    let io = |source| StorageError::io("opening the records", None, source);
    if chain.is_empty() {
        // Before anything of the database is touched.
        return Err(damaged(format!("{}; {REMEDY}", Damage::Absent)));
    }
    if !folder.records().exists() {
        return Ok(Err(Unusable::Missing));
    }
    let since = match mark.trust().map_err(io)? {
        Trust::Until(since) => since,
        Trust::PowerLost => return Ok(Err(Unusable::PowerLoss)),
        Trust::Changed => {
            let why = "its files are not as they were when it was closed";
            return Ok(Err(Unusable::Damaged(why.to_owned())));
        }
    };
    // Opening changes the files.
    mark.open(since).map_err(io)?;
    match open::open(&folder.records()) {
        Ok(database) => usable(database, chain, since),
        Err(error) => match error.failure {
            Failure::Damaged(why) => Ok(Err(Unusable::Damaged(why))),
            Failure::Io(why) if says_damage(&why) => Ok(Err(Unusable::Damaged(why.to_string()))),
            _ => Err(error),
        },
    }
}

/// Why the database is not used as it is.
enum Unusable {
    /// The power was lost while it was open.
    PowerLoss,
    /// There was none yet.
    New,
    /// It is not there.
    Missing,
    /// It cannot be read, or parts of it are gone.
    Damaged(String),
}

/// Whether the database can be brought up to the journal, and from which frame on.
fn usable(database: sled::Db, chain: &Chain, since: u64) -> Result<Usable, StorageError> {
    let found = match applied(&database) {
        Ok(found) => found,
        Err(Failure::Damaged(why)) => return Ok(Err(Unusable::Damaged(why))),
        Err(failure) => return Err(doing(failure, "opening the records")),
    };
    Ok(match found {
        // New, or gone and made anew by being opened.
        None if each(database.iter()).next().is_none() => {
            Ok((database, Has { after: None, known: 0 }))
        }
        None => {
            let why = "it lacks the count of its saves, as when the process was killed in its first second";
            Err(Unusable::Damaged(why.to_owned()))
        }
        Some(count) => {
            let after = count.min(since);
            if after.saturating_add(1) < chain.first() {
                Err(Unusable::Damaged(format!("it is older than the journal: {after} saves")))
            } else {
                Ok((database, Has { after: Some(after), known: count }))
            }
        }
    })
}

/// What sled says as an input or output error, and means the content of its files.
fn says_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        || error.get_ref().is_some_and(|inner| inner.is::<sled::Error>())
}

/// Reads the journal to its end, before anything else is given up for it.
fn verify(chain: &Chain) -> Result<(), StorageError> {
    let verified = chain.walk(None, |found| match found {
        Found::Entry(..) => Ok(()),
        Found::Damage(damage) => Err(damage),
    });
    verified.map(|_| ()).map_err(unreadable)
}

fn unreadable(damage: Damage) -> StorageError {
    match damage {
        Damage::Io(error) => StorageError::io("reading the journal of the records", None, error),
        Damage::Absent | Damage::At { .. } | Damage::Missing { .. } | Damage::Short { .. } => {
            damaged(format!("{damage}; {REMEDY}"))
        }
    }
}

/// Makes room for a new database. What may be of use to a person is kept under another name.
fn set_aside(records: &Path, why: &Unusable) -> io::Result<()> {
    match why {
        Unusable::PowerLoss => {
            tracing::warn!(
                "the records were not closed before the power was lost; making them anew from the journal"
            );
            remove_all(records)
        }
        Unusable::New => Ok(()),
        Unusable::Missing => {
            tracing::warn!(
                "the database of the records is missing; making it anew from the journal"
            );
            Ok(())
        }
        Unusable::Damaged(why) => {
            let aside = records.with_extension("damaged");
            tracing::warn!(
                %why, aside = %aside.display(),
                "the database of the records cannot be used as it is; making it anew from the journal, which has all"
            );
            remove_all(&aside)?;
            fs::rename(records, &aside)
        }
    }
}

pub(super) fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes the database from all of the journal. Tells the number of the last frame.
fn make_anew(chain: &Chain, records: &Path) -> Result<(sled::Db, u64), StorageError> {
    let made = open::open(records).and_then(|database| {
        let last = replay(chain, None, 0, &database)?.map_err(damaged)?;
        Ok((database, last))
    });
    if made.is_err() {
        // Half made it would be set aside by the next start, over what was set aside by this one.
        let _ = remove_all(records);
    }
    made
}

/// Puts the frames behind number `after` into the database; all when it is `None`. Tells the number
/// of the last one, or how the database turned out to be damaged. A journal that ends before frame
/// `known` has lost its end.
fn replay(
    chain: &Chain,
    after: Option<u64>,
    known: u64,
    tree: &sled::Tree,
) -> Result<Result<u64, String>, StorageError> {
    let mut replay = Replay::new(tree);
    let walked = chain.walk(after, |found| match found {
        Found::Entry(entry, _) => {
            replay.take(entry)?;
            see_that_all_is_readable(&replay)
        }
        Found::Damage(damage) => Err(Stopped::Damage(damage)),
    });
    let replayed = walked.and_then(|last| {
        if known > last {
            return Err(Stopped::Behind { last, known });
        }
        replay.apply()?;
        see_that_all_is_readable(&replay)?;
        finish(tree, last)?;
        Ok(last)
    });
    match replayed {
        Ok(last) => Ok(Ok(last)),
        Err(Stopped::Failure(Failure::Damaged(why))) => Ok(Err(why)),
        Err(Stopped::Failure(failure)) => Err(doing(failure, "replaying the journal")),
        Err(Stopped::Damage(damage)) => Err(unreadable(damage)),
        Err(Stopped::Unreadable(why)) => Err(damaged(format!("{why}; {REMEDY}"))),
        Err(Stopped::Behind { last, known }) => Err(damaged(format!(
            "the journal ends at save {last}, and the records know {known}; {REMEDY}"
        ))),
    }
}

fn see_that_all_is_readable(replay: &Replay<'_>) -> Result<(), Stopped> {
    replay.unreadable.first().map_or(Ok(()), |why| Err(Stopped::Unreadable(why.clone())))
}

/// Why a walk along the journal ended.
enum Stopped {
    Damage(Damage),
    /// A sound frame has a record that is none.
    Unreadable(String),
    Failure(Failure),
    /// The journal lacks what the database has.
    Behind {
        last: u64,
        known: u64,
    },
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Damage(Damage::Io(error))
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn damaged(why: String) -> StorageError {
    doing(Failure::Damaged(why), "opening the records")
}

pub(super) fn doing(failure: Failure, doing: &'static str) -> StorageError {
    StorageError::new(doing, None, failure)
}
