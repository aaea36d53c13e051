//! Any head of a request: the first byte picks method and target, the second the content's length,
//! and each line after that is a header field. What is understood lies within the limits.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use resumed::protocol::id::UploadId;
use resumed::protocol::limits::Limits;
use resumed::protocol::operation::Operation;
use resumed::protocol::tus::{RequestHead, Target, decode, decode_trailers, encode_refusal};
use resumed::protocol::upload::Kind;

const MAX_LENGTH: u64 = 1000;
const MAX_PARTS: usize = 3;

fuzz_target!(|bytes: &[u8]| {
    let [shape, length, rest @ ..] = bytes else { return };
    let methods = [Method::POST, Method::PATCH, Method::HEAD, Method::DELETE, Method::GET];
    let method = &methods[usize::from(*shape) % methods.len()];
    let target = match shape / 16 % 3 {
        0 => Target::Collection,
        1 => Target::Upload(None),
        _ => Target::Upload(Some(UploadId::from_bytes([0; 16]))),
    };
    let mut headers = HeaderMap::new();
    if shape < &128 {
        headers.insert("tus-resumable", HeaderValue::from_static("1.0.0"));
    }
    for line in rest.split(|byte| *byte == b'\n').take(50) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let limits = Limits { max_length: Some(MAX_LENGTH), max_parts: MAX_PARTS, ..Limits::default() };
    let content_length = (*length < 128).then_some(u64::from(*length));
    let head = RequestHead { method, target, headers: &headers, content_length };
    match decode(&head, &limits) {
        Ok(Operation::Create(creation)) => {
            assert!(creation.length.is_none_or(|length| length <= MAX_LENGTH));
            if let Kind::Final(made_of) = &creation.kind {
                assert!((1..=MAX_PARTS).contains(&made_of.parts.len()));
                assert!(creation.length.is_none() && creation.content.is_none());
            }
        }
        Ok(_) => {}
        Err(refusal) => {
            let head = encode_refusal(&refusal);
            assert!(head.status.is_client_error(), "{refusal}");
            assert!(!refusal.to_string().is_empty());
        }
    }
    let _ = decode_trailers(&headers);
});
