//! Which protocol a request is of, and its answer in that one. Both act on the same uploads; who
//! began one in the one may go on in the other.
//!
//! A request is of tus when it has `Tus-Resumable`, which tus asks of every request but OPTIONS. It
//! is of the IETF protocol when it has a field or a media type of its own. One with both is refused:
//! the two disagree on when an upload is complete. A GET or HEAD with neither is answered with what
//! each of them would tell.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};

use super::head::{RequestHead, ResponseHead, is_media_type};
use super::id::UploadId;
use super::ietf::{self, Spoken};
use super::limits::Limits;
use super::operation::{Operation, Outcome};
use super::refusal::Refusal;
use super::tus;
use super::units::Timestamp;

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// tus 1.0.
    Tus,
    /// The IETF protocol, in one of its versions.
    Ietf(Spoken),
    /// Neither says so: a download, or a question.
    Unmarked,
}

impl Dialect {
    /// Tells the protocol of a request. Its method is what counts, see [`tus::effective_method`].
    ///
    /// # Errors
    ///
    /// `MixedProtocols`.
    pub fn of(head: &RequestHead<'_>) -> Result<Self, Refusal> {
        if *head.method == Method::OPTIONS {
            return Ok(Self::Unmarked);
        }
        let is_patch = *head.method == Method::PATCH;
        let has_type = |media_type| is_patch && has_media_type(head.headers, media_type);
        let ietf = ietf::marker(head.headers)
            .or_else(|| has_type(ietf::CONTENT_MEDIA_TYPE).then_some(ietf::CONTENT_MEDIA_TYPE));
        let tus = if head.headers.contains_key(&tus::TUS_RESUMABLE) {
            Some("Tus-Resumable")
        } else {
            // Without the other's marks it is tus, and refused for want of a version.
            ietf.and_then(|_| has_type(tus::CONTENT_MEDIA_TYPE).then_some(tus::CONTENT_MEDIA_TYPE))
        };
        match (tus, ietf) {
            (Some(tus), Some(ietf)) => Err(Refusal::MixedProtocols { tus, ietf }),
            (Some(_), None) => Ok(Self::Tus),
            (None, Some(_)) => Ok(Self::Ietf(Spoken::of(head.headers))),
            // In the IETF protocol this is a DELETE like any other.
            (None, None) if *head.method == Method::DELETE => Ok(Self::Ietf(Spoken::UNNAMED)),
            (None, None) => Ok(Self::Unmarked),
        }
    }

    /// Understands a request of this protocol.
    ///
    /// # Errors
    ///
    /// Those of [`tus::decode`] and [`ietf::decode`].
    pub fn decode(self, head: &RequestHead<'_>, limits: &Limits) -> Result<Operation, Refusal> {
        match self {
            Self::Tus | Self::Unmarked => tus::decode(head, limits),
            Self::Ietf(spoken) => ietf::decode(head, spoken, limits),
        }
    }

    /// Tells what came of an operation. `location` makes the URL of an upload.
    pub fn encode(
        self,
        outcome: &Outcome,
        location: &dyn Fn(UploadId) -> String,
        (limits, now): (&Limits, Timestamp),
    ) -> ResponseHead {
        match self {
            Self::Ietf(spoken) => ietf::encode(spoken, outcome, location, (limits, now)),
            Self::Tus => tus::encode(outcome, location, limits),
            Self::Unmarked => {
                let mut head = tus::encode(outcome, location, limits);
                match outcome {
                    Outcome::Discovered => ietf::add_discovery(&mut head, limits),
                    Outcome::Offset(upload) => {
                        ietf::add_state(&mut head.headers, upload, (limits, now));
                    }
                    Outcome::Created { .. } | Outcome::Appended(_) | Outcome::Cancelled => {}
                }
                head
            }
        }
    }

    /// Tells why an operation was not carried out: the head, and the content that goes with it.
    pub fn encode_refusal(self, refusal: &Refusal, limits: &Limits) -> (ResponseHead, String) {
        match self {
            Self::Tus | Self::Unmarked => {
                as_text(tus::encode_refusal(refusal), &refusal.to_string())
            }
            Self::Ietf(spoken) => {
                let (head, problem) = ietf::encode_refusal(spoken, refusal, limits);
                (head, problem.to_json())
            }
        }
    }

    /// Tells that the server could not do it; the text says no more than a client may know.
    pub fn encode_failure(self, text: &str) -> (ResponseHead, String) {
        match self {
            Self::Tus | Self::Unmarked => as_text(tus::encode_failure(), text),
            Self::Ietf(spoken) => {
                let (head, problem) = ietf::encode_failure(spoken, text);
                (head, problem.to_json())
            }
        }
    }

    /// The name, for logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tus => "tus",
            Self::Ietf(_) => "ietf",
            Self::Unmarked => "none",
        }
    }
}

fn as_text(mut head: ResponseHead, text: &str) -> (ResponseHead, String) {
    head.set_static(CONTENT_TYPE, "text/plain; charset=utf-8");
    (head, format!("{text}\n"))
}

fn has_media_type(headers: &HeaderMap, media_type: &str) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    given.is_some_and(|given| is_media_type(given, media_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::head::Target;

    fn told(method: &Method, fields: &[(&'static str, &'static str)]) -> Result<Dialect, Refusal> {
        let headers =
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = headers.collect();
        let target = Target::Collection;
        Dialect::of(&RequestHead { method, target, headers: &headers, content_length: None })
    }

    const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
    const COMPLETE: (&str, &str) = ("upload-complete", "?1");
    const VERSION: (&str, &str) = ("upload-draft-interop-version", "6");
    const TUS_TYPE: (&str, &str) = ("content-type", "application/offset+octet-stream");
    const IETF_TYPE: (&str, &str) = ("content-type", "application/partial-upload; a=b");

    #[test]
    fn a_request_is_of_the_protocol_whose_marks_it_has() {
        assert_eq!(told(&Method::POST, &[TUS]), Ok(Dialect::Tus));
        assert_eq!(told(&Method::PATCH, &[TUS, TUS_TYPE]), Ok(Dialect::Tus));
        let ietf: [&[_]; 4] =
            [&[COMPLETE], &[VERSION], &[IETF_TYPE], &[("upload-incomplete", "?0")]];
        for marks in ietf {
            assert!(matches!(told(&Method::PATCH, marks), Ok(Dialect::Ietf(_))), "{marks:?}");
        }
        assert_eq!(told(&Method::DELETE, &[]), Ok(Dialect::Ietf(Spoken::UNNAMED)));
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PATCH] {
            assert_eq!(told(&method, &[]), Ok(Dialect::Unmarked));
        }
    }

    #[test]
    fn a_request_with_the_marks_of_both_is_refused() {
        let mixed: [&[_]; 5] = [
            &[TUS, COMPLETE],
            &[TUS, VERSION],
            &[TUS, IETF_TYPE],
            &[COMPLETE, TUS_TYPE],
            &[VERSION, TUS_TYPE],
        ];
        for marks in mixed {
            let told = told(&Method::PATCH, marks);
            assert!(matches!(told, Err(Refusal::MixedProtocols { .. })), "{marks:?}");
        }
    }

    #[test]
    fn a_field_that_is_to_be_ignored_makes_nothing_of_a_request() {
        for value in ["true", "1", "?2", "(?1)", "", "?1, ?0"] {
            assert_eq!(told(&Method::POST, &[("upload-complete", value)]), Ok(Dialect::Unmarked));
            assert_eq!(told(&Method::POST, &[TUS, ("upload-complete", value)]), Ok(Dialect::Tus));
        }
        let twice = [COMPLETE, COMPLETE];
        let headers =
            twice.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value): (http::HeaderName, http::HeaderValue)| {
            map.append(name, value);
        });
        assert_eq!(ietf::marker(&map), None);
    }
}
