//! What responses tell of the digests of a complete upload, in every dialect.
//!
//! - RFC 9530 §3 `Repr-Digest`, §4 `Want-Repr-Digest`
//! - `Upload-Blake3`: a field of our own, since BLAKE3 is not registered for `Repr-Digest`; the value
//!   is 64 lower-case hexadecimal digits

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::LINK;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::protocol::checksum::Algorithm;
use crate::protocol::digest_fields::{REPR_DIGEST, WANT_REPR_DIGEST, parse_wanted_digests};
use crate::protocol::head::joined_lines;
use crate::protocol::metalink::MEDIA_TYPE;
use crate::protocol::upload::Upload;

const DIGEST: HeaderName = HeaderName::from_static("digest");
const UPLOAD_BLAKE3: HeaderName = HeaderName::from_static("upload-blake3");

/// Tells the digests of an upload that is complete. Of no other are there any.
pub(super) fn tell(upload: &Upload, request: &HeaderMap, response: &mut HeaderMap) {
    let digests = upload.digests();
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.insert(name, value);
        }
    };
    if let Some(root) = digests.blake3 {
        set(UPLOAD_BLAKE3, root.to_string());
    }
    if let (true, Some(field)) = (is_sha256_wanted(request), digests.to_field()) {
        set(REPR_DIGEST, field);
    }
}

/// Tells a downloader where it is described what it downloads (RFC 6249 §5), and the digest once
/// more as aria2 knows it (RFC 3230 `Digest`).
pub(super) fn describe(upload: &Upload, response: &mut HeaderMap) {
    let Some(sha256) = upload.digests().sha256 else { return };
    let link = format!("<{}.meta4>; rel=\"describedby\"; type=\"{MEDIA_TYPE}\"", upload.id());
    let digest = format!("SHA-256={}", STANDARD.encode(sha256.as_bytes()));
    for (name, value) in [(LINK, link), (DIGEST, digest)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.insert(name, value);
        }
    }
}

/// Whether SHA-256 is among what the client wants, or it did not say what it wants.
fn is_sha256_wanted(request: &HeaderMap) -> bool {
    let wanted = joined_lines(request, &WANT_REPR_DIGEST);
    let wanted = wanted.and_then(|wanted| parse_wanted_digests(&wanted));
    wanted.is_none_or(|wanted| wanted.contains(&Algorithm::Sha256))
}
