//! The tus 1.0.0 dialect: a request's head to an operation, an outcome or refusal to a response's
//! head. Words that only tus knows stay in this file.
//!
//! - tus 1.0 "Core Protocol", "Creation", "Creation With Upload", "Expiration", "Checksum",
//!   "Termination", "Concatenation"

mod decode;
mod encode;

use http::HeaderName;

pub use self::decode::{decode, decode_trailers, effective_method};
pub(super) use self::encode::status_of;
pub use self::encode::{encode, encode_failure, encode_refusal, mark};

/// The version that is spoken here.
pub const VERSION: &str = "1.0.0";
/// The media type of an append's content.
pub const CONTENT_MEDIA_TYPE: &str = "application/offset+octet-stream";
/// The methods of an upload resource, as `Allow` names them.
pub const UPLOAD_METHODS: &str = "GET, HEAD, PATCH, DELETE, OPTIONS";
/// The methods of the collection, as `Allow` names them.
pub const COLLECTION_METHODS: &str = "POST, PUT, OPTIONS";
/// Those of them that tus has a use for.
const CREATION_METHODS: &str = "POST, OPTIONS";
/// The extensions, without spaces: TUSKit splits at the comma and does not trim.
const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,termination,\
                          checksum,checksum-trailer,concatenation,concatenation-unfinished";
/// The extension that depends on a setting.
const EXPIRATION: &str = ",expiration";

/// The version that both sides speak (tus 1.0 §Tus-Resumable).
pub const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
pub(super) const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");
