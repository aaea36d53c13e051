//! What each version says of the same facts, and what of a head is to be ignored.

use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::protocol::checksum::Algorithm;
use crate::protocol::digest::Blake3Digest;
use crate::protocol::head::{RequestHead, ResponseHead, Target};
use crate::protocol::id::UploadId;
use crate::protocol::limits::Limits;
use crate::protocol::metadata::Metadata;
use crate::protocol::operation::{
    Append, Completion, Creation, ExpectedChecksum, Operation, Outcome,
};
use crate::protocol::refusal::Refusal;
use crate::protocol::repr_digests::ReprDigests;
use crate::protocol::units::Timestamp;
use crate::protocol::upload::Upload;

type Fields<'a> = &'a [(&'static str, &'a str)];

const PARTIAL: (&str, &str) = ("content-type", "application/partial-upload");
const URL: &str = "http://h/files/0";

fn id() -> UploadId {
    UploadId::from_bytes([7; 16])
}

fn headers(fields: Fields<'_>) -> HeaderMap {
    let parsed = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    parsed.collect()
}

fn read(
    (method, target): (Method, Target),
    fields: Fields<'_>,
    content_length: Option<u64>,
    limits: &Limits,
) -> Result<Operation, Refusal> {
    let headers = headers(fields);
    let head = RequestHead { method: &method, target, headers: &headers, content_length };
    decode(&head, Spoken::of(&headers), limits)
}

fn create(fields: Fields<'_>, content_length: Option<u64>) -> Result<Creation, Refusal> {
    let request = (Method::POST, Target::Collection);
    match read(request, fields, content_length, &Limits::default())? {
        Operation::Create(creation) => Ok(*creation),
        other => panic!("{other:?}"),
    }
}

fn append(fields: Fields<'_>, content_length: Option<u64>) -> Result<Append, Refusal> {
    let request = (Method::PATCH, Target::Upload(Some(id())));
    match read(request, fields, content_length, &Limits::default())? {
        Operation::Append(_, append) => Ok(*append),
        other => panic!("{other:?}"),
    }
}

fn upload(length: Option<u64>) -> Upload {
    Upload::new(id(), length, Metadata::default(), Timestamp(0))
}

fn complete() -> Upload {
    upload(None).completed(ReprDigests::default(), Timestamp(0))
}

fn spoken(number: &str) -> Spoken {
    Spoken::of(&headers(&[("upload-draft-interop-version", number)]))
}

fn told(spoken: Spoken, outcome: &Outcome, limits: &Limits) -> ResponseHead {
    encode(spoken, outcome, &|_| URL.to_owned(), (limits, Timestamp(0)))
}

#[test]
fn a_version_is_found_by_its_number_and_an_unknown_one_is_read_as_the_newest() {
    for version in &VERSIONS {
        let found = spoken(&version.number.to_string());
        assert_eq!(found, Spoken { version, is_named: true });
    }
    for other in ["7", "9", "-8", "8.0", "\"8\"", "eight", ""] {
        assert_eq!(spoken(other), Spoken::UNNAMED, "{other}");
        assert!(!spoken(other).hears_interim());
    }
    assert_eq!(spoken("8;a=b").version.number, 8);
    let oldest = Spoken::of(&headers(&[("upload-incomplete", "?1")]));
    assert_eq!((oldest.version.number, oldest.is_named), (3, false));
}

#[test]
fn the_oldest_version_says_the_opposite_of_the_others() {
    let creation = create(&[("upload-incomplete", "?1")], Some(4)).unwrap();
    assert_eq!(creation.content.unwrap().completion, Completion::Later);
    let creation = create(&[("upload-incomplete", "?0")], Some(4)).unwrap();
    assert_eq!(creation.length, Some(4));
    assert_eq!(creation.content.unwrap().completion, Completion::AtEnd);
    for (number, field, on, off) in [
        ("3", "upload-incomplete", "?0", "?1"),
        ("4", "upload-complete", "?1", "?0"),
        ("5", "upload-complete", "?1", "?0"),
        ("6", "upload-complete", "?1", "?0"),
        ("8", "upload-complete", "?1", "?0"),
    ] {
        for (upload, expected) in [(upload(None), off), (complete(), on)] {
            let head = told(spoken(number), &Outcome::Offset(upload), &Limits::default());
            assert_eq!(head.headers[field], expected, "{number}");
        }
        // A field of another version does not count.
        let other = if number == "3" { "upload-complete" } else { "upload-incomplete" };
        let fields = [("upload-draft-interop-version", number), (other, "?1")];
        assert!(matches!(create(&fields, None), Err(Refusal::Field { .. })), "{number}");
    }
}

#[test]
fn the_length_completes_an_upload_only_for_the_clients_that_think_so() {
    for (number, completion, expected) in [
        ("3", ("upload-incomplete", "?1"), Completion::Later),
        ("4", ("upload-complete", "?0"), Completion::Later),
        ("5", ("upload-complete", "?0"), Completion::AtLength),
        ("6", ("upload-complete", "?0"), Completion::AtLength),
        ("8", ("upload-complete", "?0"), Completion::Later),
    ] {
        let fields = [("upload-draft-interop-version", number), completion];
        let content = create(&fields, None).unwrap().content.unwrap();
        assert_eq!(content.completion, expected, "{number}");
    }
}

#[test]
fn an_append_needs_its_media_type_since_the_version_that_has_one() {
    for (number, completion, needs) in [
        ("3", ("upload-incomplete", "?0"), false),
        ("4", ("upload-complete", "?1"), false),
        ("5", ("upload-complete", "?1"), false),
        ("6", ("upload-complete", "?1"), true),
        ("8", ("upload-complete", "?1"), true),
    ] {
        let version = ("upload-draft-interop-version", number);
        let fields = [version, completion, ("upload-offset", "0")];
        let answer = append(&fields, None);
        assert_eq!(matches!(answer, Err(Refusal::UnsupportedMediaType { .. })), needs, "{number}");
        let fields = [version, completion, ("upload-offset", "0"), PARTIAL];
        assert!(append(&fields, None).is_ok(), "{number}");
    }
}

#[test]
fn an_append_needs_its_offset_and_its_completeness() {
    let offset = ("upload-offset", "5");
    let complete = ("upload-complete", "?0");
    assert!(append(&[PARTIAL, offset, complete], None).is_ok());
    assert!(matches!(append(&[PARTIAL, offset], None), Err(Refusal::Field { .. })));
    assert!(matches!(append(&[PARTIAL, complete], None), Err(Refusal::Field { .. })));
    for malformed in ["-1", "+5", "5.0", "\"5\"", "5, 6", "1000000000000000", "?1"] {
        let wrong = [PARTIAL, complete, ("upload-offset", malformed)];
        assert!(matches!(append(&wrong, None), Err(Refusal::Field { .. })), "{malformed}");
    }
    let parameters = [PARTIAL, ("upload-offset", " 5;a=1"), ("upload-complete", "?1;b")];
    let read = append(&parameters, Some(2)).unwrap();
    assert_eq!((read.offset, read.length), (5, Some(7)));
}

#[test]
fn a_length_is_told_or_shown_and_both_agree() {
    let told = ("upload-length", "10");
    let last = ("upload-complete", "?1");
    let more = ("upload-complete", "?0");
    assert_eq!(create(&[last], Some(10)).unwrap().length, Some(10));
    assert_eq!(create(&[last], None).unwrap().length, None);
    assert_eq!(create(&[more], Some(10)).unwrap().length, None);
    assert_eq!(create(&[more, told], Some(3)).unwrap().length, Some(10));
    assert_eq!(create(&[last, told], Some(10)).unwrap().length, Some(10));
    assert_eq!(
        create(&[last, told], Some(9)),
        Err(Refusal::LengthMismatch { length: 10, provided: 9 })
    );
    // A malformed one is as if it were not there.
    assert_eq!(create(&[more, ("upload-length", "abc")], Some(3)).unwrap().length, None);
    let shown = append(&[PARTIAL, last, ("upload-offset", "4")], Some(6)).unwrap();
    assert_eq!(shown.length, Some(10));
}

#[test]
fn what_the_representation_is_becomes_metadata() {
    let last = ("upload-complete", "?1");
    let fields =
        [last, ("content-type", "text/plain"), ("content-disposition", "inline; filename=\"a b\"")];
    let metadata = create(&fields, None).unwrap().metadata;
    assert_eq!(metadata.as_str(), "filename YSBi,filetype dGV4dC9wbGFpbg==");
    let fields = [last, ("content-encoding", "gzip")];
    let metadata = create(&fields, None).unwrap().metadata;
    assert_eq!(metadata.value("contentEncoding"), Some(b"gzip".to_vec()));
    // The media type of an append says nothing of what is uploaded.
    assert!(create(&[last, PARTIAL], None).unwrap().metadata.is_empty());
    let fields = [last, ("upload-metadata", "name YQ=="), ("content-type", "text/plain")];
    assert_eq!(create(&fields, None).unwrap().metadata.as_str(), "name YQ==");
    let fields = [last, ("upload-metadata", "a !"), ("content-type", "a/b")];
    assert_eq!(create(&fields, None).unwrap().metadata.value("filetype"), Some(b"a/b".to_vec()));
}

#[test]
fn digests_are_read_and_unknown_ones_are_ignored() {
    let sha256 = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    let last = ("upload-complete", "?1");
    let checksum = |value: &str| {
        let creation = create(&[last, ("content-digest", value)], Some(1)).unwrap();
        match creation.content.unwrap().checksum {
            Some(ExpectedChecksum::Given(checksum)) => Some(checksum.algorithm()),
            Some(ExpectedChecksum::InTrailer) => panic!("no trailer was announced"),
            None => None,
        }
    };
    assert_eq!(checksum(sha256), Some(Algorithm::Sha256));
    assert_eq!(checksum(&format!("md5=:AA==:, {sha256}")), Some(Algorithm::Sha256));
    for ignored in ["md5=:AA==:", "sha-256=:AA==:", "sha-256=abc", "=", "blake3=:AA==:"] {
        assert_eq!(checksum(ignored), None, "{ignored}");
    }
    let creation = create(&[last, ("repr-digest", sha256)], None).unwrap();
    assert_eq!(creation.declared.to_field().as_deref(), Some(sha256));
}

#[test]
fn a_blake3_in_the_metadata_is_declared_as_it_is_in_tus() {
    let digest = Blake3Digest::of(b"abc");
    let declared = |value: &str| {
        let metadata = Metadata::from_pairs([("blake3", Some(value))]);
        let fields = [("upload-complete", "?1"), ("upload-metadata", metadata.as_str())];
        create(&fields, None).unwrap().declared
    };
    assert_eq!(declared(&digest.to_string()).blake3, Some(digest));
    assert!(declared("abc").is_empty(), "what is no digest is ignored");
}

#[test]
fn older_versions_refuse_an_offset_where_none_belongs() {
    for version in &VERSIONS {
        let number = version.number.to_string();
        for method in [Method::HEAD, Method::DELETE] {
            let fields =
                [("upload-draft-interop-version", number.as_str()), ("upload-offset", "0")];
            let request = (method, Target::Upload(Some(id())));
            let answer = read(request, &fields, Some(0), &Limits::default());
            assert_eq!(answer.is_err(), version.number < 8, "{number}");
        }
    }
}

#[test]
fn limits_are_told_and_kept() {
    let limits = Limits {
        max_length: Some(100),
        min_length: 10,
        max_append: Some(50),
        min_append: 5,
        max_age: Some(std::time::Duration::from_secs(60)),
        ..Limits::default()
    };
    let create = |fields: Fields<'_>, bytes| {
        read((Method::POST, Target::Collection), fields, Some(bytes), &limits).map(|_| ())
    };
    let (last, more) = (("upload-complete", "?1"), ("upload-complete", "?0"));
    assert_eq!(create(&[last], 50), Ok(()));
    assert_eq!(create(&[last], 51), Err(Refusal::AppendTooLong { max: 50 }));
    assert_eq!(create(&[last], 9), Err(Refusal::TooShort { min: 10 }));
    assert_eq!(create(&[more, ("upload-length", "101")], 5), Err(Refusal::TooLong { max: 100 }));
    assert_eq!(create(&[more], 4), Err(Refusal::AppendTooShort { min: 5 }));
    assert_eq!(create(&[more], 0), Ok(()));
    let all = "max-size=100, min-size=10, max-append-size=50, min-append-size=5, max-age=60";
    for refusal in [Refusal::TooLong { max: 100 }, Refusal::AppendTooLong { max: 50 }] {
        let (head, _) = encode_refusal(spoken("8"), &refusal, &limits);
        assert_eq!(head.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(head.headers["upload-limit"], all);
    }
    let expiring = upload(None).expiring(Some(Timestamp(30_999)));
    let created = Outcome::Created { upload: expiring, has_content: true };
    let limit = |number: &str| {
        let head = told(spoken(number), &created, &limits);
        head.headers.get("upload-limit").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(limit("8"), Some(all.replace("60", "30")));
    assert_eq!(limit("6"), Some(all.replace("max-age=60", "expires=30")));
    assert_eq!((limit("3"), limit("4"), limit("5")), (None, None, None));
    let none = told(spoken("8"), &Outcome::Offset(upload(None)), &Limits::default());
    assert_eq!(none.headers["upload-limit"], "min-size=0");
}

#[test]
fn a_wrong_offset_is_told_with_the_right_one() {
    let refusal = Refusal::OffsetMismatch { offset: 12, provided: 25 };
    let (head, problem) = encode_refusal(spoken("8"), &refusal, &Limits::default());
    assert_eq!(head.status, StatusCode::CONFLICT);
    assert_eq!(head.headers["upload-offset"], "12");
    assert_eq!(head.headers["upload-complete"], "?0");
    assert_eq!(head.headers["content-type"], "application/problem+json");
    let json: Value = serde_json::from_str(&problem.to_json()).unwrap();
    let kind = "https://iana.org/assignments/http-problem-types#mismatching-upload-offset";
    assert_eq!(json["type"], kind);
    assert_eq!((&json["expected-offset"], &json["provided-offset"]), (&12.into(), &25.into()));
}

#[test]
fn content_for_a_complete_upload_is_a_problem_of_the_version() {
    for (number, kind) in [("6", "#completed-upload"), ("8", "#inconsistent-upload-length")] {
        let refusal = Refusal::AlreadyComplete { length: 5 };
        let (head, problem) = encode_refusal(spoken(number), &refusal, &Limits::default());
        assert_eq!(head.status, StatusCode::BAD_REQUEST);
        assert!(problem.kind.unwrap().0.ends_with(kind), "{problem:?}");
    }
}

#[test]
fn the_answer_to_the_last_append_is_that_to_a_whole_creation() {
    let created = Outcome::Created { upload: complete(), has_content: true };
    let whole = told(spoken("8"), &created, &Limits::default());
    let last = told(spoken("8"), &Outcome::Appended(complete()), &Limits::default());
    assert_eq!(whole, last);
    assert_eq!(whole.status, StatusCode::CREATED);
    assert_eq!(whole.headers["location"], URL);
    let more = told(spoken("8"), &Outcome::Appended(upload(None)), &Limits::default());
    assert_eq!(more.status, StatusCode::NO_CONTENT);
    assert_eq!(more.headers["upload-complete"], "?0");
}

#[test]
fn an_interim_response_has_a_location_or_an_offset_and_never_both() {
    for version in &VERSIONS {
        let spoken = spoken(&version.number.to_string());
        let limits = (&Limits::default(), Timestamp(0));
        let first = encode_interim(spoken, &upload(None), Some(URL), limits);
        assert_eq!(first.status.as_u16(), 104);
        assert_eq!(first.headers["location"], URL);
        assert!(!first.headers.contains_key("upload-offset"));
        assert_eq!(first.headers.contains_key("upload-limit"), version.lifetime.is_some());
        let next = encode_interim(spoken, &upload(None), None, limits);
        assert_eq!(next.headers["upload-offset"], "0");
        assert!(!next.headers.contains_key("location"));
        for head in [first, next] {
            let number = head.headers["upload-draft-interop-version"].to_str().unwrap().to_owned();
            assert_eq!(number, version.number.to_string());
        }
    }
}

proptest! {
    /// Whatever fields a request has: nothing panics, and what is understood is within the limits.
    #[test]
    fn any_head_is_understood_within_the_limits_or_refused(
        values in proptest::collection::vec("[ -~]{0,12}|\\?[01]|[0-9]{1,16}|[a-z-]{1,9}=:[A-Za-z0-9]{0,44}:", 9),
        content_length in proptest::option::of(0_u64..2000),
        is_creation in any::<bool>(),
    ) {
        let names = [
            "upload-complete", "upload-incomplete", "upload-offset", "upload-length",
            "upload-draft-interop-version", "content-digest", "repr-digest", "content-disposition",
            "upload-metadata",
        ];
        let mut fields: Vec<_> =
            names.into_iter().zip(values.iter().map(String::as_str)).collect();
        fields.push(PARTIAL);
        let limits = Limits { max_length: Some(1000), max_append: Some(500), ..Limits::default() };
        let request = if is_creation {
            (Method::POST, Target::Collection)
        } else {
            (Method::PATCH, Target::Upload(Some(id())))
        };
        match read(request, &fields, content_length, &limits) {
            Ok(Operation::Create(creation)) => {
                prop_assert!(creation.length.is_none_or(|length| length <= 1000));
                prop_assert!(content_length.is_none_or(|bytes| bytes <= 500));
            }
            Ok(Operation::Append(_, append)) => {
                prop_assert!(append.content_length.is_none_or(|bytes| bytes <= 500));
                let version = Spoken::of(&headers(&fields)).version;
                let is_at_length = append.completion == Completion::AtLength;
                prop_assert!(!is_at_length || version.completes_at_length);
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(refusal) => {
                let (head, problem) = encode_refusal(Spoken::UNNAMED, &refusal, &limits);
                prop_assert!(head.status.is_client_error());
                prop_assert!(serde_json::from_str::<Value>(&problem.to_json()).is_ok());
            }
        }
    }
}
