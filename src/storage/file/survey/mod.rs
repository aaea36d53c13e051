//! The files of the data as they lie, whatever the records say: for who checks a store, and for who
//! brings uploads into one. Blocks, and never follows a link out of the folder.
//!
//! ```text
//! <folder>/ab/<id>                the bytes
//! <folder>/ab/<id>.parts/<number> those of a final upload, until they are joined
//! <folder>/ab/<id>.parts/whole    the joined ones, while they are made
//! <folder>/ab/<id>.tree           the list of chaining values
//! <folder>/ab/<id>.sha256         the list of digests
//! ```

mod change;

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::protocol::id::{ID_CHARACTERS, UploadId};
use crate::protocol::units::Timestamp;
use crate::protocol::upload::Placement;
use crate::storage::List;

/// The bytes that are read at once.
const PIECE_BYTES: usize = 1 << 20;

/// The folder of the data.
#[derive(Clone, Debug)]
pub struct Survey {
    folder: PathBuf,
}

/// What one of the 256 inner folders has.
#[derive(Debug, Default)]
pub struct Shard {
    /// What lies there of uploads, by their ids. This is the memory that a survey takes.
    pub uploads: BTreeMap<UploadId, Lying>,
    /// What no store put there.
    pub strangers: Vec<PathBuf>,
}

/// What lies there of one upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lying {
    /// The length of its file.
    pub whole: Option<u64>,
    /// What is in its folder of parts.
    pub parts: Option<LyingParts>,
    /// How many lists are beside it. None is needed: they are made anew.
    pub lists: usize,
    /// When any of it was last written, as the file system says.
    pub changed: Option<Timestamp>,
}

/// What lies in a folder of parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LyingParts {
    /// The lengths of the parts by their numbers.
    pub lengths: BTreeMap<usize, u64>,
    /// The length of the joined file that is not finished.
    pub half_made: Option<u64>,
}

impl Lying {
    /// The bytes of all its files. Those of parts are shared with the uploads they come from.
    pub fn bytes(&self) -> u64 {
        let parts = self.parts.iter().flat_map(|parts| parts.lengths.values());
        let half_made = self.parts.as_ref().and_then(|parts| parts.half_made);
        let all = parts.copied().chain(self.whole).chain(half_made);
        all.fold(0, u64::saturating_add)
    }

    fn note(&mut self, found: &Metadata) {
        self.changed = self.changed.max(modified(found));
    }
}

/// When a file was last written, as the file system says.
pub fn modified(file: &Metadata) -> Option<Timestamp> {
    let since_1970 = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp(0).after(since_1970))
}

/// What the name of a file says that it is.
#[derive(Clone, Copy)]
enum Name {
    Whole(UploadId),
    Parts(UploadId),
    List(UploadId, List),
}

fn extension(list: List) -> &'static str {
    match list {
        List::Tree => ".tree",
        List::Sha256 => ".sha256",
    }
}

fn read_name(name: &str) -> Option<Name> {
    let (id, rest) = name.split_at_checked(ID_CHARACTERS)?;
    let id = UploadId::parse(id)?;
    match rest {
        "" => Some(Name::Whole(id)),
        ".parts" => Some(Name::Parts(id)),
        _ => List::ALL
            .into_iter()
            .find(|list| rest == extension(*list))
            .map(|list| Name::List(id, list)),
    }
}

impl Survey {
    /// The survey of this folder, which need not be there.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn shard_folder(&self, shard: u8) -> PathBuf {
        self.folder.join(format!("{shard:02x}"))
    }

    fn folder_of(&self, id: UploadId) -> PathBuf {
        self.shard_folder(id.to_bytes()[0])
    }

    /// Where the bytes of an upload lie when they are whole.
    pub fn path(&self, id: UploadId) -> PathBuf {
        self.folder_of(id).join(id.to_string())
    }

    fn parts_path(&self, id: UploadId) -> PathBuf {
        self.folder_of(id).join(format!("{id}.parts"))
    }

    fn list_path(&self, id: UploadId, list: List) -> PathBuf {
        self.folder_of(id).join(format!("{id}{}", extension(list)))
    }

    /// All that lies in one inner folder: that of the uploads whose ids begin with this byte.
    ///
    /// # Errors
    ///
    /// What the system said, and that it is a symbolic link: what lies behind that may be served, and
    /// must not be taken for missing. A folder that is not there, or a file in its place, is empty.
    pub fn shard(&self, shard: u8) -> io::Result<Shard> {
        let mut found = Shard::default();
        let folder = self.shard_folder(shard);
        if unless_gone(fs::symlink_metadata(&folder))?.is_some_and(|found| found.is_symlink()) {
            let why =
                format!("{} is a symbolic link; put the folder itself there", folder.display());
            return Err(io::Error::other(why));
        }
        for entry in entries(&folder)? {
            let name = entry.file_name();
            let name = name.to_str().and_then(read_name);
            let Some(known) = name.filter(|name| name.id().to_bytes()[0] == shard) else {
                found.strangers.push(entry.path());
                continue;
            };
            let Some(metadata) = unless_gone(entry.metadata())? else { continue };
            let lying = found.uploads.entry(known.id()).or_default();
            if !self.take(lying, known, &metadata, &mut found.strangers)? {
                found.strangers.push(entry.path());
            }
        }
        found.uploads.retain(|_, lying| *lying != Lying::default());
        Ok(found)
    }

    /// All that lies there of one upload.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn look(&self, id: UploadId) -> io::Result<Option<Lying>> {
        let mut lying = Lying::default();
        for name in Name::all(id) {
            let found = unless_gone(fs::symlink_metadata(self.path_of(name)))?;
            if let Some(metadata) = found {
                self.take(&mut lying, name, &metadata, &mut Vec::new())?;
            }
        }
        Ok((lying != Lying::default()).then_some(lying))
    }

    /// What lies beside the 256 folders, or in place of one.
    ///
    /// # Errors
    ///
    /// What the system said. A folder that is not there is empty.
    pub fn strangers(&self) -> io::Result<Vec<PathBuf>> {
        let mut strangers = Vec::new();
        for entry in entries(&self.folder)? {
            let name = entry.file_name();
            let is_shard = name.to_str().is_some_and(|name| {
                name.len() == 2
                    && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            });
            let is_ours = if is_shard {
                entry.file_type()?.is_dir()
            } else {
                name == crate::storage::identity::IDENTITY
            };
            if !is_ours {
                strangers.push(entry.path());
            }
        }
        strangers.sort();
        Ok(strangers)
    }

    fn path_of(&self, name: Name) -> PathBuf {
        match name {
            Name::Whole(id) => self.path(id),
            Name::Parts(id) => self.parts_path(id),
            Name::List(id, list) => self.list_path(id, list),
        }
    }

    /// Notes one file of an upload; false when it is not of the kind that its name says.
    fn take(
        &self,
        lying: &mut Lying,
        name: Name,
        metadata: &Metadata,
        strangers: &mut Vec<PathBuf>,
    ) -> io::Result<bool> {
        match name {
            Name::Whole(_) if metadata.is_file() => lying.whole = Some(metadata.len()),
            Name::List(..) if metadata.is_file() => lying.lists = lying.lists.saturating_add(1),
            Name::Parts(id) if metadata.is_dir() => {
                lying.parts = Some(self.look_at_parts(id, strangers)?);
            }
            Name::Whole(_) | Name::List(..) | Name::Parts(_) => return Ok(false),
        }
        lying.note(metadata);
        Ok(true)
    }

    fn look_at_parts(&self, id: UploadId, strangers: &mut Vec<PathBuf>) -> io::Result<LyingParts> {
        let mut parts = LyingParts::default();
        for entry in entries(&self.parts_path(id))? {
            let Some(metadata) = unless_gone(entry.metadata())? else { continue };
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            match name.parse::<usize>() {
                Ok(number) if metadata.is_file() && name == part_name(number) => {
                    parts.lengths.insert(number, metadata.len());
                }
                Err(_) if metadata.is_file() && name == "whole" => {
                    parts.half_made = Some(metadata.len());
                }
                Ok(_) | Err(_) => strangers.push(entry.path()),
            }
        }
        Ok(parts)
    }

    /// The list of an upload's chaining values, as it lies there: nobody vouches for it.
    ///
    /// # Errors
    ///
    /// What the system said; also when there is none.
    pub fn tree_list(&self, id: UploadId) -> io::Result<Vec<u8>> {
        fs::read(self.list_path(id, List::Tree))
    }

    /// Reads the first `length` bytes of an upload in pieces of up to 1 MiB.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` and `NotFound` when fewer are there, and what the system said.
    pub fn read(
        &self,
        id: UploadId,
        placement: &Placement,
        length: u64,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut pieces = match placement {
            Placement::Parts { lengths, .. } => {
                let path = |number| self.parts_path(id).join(part_name(number));
                let parts = lengths.iter().enumerate();
                parts.map(|(number, length)| (path(number), *length)).collect()
            }
            Placement::Whole => Vec::new(),
        };
        // Joined already, and not recorded yet.
        if !pieces.iter().all(|(path, length)| *length == 0 || path.exists()) || pieces.is_empty() {
            pieces = vec![(self.path(id), length)];
        }
        let mut buffer = vec![0; PIECE_BYTES];
        for (path, length) in pieces.iter().filter(|(_, length)| *length > 0) {
            read_file(&File::open(path)?, *length, &mut buffer, &mut take)?;
        }
        Ok(())
    }
}

impl Name {
    fn id(self) -> UploadId {
        match self {
            Self::Whole(id) | Self::Parts(id) | Self::List(id, _) => id,
        }
    }

    /// All names that the files of an upload can have.
    fn all(id: UploadId) -> impl Iterator<Item = Self> {
        let lists = List::ALL.into_iter().map(move |list| Self::List(id, list));
        [Self::Whole(id), Self::Parts(id)].into_iter().chain(lists)
    }
}

fn part_name(number: usize) -> String {
    format!("{number:06}")
}

fn read_file(
    mut file: &File,
    length: u64,
    buffer: &mut [u8],
    take: &mut impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
        let piece = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact(piece)?;
        take(piece);
        left = left.saturating_sub(u64::try_from(wanted).unwrap_or(u64::MAX));
    }
    Ok(())
}

fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    let entries = unless_gone(fs::read_dir(folder))?;
    entries.map_or_else(|| Ok(Vec::new()), Iterator::collect)
}

/// Nothing in place of the error that there is nothing: a server may remove what was just listed, and
/// a file may lie in the place of a folder.
fn unless_gone<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match found {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests;
