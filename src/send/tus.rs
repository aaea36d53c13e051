//! How the requests of a tus client look, and what the answers to them say.
//!
//! - tus 1.0 "Core Protocol", "Creation", "Termination", "Concatenation"
//! - `Upload-Blake3`, `Upload-Challenge`, `Upload-Proof`: fields of `resumed`, the digest of an upload that is
//!   complete, and a proof of having its bytes

use std::time::Duration;

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderName, Method, StatusCode};
use url::{Position, Url};

use super::proof;
use crate::client::failure::{Failure, shown};
use crate::client::{Answer, Request, with_credentials, without_credentials};
use crate::clock::Clock;
use crate::protocol::digest::Blake3Digest;
use crate::protocol::possession::Challenge;
use crate::protocol::tus::{CONTENT_MEDIA_TYPE, VERSION};
use crate::protocol::units::parse_bytes;

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
const UPLOAD_BLAKE3: HeaderName = HeaderName::from_static("upload-blake3");
pub(super) const UPLOAD_CHALLENGE: HeaderName = HeaderName::from_static("upload-challenge");
const UPLOAD_PROOF: HeaderName = HeaderName::from_static("upload-proof");
/// How long a server may take to join the parts of a file.
pub(super) const LONG_PATIENCE: Duration = Duration::from_secs(1800);
/// The most of a refusal's words that are passed on.
const MOST_WORDS: usize = 300;

/// What a creation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Creation {
    /// An upload of this length.
    Whole(u64),
    /// An upload whose length is told later.
    Open,
    /// A part of this length.
    Partial(u64),
    /// What these parts are together.
    Final(Vec<Url>),
}

/// What a creation was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Created {
    pub(super) url: Url,
    pub(super) offset: Option<u64>,
    /// The digest of what is complete.
    pub(super) blake3: Option<Blake3Digest>,
    /// What to hash as a proof of having the bytes.
    pub(super) challenge: Option<Challenge>,
}

/// What an offset retrieval or an append was answered.
#[derive(Debug)]
pub(super) enum Said {
    At {
        offset: u64,
        length: Option<u64>,
        blake3: Option<Blake3Digest>,
    },
    /// Accepted, with no word about how much.
    Unclear,
    /// The upload is not there any more.
    Gone,
    /// The offset is another one, or somebody else appends.
    Conflict,
    /// The request is too large for somebody on the way.
    TooLarge(Failure),
}

/// What a server can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    pub(super) concatenation: bool,
    pub(super) termination: bool,
    /// It knows BLAKE3, so it may have a file already when its digest is told.
    pub(super) blake3: bool,
}

fn request(method: Method, url: &Url, endpoint: &Url) -> Request {
    let mut request = Request::new(method, url.clone()).with(TUS_RESUMABLE, VERSION);
    request.is_elsewhere = url.origin() != endpoint.origin();
    request
}

pub(super) fn options(endpoint: &Url) -> Request {
    request(Method::OPTIONS, endpoint, endpoint)
}

/// `metadata` is the value of `Upload-Metadata`, empty when there is none.
pub(super) fn create(endpoint: &Url, creation: &Creation, metadata: &str) -> Request {
    let request = request(Method::POST, endpoint, endpoint);
    let request = match creation {
        Creation::Whole(length) => request.with(UPLOAD_LENGTH, length.to_string()),
        Creation::Open => request.with(UPLOAD_DEFER_LENGTH, "1"),
        Creation::Partial(length) => {
            request.with(UPLOAD_LENGTH, length.to_string()).with(UPLOAD_CONCAT, "partial")
        }
        Creation::Final(parts) => {
            // Paths, as far as they can be: a proxy may know the server by another name.
            let path = |part: &Url| match part.origin() == endpoint.origin() {
                true => part[Position::BeforePath..Position::AfterQuery].to_owned(),
                false => without_credentials(part).to_string(),
            };
            let parts: Vec<String> = parts.iter().map(path).collect();
            request.with(UPLOAD_CONCAT, format!("final;{}", parts.join(" ")))
        }
    };
    let patience = match creation {
        // The server may have to copy everything before it answers.
        Creation::Final(_) => LONG_PATIENCE,
        Creation::Whole(_) | Creation::Open | Creation::Partial(_) => Duration::ZERO,
    };
    let request = Request { patience, ..request };
    if metadata.is_empty() { request } else { request.with(UPLOAD_METADATA, metadata) }
}

pub(super) fn ask(url: &Url, endpoint: &Url) -> Request {
    request(Method::HEAD, url, endpoint)
}

pub(super) fn append(url: &Url, endpoint: &Url, offset: u64, length: Option<u64>) -> Request {
    let request = request(Method::PATCH, url, endpoint)
        .with(CONTENT_TYPE, CONTENT_MEDIA_TYPE)
        .with(UPLOAD_OFFSET, offset.to_string());
    match length {
        Some(length) => request.with(UPLOAD_LENGTH, length.to_string()),
        None => request,
    }
}

pub(super) fn cancel(url: &Url, endpoint: &Url) -> Request {
    request(Method::DELETE, url, endpoint)
}

/// `proof` is the value of `Upload-Proof`.
pub(super) fn prove(url: &Url, endpoint: &Url, proof: &str) -> Request {
    let mut to = url.clone();
    to.set_path(&format!("{}/proof", url.path()));
    request(Method::POST, &to, endpoint).with(UPLOAD_PROOF, proof)
}

/// What the answer to OPTIONS says. One that says nothing is of a server that can do little.
pub(super) fn abilities(answer: &Answer) -> Abilities {
    let has = |field: &str, word: &str| {
        let listed = answer.field(field).unwrap_or_default();
        answer.status.is_success() && listed.split(',').any(|listed| listed.trim() == word)
    };
    Abilities {
        concatenation: has("tus-extension", "concatenation"),
        termination: has("tus-extension", "termination"),
        blake3: has("tus-checksum-algorithm", "blake3"),
    }
}

/// What the answer to a creation says.
///
/// # Errors
/// A status that is none of success, or an answer that is not one of tus.
pub(super) async fn created(
    answer: Answer,
    endpoint: &Url,
    clock: &Clock,
) -> Result<Created, Failure> {
    if answer.status.is_success() && answer.status != StatusCode::CREATED {
        let (url, status) = (shown(&answer.url), answer.status);
        return Err(Failure::unusable(format!(
            "{url} answered {status} to a creation: it does not speak tus, or it is not where uploads are created"
        )));
    }
    if answer.status != StatusCode::CREATED {
        return Err(refusal(answer, clock).await);
    }
    let location = answer.headers.get(LOCATION);
    let location = location.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let url = location.and_then(|location| answer.url.join(location).ok());
    let Some(url) = url.filter(|url| matches!(url.scheme(), "http" | "https")) else {
        let message = format!("{} created an upload and did not say where", shown(&answer.url));
        return Err(Failure::unusable(message));
    };
    if answer.url.scheme() == "https" && url.scheme() == "http" {
        return Err(Failure::unusable(format!(
            "{} takes uploads at {}, without TLS; the server does not know that it is behind a proxy",
            shown(&answer.url),
            shown(&url)
        )));
    }
    let (offset, blake3) = (offset(&answer), digest(&answer));
    let challenge = proof::challenge(&answer);
    answer.finish().await;
    Ok(Created { url: with_credentials(url, endpoint), offset, blake3, challenge })
}

/// What the answer to an offset retrieval or an append says.
///
/// # Errors
/// A status that is neither of success nor one that tells where the upload is.
pub(super) async fn said(answer: Answer, clock: &Clock) -> Result<Said, Failure> {
    let said = match answer.status.as_u16() {
        200..=299 => match offset(&answer) {
            Some(offset) => {
                let length = answer.field(UPLOAD_LENGTH).and_then(parse_bytes);
                Said::At { offset, length, blake3: digest(&answer) }
            }
            None => Said::Unclear,
        },
        404 | 410 => Said::Gone,
        409 => Said::Conflict,
        413 => return Ok(Said::TooLarge(refusal(answer, clock).await)),
        _ => return Err(refusal(answer, clock).await),
    };
    answer.finish().await;
    Ok(said)
}

/// The failure that a status is, with what the server says about it.
pub(super) async fn refusal(mut answer: Answer, clock: &Clock) -> Failure {
    let failure = answer.failure(clock);
    let failure = match answer.status.as_u16() {
        // Somebody else has the upload for now.
        409 | 423 => failure.for_now(),
        460 => {
            let url = shown(&answer.url);
            Failure::verification(format!("{url} did not receive the bytes that were declared"))
        }
        _ => failure,
    };
    let is_text = answer.field(CONTENT_TYPE).is_some_and(|media| media.starts_with("text/plain"));
    if !is_text {
        answer.finish().await;
        return failure;
    }
    let words = answer.content.collect(64 << 10).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    let words: String = words.trim().chars().take(MOST_WORDS).collect();
    if words.is_empty() { failure } else { failure.with_words(&words) }
}

fn offset(answer: &Answer) -> Option<u64> {
    answer.field(UPLOAD_OFFSET).and_then(parse_bytes)
}

fn digest(answer: &Answer) -> Option<Blake3Digest> {
    answer.field(UPLOAD_BLAKE3).and_then(Blake3Digest::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn parts_are_named_by_their_paths_where_they_can_be() {
        let parts = ["http://host/files/a", "http://host/files/b?c=d", "http://other/c"];
        let creation = Creation::Final(parts.map(url).to_vec());
        let request = create(&url("http://host/files/"), &creation, "");
        assert_eq!(request.headers[UPLOAD_CONCAT], "final;/files/a /files/b?c=d http://other/c");
        assert!(!request.headers.contains_key(UPLOAD_METADATA));
    }

    #[test]
    fn secrets_go_to_the_server_that_they_are_for() {
        let endpoint = url("http://host/files/");
        assert!(!ask(&url("http://host/files/a"), &endpoint).is_elsewhere);
        assert!(ask(&url("http://other/files/a"), &endpoint).is_elsewhere);
        let endpoint = url("http://me:secret@host/files/");
        let same = with_credentials(url("http://host/files/a"), &endpoint);
        assert_eq!(same.as_str(), "http://me:secret@host/files/a");
        assert_eq!(without_credentials(&same).as_str(), "http://host/files/a");
        let other = with_credentials(url("http://other/files/a"), &endpoint);
        assert_eq!(other.as_str(), "http://other/files/a");
    }
}
