//! The lists beside an upload's file: `<id>.tree` and `<id>.sha256`. An upload of one group has none,
//! and an upload may lack them for any reason: they are made anew from the bytes then.
//!
//! `<id>.tree` has the form that clients are sent (`docs/tree-format.md`), but its header stays zero
//! until the upload is complete. In `<id>.sha256` are the 32 bytes of each group, one after another.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bytes::Bytes;

use super::Shared;
use crate::protocol::id::UploadId;
use crate::storage::folder::sync_folder;
use crate::storage::{Durability, List};

impl Shared {
    pub(super) fn list_path(&self, id: UploadId, list: List) -> PathBuf {
        let extension = match list {
            List::Tree => "tree",
            List::Sha256 => "sha256",
        };
        self.shard(id).join(format!("{id}.{extension}"))
    }

    pub(super) fn write_list(
        &self,
        id: UploadId,
        list: List,
        pieces: &[(u64, Vec<u8>)],
        end: Option<u64>,
    ) -> io::Result<()> {
        let path = self.list_path(id, list);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        for (offset, bytes) in pieces {
            file.write_all_at(bytes, *offset)?;
        }
        if let Some(end) = end {
            file.set_len(end)?;
        }
        if list == List::Sha256 && self.durability == Durability::PowerLoss {
            file.sync_data()?;
            sync_folder(&self.shard(id))?;
        }
        Ok(())
    }

    pub(super) fn read_list(
        &self,
        id: UploadId,
        list: List,
        range: Range<u64>,
    ) -> io::Result<Bytes> {
        let file = match File::open(self.list_path(id, list)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bytes::new()),
            opened => opened?,
        };
        let end = file.metadata()?.len().min(range.end);
        let count = end.saturating_sub(range.start);
        super::reader::read_exact_at(&file, range.start, count).map(Bytes::from)
    }

    pub(super) fn remove_lists(&self, id: UploadId) -> io::Result<()> {
        for list in List::ALL {
            match fs::remove_file(self.list_path(id, list)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }
}
