//! A Metalink 4 file that describes one complete upload, for downloaders that verify what they
//! fetch, such as aria2.
//!
//! - RFC 5854 §2 (the form), §4.2.3 `file`, §4.2.4 `hash`, §4.2.12 `pieces`, §4.2.16 `url`

use std::fmt::Write as _;

use super::repr_digests::Sha256Digest;
use super::tree::GROUP_BYTES;

/// The media type of a Metalink 4 file.
pub const MEDIA_TYPE: &str = "application/metalink4+xml";

/// Writes the file up to the hashes of the pieces. `name` is the name to store the file under,
/// without a path; `length` is in bytes.
pub fn head(name: &str, length: u64, sha256: Option<Sha256Digest>) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml.push_str("<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n");
    push(&mut xml, format_args!("  <file name=\"{}\">\n", escaped(name)));
    push(&mut xml, format_args!("    <size>{length}</size>\n"));
    if let Some(sha256) = sha256 {
        push(&mut xml, format_args!("    <hash type=\"sha-256\">{sha256}</hash>\n"));
    }
    xml
}

/// Writes what goes before the hashes of the pieces.
pub fn pieces_head() -> String {
    format!("    <pieces length=\"{GROUP_BYTES}\" type=\"sha-256\">\n")
}

/// Writes the hash of one piece; always of the same length.
pub fn piece(sha256: Sha256Digest) -> String {
    format!("      <hash>{sha256}</hash>\n")
}

/// Writes what goes behind the hashes of the pieces.
pub const PIECES_TAIL: &str = "    </pieces>\n";

/// Writes the rest of the file behind the hashes: where the upload is.
pub fn tail(url: &str) -> String {
    format!("    <url>{}</url>\n  </file>\n</metalink>\n", escaped(url))
}

fn push(xml: &mut String, text: std::fmt::Arguments<'_>) {
    xml.write_fmt(text).expect("a String takes any text");
}

/// A text that may stand in XML, within quotes too. Characters that XML 1.0 has no way to write are
/// left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => {}
            character if character.is_control() => {}
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_described_by_its_size_hash_and_url() {
        let sha256 = Sha256Digest::from_bytes([0xab; 32]);
        let xml = head("a.txt", 3, Some(sha256)) + &tail("http://h/files/x");
        let expected = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n  <file name=\"a.txt\">\n    \
             <size>3</size>\n    <hash type=\"sha-256\">{}</hash>\n    \
             <url>http://h/files/x</url>\n  </file>\n</metalink>\n",
            "ab".repeat(32)
        );
        assert_eq!(xml, expected);
        assert!(!head("a.txt", 3, None).contains("hash"));
    }

    #[test]
    fn a_name_cannot_break_out_of_its_place() {
        let xml = head("\"><url>x</url>&\u{1}\u{ffff}'", 0, None);
        assert!(xml.contains("name=\"&quot;&gt;&lt;url&gt;x&lt;/url&gt;&amp;&apos;\""), "{xml}");
    }
}
