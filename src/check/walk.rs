//! Goes through records and data side by side, in the order of the ids: a page of the records and
//! one of the 256 folders of the data are in memory at a time.

use std::collections::VecDeque;
use std::path::Path;

use super::CheckError;
use crate::protocol::id::UploadId;
use crate::storage::blocking::BlockingRecords;
use crate::storage::file::survey::{Lying, Survey};
use crate::storage::{Failure, StorageError, Stored};

/// The records of a page.
const PAGE: usize = 512;

/// What the store has under an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// Nothing.
    None,
    /// What cannot be read.
    Damaged(String),
    /// A record.
    Stored(Box<Stored>),
}

/// What is met on the way.
pub(super) enum Step<'a> {
    /// An upload that has a record, or data, or both.
    Upload(UploadId, Record, Option<&'a Lying>),
    /// Something that no store put there.
    Stranger(&'a Path),
}

/// Shows each upload that has a record or data once, and each file that is not of an upload.
///
/// # Errors
///
/// The records or the data cannot be read, and what `visit` returns.
pub(super) fn walk(
    records: &BlockingRecords,
    survey: &Survey,
    mut visit: impl FnMut(Step<'_>) -> Result<(), CheckError>,
) -> Result<(), CheckError> {
    for stranger in survey.strangers().map_err(CheckError::Survey)? {
        visit(Step::Stranger(&stranger))?;
    }
    let mut pages = Pages::new(records);
    for shard in 0..=u8::MAX {
        let found = survey.shard(shard).map_err(CheckError::Survey)?;
        for stranger in &found.strangers {
            visit(Step::Stranger(stranger))?;
        }
        let mut lying = found.uploads.iter().peekable();
        while let Some((id, record)) = pages.next_in(shard)? {
            while let Some((without, lies)) = lying.next_if(|(lies, _)| **lies < id) {
                visit(Step::Upload(*without, Record::None, Some(lies)))?;
            }
            let lies = lying.next_if(|(lies, _)| **lies == id).map(|(_, lies)| lies);
            visit(Step::Upload(id, record, lies))?;
        }
        for (without, lies) in lying {
            visit(Step::Upload(*without, Record::None, Some(lies)))?;
        }
    }
    Ok(())
}

/// The records in the order of their ids, with those that cannot be read.
struct Pages<'a> {
    records: &'a BlockingRecords,
    after: Option<UploadId>,
    page: VecDeque<(UploadId, Record)>,
    is_at_end: bool,
}

impl<'a> Pages<'a> {
    fn new(records: &'a BlockingRecords) -> Self {
        Self { records, after: None, page: VecDeque::new(), is_at_end: false }
    }

    /// The next record, if its id begins with this byte.
    fn next_in(&mut self, shard: u8) -> Result<Option<(UploadId, Record)>, CheckError> {
        if self.page.is_empty() && !self.is_at_end {
            self.turn(PAGE)?;
        }
        let is_in_shard = |(id, _): &mut (UploadId, Record)| id.to_bytes()[0] == shard;
        Ok(self.page.pop_front_if(is_in_shard))
    }

    /// Reads the next page. A record that cannot be read ends a listing, and which ones come before
    /// it is not told then; so those are taken one by one.
    fn turn(&mut self, max: usize) -> Result<(), CheckError> {
        match self.records.list(self.after, max) {
            Ok(stored) => {
                self.is_at_end = stored.is_empty();
                for stored in stored {
                    let id = stored.upload.id();
                    self.after = Some(id);
                    self.page.push_back((id, Record::Stored(Box::new(stored))));
                }
                Ok(())
            }
            Err(StorageError { failure: Failure::Damaged(_), upload: Some(id), .. })
                if max > 1 && Some(id) > self.after =>
            {
                while self.after.is_none_or(|after| after < id) && !self.is_at_end {
                    self.turn(1)?;
                }
                Ok(())
            }
            Err(StorageError { failure: Failure::Damaged(why), upload: Some(id), .. })
                if Some(id) > self.after =>
            {
                self.after = Some(id);
                self.page.push_back((id, Record::Damaged(why)));
                Ok(())
            }
            Err(error) => Err(CheckError::Records(error)),
        }
    }
}
