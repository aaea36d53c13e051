//! `Upload-Metadata`: what is taken is given back as it was, and can be taken again.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use resumed::protocol::disposition::{disposition, media_type, safe_name};
use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::units::{MAX_LENGTH, parse_bytes};

/// `Bidi_Control` of Unicode: what lets a name look like another.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn check_name(name: &str) {
    let Some(safe) = safe_name(name) else { return };
    assert!(safe.len() <= 255 && !safe.contains(['/', '\\']));
    assert!(!safe.chars().any(|c| c.is_control() || turns_text(c)), "{safe:?}");
    assert!(!safe.chars().all(|c| c == '.'), "{safe:?}");
    assert_eq!(safe_name(&safe).as_ref(), Some(&safe), "a safe name is as it should be");
}

fn check_value(value: &[u8]) {
    let is_plain = |text: &[u8]| text.iter().all(|byte| (0x20..0x7f).contains(byte));
    for is_inline in [false, true] {
        let field = disposition(Some(value), is_inline);
        assert!(is_plain(field.as_bytes()), "{field:?}");
        assert_eq!(field.as_bytes().starts_with(b"inline"), is_inline);
        let field = field.to_str().expect("visible ASCII");
        assert!(!field.contains(['/', '\\']));
        assert!(matches!(field.matches('"').count(), 0 | 2), "{field}");
    }
    let (media_type, is_inline) = media_type(Some(value));
    assert!(is_plain(media_type.as_bytes()), "{media_type:?}");
    let text = media_type.to_str().expect("visible ASCII");
    let essence = text.split(';').next().unwrap_or_default().trim();
    let (main, sub) = essence.split_once('/').expect("type/subtype");
    assert!(!main.is_empty() && !sub.is_empty() && !sub.contains(['/', ' ']));
    let is_active = ["html", "xml", "svg", "pdf", "script"].iter().any(|word| sub.contains(word));
    assert!(!(is_inline && is_active), "{text}");
}

fuzz_target!(|text: &str| {
    if let Ok(metadata) = Metadata::parse(text) {
        assert_eq!(metadata.as_str(), text.trim_matches([' ', '\t']));
        assert_eq!(Metadata::parse(metadata.as_str()), Ok(metadata.clone()));
        assert!(metadata.is_empty() || HeaderValue::from_str(metadata.as_str()).is_ok());
        for pair in metadata.as_str().split(',').filter(|_| !metadata.is_empty()) {
            let key = pair.trim_matches([' ', '\t']).split(' ').next().unwrap_or_default();
            let value = metadata.value(key).expect("each key has a value");
            assert_eq!(metadata.first_of(&[" ", key]), Some(value.clone()));
            check_value(&value);
        }
    }
    check_value(text.as_bytes());
    check_name(text);
    // Long names take another way, and fuzzing makes short ones.
    check_name(&format!("{}{text}", "\u{e9}.".repeat(84)));
    check_name(&format!("{}{text}", ".".repeat(250)));
    if let Some(id) = UploadId::parse(text) {
        assert_eq!(id.to_string(), text);
        assert_eq!(UploadId::from_bytes(id.to_bytes()), id);
    }
    let digits = text.trim_start_matches('0');
    match parse_bytes(text) {
        Some(bytes) => {
            assert!(bytes <= MAX_LENGTH);
            assert_eq!(bytes.to_string(), if digits.is_empty() { "0" } else { digits });
        }
        None => {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            assert!(!is_number || digits.len() > 19 || digits > "9223372036854775807");
        }
    }
});
