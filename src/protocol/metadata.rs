//! What a client says about an upload: `Upload-Metadata`, kept as it was sent.
//!
//! A HEAD has to give the field back with the same value, in the same order and spelling, so the
//! text is the record and its pairs are read from it when they are needed.
//!
//! - tus 1.0 "Creation", Upload-Metadata

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::fields::LENIENT_BASE64;

/// The metadata of an upload, as the client gave it and proven to be readable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(Arc<str>);

impl Metadata {
    /// Reads the value of an `Upload-Metadata` field. An empty one is no metadata: tuspy sends
    /// it when there is none.
    ///
    /// # Errors
    ///
    /// A text for a person, which names the pair by its number, and never repeats its value.
    pub fn parse(field: &str) -> Result<Self, String> {
        let field = field.trim_matches([' ', '\t']);
        if field.is_empty() {
            return Ok(Self::default());
        }
        let mut keys: Vec<&str> = Vec::new();
        for (index, pair) in field.split(',').enumerate() {
            let number = index.saturating_add(1);
            let (key, value) = split(pair);
            if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!(
                    "the key of pair {number} is empty or has characters other than visible ASCII"
                ));
            }
            if keys.contains(&key) {
                return Err(format!("the key of pair {number} stands there twice"));
            }
            if LENIENT_BASE64.decode(value).is_err() {
                return Err(format!("the value of pair {number} is not base64"));
            }
            keys.push(key);
        }
        Ok(Self(field.into()))
    }

    /// The metadata with these values, as a tus client would have written it; the keys are visible
    /// ASCII without comma, each there once.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let told = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let written: Vec<String> =
            told.map(|(key, value)| format!("{key} {}", STANDARD.encode(value))).collect();
        Self(written.join(",").into())
    }

    /// The field's value as the client gave it; empty when there is no metadata.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the client gave no metadata.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The decoded value of a key; empty for a key without a value, `None` for no such key.
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        let (_, value) = self.0.split(',').map(split).find(|(name, _)| *name == key)?;
        LENIENT_BASE64.decode(value).ok()
    }

    /// The first of these keys that is there, decoded. Clients name the same fact differently:
    /// `filename` and `name`, `filetype` and `type`.
    pub fn first_of(&self, keys: &[&str]) -> Option<Vec<u8>> {
        keys.iter().find_map(|key| self.value(key))
    }
}

/// Splits `key SP value`, where the value and the space before it may be missing.
fn split(pair: &str) -> (&str, &str) {
    let pair = pair.trim_matches([' ', '\t']);
    pair.split_once(' ').map_or((pair, ""), |(key, value)| (key, value.trim_matches(' ')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metadata_is_given_back_as_it_was_sent() {
        let field = "flag,filename d29ybGQ=,empty ";
        let metadata = Metadata::parse(field).unwrap();
        assert_eq!(metadata.as_str(), "flag,filename d29ybGQ=,empty");
        assert_eq!(metadata.value("flag"), Some(vec![]));
        assert_eq!(metadata.value("filename"), Some(b"world".to_vec()));
        assert_eq!(metadata.first_of(&["name", "filename"]), Some(b"world".to_vec()));
        assert_eq!(metadata.value("file"), None);
    }

    #[test]
    fn an_empty_field_is_no_metadata() {
        assert!(Metadata::parse("").unwrap().is_empty());
        assert!(Metadata::parse("  ").unwrap().is_empty());
    }

    #[test]
    fn padding_may_be_missing() {
        assert_eq!(Metadata::parse("a d29ybGQ").unwrap().value("a"), Some(b"world".to_vec()));
    }

    #[test]
    fn unreadable_metadata_is_refused_without_repeating_its_value() {
        for wrong in [",", "a YQ==,", "a YQ==,a Yg==", "a !secret!", "a YQ== YQ==", "\u{e9} YQ=="] {
            let refused = Metadata::parse(wrong).unwrap_err();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_keeps_what_it_takes(field in "\\PC{0,40}") {
            if let Ok(metadata) = Metadata::parse(&field) {
                prop_assert_eq!(metadata.as_str(), field.trim_matches([' ', '\t']));
                prop_assert_eq!(Metadata::parse(metadata.as_str()), Ok(metadata));
            }
        }
    }
}
