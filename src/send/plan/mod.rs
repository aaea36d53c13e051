//! What to send next, from what the server said. Pure: no sockets, no files, no time.
//!
//! # Theory
//!
//! The client knows an *offset* or it does not. It appends only at an offset that the server told,
//! and whatever leaves it in doubt (a cut connection, a conflict, an answer that cannot be) makes
//! it forget the offset and ask. So nothing that goes wrong on the way can put a byte where it
//! does not belong; the worst is that bytes are sent once more.
//!
//! - tus 1.0 "Core Protocol", "Creation", Upload-Defer-Length

use url::Url;

/// The smallest limit that a 413 makes requests have.
const LEAST_REQUEST_BYTES: u64 = 1 << 20;
/// What the first 413 makes of requests that had no limit: what common proxies allow.
const FIRST_REQUEST_BYTES: u64 = 64 << 20;
/// How often an upload that was made in this run may vanish.
const MOST_RENEWALS: u32 = 3;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create the upload.
    Create,
    /// Ask how far the upload at this URL is.
    Ask(Url),
    /// Append to it.
    Append(Append),
    /// Nothing can be done before more bytes are there or their end is known.
    Wait,
    /// The server has all of it.
    Done(Url),
}

/// One append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The upload.
    pub url: Url,
    /// Where it begins.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// The length of the whole, which the server does not know yet.
    pub tells_length: Option<u64>,
}

/// The bytes there are to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of them, and the upload is created with this length.
    Whole(u64),
    /// So many so far.
    Open(u64),
    /// All of them, after they had been open. `is_told`: the server knows the length, too.
    Ended {
        /// The length.
        length: u64,
        /// Whether the server knows it.
        is_told: bool,
    },
}

/// What the server said that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// The upload is longer than what there is to send.
    #[error("the upload is at {offset} there, beyond the {available} bytes there are")]
    Beyond {
        /// The offset that was told.
        offset: u64,
        /// The bytes there are.
        available: u64,
    },
    /// The upload is another one.
    #[error("the upload there has a length of {told}, not {length}")]
    OtherLength {
        /// The length that was told.
        told: u64,
        /// The right one.
        length: u64,
    },
    /// An upload that is created vanishes again and again.
    #[error("the server loses each upload that it creates")]
    Vanishes,
}

/// What is known of one upload.
#[derive(Clone, Debug)]
pub struct Plan {
    extent: Extent,
    url: Option<Url>,
    offset: Option<u64>,
    /// The most that the server was ever known to have.
    best: u64,
    max_request_bytes: Option<u64>,
    renewals: u32,
}

impl Plan {
    /// The plan for an upload that was created before, or for a new one. No request is to have
    /// more than `max_request_bytes` of content.
    pub fn new(extent: Extent, url: Option<Url>, max_request_bytes: Option<u64>) -> Self {
        Self { extent, url, offset: None, best: 0, max_request_bytes, renewals: 0 }
    }

    /// What to do next.
    pub fn next(&self) -> Step {
        let Some(url) = self.url.clone() else { return Step::Create };
        let Some(offset) = self.offset else { return Step::Ask(url) };
        let (available, tells_length) = match self.extent {
            Extent::Whole(length) | Extent::Ended { length, is_told: true } => {
                if offset == length {
                    return Step::Done(url);
                }
                (length, None)
            }
            Extent::Ended { length, is_told: false } => (length, Some(length)),
            Extent::Open(available) if offset == available => return Step::Wait,
            Extent::Open(available) => (available, None),
        };
        let left = available.saturating_sub(offset);
        let bytes = self.max_request_bytes.map_or(left, |most| left.min(most));
        Step::Append(Append { url, offset, bytes, tells_length })
    }

    /// The offset, while it is known.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// More bytes are there, or their end is known.
    pub fn extend(&mut self, extent: Extent) {
        self.extent = extent;
    }

    /// The upload was created, with this offset if the answer told one. A new upload has none of
    /// the bytes, or all of them where the server had them already.
    ///
    /// # Errors
    /// [`Impossible::Beyond`].
    pub fn created(&mut self, url: Url, offset: Option<u64>) -> Result<(), Impossible> {
        self.url = Some(url);
        self.best = 0;
        self.arrive(offset.unwrap_or(0)).map(|_| ())
    }

    /// The server told the offset, and perhaps the length. Whether it is further than ever.
    ///
    /// # Errors
    /// What cannot be; the offset is in doubt then.
    pub fn told(&mut self, offset: u64, length: Option<u64>) -> Result<bool, Impossible> {
        self.offset = None;
        if let (Some(told), Some(right)) = (length, self.length())
            && told != right
        {
            return Err(Impossible::OtherLength { told, length: right });
        }
        if length.is_some() {
            self.length_is_told();
        }
        self.arrive(offset)
    }

    /// An append was accepted up to this offset. Whether it is further than ever.
    ///
    /// # Errors
    /// What cannot be; the offset is in doubt then.
    pub fn appended(&mut self, append: &Append, offset: u64) -> Result<bool, Impossible> {
        self.offset = None;
        let end = append.offset.saturating_add(append.bytes);
        if !(append.offset..=end).contains(&offset) {
            return Err(Impossible::Beyond { offset, available: end });
        }
        if append.tells_length.is_some() {
            self.length_is_told();
        }
        self.arrive(offset)
    }

    /// Something went wrong: what the server has is in doubt.
    pub fn doubt(&mut self) {
        self.offset = None;
    }

    /// The server does not have the upload any more: another one has to be created.
    ///
    /// # Errors
    /// [`Impossible::Vanishes`].
    pub fn gone(&mut self) -> Result<(), Impossible> {
        if self.renewals == MOST_RENEWALS {
            return Err(Impossible::Vanishes);
        }
        self.renewals = self.renewals.saturating_add(1);
        (self.url, self.offset, self.best) = (None, None, 0);
        Ok(())
    }

    /// A request with this much content was too large for somebody on the way. Whether a smaller
    /// one can be tried.
    pub fn too_large(&mut self, bytes: u64) -> bool {
        self.doubt();
        if bytes <= LEAST_REQUEST_BYTES {
            return false;
        }
        let smaller = (bytes / 2).clamp(LEAST_REQUEST_BYTES, FIRST_REQUEST_BYTES);
        self.max_request_bytes = Some(smaller);
        true
    }

    fn length(&self) -> Option<u64> {
        match self.extent {
            Extent::Whole(length) | Extent::Ended { length, .. } => Some(length),
            Extent::Open(_) => None,
        }
    }

    fn length_is_told(&mut self) {
        if let Extent::Ended { is_told, .. } = &mut self.extent {
            *is_told = true;
        }
    }

    fn arrive(&mut self, offset: u64) -> Result<bool, Impossible> {
        let (Extent::Whole(available)
        | Extent::Open(available)
        | Extent::Ended { length: available, .. }) = self.extent;
        if offset > available {
            return Err(Impossible::Beyond { offset, available });
        }
        self.offset = Some(offset);
        let is_further = offset > self.best;
        self.best = self.best.max(offset);
        Ok(is_further)
    }
}

/// The borders of up to `parts` parts of about the same length, none shorter than `least` unless
/// it is the only one.
pub fn split(length: u64, parts: u64, least: u64) -> Vec<(u64, u64)> {
    let parts = (length / least.max(1)).clamp(1, parts.max(1));
    let (each, rest) = (length / parts, length % parts);
    let begin = |part: u64| part * each + part.min(rest);
    (0..parts).map(|part| (begin(part), begin(part + 1))).collect()
}

#[cfg(test)]
mod tests;
