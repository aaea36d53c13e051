//! The files of a journal as one chain of frames: what is in it, and what is missing.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use super::frame::{Entries, Entry};
use super::reader::{Frames, Step};
use super::{FileKind, FileName};

/// The files that count: the newest base, and the logs from it on.
pub(in crate::storage) struct Chain {
    folder: PathBuf,
    files: Vec<File>,
}

struct File {
    name: FileName,
    bytes: u64,
}

/// What a walk along the chain comes upon.
pub(in crate::storage) enum Found<'a> {
    /// A change, and where its record lies.
    Entry(Entry<'a>, Place),
    /// Something that was there can no longer be read.
    Damage(Damage),
}

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage) struct Place {
    /// Which file of the chain.
    pub(super) file: usize,
    /// Where the record begins in it.
    pub(super) at: u64,
}

/// What of a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::storage) enum Damage {
    #[error("the journal file {file} is damaged at byte {at}")]
    At { file: String, at: u64 },
    #[error("the journal has lost its frames {from} to {to}, before file {file}")]
    Missing { from: u64, to: u64, file: String },
    #[error("the journal file {file} ends too early")]
    Short { file: String },
    #[error("the journal of the records is not there")]
    Absent,
    #[error("the journal cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Chain {
    /// Looks at a folder. One that is not there has no files, and is not made by being looked at: an
    /// empty one would be taken for a journal.
    pub(in crate::storage) fn open(folder: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in entries(folder)? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str().and_then(FileName::parse) {
                files.push(File { name, bytes: entry.metadata()?.len() });
            }
        }
        files.sort_unstable_by_key(|file| file.name);
        let newest_base = files.iter().rposition(|file| file.name.kind == FileKind::Base);
        files.drain(..newest_base.unwrap_or(0));
        Ok(Self { folder: folder.to_owned(), files })
    }

    pub(in crate::storage) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether there are no files: any journal that was begun has one.
    pub(in crate::storage) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn newest(&self) -> Option<FileName> {
        self.files.last().map(|file| file.name)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|file| self.folder.join(file.name.to_string()))
    }

    fn base(&self) -> Option<&File> {
        self.files.first().filter(|file| file.name.kind == FileKind::Base)
    }

    /// The number of the first frame that is there by itself.
    pub(in crate::storage) fn first(&self) -> u64 {
        self.base().map_or(1, |base| base.name.first)
    }

    /// The bytes of the base, and of what came after it.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let base = self.base().map_or(0, |base| base.bytes);
        let all = self.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.bytes));
        (base, all.saturating_sub(base))
    }

    /// Walks over all entries behind frame number `after`; over all that there are when it is
    /// `None`. Tells the number of the last frame.
    pub(in crate::storage) fn walk<E: From<io::Error>>(
        &self,
        after: Option<u64>,
        mut visit: impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut expected = self.first();
        for (index, file) in self.files.iter().enumerate() {
            if file.name.kind == FileKind::Base {
                if after.is_none() {
                    self.walk_base(index, &mut visit)?;
                }
                continue;
            }
            let next = self.files.get(index.saturating_add(1)).map(|next| next.name.first);
            if let (Some(after), Some(next)) = (after, next)
                && next <= after.saturating_add(1)
            {
                expected = next;
                continue;
            }
            if expected < file.name.first {
                visit(Found::Damage(self.missing(expected, file.name.first, index)))?;
            }
            expected = self.walk_log(index, (after, next), &mut visit)?;
        }
        Ok(expected.saturating_sub(1))
    }

    fn missing(&self, from: u64, before: u64, index: usize) -> Damage {
        Damage::Missing { from, to: before.saturating_sub(1), file: self.name(index) }
    }

    fn name(&self, index: usize) -> String {
        self.files.get(index).map(|file| file.name.to_string()).unwrap_or_default()
    }

    fn frames(&self, index: usize) -> io::Result<Frames> {
        Frames::open(&self.folder.join(self.name(index)))
    }

    fn walk_log<E: From<io::Error>>(
        &self,
        index: usize,
        (after, next): (Option<u64>, Option<u64>),
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut expected = self.files.get(index).map_or(1, |file| file.name.first);
        let mut frames = self.frames(index)?;
        loop {
            match frames.next()? {
                Step::End => break,
                Step::Damage { at } => {
                    visit(Found::Damage(Damage::At { file: self.name(index), at }))?;
                }
                // A later file has that frame, and this one may not be on the disk.
                Step::Frame { number, .. } if next.is_some_and(|next| number >= next) => break,
                Step::Frame { number, payload_at, payload } => {
                    if number != expected {
                        visit(Found::Damage(self.missing(expected, number, index)))?;
                    }
                    expected = number.saturating_add(1);
                    if after.is_none_or(|after| number > after) {
                        self.visit_entries(index, payload_at, &payload, visit)?;
                    }
                }
            }
        }
        match next {
            Some(next) if expected < next => {
                visit(Found::Damage(self.missing(expected, next, index.saturating_add(1))))?;
                Ok(next)
            }
            Some(_) | None => Ok(expected),
        }
    }

    fn walk_base<E: From<io::Error>>(
        &self,
        index: usize,
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut frames = self.frames(index)?;
        let (mut found, mut promised) = (0_u64, None);
        loop {
            match frames.next()? {
                Step::End => break,
                Step::Damage { at } => {
                    visit(Found::Damage(Damage::At { file: self.name(index), at }))?;
                }
                Step::Frame { payload_at, payload, .. } => {
                    self.visit_entries(index, payload_at, &payload, &mut |entry| {
                        match &entry {
                            Found::Entry(Entry::End { count }, _) => promised = Some(*count),
                            Found::Entry(..) => found = found.saturating_add(1),
                            Found::Damage(_) => {}
                        }
                        visit(entry)
                    })?;
                }
            }
        }
        if promised != Some(found) {
            visit(Found::Damage(Damage::Short { file: self.name(index) }))?;
        }
        Ok(())
    }

    fn visit_entries<E: From<io::Error>>(
        &self,
        file: usize,
        payload_at: u64,
        payload: &[u8],
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for entry in Entries::of(payload) {
            let Some((entry, end)) = entry else {
                let damage = Damage::At { file: self.name(file), at: payload_at };
                visit(Found::Damage(damage))?;
                break;
            };
            let length = match entry {
                Entry::Save { record, .. } => record.len(),
                Entry::Delete { .. } | Entry::End { .. } => 0,
            };
            let at = payload_at.saturating_add(end.saturating_sub(length) as u64);
            visit(Found::Entry(entry, Place { file, at }))?;
        }
        Ok(())
    }
}

fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        entries => entries.map(Some),
    }
    .map(|entries| entries.into_iter().flatten())
}
