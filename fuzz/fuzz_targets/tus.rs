//! Any head of a request, made of its parts. What is understood lies within the limits, is admitted
//! within the limits, and is told again as it was sent; what is refused has a proper answer.
#![no_main]

use http::header::{ALLOW, CACHE_CONTROL};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use resumed::protocol::head::{RequestHead, Target};
use resumed::protocol::id::UploadId;
use resumed::protocol::limits::Limits;
use resumed::protocol::operation::{Append, Creation, ExpectedChecksum, Operation, Outcome};
use resumed::protocol::refusal::Refusal;
use resumed::protocol::tus::{decode, decode_trailers, effective_method, encode, encode_refusal};
use resumed::protocol::units::{MAX_LENGTH, Timestamp};
use resumed::protocol::upload::{Kind, Upload};

const ID: &str = "0123456789abcdef0123456789abcdef";
const SHA1: &str = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";

#[derive(Arbitrary, Debug)]
enum Name {
    Length,
    Offset,
    Metadata,
    DeferLength,
    Concat,
    Checksum,
    Override,
    Version,
    Trailer,
    ContentType,
}

impl Name {
    fn text(&self) -> &'static str {
        match self {
            Self::Length => "upload-length",
            Self::Offset => "upload-offset",
            Self::Metadata => "upload-metadata",
            Self::DeferLength => "upload-defer-length",
            Self::Concat => "upload-concat",
            Self::Checksum => "upload-checksum",
            Self::Override => "x-http-method-override",
            Self::Version => "tus-resumable",
            Self::Trailer => "trailer",
            Self::ContentType => "content-type",
        }
    }

    /// A value that is in its place there.
    fn proper(&self, number: u64) -> String {
        match self {
            Self::Length | Self::Offset => number.to_string(),
            Self::Metadata => {
                format!("a YQ==,b{number},c \t,d{}", "A".repeat(number as usize % 90))
            }
            Self::DeferLength => "1".to_owned(),
            Self::Concat if number % 6 == 0 => "partial".to_owned(),
            Self::Concat => format!("final;{}", format!("/f/{ID} ").repeat(number as usize % 6)),
            Self::Checksum => SHA1.to_owned(),
            Self::Override => ["PATCH", "DELETE", "GET", "HEAD"][number as usize % 4].to_owned(),
            Self::Version => "1.0.0".to_owned(),
            Self::Trailer => "x, Upload-Checksum".to_owned(),
            Self::ContentType => "application/offset+octet-stream".to_owned(),
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Value {
    Proper(u64),
    Small(u8),
    Raw(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Request {
    method: Result<u8, String>,
    target: Option<Option<[u8; 16]>>,
    is_tus: bool,
    is_append: bool,
    fields: Vec<(Name, Value)>,
    content_length: Option<u64>,
    max_length: Option<u64>,
    max_parts: u8,
    max_metadata_bytes: u8,
}

fn headers_of(request: &Request) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if request.is_tus {
        headers.insert("tus-resumable", HeaderValue::from_static("1.0.0"));
    }
    if request.is_append {
        let media_type = HeaderValue::from_static("application/offset+octet-stream");
        headers.insert("content-type", media_type);
    }
    for (name, value) in &request.fields {
        let value = match value {
            Value::Proper(number) => HeaderValue::try_from(name.proper(*number)),
            Value::Small(number) => HeaderValue::try_from(name.proper(u64::from(*number))),
            Value::Raw(bytes) => HeaderValue::from_bytes(bytes).map_err(Into::into),
        };
        if let Ok(value) = value {
            headers.append(HeaderName::from_static(name.text()), value);
        }
    }
    headers
}

fn check_creation(creation: &Creation, headers: &HeaderMap, limits: &Limits) {
    assert!(creation.length.is_none_or(|length| length <= limits.length_ceiling()));
    assert!(creation.metadata.as_str().len() <= limits.max_metadata_bytes);
    let id = UploadId::from_bytes([7; 16]);
    let (length, metadata) = (creation.length, creation.metadata.clone());
    let upload = Upload::new(id, length, metadata, Timestamp(1)).of_kind(creation.kind.clone());
    let told = encode(&Outcome::Offset(upload.clone()), &|_| "/".to_owned(), limits).headers;
    match &creation.kind {
        Kind::Final(made_of) => {
            assert!((1..=limits.max_parts).contains(&made_of.parts.len()));
            assert!(creation.length.is_none() && creation.content.is_none());
            assert_eq!(told.get("upload-concat"), headers.get("upload-concat"));
        }
        Kind::Partial => assert_eq!(told["upload-concat"], "partial"),
        Kind::Single => assert!(!told.contains_key("upload-concat")),
    }
    let metadata = told.get("upload-metadata").map(|value| value.as_bytes());
    assert_eq!(metadata.unwrap_or_default(), creation.metadata.as_str().as_bytes());
    if let Some(append) = &creation.content {
        assert_eq!((append.offset, append.length), (0, creation.length));
        check_append(append, &upload, limits);
    }
}

fn check_append(append: &Append, upload: &Upload, limits: &Limits) {
    assert!(append.offset <= MAX_LENGTH);
    assert!(append.length.is_none_or(|length| length <= MAX_LENGTH));
    if let Some(ExpectedChecksum::Given(checksum)) = &append.checksum {
        assert_eq!(checksum.digest().len(), checksum.algorithm().digest_bytes());
    }
    match upload.admit(append, limits) {
        Ok(admission) => {
            assert_eq!(admission.offset, append.offset);
            assert!(admission.ceiling <= limits.length_ceiling());
            let end = admission.offset.checked_add(append.content_length.unwrap_or(0));
            assert!(end.is_some_and(|end| end <= admission.ceiling));
        }
        Err(refusal) => check_refusal(&refusal),
    }
}

fn check_refusal(refusal: &Refusal) {
    let head = encode_refusal(refusal);
    assert!(head.status.is_client_error(), "{refusal}");
    assert_eq!(head.headers["tus-resumable"], "1.0.0");
    assert!(head.headers.contains_key(CACHE_CONTROL));
    let is_method = matches!(refusal, Refusal::MethodNotAllowed { .. });
    assert_eq!(head.headers.contains_key(ALLOW), is_method);
    assert!(!refusal.to_string().contains(['\r', '\n', '\0']));
}

fuzz_target!(|request: Request| {
    let headers = headers_of(&request);
    let methods = [Method::POST, Method::PATCH, Method::HEAD, Method::DELETE, Method::GET];
    let method = match &request.method {
        Ok(which) => methods[usize::from(*which) % methods.len()].clone(),
        Err(name) => Method::from_bytes(name.as_bytes()).unwrap_or(Method::OPTIONS),
    };
    let target = match request.target {
        None => Target::Collection,
        Some(id) => Target::Upload(id.map(UploadId::from_bytes)),
    };
    let limits = Limits {
        max_length: request.max_length,
        max_parts: usize::from(request.max_parts),
        max_metadata_bytes: usize::from(request.max_metadata_bytes),
        max_age: None,
        ..Limits::default()
    };
    let content_length = request.content_length;
    let head = RequestHead { method: &method, target, headers: &headers, content_length };
    let named = match target {
        Target::Upload(id) => id,
        Target::Collection => None,
    };
    let effective = effective_method(&method, &headers);
    match decode(&head, &limits) {
        Ok(operation) => {
            let effective = effective.expect("it was understood");
            match operation {
                Operation::Discover => assert_eq!(effective, Method::OPTIONS),
                Operation::Create(creation) => {
                    assert_eq!((effective, target), (Method::POST, Target::Collection));
                    check_creation(&creation, &headers, &limits);
                }
                Operation::Append(id, append) => {
                    assert_eq!((effective, Some(id)), (Method::PATCH, named));
                    let new = Upload::new(id, None, Default::default(), Timestamp(1));
                    check_append(&append, &new, &limits);
                }
                Operation::RetrieveOffset(id) => {
                    assert_eq!((effective, Some(id)), (Method::HEAD, named));
                }
                Operation::Cancel(id) => {
                    assert_eq!((effective, Some(id)), (Method::DELETE, named));
                }
                Operation::Read(id) => {
                    assert!(matches!(effective, Method::GET | Method::HEAD));
                    assert_eq!(Some(id), named);
                }
            }
        }
        Err(refusal) => check_refusal(&refusal),
    }
    match decode_trailers(&headers) {
        Ok(None) => assert!(!headers.contains_key("upload-checksum")),
        Ok(Some(checksum)) => {
            assert_eq!(checksum.digest().len(), checksum.algorithm().digest_bytes());
        }
        Err(refusal) => check_refusal(&refusal),
    }
});
