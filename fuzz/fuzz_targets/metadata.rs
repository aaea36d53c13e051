//! `Upload-Metadata`: what is taken is given back as it was, and can be taken again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumed::protocol::disposition::{disposition, media_type, safe_name};
use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::units::{MAX_LENGTH, parse_bytes};

fuzz_target!(|text: &str| {
    if let Ok(metadata) = Metadata::parse(text) {
        assert_eq!(metadata.as_str(), text.trim_matches([' ', '\t']));
        assert_eq!(Metadata::parse(metadata.as_str()), Ok(metadata.clone()));
        for key in metadata.as_str().split([',', ' ']) {
            if let Some(value) = metadata.value(key) {
                let field = disposition(Some(&value), true);
                let field = field.to_str().expect("visible ASCII");
                assert!(!field.contains(['/', '\\', '\r', '\n']));
                let (_, is_inline) = media_type(Some(&value));
                assert!(!is_inline || value.is_ascii());
            }
        }
    }
    if let Some(name) = safe_name(text) {
        assert!(name.len() <= 255 && !name.contains(['/', '\\']) && !name.chars().any(char::is_control));
        assert_ne!(name, "..");
    }
    if let Some(id) = UploadId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    if let Some(bytes) = parse_bytes(text) {
        assert!(bytes <= MAX_LENGTH && text.bytes().all(|byte| byte.is_ascii_digit()));
    }
});
