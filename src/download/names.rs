//! What the local file is called, whatever a server would like.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::protocol::disposition::{parse_disposition_name, safe_name};

/// What a file is called when nobody has a name for it.
const FALLBACK: &str = "download";

/// The path of the local file. `given` is what the person asked for: a file, or a folder. A name
/// from the server is one in that folder, never hidden, and without anything that could lead out of it.
pub fn target(given: Option<&Path>, disposition: Option<&[u8]>, url: &Url) -> PathBuf {
    match given {
        Some(folder) if folder.is_dir() => folder.join(name(disposition, url)),
        Some(file) => file.to_owned(),
        None => name(disposition, url).into(),
    }
}

/// The name by what the server says, or else by the URL.
fn name(disposition: Option<&[u8]>, url: &Url) -> String {
    let said = disposition.and_then(parse_disposition_name).and_then(|name| visible(&name));
    said.or_else(|| name_in(url)).unwrap_or_else(|| FALLBACK.to_owned())
}

/// The last segment of a URL's path, if a file can be called so.
pub fn name_in(url: &Url) -> Option<String> {
    let last = url.path_segments()?.rfind(|segment| !segment.is_empty())?;
    visible(&percent_decode_str(last).decode_utf8_lossy())
}

/// A safe name that does not begin with a dot, since nobody wants a new `.bashrc` from a server; nor
/// with a dash, which other programs take for a flag.
fn visible(name: &str) -> Option<String> {
    let name = safe_name(name)?;
    let name = name.trim_start_matches(|c: char| matches!(c, '.' | '-') || c.is_whitespace());
    (!name.is_empty()).then(|| shorten(name))
}

/// At most so many bytes, with the extension kept: `.part.journal.new` has to fit behind it.
fn shorten(name: &str) -> String {
    const MOST: usize = 235;
    if name.len() <= MOST {
        return name.to_owned();
    }
    let extension = name.rfind('.').map_or("", |dot| &name[dot..]);
    let extension = if extension.len() <= 16 { extension } else { "" };
    let end = name.floor_char_boundary(MOST.saturating_sub(extension.len()));
    format!("{}{extension}", name[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(disposition: &str, url: &str) -> String {
        let disposition = (!disposition.is_empty()).then_some(disposition.as_bytes());
        name(disposition, &Url::parse(url).unwrap())
    }

    #[test]
    fn the_server_names_the_file_before_the_url_does() {
        let url = "http://host/a/b%20c.txt?x=/y";
        assert_eq!(named("attachment; filename=\"d.txt\"", url), "d.txt");
        assert_eq!(named("attachment; filename*=UTF-8''%C3%A9", url), "\u{e9}");
        assert_eq!(named("attachment", url), "b c.txt");
        assert_eq!(named("", "http://host/a/"), "a");
        assert_eq!(named("", "http://host/"), "download");
    }

    #[test]
    fn a_name_does_not_lead_anywhere() {
        let url = "http://host/x";
        assert_eq!(named("attachment; filename=\"../../etc/passwd\"", url), "passwd");
        assert_eq!(named("attachment; filename=\"..\\\\..\\\\a.exe\"", url), "a.exe");
        assert_eq!(named("attachment; filename=\".bashrc\"", url), "bashrc");
        assert_eq!(named("attachment; filename=\". .bashrc\"", url), "bashrc");
        assert_eq!(named("attachment; filename=\"..\"", url), "x");
        assert_eq!(named("", "http://host/..%2F..%2Fetc%2Fpasswd"), "passwd");
        assert_eq!(named("attachment; filename*=UTF-8''a%0D%0Ab%1B[2J", url), "ab[2J");
    }

    #[test]
    fn a_long_name_keeps_its_extension_and_leaves_room_for_those_of_ours() {
        let name = named("", &format!("http://host/{}.tar.gz", "%C3%A9".repeat(120)));
        assert!(name.len() <= 235 && name.len() > 230 && name.ends_with("\u{e9}.gz"), "{name}");
    }

    proptest! {
        #[test]
        fn any_field_gives_a_name_in_the_folder(field in proptest::collection::vec(any::<u8>(), 0..400)) {
            let field = [b"attachment; filename=\"", &field[..], b"\""].concat();
            let name = name(Some(&field), &Url::parse("http://host/").unwrap());
            prop_assert!(!name.is_empty() && !name.starts_with('.') && name.len() <= 240);
            prop_assert!(!name.contains(['/', '\0']) && !name.chars().any(char::is_control));
            prop_assert_eq!(Path::new(&name).components().count(), 1);
        }
    }
}
