//! The name, the media type and the coding of a download, from what a client said about the upload: safe by
//! default, since whoever may upload would else decide what runs in this server's origin.
//!
//! - RFC 6266 (Content-Disposition), RFC 8187 (`filename*`), RFC 9110 §8.3 (Content-Type), §8.4 (Content-Encoding)

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// The longest name in bytes; what file systems take at most.
const MAX_NAME_BYTES: usize = 255;
/// The longest media type that is believed, in bytes.
const MAX_MEDIA_TYPE_BYTES: usize = 127;
/// What RFC 8187 lets stand as it is: `attr-char`.
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');
/// What a browser shows without running anything of it. Not HTML, SVG, XML and PDF, which can hold
/// scripts.
const HARMLESS: [&str; 16] = [
    "audio/aac",
    "audio/flac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "audio/webm",
    "image/avif",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/plain",
    "video/mp4",
    "video/ogg",
    "video/webm",
];

/// The media type to send, and whether a browser may show it in place. What is missing or no media
/// type is `application/octet-stream`.
pub fn media_type(declared: Option<&[u8]>) -> (HeaderValue, bool) {
    let declared = declared.and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::trim);
    let valid = declared.filter(|text| is_media_type(text));
    let Some((text, value)) = valid.and_then(|text| Some((text, text.parse().ok()?))) else {
        return (HeaderValue::from_static("application/octet-stream"), false);
    };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (value, HARMLESS.contains(&essence.as_str()))
}

/// `type/subtype` and perhaps parameters, of which only the characters are looked at.
fn is_media_type(text: &str) -> bool {
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let is_token = |token: &str| {
        !token.is_empty()
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let is_plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    text.len() <= MAX_MEDIA_TYPE_BYTES
        // Not `trim`: it takes spaces off that are no ASCII and would be sent.
        && essence.trim_end_matches(' ').split_once('/').is_some_and(|(main, sub)| is_token(main) && is_token(sub))
        && parameters.bytes().all(is_plain)
}

/// The codings to send, when the client declared some; `None` when there are none, or that is no
/// list of tokens (RFC 9110 §8.4).
pub fn content_coding(declared: Option<&[u8]>) -> Option<HeaderValue> {
    let codings = std::str::from_utf8(declared?).ok()?.trim();
    let is_coding = |coding: &str| {
        !coding.is_empty() && coding.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_right = codings.len() <= MAX_MEDIA_TYPE_BYTES
        && codings.split(',').all(|coding| is_coding(coding.trim_matches(' ')));
    is_right.then(|| HeaderValue::try_from(codings).ok()).flatten()
}

/// `Content-Disposition` with a name that every client can read, or without one.
pub fn disposition(name: Option<&[u8]>, is_inline: bool) -> HeaderValue {
    let kind = if is_inline { "inline" } else { "attachment" };
    let plain = || HeaderValue::from_static(kind);
    let Some(name) = name.and_then(|name| safe_name(&String::from_utf8_lossy(name))) else {
        return plain();
    };
    let is_simple = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '%') || c == ' ';
    let fallback: String = name.chars().map(|c| if is_simple(c) { c } else { '_' }).collect();
    let field = if fallback == name {
        format!("{kind}; filename=\"{name}\"")
    } else {
        let coded = utf8_percent_encode(&name, ATTR_CHAR);
        format!("{kind}; filename=\"{fallback}\"; filename*=UTF-8''{coded}")
    };
    HeaderValue::try_from(field).unwrap_or_else(|_| plain())
}

/// The name in a `Content-Disposition` as its sender wrote it, any path in it included: see
/// [`safe_name`] before using it for a file. `filename*` goes before `filename` (RFC 6266 §4.3).
/// What cannot be read is as if it were not there.
pub fn parse_disposition_name(field: &[u8]) -> Option<String> {
    let mut plain = None;
    let mut coded = None;
    let mut rest = split_unquoted(field).1;
    while !rest.is_empty() {
        let (parameter, after) = split_unquoted(rest);
        rest = after;
        let Some(equals) = parameter.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = parameter.split_at(equals);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match name.trim_ascii().to_ascii_lowercase().as_slice() {
            b"filename" => plain = plain.or_else(|| unquote(value)),
            b"filename*" => coded = coded.or_else(|| decode_extended(value)),
            _ => {}
        }
    }
    coded.or(plain).filter(|name| !name.is_empty())
}

/// Splits at the first `;` that is not within quotes.
fn split_unquoted(field: &[u8]) -> (&[u8], &[u8]) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let at = field.iter().position(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' => return !is_quoted,
            _ => {}
        }
        false
    });
    let (before, after) = field.split_at(at.unwrap_or(field.len()));
    (before, after.get(1..).unwrap_or_default())
}

/// A token or a quoted string. Of bytes that are no ASCII nobody says what they mean: mostly they
/// are UTF-8, and Latin-1 from old senders.
fn unquote(value: &[u8]) -> Option<String> {
    let bytes = match value.strip_prefix(b"\"") {
        None => value.to_vec(),
        Some(rest) => {
            let mut bytes = Vec::with_capacity(rest.len());
            let mut input = rest.strip_suffix(b"\"")?.iter();
            while let Some(byte) = input.next() {
                bytes.push(if *byte == b'\\' { *input.next()? } else { *byte });
            }
            bytes
        }
    };
    Some(String::from_utf8(bytes).unwrap_or_else(|wrong| latin1(wrong.as_bytes())))
}

/// `UTF-8'en'na%C3%AFve` (RFC 8187 §3.2.1).
fn decode_extended(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?;
    let (charset, tagged) = value.split_once('\'')?;
    let (_language, coded) = tagged.split_once('\'')?;
    let bytes: Vec<u8> = percent_decode(coded.as_bytes()).collect();
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" => String::from_utf8(bytes).ok(),
        "iso-8859-1" => Some(latin1(&bytes)),
        _ => None,
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// A name for a file in one folder: the last component of a path in any system's spelling, without
/// control characters, of at most 255 bytes with its extension kept. `None` when nothing is left.
pub fn safe_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_safe = |c: &char| !c.is_control() && !is_invisible(*c);
    let clean: String = last.chars().filter(is_safe).collect();
    let short = shorten(clean.trim());
    // The cut may have come behind a space, or have left nothing but dots.
    let name = short.trim_end();
    (!name.chars().all(|c| c == '.')).then(|| name.to_owned())
}

/// Characters that turn the direction of a text, or cannot be seen: `gpj.exe` is shown as an image.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn shorten(name: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name.to_owned();
    }
    let extension = name.rfind('.').map_or("", |dot| &name[dot..]);
    let extension = if extension.len() <= 16 { extension } else { "" };
    let mut end = MAX_NAME_BYTES.saturating_sub(extension.len());
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    format!("{}{extension}", &name[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attachment(name: &str) -> String {
        disposition(Some(name.as_bytes()), false).to_str().unwrap().to_owned()
    }

    #[test]
    fn a_plain_name_needs_no_second_form() {
        assert_eq!(attachment("a b.txt"), "attachment; filename=\"a b.txt\"");
    }

    #[test]
    fn any_other_name_has_a_fallback_and_a_coded_form() {
        assert_eq!(
            attachment("na\u{ef}ve \"1\".txt"),
            "attachment; filename=\"na_ve _1_.txt\"; filename*=UTF-8''na%C3%AFve%20%221%22.txt"
        );
    }

    #[test]
    fn a_path_is_cut_to_its_last_component() {
        assert_eq!(attachment("../../etc/passwd"), "attachment; filename=\"passwd\"");
        assert_eq!(attachment("C:\\x\\y.txt"), "attachment; filename=\"y.txt\"");
        for nothing in ["", "..", ".", "a/", "\r\n", " "] {
            assert_eq!(attachment(nothing), "attachment", "{nothing:?}");
        }
    }

    #[test]
    fn a_line_break_cannot_make_a_header() {
        assert_eq!(attachment("a\r\nX: 1"), "attachment; filename=\"aX: 1\"");
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let name = safe_name(&format!("{}.tar", "\u{e9}".repeat(300))).unwrap();
        assert!(name.len() <= MAX_NAME_BYTES && name.ends_with(".tar"), "{name}");
    }

    #[test]
    fn a_name_that_was_cut_is_still_a_safe_one() {
        assert_eq!(safe_name(&format!("{}{}", ".".repeat(260), "a".repeat(17))), None);
        let name = safe_name(&format!("{} {}", "a".repeat(254), "b".repeat(20))).unwrap();
        assert_eq!(name, "a".repeat(254));
    }

    #[test]
    fn a_name_cannot_turn_its_direction() {
        let marks = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}";
        assert_eq!(attachment(&format!("a{marks}.exe")), "attachment; filename=\"a.exe\"");
    }

    #[test]
    fn a_coding_is_sent_only_when_it_is_one() {
        let sent = |declared: &str| {
            content_coding(Some(declared.as_bytes()))
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(sent("gzip").as_deref(), Some("gzip"));
        assert_eq!(sent(" br, x-gzip ").as_deref(), Some("br, x-gzip"));
        for wrong in ["", "gzip,", "g zip", "gzip\r\nX: 1", "gz\u{ef}p"] {
            assert_eq!(sent(wrong), None, "{wrong:?}");
        }
        assert_eq!(content_coding(None), None);
    }

    #[test]
    fn only_harmless_types_are_shown_in_place() {
        for shown in ["image/png", "Image/PNG", "text/plain; charset=utf-8"] {
            assert!(media_type(Some(shown.as_bytes())).1, "{shown}");
        }
        let dangerous = ["text/html", "image/svg+xml", "application/pdf", "text/xml", "a/b"];
        for saved in dangerous {
            let (value, is_inline) = media_type(Some(saved.as_bytes()));
            assert_eq!((value.to_str().unwrap(), is_inline), (saved, false));
        }
        for wrong in [
            "",
            "image",
            "image/",
            "image/png\r\nX: 1",
            "a b/c",
            "null",
            "\u{e9}/x",
            "image/png\u{a0};a",
        ] {
            let (value, is_inline) = media_type(Some(wrong.as_bytes()));
            assert_eq!((value.to_str().unwrap(), is_inline), ("application/octet-stream", false));
        }
    }

    #[test]
    fn a_name_is_read_from_the_forms_that_clients_send() {
        let read = |field: &[u8]| parse_disposition_name(field);
        let name = |text: &str| Some(text.to_owned());
        assert_eq!(read(b"inline; filename=\"a b.txt\""), name("a b.txt"));
        assert_eq!(read(b"attachment;FileName = plain.txt ; x=y"), name("plain.txt"));
        assert_eq!(read(br#"inline; filename="a \"1\"; b\\.txt"; x=1"#), name("a \"1\"; b\\.txt"));
        let both = b"inline; filename=\"na_ve\"; filename*=utf-8'en'na%C3%AFve";
        assert_eq!(read(both), name("na\u{ef}ve"));
        assert_eq!(read(b"inline; filename*=ISO-8859-1''%E9"), name("\u{e9}"));
        assert_eq!(read("inline; filename=\"\u{e9}\"".as_bytes()), name("\u{e9}"));
        assert_eq!(read(b"inline; filename=\"\xe9\""), name("\u{e9}"));
        // One that cannot be read leaves the other.
        let unreadable = b"inline; filename=b; filename*=UTF-8''%ff";
        assert_eq!(read(unreadable), name("b"));
    }

    #[test]
    fn without_a_name_that_can_be_read_there_is_none() {
        let nameless: [&[u8]; 8] = [
            b"",
            b"inline",
            b"inline; filename",
            b"inline; filename=\"\"",
            b"inline; filename=\"open",
            b"inline; filename=\"open\\\"",
            b"inline; filename*=utf-8",
            b"inline; filename*=koi8-r''%C1",
        ];
        for field in nameless {
            assert_eq!(parse_disposition_name(field), None, "{field:?}");
        }
    }

    proptest! {
        #[test]
        fn the_name_that_was_written_is_read(name in "[^/\\\\\\p{C}\\p{Z}]{1,40}") {
            let safe = safe_name(&name);
            let field = disposition(safe.as_deref().map(str::as_bytes), false);
            prop_assert_eq!(parse_disposition_name(field.as_bytes()), safe);
        }

        #[test]
        fn reading_a_name_never_panics(field in proptest::collection::vec(any::<u8>(), 0..100)) {
            parse_disposition_name(&field);
            parse_disposition_name(&[b"inline; filename=\"", field.as_slice()].concat());
            parse_disposition_name(&[b"inline; filename*=utf-8''", field.as_slice()].concat());
        }

        #[test]
        fn any_bytes_give_a_safe_field(name in proptest::collection::vec(any::<u8>(), 0..300)) {
            let field = disposition(Some(&name), true);
            let text = field.to_str().unwrap();
            prop_assert!(text.starts_with("inline"));
            prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert!(!text.contains('/') && !text.contains('\\'));
            prop_assert!(matches!(text.matches('"').count(), 0 | 2));
        }
    }
}
