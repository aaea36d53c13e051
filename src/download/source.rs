//! The servers that have the file: what is asked of them, and what is believed.
//!
//! - RFC 9110 §13.1.5 (If-Range), §14.2 (Range), §14.4 (Content-Range), §15.3.7 (206), §15.5.17
//!   (416)
//! - RFC 9530 §3 (Repr-Digest), §4 (Want-Repr-Digest)

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE,
    LAST_MODIFIED, RANGE,
};
use http::{HeaderName, Method, StatusCode};
use parking_lot::Mutex;
use url::Url;

use super::journal::Validator;
use crate::client::failure::{Failure, shown};
use crate::client::{Answer, Client, Request};
use crate::protocol::checksum::Checksum;
use crate::protocol::digest::Blake3Digest;
use crate::protocol::digest_fields::{REPR_DIGEST, WANT_REPR_DIGEST, parse_digests};
use crate::protocol::range::{ByteRange, ContentRange, parse_content_range};
use crate::protocol::units::parse_bytes;

const UPLOAD_BLAKE3: HeaderName = HeaderName::from_static("upload-blake3");

/// One URL of the file.
pub struct Source {
    /// As it was given.
    pub url: Url,
    /// What it said of the file's state.
    validator: Mutex<Option<Validator>>,
    is_out: AtomicBool,
}

impl Source {
    /// A source that nobody asked yet.
    pub fn new(url: Url) -> Self {
        Self { url, validator: Mutex::default(), is_out: AtomicBool::default() }
    }

    /// Nothing more is asked of it.
    pub fn give_up(&self) {
        self.is_out.store(true, Ordering::Relaxed);
    }

    /// Whether it may still be asked.
    pub fn is_usable(&self) -> bool {
        !self.is_out.load(Ordering::Relaxed)
    }

    /// The state of the file that its answers have to be of.
    pub fn validator(&self) -> Option<Validator> {
        self.validator.lock().clone()
    }

    /// From now on its answers have to be of this state.
    pub fn set_validator(&self, validator: Validator) {
        *self.validator.lock() = Some(validator);
    }
}

/// What the first answer says about the file.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its length in bytes.
    pub length: Option<u64>,
    /// Whether it can be had in ranges.
    pub has_ranges: bool,
    /// Which state of it this is.
    pub validator: Validator,
    /// The `Content-Disposition`.
    pub disposition: Option<Vec<u8>>,
    /// Its BLAKE3 digest, which `resumed` tells.
    pub root: Option<Blake3Digest>,
    /// Its digests by `Repr-Digest`.
    pub digests: Vec<Checksum>,
    /// Whether the bytes are coded, although that was not asked for.
    pub is_coded: bool,
    /// Where it came from, after redirects.
    pub url: Url,
}

/// The first answer: what it says, and its content.
pub struct First {
    /// What it says.
    pub facts: Facts,
    /// The answer, if it has content of use.
    pub content: Option<Part>,
}

/// An answer with content that is a part of the file, or all of it.
pub struct Part {
    /// Which bytes it is; without an end when nobody knows.
    pub range: Range<u64>,
    /// The answer.
    pub answer: Answer,
}

/// Asks for the bytes from `start` on, and so for everything there is to know. With a validator
/// another state of the file is answered from its beginning.
///
/// # Errors
/// A failure of the network, or a status.
pub async fn probe(
    client: &Client,
    source: &Source,
    start: u64,
    validator: Option<&Validator>,
) -> Result<First, Failure> {
    let url = &source.url;
    let mut request = everything(url).with(RANGE, format!("bytes={start}-"));
    if let Some(etag) = validator.and_then(Validator::strong_etag) {
        request = request.with(IF_RANGE, etag);
    }
    let answer = client.fetch(&request).await?;
    let content_range = answer.field(CONTENT_RANGE).and_then(parse_content_range);
    match (answer.status, content_range) {
        (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { range, length })) => {
            fits(&answer, &range, (start, &format!("{start}-")), url)?;
            let facts = facts(&answer, length, length.is_some());
            Ok(First { facts, content: Some(Part { range: range.to_range(), answer }) })
        }
        (StatusCode::PARTIAL_CONTENT, _) => {
            Err(Failure::broken_answer(format!("{} answered a range of nothing", shown(url))))
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { length: 0 })) => {
            let facts = facts(&answer, Some(0), true);
            answer.finish().await;
            Ok(First { facts, content: None })
        }
        // The file may be shorter than what is here of it, and then it is another one.
        (StatusCode::RANGE_NOT_SATISFIABLE, _) if start > 0 => {
            answer.finish().await;
            Box::pin(probe(client, source, 0, None)).await
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            answer.finish().await;
            first_of_whole(client, client.fetch(&everything(url)).await?)
        }
        // Another state of the file is sent whole; that says nothing about ranges.
        (StatusCode::OK, _) if validator.is_some() && start > 0 => {
            if answer.field(ACCEPT_RANGES).is_some_and(|unit| unit.eq_ignore_ascii_case("bytes")) {
                let mut first = first_of_whole(client, answer)?;
                first.facts.has_ranges = first.facts.length.is_some();
                return Ok(first);
            }
            Box::pin(probe(client, source, 0, None)).await
        }
        _ => first_of_whole(client, answer),
    }
}

/// A request for everything, with the digests of it.
fn everything(url: &Url) -> Request {
    Request::new(Method::GET, url.clone()).with(WANT_REPR_DIGEST, "sha-256=10, sha-512=3")
}

fn first_of_whole(client: &Client, answer: Answer) -> Result<First, Failure> {
    let answer = answer.expect_success(client.clock())?;
    if answer.status != StatusCode::OK {
        return Err(answer.failure(client.clock()).for_good());
    }
    let length = answer.field(CONTENT_LENGTH).and_then(parse_bytes);
    let facts = facts(&answer, length, false);
    let range = 0..length.unwrap_or(u64::MAX);
    Ok(First { facts, content: Some(Part { range, answer }) })
}

/// Sees that an answer has the range that it says, and that this begins where it was asked to.
fn fits(
    answer: &Answer,
    range: &ByteRange,
    (start, asked): (u64, &str),
    url: &Url,
) -> Result<(), Failure> {
    let (url, length) = (shown(url), range.length());
    let sent = answer.field(CONTENT_LENGTH).and_then(parse_bytes).filter(|sent| *sent != length);
    let why = match sent {
        _ if range.first() != start => format!("{url} answered {range} when asked for {asked}"),
        Some(sent) => format!("{url} answered {range} with Content-Length {sent}, not {length}"),
        None => return Ok(()),
    };
    Err(Failure::broken_answer(why))
}

fn facts(answer: &Answer, length: Option<u64>, has_ranges: bool) -> Facts {
    let disposition = answer.headers.get(CONTENT_DISPOSITION);
    let coding = answer.field(http::header::CONTENT_ENCODING);
    Facts {
        length,
        has_ranges,
        validator: validator_of(answer),
        disposition: disposition.map(|value| value.as_bytes().to_vec()),
        root: answer.field(UPLOAD_BLAKE3).and_then(Blake3Digest::parse),
        digests: answer.field(REPR_DIGEST).and_then(parse_digests).unwrap_or_default(),
        is_coded: coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")),
        url: answer.url.clone(),
    }
}

/// Which state of the file an answer is of.
pub fn validator_of(answer: &Answer) -> Validator {
    Validator {
        etag: answer.field(ETAG).map(str::to_owned),
        last_modified: answer.field(LAST_MODIFIED).map(str::to_owned),
    }
}

/// Why a range did not come.
#[derive(Debug)]
pub enum RangeFailure {
    /// As anything may fail.
    Failed(Failure),
    /// The file on the server is another one now.
    Changed(String),
    /// The server has the same file, and sends it from its beginning.
    NoRanges,
}

impl From<Failure> for RangeFailure {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Asks a source again for everything, and sees that it is the file that it was.
///
/// # Errors
/// See [`RangeFailure`].
pub async fn open_whole(
    client: &Client,
    source: &Source,
    length: Option<u64>,
) -> Result<Part, RangeFailure> {
    let answer = client.fetch(&everything(&source.url)).await?;
    let First { facts, content } = first_of_whole(client, answer)?;
    same_state(source.validator().as_ref(), &facts.validator)?;
    if let (Some(now), Some(length)) = (facts.length, length)
        && now != length
    {
        return Err(other_length(source, length, now));
    }
    Ok(content.expect("an answer of everything has content"))
}

/// Sees that an answer is of the state that the answers before it were of.
fn same_state(known: Option<&Validator>, now: &Validator) -> Result<(), RangeFailure> {
    let change = known.and_then(|known| known.change(now));
    let changed = |how| RangeFailure::Changed(format!("the file changed on the server: {how}"));
    change.map_or(Ok(()), |how| Err(changed(how)))
}

fn other_length(source: &Source, length: u64, now: u64) -> RangeFailure {
    RangeFailure::Changed(match source.validator() {
        Some(_) => {
            format!("the file changed on the server: it had {length} bytes, and has {now} now")
        }
        // What was never asked before has not changed.
        None => format!("the file has {now} bytes there, not {length}"),
    })
}

/// Asks a source for these bytes of a file of `length` bytes. The content of the answer begins at
/// the start of the range, and may be less of it.
///
/// # Errors
/// See [`RangeFailure`].
pub async fn open_range(
    client: &Client,
    source: &Source,
    range: &Range<u64>,
    length: u64,
) -> Result<Part, RangeFailure> {
    let url = &source.url;
    let last = range.end.saturating_sub(1);
    let mut request =
        Request::new(Method::GET, url.clone()).with(RANGE, format!("bytes={}-{last}", range.start));
    let known = source.validator();
    if let Some(etag) = known.as_ref().and_then(Validator::strong_etag) {
        request = request.with(IF_RANGE, etag);
    }
    let answer = client.fetch(&request).await?;
    let is_file = answer.status.is_success() || answer.status == StatusCode::RANGE_NOT_SATISFIABLE;
    if is_file {
        same_state(known.as_ref(), &validator_of(&answer))?;
    }
    let content_range = answer.field(CONTENT_RANGE).and_then(parse_content_range);
    match (answer.status, content_range) {
        (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { range: part, length: total })) => {
            if let Some(total) = total.filter(|total| *total != length) {
                return Err(other_length(source, length, total));
            }
            let asked = format!("{}-{last}", range.start);
            fits(&answer, &part, (range.start, &asked), url)?;
            Ok(Part { range: part.to_range(), answer })
        }
        (StatusCode::PARTIAL_CONTENT, _) => Err(Failure::broken_answer(format!(
            "{} answered a range without saying which",
            shown(url)
        ))
        .into()),
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { length: now }))
            if now != length =>
        {
            Err(other_length(source, length, now))
        }
        (StatusCode::OK, _) => {
            let sent = answer.field(CONTENT_LENGTH).and_then(parse_bytes);
            match sent.filter(|sent| *sent != length) {
                Some(sent) => Err(other_length(source, length, sent)),
                None => Err(RangeFailure::NoRanges),
            }
        }
        _ => {
            let failure = answer.failure(client.clock());
            answer.finish().await;
            Err(failure.into())
        }
    }
}
