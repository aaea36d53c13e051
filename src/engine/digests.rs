//! What is computed over content while it is written: the BLAKE3 tree of the upload, and the checksum
//! that this content has to have. In place what is soon done, else off the async threads.

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::lists::ListPieces;
use super::{Engine, Fault};
use crate::protocol::checksum::{Checksum, Checksummer};
use crate::protocol::digest::RunningSha256;
use crate::protocol::id::UploadId;
use crate::protocol::operation::ExpectedChecksum;
use crate::protocol::pieces::{PIECE_VALUE_BYTES, Pieces};
use crate::protocol::refusal::Refusal;
use crate::protocol::repr_digests::{ReprDigests, SavedSha256, Sha256Digest};
use crate::protocol::tree::{Frontier, GROUP_BYTES, Tree, in_stretches, resume_offset};
use crate::protocol::upload::{Placement, Upload};
use crate::storage::{DataReader, Failure, List, StorageError, Version};

/// Less than this is hashed where it is: handing it to another thread costs as much.
const INLINE_BYTES: u64 = 16 << 10;
/// So much is, too, by what hashes several GB a second: the bytes are in this core's cache, from
/// which they go to the disk next.
const INLINE_BYTES_OF_QUICK: u64 = 512 << 10;
/// The bytes that are hashed again before their lists are written.
const STRETCH_BYTES: u64 = 64 << 20;

/// The digests of an upload during one append.
pub(super) struct Digests {
    expected: Option<ExpectedChecksum>,
    running: Running,
}

/// What moves to the thread that hashes, and back.
#[derive(Default)]
pub(super) struct Running {
    /// `None` for an upload that has no tree.
    tree: Option<Tree>,
    /// `None` for an upload whose SHA-256 nobody wants.
    sha256: Option<RunningSha256>,
    /// `None` for an upload whose pieces are not kept, or not from its beginning on.
    pieces: Option<Box<Pieces>>,
    /// `None` without a checksum, and for one that comes behind the content: only then is it known
    /// which algorithm it has.
    checksummer: Option<Box<Checksummer>>,
}

impl Digests {
    /// Takes the digests up where the record left them. If they were not kept with this version of
    /// it, the bytes of the group that was not full are read again.
    pub(super) async fn resume(
        engine: &Engine,
        (upload, version): (&Upload, Option<Version>),
        expected: Option<ExpectedChecksum>,
    ) -> Result<Self, StorageError> {
        let checksummer = match &expected {
            Some(ExpectedChecksum::Given(checksum)) => {
                Some(Box::new(Checksummer::new(checksum.algorithm())))
            }
            Some(ExpectedChecksum::InTrailer) | None => None,
        };
        if let Some(kept) = version.and_then(|version| engine.kept.take(upload.id(), version)) {
            return Ok(Self { expected, running: Running { checksummer, ..kept } });
        }
        let sha256 = resume_sha256(engine, upload).await?;
        let groups = if sha256.is_some() { kept_pieces(engine, upload).await? } else { None };
        let (tree, pieces) = resume_groups(engine, upload, groups).await?;
        Ok(Self { expected, running: Running { tree, sha256, pieces, checksummer } })
    }

    /// Keeps them for the next append: they are of all bytes that this version of the record has.
    pub(super) fn keep(self, engine: &Engine, id: UploadId, version: Version) {
        engine.kept.keep(id, version, Running { checksummer: None, ..self.running });
    }

    /// Whether nothing may be saved before the content is whole and has its checksum.
    pub(super) fn has_checksum(&self) -> bool {
        self.expected.is_some()
    }

    /// The digests of all that was taken in.
    pub(super) fn of_all(&self) -> ReprDigests {
        self.running.of_all()
    }

    /// Keeps no pieces from now on: some could not be stored.
    pub(super) fn drop_pieces(&mut self) {
        self.running.pieces = None;
    }

    /// What is to be written to the lists of the upload.
    pub(super) fn take_lists(&mut self, is_complete: bool) -> Vec<ListPieces> {
        self.running.take_lists(is_complete)
    }

    /// What has to be kept to go on behind all that was taken in.
    pub(super) fn saved(&self) -> (Option<Frontier>, Option<SavedSha256>) {
        let Running { tree, sha256, .. } = &self.running;
        let frontier = tree.as_ref().map(|tree| tree.frontier().clone());
        (frontier, sha256.as_ref().map(SavedSha256::of))
    }

    /// Takes in the next bytes.
    pub(super) async fn update(
        &mut self,
        pieces: Vec<Bytes>,
        bytes: u64,
    ) -> Result<(), StorageError> {
        self.running.take_in(pieces, bytes).await
    }

    /// Takes in all that a reader gives.
    pub(super) async fn read(mut self, reader: Box<dyn DataReader>) -> Result<Self, StorageError> {
        self.running = self.running.read(reader).await?;
        Ok(self)
    }

    /// Whether the content has the checksum. `trailer` is the one that came behind it; the bytes
    /// in `written`, from an offset to an end, are in the data store.
    pub(super) async fn verify(
        &mut self,
        engine: &Engine,
        trailer: Option<Checksum>,
        written: (UploadId, u64, u64),
    ) -> Result<(), Fault> {
        let expected = match (self.expected.take(), trailer) {
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                let problem = "came as a trailer that the Trailer field had not announced";
                return Err(Refusal::malformed("Upload-Checksum", problem).into());
            }
            (Some(ExpectedChecksum::InTrailer), None) => {
                let problem = "was announced as a trailer and did not come; nothing was taken";
                return Err(Refusal::malformed("Upload-Checksum", problem).into());
            }
            (Some(ExpectedChecksum::Given(checksum)), _)
            | (Some(ExpectedChecksum::InTrailer), Some(checksum)) => checksum,
        };
        let algorithm = expected.algorithm();
        let computed = match self.running.checksummer.take() {
            Some(computed) => computed,
            None => read_back(engine, Box::new(Checksummer::new(algorithm)), written).await?,
        };
        if computed.matches(&expected) {
            Ok(())
        } else {
            Err(Refusal::ChecksumMismatch(algorithm).into())
        }
    }
}

impl Running {
    fn of_all(&self) -> ReprDigests {
        let sha256 = self.sha256.as_ref();
        ReprDigests {
            blake3: self.tree.as_ref().map(Tree::root),
            sha256: sha256.and_then(|sha256| Sha256Digest::of_checksum(&sha256.checksum())),
        }
    }

    fn take_lists(&mut self, is_complete: bool) -> Vec<ListPieces> {
        let tree = self.tree.as_mut();
        let tree = tree.and_then(|tree| ListPieces::of_tree(tree, is_complete));
        let pieces = self.pieces.as_deref_mut();
        let pieces = pieces.and_then(|pieces| ListPieces::of_pieces(pieces, is_complete));
        tree.into_iter().chain(pieces).collect()
    }

    /// Takes in all that a reader gives.
    async fn read(mut self, mut reader: Box<dyn DataReader>) -> Result<Self, StorageError> {
        loop {
            let piece = reader.read().await?;
            if piece.is_empty() {
                return Ok(self);
            }
            let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.take_in(vec![piece], bytes).await?;
        }
    }

    /// Whether so many bytes are hashed where they are.
    fn is_here(&self, bytes: u64) -> bool {
        let checksummer = self.checksummer.as_deref();
        let is_quick = self.sha256.is_none() && checksummer.is_none_or(Checksummer::is_quick);
        bytes <= if is_quick { INLINE_BYTES_OF_QUICK } else { INLINE_BYTES }
    }

    fn update(&mut self, pieces: &[Bytes]) {
        let offset = self.tree.as_ref().map(Tree::length).unwrap_or_default();
        in_stretches(offset, pieces, |bytes| {
            if let Some(tree) = &mut self.tree {
                tree.update(bytes);
            }
            if let Some(sha256) = &mut self.sha256 {
                sha256.update(bytes);
            }
            if let Some(pieces) = &mut self.pieces {
                pieces.update(bytes);
            }
            if let Some(checksummer) = &mut self.checksummer {
                checksummer.update(bytes);
            }
        });
    }

    async fn take_in(&mut self, pieces: Vec<Bytes>, bytes: u64) -> Result<(), StorageError> {
        if self.is_here(bytes) {
            self.update(&pieces);
            return Ok(());
        }
        let mut running = std::mem::take(self);
        let work = move || {
            running.update(&pieces);
            running
        };
        // In a box, since few need it: the appends that are open have no place for it.
        *self = Box::pin(hash(bytes, work)).await?;
        Ok(())
    }
}

/// Takes up the tree, and the pieces when those of so many full groups are kept. Both begin again
/// with the bytes of the group that is open.
async fn resume_groups(
    engine: &Engine,
    upload: &Upload,
    pieces: Option<u64>,
) -> Result<(Option<Tree>, Option<Box<Pieces>>), StorageError> {
    let frontier = upload.frontier().cloned();
    let Some(offset) = upload.offset().filter(|_| frontier.is_some() || pieces.is_some()) else {
        return Ok((None, None));
    };
    let open_group = read_open_group(engine, upload, offset).await?;
    let bytes = u64::try_from(open_group.len()).unwrap_or(u64::MAX);
    let resume = move || {
        let tree = frontier.map(|frontier| Tree::resume(frontier, &open_group));
        (tree, pieces.map(|groups| Box::new(Pieces::resume(groups, &open_group))))
    };
    hash(bytes, resume).await
}

/// The bytes of the last group, which is open.
async fn read_open_group(
    engine: &Engine,
    upload: &Upload,
    offset: u64,
) -> Result<Vec<u8>, StorageError> {
    let range = resume_offset(offset)..offset;
    let mut reader = engine.data.reader(upload.id(), upload.placement(), range).await?;
    let mut open_group = Vec::new();
    loop {
        let piece = reader.read().await?;
        if piece.is_empty() {
            return Ok(open_group);
        }
        open_group.extend_from_slice(&piece);
    }
}

/// The full groups whose pieces are kept, if they are all that lie before the open one: the setting
/// may have been off. What is kept beyond them belongs to bytes that do not count, and is cut off.
async fn kept_pieces(engine: &Engine, upload: &Upload) -> Result<Option<u64>, StorageError> {
    let Some(offset) = upload.offset() else { return Ok(None) };
    let groups = if engine.policy.keeps_pieces { resume_offset(offset) / GROUP_BYTES } else { 0 };
    let end = groups.saturating_mul(PIECE_VALUE_BYTES);
    let last = end.saturating_sub(PIECE_VALUE_BYTES)..end.saturating_add(1);
    let kept = engine.data.read_list(upload.id(), List::Sha256, last.clone()).await?;
    let kept_end = last.start.saturating_add(u64::try_from(kept.len()).unwrap_or(u64::MAX));
    if kept_end > end {
        engine.data.write_list(upload.id(), List::Sha256, Vec::new(), Some(end)).await?;
    }
    Ok((engine.policy.keeps_pieces && kept_end >= end).then_some(groups))
}

/// Takes the SHA-256 up where the record left it. All is read again only after another release of
/// this program, with another form of its state.
async fn resume_sha256(
    engine: &Engine,
    upload: &Upload,
) -> Result<Option<RunningSha256>, StorageError> {
    let (Some(offset), Some(saved)) = (upload.offset(), upload.saved_sha256()) else {
        return Ok(None);
    };
    if let Some(resumed) = saved.resume(offset) {
        return Ok(Some(resumed));
    }
    tracing::warn!(upload = %upload.id(), "the state of its SHA-256 is of no use; reading it again");
    // In a box, since next to none need it.
    Box::pin(read_sha256(engine, upload, offset)).await
}

/// The SHA-256 of the bytes up to an offset, read again.
async fn read_sha256(
    engine: &Engine,
    upload: &Upload,
    offset: u64,
) -> Result<Option<RunningSha256>, StorageError> {
    let running = Running { sha256: Some(RunningSha256::new()), ..Running::default() };
    let reader = engine.data.reader(upload.id(), upload.placement(), 0..offset).await?;
    Ok(running.read(reader).await?.sha256)
}

impl Engine {
    /// The digests of a complete upload, read from its bytes; its lists are made anew on the way.
    pub(super) async fn hash_again(&self, upload: &Upload) -> Result<ReprDigests, StorageError> {
        let length = upload.length().unwrap_or_default();
        let wants_sha256 = self.policy.keeps_sha256 || upload.declared().sha256.is_some();
        let sha256 = wants_sha256.then(RunningSha256::new);
        let known = upload.digests().or(upload.declared());
        let tree = (self.policy.keeps_tree || known.blake3.is_some()).then(Tree::new);
        // Nobody can see of kept pieces whether they are right: they are written once only.
        let is_first = upload.digests().sha256.is_none() && sha256.is_some();
        let pieces = (self.policy.keeps_pieces && is_first).then(Box::<Pieces>::default);
        let mut running = Running { tree, sha256, pieces, checksummer: None };
        let mut start = 0;
        while start < length {
            let end = length.min(start.saturating_add(STRETCH_BYTES));
            let reader = self.data.reader(upload.id(), upload.placement(), start..end).await?;
            running = running.read(reader).await?;
            if self.keep_lists(upload.id(), running.take_lists(end == length)).await.is_err() {
                running.pieces = None;
            }
            start = end;
        }
        Ok(running.of_all())
    }
}

/// Hashes so many bytes on a thread for it, or where it is when they are few.
pub(super) async fn hash<T: Send + 'static>(
    bytes: u64,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    if bytes <= INLINE_BYTES {
        return Ok(work());
    }
    let died = |_| StorageError::new("hashing the content", None, Failure::Closed);
    spawn_blocking(work).await.map_err(died)
}

/// Hashes what was written, once it is known how.
async fn read_back(
    engine: &Engine,
    checksummer: Box<Checksummer>,
    (id, offset, end): (UploadId, u64, u64),
) -> Result<Box<Checksummer>, Fault> {
    let running = Running { checksummer: Some(checksummer.clone()), ..Running::default() };
    let reader = engine.data.reader(id, &Placement::Whole, offset..end).await?;
    Ok(running.read(reader).await?.checksummer.unwrap_or(checksummer))
}
