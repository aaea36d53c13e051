//! The settings file: TOML, flat, each key as on the command line without its dashes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{SettingsError, Source};
use super::reader::Given;

/// The largest settings file that is read: guards against a path that leads to a device or to
/// data.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the file at `path`, which was named in `named_in`.
///
/// # Errors
///
/// [`SettingsError::Unreadable`], and those of [`parse`].
pub(super) fn read(
    path: &Path,
    named_in: Source,
) -> Result<BTreeMap<String, Given>, SettingsError> {
    let text = read_text(path).map_err(|source| SettingsError::Unreadable {
        path: path.to_owned(),
        from: named_in,
        source,
    })?;
    parse(path, &text)
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read <= MAX_FILE_BYTES) {
        Ok(text)
    } else {
        Err(io::Error::other("it is larger than 1 MiB"))
    }
}

/// Reads the values in `text`, the content of the file at `path`. A whole number and a list of
/// texts stand for the text one would give to the flag, `true` and `false` for `on` and `off`.
///
/// # Errors
///
/// [`SettingsError::NotToml`], and [`SettingsError::Wrong`] for a value of any other type.
fn parse(path: &Path, text: &str) -> Result<BTreeMap<String, Given>, SettingsError> {
    let table = DeTable::parse(text).map_err(|error| SettingsError::NotToml {
        path: path.to_owned(),
        line: line_at(text, error.span()),
        why: error.message().to_owned(),
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in table.get_ref() {
        let from = Source::File { path: path.to_owned(), line: line_at(text, Some(key.span())) };
        let Some((value_text, is_list)) = text_of(value) else {
            return Err(SettingsError::Wrong {
                key: key.get_ref().to_string(),
                value: text.get(value.span()).unwrap_or_default().to_owned(),
                from,
                allowed: "a text in quotes, a whole number, true, false, or a list of texts, \
                          all outside of [sections]"
                    .to_owned(),
            });
        };
        values.insert(key.get_ref().to_string(), Given { text: value_text, is_list, from });
    }
    Ok(values)
}

/// The text that one would give to the flag, and whether it was written as a list.
fn text_of(value: &Spanned<DeValue<'_>>) -> Option<(String, bool)> {
    match value.get_ref() {
        DeValue::String(text) => Some((text.to_string(), false)),
        DeValue::Integer(number) if number.radix() == 10 => {
            Some((number.as_str().to_owned(), false))
        }
        DeValue::Boolean(is_on) => Some((if *is_on { "on" } else { "off" }.to_owned(), false)),
        DeValue::Array(values) => {
            let texts: Option<Vec<&str>> =
                values.iter().map(|value| value.get_ref().as_str()).collect();
            Some((texts?.join(","), true))
        }
        _ => None,
    }
}

/// The line that `span` begins on, counted from 1.
fn line_at(text: &str, span: Option<Range<usize>>) -> usize {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or(text);
    before.matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_here(text: &str) -> Result<BTreeMap<String, Given>, SettingsError> {
        parse(Path::new("a.toml"), text)
    }

    #[test]
    fn values_of_several_types_stand_for_the_text_of_the_flag() {
        let text = "a = \"10GiB\"\n\nb = 1_000\nc = true\nd = false\ne = ['x', 'y']\n";
        let values = parse_here(text).unwrap();
        let texts: Vec<_> = values.values().map(|given| given.text.as_str()).collect();
        assert_eq!(texts, ["10GiB", "1000", "on", "off", "x,y"]);
        assert_eq!(values["b"].from, Source::File { path: "a.toml".into(), line: 3 });
        assert!(values["e"].is_list);
    }

    #[test]
    fn a_value_of_another_type_is_refused_with_its_line() {
        for (text, shown) in [
            ("a = 1\nb = 1.5", "b is \"1.5\" (from a.toml, line 2): a text in quotes"),
            ("b = 0x10", "b is \"0x10\" (from a.toml, line 1)"),
            ("b = [1, 2]", "b is \"[1, 2]\" (from a.toml, line 1)"),
            ("[b]\nc = 1", "b is \"[b]"),
        ] {
            let error = parse_here(text).unwrap_err().to_string();
            assert!(error.starts_with(shown), "{error}");
        }
    }

    #[test]
    fn what_is_not_toml_is_refused_with_its_line() {
        for text in ["a = 1\nb = = 2\n", "a = 1\na = 2\n", "a = 1\nb = 10 giraffes\n"] {
            let error = parse_here(text).unwrap_err().to_string();
            let start = "the settings file \"a.toml\" is not TOML at line 2: ";
            assert!(error.starts_with(start), "{error}");
        }
    }

    #[test]
    fn a_file_that_never_ends_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.toml");
        File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert_eq!(read_text(&path).unwrap_err().to_string(), "it is larger than 1 MiB");
    }
}
