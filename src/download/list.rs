//! A list of downloads: one a line, with the URLs of the same file beside each other.

use url::Url;

use crate::client::flags::parse_url;

/// Reads a list. Each line has the URLs of one file, with spaces between; empty lines, and those
/// that begin with `#`, do not count. Each URL has its scheme, or any text would be a list of
/// hosts.
///
/// # Errors
/// The number of the first wrong line, from 1, and what is wrong with it; or that there is no URL.
pub fn parse_list(text: &str) -> Result<Vec<Vec<Url>>, String> {
    let lines = text.lines().enumerate();
    let lines = lines.map(|(index, line)| (index.saturating_add(1), line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let lists = lines.map(|(number, line)| {
        let urls = line.split_whitespace().map(|text| match text.contains("://") {
            true => parse_url(text),
            false => Err(format!("{text:?} begins neither with http:// nor with https://")),
        });
        urls.collect::<Result<_, _>>().map_err(|error| format!("line {number}: {error}"))
    });
    let lists: Vec<_> = lists.collect::<Result<_, _>>()?;
    if lists.is_empty() { Err("it has no URL".to_owned()) } else { Ok(lists) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_urls_of_one_file() {
        let list = parse_list("# files\nhttp://a/x\thttp://b/x\n\n  https://c/y \n").unwrap();
        let lengths: Vec<usize> = list.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1]);
        assert!(parse_list("http://a/x\nftp://b/x").unwrap_err().starts_with("line 2:"));
        assert!(parse_list("\nsome words").unwrap_err().starts_with("line 2: \"some\""));
        assert_eq!(parse_list("# none\n").unwrap_err(), "it has no URL");
    }
}
