//! Where things lie: records and bytes behind two small traits. Knows no HTTP and no policy.
//!
//! The contract that keeps every promise:
//!
//! - A [`RecordStore::save`] or [`DataWriter::commit`] that returned is durable, as far as the
//!   store was asked for: against power loss, or against the end of the process.
//! - Bytes past the recorded offset are scratch: [`DataStore::writer`] cuts them off.
//! - A future that is dropped may or may not have had its effect; what had returned before stands.
//!
//! One contract suite runs against every implementation.

pub mod blocking;
pub mod codec;
#[cfg(test)]
mod contract;
pub mod file;
pub mod folder;
mod identity;
pub mod journal;
pub mod memory;
mod pace;
pub(crate) mod positioned;
pub mod sled;

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::protocol::id::UploadId;
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::{Placement, Upload};

/// What a store returns. Boxed, since the store is chosen at run time.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// What an acknowledged byte or record survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The loss of power: it is on the disk.
    PowerLoss,
    /// The death of the process: the operating system has it.
    Process,
}

/// Counts the saves of one record; the fence between two writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// A record as it lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The record.
    pub upload: Upload,
    /// Its version, to be named at the next save.
    pub version: Version,
}

/// Keeps upload records.
pub trait RecordStore: Send + Sync + 'static {
    /// The record of an upload; `None` when there is none.
    fn load(&self, id: UploadId) -> StoreFuture<'_, Option<Stored>>;

    /// Saves a record over the version that it was made from (`None`: there is none yet). Durable
    /// when it returns.
    ///
    /// # Errors
    ///
    /// [`Failure::Conflict`] when another version is there, and nothing changed.
    fn save(&self, upload: Upload, expected: Option<Version>) -> StoreFuture<'_, Version>;

    /// Forgets a record. Durable when it returns. No record is no error.
    ///
    /// # Errors
    ///
    /// [`Failure::Conflict`] when another version is there, and nothing changed.
    fn delete(&self, id: UploadId, expected: Version) -> StoreFuture<'_, ()>;

    /// The ids of at most `max` uploads whose [`Upload::wake`] is at or before `now`, earliest
    /// first. Costs as much as it returns, however many records there are.
    fn due(&self, now: Timestamp, max: usize) -> StoreFuture<'_, Vec<UploadId>>;

    /// The ids of at most `max` complete uploads with this BLAKE3 or, if none is given, this
    /// SHA-256. Costs as much as it returns. An id is a hint: look at the record before using it.
    fn alike(&self, digests: ReprDigests, max: usize) -> StoreFuture<'_, Vec<UploadId>>;

    /// At most `max` records in the order of their ids, from the first one behind `after`.
    fn list(&self, after: Option<UploadId>, max: usize) -> StoreFuture<'_, Vec<Stored>>;

    /// About how much of the data's room it takes to save a record once, in bytes.
    fn room_of(&self, _upload: &Upload) -> u64 {
        0
    }
}

/// What is kept beside the bytes of an upload: one value of 32 bytes for each of its groups of
/// 1 MiB, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// The chaining values of the BLAKE3 tree, in the form of `protocol::tree::GroupList`. They are
    /// checked against the root, and made anew where they are wrong, so nothing rests on them.
    Tree,
    /// The SHA-256 of each group, one after another. Nobody can see of them alone whether they are
    /// right.
    Sha256,
}

impl List {
    /// Every kind of list.
    pub const ALL: [Self; 2] = [Self::Tree, Self::Sha256];
}

/// Keeps the bytes of uploads.
pub trait DataStore: Send + Sync + 'static {
    /// Opens an upload's bytes for appending at `offset`, and cuts off what lies behind it. The
    /// caller holds the upload's lease. Bytes that were never written are made when `offset` is 0.
    ///
    /// # Errors
    ///
    /// [`Failure::Missing`] when fewer bytes than `offset` are there; a store may tell that only at
    /// the first write, since opening then costs nothing of its own.
    fn writer(&self, id: UploadId, offset: u64) -> StoreFuture<'_, Box<dyn DataWriter>>;

    /// Opens a range of an upload's bytes. An empty range needs no bytes to be there. Parts that
    /// are joined meanwhile are read on from the whole.
    ///
    /// # Errors
    ///
    /// [`Failure::Missing`] when fewer bytes are there; of parts behind the first that may be told
    /// only when they are read.
    fn reader(
        &self,
        id: UploadId,
        placement: &Placement,
        range: Range<u64>,
    ) -> StoreFuture<'_, Box<dyn DataReader>>;

    /// Gives an upload hold of the bytes of complete ones that lie whole, one after another; the
    /// number is the bytes of each. They outlive the uploads that they come from. Durable when it
    /// returns, at a cost that does not grow with the bytes; done again, it does no harm.
    ///
    /// # Errors
    ///
    /// [`Failure::Missing`] when the bytes of a part are not there.
    fn adopt(&self, id: UploadId, parts: Vec<(UploadId, u64)>) -> StoreFuture<'_, ()>;

    /// Lets an upload have the bytes of another in place of its own: the caller knows that they are
    /// the same, and that both uploads are complete. Each can be removed without harm to the other.
    ///
    /// # Errors
    ///
    /// [`Failure::Missing`] when one of them has no bytes; whatever failed, both are as they were.
    fn share(&self, id: UploadId, with: UploadId) -> StoreFuture<'_, ()>;

    /// Joins the parts that an upload has hold of to one piece. Durable when it returns; until
    /// [`Self::release_parts`] both are there. Done again after that, it does no harm: what was
    /// joined stays.
    ///
    /// # Errors
    ///
    /// [`Failure::Full`], and the parts are as they were; [`Failure::Missing`] when a part is not
    /// there, and they were not joined before.
    fn join(&self, id: UploadId, lengths: Arc<[u64]>) -> StoreFuture<'_, ()>;

    /// Writes pieces of a list, each at its offset in bytes, and cuts the list off at `end` if one
    /// is given. [`List::Sha256`] is durable when this returns; the other is never synced, as
    /// whoever reads it sees whether it is right.
    fn write_list(
        &self,
        id: UploadId,
        list: List,
        pieces: Vec<(u64, Vec<u8>)>,
        end: Option<u64>,
    ) -> StoreFuture<'_, ()>;

    /// A range of the bytes of a list, as far as they are there.
    fn read_list(&self, id: UploadId, list: List, range: Range<u64>) -> StoreFuture<'_, Bytes>;

    /// Frees the parts of an upload that was joined. None is no error.
    fn release_parts(&self, id: UploadId) -> StoreFuture<'_, ()>;

    /// Frees an upload's bytes, and its lists. None is no error. Readers that are open read on.
    fn remove(&self, id: UploadId) -> StoreFuture<'_, ()>;

    /// The bytes that can still be stored.
    fn room(&self) -> StoreFuture<'_, u64> {
        self.take_room(0)
    }

    /// Takes room for bytes that are to be stored beside the data, such as a record; how many can
    /// still be stored then.
    ///
    /// # Errors
    ///
    /// [`Failure::Full`]: there is too little.
    fn take_room(&self, bytes: u64) -> StoreFuture<'_, u64>;
}

/// Appends to one upload.
pub trait DataWriter: Send {
    /// Tells where the upload will end when all has come that is to be written now. A store may
    /// make room for that in larger steps than it is written in. What comes may end elsewhere.
    fn expect(&mut self, _end: u64) {}

    /// Writes these bytes behind those before. They are scratch until [`Self::commit`].
    ///
    /// After [`Failure::Full`] none of these bytes count, and those before can still be committed.
    /// After any other error, or a dropped future, the writer is of no more use.
    fn write(&mut self, pieces: Vec<Bytes>) -> StoreFuture<'_, ()>;

    /// Makes all that was written durable.
    ///
    /// After an error the bytes since the last commit count as lost, whatever a later call says.
    fn commit(&mut self) -> StoreFuture<'_, ()>;

    /// Both at once, which a store may do with less effort: for content that came in one piece,
    /// and for the end of any.
    fn write_and_commit(&mut self, pieces: Vec<Bytes>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.write(pieces).await?;
            self.commit().await
        })
    }

    /// Lets go of what it holds open, until the next call needs it again. May commit first; after an
    /// error the bytes since the last commit count as lost.
    fn rest(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// Reads one range of an upload.
pub trait DataReader: Send {
    /// The next bytes of the range, as many as the store finds good; empty at its end. A future
    /// that is dropped skips nothing. After an error every further call fails.
    fn read(&mut self) -> StoreFuture<'_, Bytes>;
}

/// The store could not do what it was asked for.
#[derive(Debug, Error)]
#[error("{doing}{}: {failure}", match upload { Some(id) => format!(" of upload {id}"), None => String::new() })]
pub struct StorageError {
    /// What it was doing, as in "writing the data".
    pub doing: &'static str,
    /// To which upload.
    pub upload: Option<UploadId>,
    /// How it failed.
    #[source]
    pub failure: Failure,
}

/// How a store failed, as far as it makes a difference to the caller.
#[derive(Debug, Error)]
pub enum Failure {
    /// Another writer saved the record in between.
    #[error("another writer saved it in between")]
    Conflict,
    /// Bytes that the record promises are not there.
    #[error("bytes are missing")]
    Missing,
    /// No room, or the quota is used up.
    #[error("no room is left")]
    Full(#[source] io::Error),
    /// What is there cannot be read.
    #[error("damaged: {0}")]
    Damaged(String),
    /// Another process has the data folder.
    #[error("{} has it already; stop that one first, or use another folder", match holder { Some(id) => format!("process {id}"), None => "another process".to_owned() })]
    Held {
        /// Its process id, if it could be read.
        holder: Option<u32>,
    },
    /// The bytes are not those of the records.
    #[error(
        "the uploads are not those of the records: {} is missing, or differs from {}. Is the disk of the uploads \
         mounted? If these are the right ones, remove the latter file",
        uploads.display(), records.display()
    )]
    Mismatched {
        /// The file that names the uploads.
        uploads: PathBuf,
        /// The one that names the records.
        records: PathBuf,
    },
    /// The store was closed, or a failure before made it unusable.
    #[error("the store is closed")]
    Closed,
    /// Anything else that the system said.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        StorageError::io("", None, error).failure
    }
}

impl StorageError {
    /// Whether no room was left.
    pub fn is_full(&self) -> bool {
        matches!(self.failure, Failure::Full(_))
    }

    /// A failure while doing something to an upload.
    pub fn new(doing: &'static str, upload: Option<UploadId>, failure: Failure) -> Self {
        Self { doing, upload, failure }
    }

    /// What the system said, told apart by whether it means that no room is left.
    pub fn io(doing: &'static str, upload: Option<UploadId>, source: io::Error) -> Self {
        let failure = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::Full(source),
            _ => Failure::Io(source),
        };
        Self { doing, upload, failure }
    }
}
