//! A base: all records at once, so that the frames before it can go.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::frame::{Entry, Payload};
use super::writer::BasePoint;
use super::{FileKind, FileName, MAGIC};
use crate::protocol::id::UploadId;
use crate::storage::Durability;
use crate::storage::folder::sync_folder;

/// The bytes of one frame of a base.
const FRAME_BYTES: usize = 256 << 10;

/// Writes a base of these records, then removes the files that it stands for. Tells its bytes. What
/// is under way is called `.part` and counts for nothing. Blocks.
pub(in crate::storage) fn write_base<E: From<io::Error>, R: AsRef<[u8]>>(
    folder: &Path,
    point: BasePoint,
    records: impl Iterator<Item = Result<(UploadId, R), E>>,
    durability: Durability,
) -> Result<u64, E> {
    let name = FileName { generation: point.generation, kind: FileKind::Base, first: point.first };
    let path = folder.join(name.to_string());
    let part = path.with_extension("base-part");
    let bytes = match write(&part, records, durability) {
        Ok(bytes) => bytes,
        Err(error) => {
            // Whatever was the matter: the room is needed.
            let _ = fs::remove_file(&part);
            return Err(error);
        }
    };
    fs::rename(&part, &path)?;
    if durability == Durability::PowerLoss {
        sync_folder(folder)?;
    }
    remove_older(folder, name)?;
    Ok(bytes)
}

fn write<E: From<io::Error>, R: AsRef<[u8]>>(
    path: &Path,
    records: impl Iterator<Item = Result<(UploadId, R), E>>,
    durability: Durability,
) -> Result<u64, E> {
    let mut file = BufWriter::with_capacity(FRAME_BYTES, File::create(path)?);
    file.write_all(MAGIC)?;
    let (mut number, mut count) = (0_u64, 0_u64);
    let mut payload = Payload::default();
    for record in records {
        let (id, record) = record?;
        payload.push(Entry::Save { id, record: record.as_ref() });
        count = count.saturating_add(1);
        if payload.len() >= FRAME_BYTES {
            file.write_all(&std::mem::take(&mut payload).seal(number))?;
            number = number.saturating_add(1);
        }
    }
    payload.push(Entry::End { count });
    file.write_all(&payload.seal(number))?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    if durability == Durability::PowerLoss {
        file.sync_all()?;
    }
    Ok(file.metadata()?.len())
}

/// Removes what a base stands for, and what was left over by others that were never done.
fn remove_older(folder: &Path, base: FileName) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_older = FileName::parse(name).is_some_and(|name| name < base);
        if is_older || name.ends_with(".part") || name.ends_with(".base-part") {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}
