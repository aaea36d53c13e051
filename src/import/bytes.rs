//! Brings the bytes of one file into the store, and computes their digests on the way. Blocks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use crate::protocol::digest::RunningSha256;
use crate::protocol::repr_digests::{ReprDigests, SavedSha256, Sha256Digest};
use crate::protocol::tree::{
    ChainingValue, Frontier, GROUP_BYTES, GroupList, HEADER_BYTES, Tree, groups_of,
};

/// The bytes that are read at once.
const PIECE_BYTES: usize = 1 << 20;

/// How bytes get into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a hard link where that can be done, else by a copy.
    LinkOrCopy,
    /// By a hard link, or not at all.
    Link,
    /// By a copy.
    Copy,
}

impl Way {
    /// Gives a file another name, where nothing lies; false when its bytes have to be copied.
    pub(super) fn link(self, from: &Path, to: &Path) -> io::Result<bool> {
        match self {
            Self::Copy => Ok(false),
            Self::Link => fs::hard_link(from, to).map(|()| true),
            Self::LinkOrCopy => Ok(fs::hard_link(from, to).is_ok()),
        }
    }
}

/// What is computed over the bytes.
#[derive(Default)]
pub(super) struct Digests {
    pub(super) tree: Option<Tree>,
    pub(super) sha256: Option<RunningSha256>,
    /// The chaining values of the full groups.
    values: Vec<ChainingValue>,
}

impl Digests {
    pub(super) fn new(has_tree: bool, has_sha256: bool) -> Self {
        Self {
            tree: has_tree.then(Tree::new),
            sha256: has_sha256.then(RunningSha256::new),
            values: Vec::new(),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        if let Some(tree) = &mut self.tree {
            tree.update(bytes);
            self.values.extend(tree.take_completed().values);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }

    fn is_anything_wanted(&self) -> bool {
        self.tree.is_some() || self.sha256.is_some()
    }

    /// The digests of all bytes.
    pub(super) fn of_all(&self) -> ReprDigests {
        let sha256 = self.sha256.as_ref();
        ReprDigests {
            blake3: self.tree.as_ref().map(Tree::root),
            sha256: sha256.and_then(|sha256| Sha256Digest::of_checksum(&sha256.checksum())),
        }
    }

    /// The list of chaining values as the server keeps it, if it keeps one: that of an upload that
    /// is not complete has no header yet.
    pub(super) fn list(&self, is_complete: bool) -> Option<Vec<u8>> {
        let tree = self.tree.as_ref().filter(|tree| tree.length() > GROUP_BYTES)?;
        if !is_complete {
            let values = self.values.iter().flat_map(ChainingValue::as_bytes);
            return Some([0; HEADER_BYTES].iter().chain(values).copied().collect());
        }
        let mut values = self.values.clone();
        if u64::try_from(values.len()) != Ok(groups_of(tree.length())) {
            values.extend(tree.last_group());
        }
        GroupList::new(tree.length(), values).ok().map(|list| list.encode())
    }

    /// What is needed to go on behind them.
    pub(super) fn saved(&self) -> (Option<Frontier>, Option<SavedSha256>) {
        let frontier = self.tree.as_ref().map(|tree| tree.frontier().clone());
        (frontier, self.sha256.as_ref().map(SavedSha256::of))
    }
}

/// Brings the first `length` bytes of a file to another name, where nothing lies unless it is a link
/// to them already. Durable when it returns, but for the name.
pub(super) fn bring(
    from: &Path,
    to: &Path,
    length: u64,
    is_linked: bool,
    digests: &mut Digests,
) -> io::Result<()> {
    if is_linked {
        let file = File::open(to)?;
        if digests.is_anything_wanted() {
            pass(&file, None, length, digests)?;
        }
        // tusd never did.
        file.sync_all()
    } else {
        let target = OpenOptions::new().write(true).create_new(true).open(to)?;
        let source = File::open(from)?;
        // Where the file system can, both share their blocks.
        let is_cloned = rustix::fs::ioctl_ficlone(&target, &source).is_ok();
        let target_is_empty = (!is_cloned).then_some(&target);
        if !is_cloned || digests.is_anything_wanted() {
            pass(&source, target_is_empty, length, digests)?;
        }
        target.set_len(length)?;
        target.sync_all()
    }
}

/// Reads a file, and writes it to another one.
fn pass(
    mut from: &File,
    mut to: Option<&File>,
    length: u64,
    digests: &mut Digests,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut left = length;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let piece = buffer.get_mut(..wanted).unwrap_or_default();
        from.read_exact(piece)?;
        digests.update(piece);
        if let Some(to) = &mut to {
            to.write_all(piece)?;
        }
        left = left.saturating_sub(u64::try_from(wanted).unwrap_or(u64::MAX));
    }
    Ok(())
}
