//! What is said about a file: its name, its type, its digest, and what the person adds. Pure.
//!
//! - tus 1.0 "Creation", Upload-Metadata. The keys `filename` and `filetype` are those that
//!   servers commonly know.

use std::path::Path;

use super::{Options, is_stdin};
use crate::protocol::digest::Blake3Digest;
use crate::protocol::metadata::Metadata;
use crate::protocol::repr_digests::BLAKE3_KEY;

const NAME: &str = "filename";
const MEDIA_TYPE: &str = "filetype";

/// The metadata of a file but its digest. Nothing of it depends on the content.
pub(super) fn pairs(path: &Path, options: &Options) -> Vec<(String, String)> {
    let own = path.file_name().filter(|_| !is_stdin(path));
    let own = own.map(|name| name.to_string_lossy().into_owned());
    let name = options.name.clone().or(own);
    let guessed = name.as_deref().and_then(|name| mime_guess::from_path(name).first_raw());
    let media_type = options.media_type.clone().or(guessed.map(str::to_owned));
    let told = [(NAME, name), (MEDIA_TYPE, media_type)];
    let told = told.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let is_given = |key: &str| options.metadata.iter().any(|(given, _)| given == key);
    told.filter(|(key, _)| !is_given(key)).chain(options.metadata.iter().cloned()).collect()
}

/// The value of `Upload-Metadata`.
pub(super) fn field(pairs: &[(String, String)], blake3: Option<Blake3Digest>) -> String {
    let digest = blake3.map(|digest| digest.to_string());
    let pairs = pairs.iter().filter(|(key, _)| digest.is_none() || key != BLAKE3_KEY);
    let pairs = pairs.map(|(key, value)| (key.as_str(), Some(value.as_str())));
    let metadata = Metadata::from_pairs(pairs.chain([(BLAKE3_KEY, digest.as_deref())]));
    metadata.as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn options() -> Options {
        Options {
            endpoint: Url::parse("http://host/files/").unwrap(),
            connections: 1,
            max_request_bytes: None,
            max_tries: 1,
            is_digested: true,
            is_anew: false,
            name: None,
            media_type: None,
            metadata: Vec::new(),
        }
    }

    fn told(path: &str, options: &Options) -> String {
        let pairs = pairs(Path::new(path), options);
        let pairs: Vec<String> =
            pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(" ")
    }

    #[test]
    fn a_file_tells_its_name_and_type() {
        assert_eq!(told("a/b.PNG", &options()), "filename=b.PNG filetype=image/png");
        assert_eq!(told("a/b", &options()), "filename=b");
        assert_eq!(told("-", &options()), "");
    }

    #[test]
    fn what_the_person_says_wins() {
        let named = Options { name: Some("c.txt".into()), ..options() };
        assert_eq!(told("-", &named), "filename=c.txt filetype=text/plain");
        let typed = Options { media_type: Some("x/y".into()), ..named };
        assert_eq!(told("b.png", &typed), "filename=c.txt filetype=x/y");
        let metadata = vec![("filename".into(), "d".into()), ("k".into(), "v".into())];
        let given = Options { metadata, ..options() };
        assert_eq!(told("b.png", &given), "filetype=image/png filename=d k=v");
    }

    #[test]
    fn the_field_can_be_read_by_a_server() {
        let digest = Blake3Digest::of(b"abc");
        let pairs =
            [("filename".to_owned(), "naïve 文件".to_owned()), ("blake3".into(), "x".into())];
        let read = Metadata::parse(&field(&pairs, Some(digest))).unwrap();
        assert_eq!(read.value("filename"), Some("naïve 文件".into()));
        assert_eq!(read.value("blake3"), Some(digest.to_string().into()));
        assert_eq!(field(&[], None), "");
    }
}
