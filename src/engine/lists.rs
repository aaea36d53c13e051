//! The lists beside the bytes of an upload: written while bytes arrive, checked against the record
//! before anybody is told what is in them, and made anew from the bytes when they are not right.
//!
//! Nothing waits for the tree's list to be durable, and one that cannot be written is no reason to refuse
//! bytes: what is lost or damaged is found by the check. Only pieces (the SHA-256 of each group)
//! cannot be checked: they are durable before the record that counts their bytes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Engine;
use crate::protocol::digest::Blake3Digest;
use crate::protocol::id::UploadId;
use crate::protocol::pieces::{PIECE_VALUE_BYTES, Pieces};
use crate::protocol::tree::{
    ChainingValue, GROUP_BYTES, HEADER_BYTES, RunningRoot, Tree, groups_of, list_bytes, list_header,
};
use crate::protocol::upload::Upload;
use crate::storage::{Failure, List, StorageError};

/// How long a client waits for a list that has to be made anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// The bytes of a list that are read at once.
const READ_BYTES: u64 = 256 << 10;
/// The length of a value in either list.
const VALUE_BYTES: u64 = PIECE_VALUE_BYTES;
const _: () = assert!(ChainingValue::BYTES as u64 == VALUE_BYTES);
/// Where the first value of a tree's list stands.
const TREE_VALUES_AT: u64 = HEADER_BYTES as u64;

/// What is to be written to one list.
#[derive(Debug)]
pub(super) struct ListPieces {
    list: List,
    /// Each with its offset in the list.
    pieces: Vec<(u64, Vec<u8>)>,
    /// Where the list ends, once that is known.
    end: Option<u64>,
}

/// Pieces are lost.
#[derive(Debug)]
pub(super) struct NotKept;

impl ListPieces {
    /// Whether this has to be durable before the record is: nobody could see that it is wrong.
    pub(super) fn is_trusted(&self) -> bool {
        self.list == List::Sha256
    }

    /// The values of pieces that nobody has taken yet; of all bytes, also the last. A single piece
    /// has the digest of the whole.
    pub(super) fn of_pieces(running: &mut Pieces, is_complete: bool) -> Option<Self> {
        if running.length() <= GROUP_BYTES {
            return None;
        }
        let place = |index: u64| index.saturating_mul(VALUE_BYTES);
        let (first, values) = running.take_completed();
        let mut pieces = Vec::new();
        if !values.is_empty() {
            pieces.push((place(first), values));
        }
        if let (true, Some((index, value))) = (is_complete, running.last()) {
            pieces.push((place(index), value.to_vec()));
        }
        let end = is_complete.then(|| place(groups_of(running.length())));
        (!pieces.is_empty()).then_some(Self { list: List::Sha256, pieces, end })
    }

    /// The values of a tree that nobody has taken yet; of one that is complete, all that is missing
    /// in the list. A single group needs no list: the root is its value.
    pub(super) fn of_tree(tree: &mut Tree, is_complete: bool) -> Option<Self> {
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
    ///
    /// # Errors
    ///
    /// Pieces could not be written: from now on there are none of this upload.
    pub(super) async fn keep_lists(
        &self,
        id: UploadId,
        lists: Vec<ListPieces>,
    ) -> Result<(), NotKept> {
        let mut kept = Ok(());
        for ListPieces { list, pieces, end } in lists {
            let Err(error) = self.data.write_list(id, list, pieces, end).await else { continue };
            tracing::warn!(%error, "a list of an upload is not kept");
            match list {
                // Made anew when it is asked for.
                List::Tree => {}
                List::Sha256 => {
                    self.drop_pieces(id).await;
                    kept = Err(NotKept);
                }
            }
        }
        kept
    }

    /// Empties the list of pieces: what was written of it can be read and is not durable, so nobody
    /// may go on with it.
    async fn drop_pieces(&self, id: UploadId) {
        if let Err(error) = self.data.write_list(id, List::Sha256, Vec::new(), Some(0)).await {
            tracing::warn!(%error, "pieces that are not durable are left over");
        }
    }

    /// The SHA-256 of the groups of a complete upload, one after another, when they are kept:
    /// their length in bytes.
    ///
    /// # Errors
    ///
    /// What the store could not do.
    pub async fn pieces_bytes(&self, upload: &Upload) -> Result<Option<u64>, StorageError> {
        let groups = groups_of(upload.length().unwrap_or_default());
        let end = groups.saturating_mul(VALUE_BYTES);
        if groups < 2 || upload.digests().sha256.is_none() {
            return Ok(None);
        }
        // All of it is there when its end is, and it was cut there when it was complete.
        let last = end.saturating_sub(VALUE_BYTES)..end.saturating_add(1);
        let kept = self.data.read_list(upload.id(), List::Sha256, last).await?;
        Ok((u64::try_from(kept.len()) == Ok(VALUE_BYTES)).then_some(end))
    }

    /// A range of those, or the first of it.
    ///
    /// # Errors
    ///
    /// What the store could not do; [`Failure::Missing`] when they are fewer.
    pub async fn read_pieces(
        &self,
        upload: &Upload,
        range: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        self.read_whole(upload.id(), List::Sha256, range).await
    }

    async fn read_whole(
        &self,
        id: UploadId,
        list: List,
        range: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        let end = range.end.min(range.start.saturating_add(READ_BYTES));
        let wanted = end.saturating_sub(range.start);
        let read = self.data.read_list(id, list, range.start..end).await?;
        if u64::try_from(read.len()).unwrap_or(u64::MAX) < wanted {
            return Err(StorageError::new("reading a list", Some(id), Failure::Missing));
        }
        Ok(read)
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
        let (tell, told) = oneshot::channel();
        let (engine, of) = (Arc::clone(self), upload.clone());
        let work = self.in_background(upload.id(), async move {
            tracing::info!(upload = %of.id(), "making the list of chaining values anew");
            let made = engine.make_list(&of, root).await;
            if let Err(error) = &made {
                tracing::warn!(%error, "the list of chaining values is not made");
            }
            // Who asked for it may have gone.
            let _ = tell.send(made);
        });
        if work.is_none() {
            return Ok(false);
        }
        match timeout(PATIENCE, told).await {
            Ok(Ok(made)) => made?,
            // It takes longer, or the engine stops.
            Ok(Err(_)) | Err(_) => return Ok(false),
        }
        // It could not be written, perhaps.
        self.has_list(upload, root).await
    }

    async fn make_list(&self, upload: &Upload, root: Blake3Digest) -> Result<(), StorageError> {
        if self.hash_again(upload).await?.blake3 == Some(root) {
            return Ok(());
        }
        let problem = "the bytes of a complete upload no longer have their digest";
        tracing::error!(upload = %upload.id(), "{problem}");
        let failure = Failure::Damaged(problem.to_owned());
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
        self.read_whole(upload.id(), List::Tree, range).await
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

#[cfg(test)]
mod tests;
