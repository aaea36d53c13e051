//! The bytes of one frame, and of the entries in it.

use crate::protocol::id::UploadId;

/// Length, number and check.
pub(super) const HEADER_BYTES: usize = 32;
/// A frame begins at a multiple of this, so that one behind damage is found.
pub(super) const ALIGNMENT: usize = 8;
/// No payload is longer: a group of saves ends at some MiB, a record at some MiB as well.
pub(super) const MAX_PAYLOAD_BYTES: u64 = 64 << 20;

/// The bytes of most frames with one record.
const TYPICAL_BYTES: usize = 1 << 10;

/// One change of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Entry<'a> {
    /// A record was saved, in the form of the codec.
    Save { id: UploadId, record: &'a [u8] },
    /// A record was deleted.
    Delete { id: UploadId },
    /// A base ends here; it has so many records.
    End { count: u64 },
}

/// Entries on their way into a frame.
pub(in crate::storage) struct Payload {
    /// Begins with room for the header.
    bytes: Vec<u8>,
}

impl Default for Payload {
    fn default() -> Self {
        let mut bytes = Vec::with_capacity(TYPICAL_BYTES);
        bytes.resize(HEADER_BYTES, 0);
        Self { bytes }
    }
}

impl Payload {
    /// The bytes of the entries so far.
    pub(in crate::storage) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(HEADER_BYTES)
    }

    pub(in crate::storage) fn push(&mut self, entry: Entry<'_>) {
        match entry {
            Entry::Save { id, record } => {
                self.bytes.push(b'S');
                self.bytes.extend_from_slice(&id.to_bytes());
                let length = u32::try_from(record.len()).expect("records are shorter than 4 GiB");
                self.bytes.extend_from_slice(&length.to_le_bytes());
                self.bytes.extend_from_slice(record);
            }
            Entry::Delete { id } => {
                self.bytes.push(b'D');
                self.bytes.extend_from_slice(&id.to_bytes());
            }
            Entry::End { count } => {
                self.bytes.push(b'E');
                self.bytes.extend_from_slice(&count.to_le_bytes());
            }
        }
    }

    /// The whole frame.
    pub(super) fn seal(mut self, number: u64) -> Vec<u8> {
        let length = u64::try_from(self.len()).unwrap_or(u64::MAX);
        assert!(length <= MAX_PAYLOAD_BYTES, "a group of saves is bounded");
        let check = check(number, &self.bytes[HEADER_BYTES..]);
        self.bytes[..8].copy_from_slice(&length.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&number.to_le_bytes());
        self.bytes[16..32].copy_from_slice(&check);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        self.bytes
    }
}

fn check(number: u64, payload: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes()).update(payload);
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    first
}

/// What a header says of the frame behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) length: u64,
    pub(super) number: u64,
    check: [u8; 16],
}

impl Header {
    /// Reads a header; `None` when it is none.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (number, check) = rest.split_first_chunk()?;
        let (length, number) = (u64::from_le_bytes(*length), u64::from_le_bytes(*number));
        let check = check.try_into().ok()?;
        (1..=MAX_PAYLOAD_BYTES).contains(&length).then_some(Self { length, number, check })
    }

    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        check(self.number, payload) == self.check
    }

    /// The bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        let header = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
        let alignment = u64::try_from(ALIGNMENT).unwrap_or(u64::MAX);
        header.saturating_add(self.length).next_multiple_of(alignment)
    }
}

/// The entries of a payload, each with where its record begins; an error for bytes that are none.
pub(super) struct Entries<'a> {
    payload: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    pub(super) fn of(payload: &'a [u8]) -> Self {
        Self { payload, rest: payload }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let kind = *self.take(1)?.first()?;
        if kind == b'E' {
            let count = u64::from_le_bytes(self.take(8)?.try_into().ok()?);
            return Some(Entry::End { count });
        }
        let id = UploadId::from_bytes(self.take(16)?.try_into().ok()?);
        match kind {
            b'D' => Some(Entry::Delete { id }),
            b'S' => {
                let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
                Some(Entry::Save { id, record: self.take(usize::try_from(length).ok()?)? })
            }
            _ => None,
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    /// The entry, and the bytes of the payload before its record's end; `None` for what is no entry.
    type Item = Option<(Entry<'a>, usize)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_none() {
            self.rest = &[];
        }
        Some(entry.map(|entry| (entry, self.payload.len().saturating_sub(self.rest.len()))))
    }
}
