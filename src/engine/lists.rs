//! The lists beside the bytes of an upload: written while bytes arrive, checked against the record
//! before anybody is told what is in them, and made anew from the bytes when they are not right.
//!
//! Nothing waits for a list to be durable, and one that cannot be written is no reason to refuse
//! bytes: what is lost or damaged is found by the check.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::Engine;
use crate::protocol::digest::Blake3Digest;
use crate::protocol::id::UploadId;
use crate::protocol::tree::{
    ChainingValue, GROUP_BYTES, HEADER_BYTES, RunningRoot, Tree, groups_of, list_bytes, list_header,
};
use crate::protocol::upload::Upload;
use crate::storage::{Failure, List, StorageError};

/// How long a client waits for a list that has to be made anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// The bytes of a list that are read at once.
const READ_BYTES: u64 = 256 << 10;
/// The length of a value in a list.
const VALUE_BYTES: u64 = 32;
/// Where the first value of a tree's list stands.
const TREE_VALUES_AT: u64 = 24;

/// What is to be written to one list.
#[derive(Debug)]
pub(super) struct ListPieces {
    list: List,
    /// Each with its offset in the list.
    pieces: Vec<(u64, Vec<u8>)>,
    /// Where the list ends, once that is known.
    end: Option<u64>,
}

impl ListPieces {
    /// The values of a tree that nobody has taken yet; of one that is complete, all that is missing
    /// in the list. A single group needs no list: the root is its value.
    pub(super) fn of_tree(tree: &mut Tree, is_complete: bool) -> Option<Self> {
        const { assert!(HEADER_BYTES == 24) };
        let length = tree.length();
        if length <= GROUP_BYTES {
            return None;
        }
        let completed = tree.take_completed();
        let place = |index: u64| TREE_VALUES_AT.saturating_add(index.saturating_mul(VALUE_BYTES));
        let values: Vec<u8> = completed.values.iter().flat_map(|value| *value.as_bytes()).collect();
        let mut pieces = Vec::new();
        if !values.is_empty() {
            pieces.push((place(completed.first), values));
        }
        if let (true, Some(last)) = (is_complete, tree.last_group()) {
            let index = groups_of(length).saturating_sub(1);
            pieces.push((place(index), last.as_bytes().to_vec()));
            pieces.push((0, list_header(length).to_vec()));
        }
        let end = is_complete.then(|| list_bytes(length));
        (!pieces.is_empty()).then_some(Self { list: List::Tree, pieces, end })
    }
}

impl Engine {
    /// Writes to the lists of an upload, if that can be done.
    pub(super) async fn keep_lists(&self, id: UploadId, lists: Vec<ListPieces>) {
        for ListPieces { list, pieces, end } in lists {
            if let Err(error) = self.data.write_list(id, list, pieces, end).await {
                tracing::warn!(%error, "a list is not kept; it is made anew when it is asked for");
            }
        }
    }

    /// Sees to it that the list of a complete upload's chaining values is there and right, reading
    /// all bytes again where it is not. `false` while that takes longer than a client should wait.
    ///
    /// # Errors
    ///
    /// What the store could not do. [`Failure::Damaged`]: the bytes no longer have their digest.
    pub async fn tree_is_ready(self: &Arc<Self>, upload: &Upload) -> Result<bool, StorageError> {
        let Some(root) = upload.digest() else { return Ok(false) };
        if self.has_list(upload, root).await? {
            return Ok(true);
        }
        let engine = Arc::clone(self);
        let damaged = upload.clone();
        let work = self.in_background(upload.id(), async move {
            tracing::info!(upload = %damaged.id(), "making the list of chaining values anew");
            match engine.hash_again(&damaged).await {
                Ok(found) if found.blake3 == Some(root) => {}
                Ok(_) => tracing::error!(
                    upload = %damaged.id(),
                    "the bytes of a complete upload no longer have their digest"
                ),
                Err(error) => tracing::warn!(%error, "the list of chaining values is not made"),
            }
        });
        let Some(work) = work else { return Ok(false) };
        if timeout(PATIENCE, work).await.is_err() {
            return Ok(false);
        }
        if self.has_list(upload, root).await? {
            return Ok(true);
        }
        let failure = Failure::Damaged("its bytes no longer have their digest".to_owned());
        Err(StorageError::new("making the list of chaining values", Some(upload.id()), failure))
    }

    /// A range of the list of chaining values, in the form that clients are sent.
    ///
    /// # Errors
    ///
    /// What the store could not do; [`Failure::Missing`] when the list is shorter.
    pub async fn read_tree(
        &self,
        upload: &Upload,
        range: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        let length = upload.length().unwrap_or_default();
        if length <= GROUP_BYTES {
            let header = Bytes::copy_from_slice(&list_header(length));
            let position = |at: u64| usize::try_from(at).unwrap_or(HEADER_BYTES).min(HEADER_BYTES);
            return Ok(header.slice(position(range.start)..position(range.end)));
        }
        let end = range.end.min(range.start.saturating_add(READ_BYTES));
        let wanted = end.saturating_sub(range.start);
        let read = self.data.read_list(upload.id(), List::Tree, range.start..end).await?;
        if u64::try_from(read.len()).unwrap_or(u64::MAX) < wanted {
            let doing = "reading the list of chaining values";
            return Err(StorageError::new(doing, Some(upload.id()), Failure::Missing));
        }
        Ok(read)
    }

    /// Whether the list is there and belongs to the root.
    async fn has_list(&self, upload: &Upload, root: Blake3Digest) -> Result<bool, StorageError> {
        let length = upload.length().unwrap_or_default();
        if length <= GROUP_BYTES {
            return Ok(true);
        }
        let end = list_bytes(length);
        let header = self.data.read_list(upload.id(), List::Tree, 0..TREE_VALUES_AT).await?;
        if header != list_header(length)[..] {
            return Ok(false);
        }
        let mut running = RunningRoot::default();
        let mut at = TREE_VALUES_AT;
        while at < end {
            let next = end.min(at.saturating_add(READ_BYTES));
            let read = self.data.read_list(upload.id(), List::Tree, at..next).await?;
            let (values, cut) = read.as_chunks::<{ ChainingValue::BYTES }>();
            if !cut.is_empty() || values.is_empty() {
                return Ok(false);
            }
            values.iter().for_each(|value| running.push(ChainingValue::from_bytes(*value)));
            at = at.saturating_add(u64::try_from(read.len()).unwrap_or(u64::MAX));
        }
        Ok(running.root() == Some(root))
    }
}
