//! How the text of a setting is read, and the words that say what is allowed.
//!
//! A [`Form`] keeps both in one place, so a refusal always names the rule that refused. Knows no
//! keys and no sources.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::protocol::units::{MAX_LENGTH, parse_bytes};

type Parse<T> = Box<dyn Fn(&str) -> Option<T>>;

/// The grammar of one setting's value.
pub(super) struct Form<T> {
    /// What stands for the value in the help, such as `SIZE`.
    pub(super) placeholder: &'static str,
    /// Further words or bounds, such as `or none`; empty when there are none.
    pub(super) also: String,
    /// Whether several values may be given, with commas between.
    pub(super) is_list: bool,
    rule: String,
    parse: Parse<T>,
}

impl<T: 'static> Form<T> {
    /// The form of the texts that `parse` accepts; `rule` says which ones those are.
    pub(super) fn new(
        placeholder: &'static str,
        rule: impl Into<String>,
        parse: impl Fn(&str) -> Option<T> + 'static,
    ) -> Self {
        let (also, is_list) = (String::new(), false);
        Self { placeholder, also, is_list, rule: rule.into(), parse: Box::new(parse) }
    }

    /// The value that `text` stands for, `None` when it is not of this form.
    pub(super) fn read(&self, text: &str) -> Option<T> {
        (self.parse)(text)
    }

    /// What is allowed, as the end of a sentence for the person who wrote something else.
    pub(super) fn allowed(&self) -> String {
        if self.also.is_empty() {
            self.rule.clone()
        } else {
            format!("{}; {}", self.rule, self.also)
        }
    }

    /// The same form with a word for "no value".
    pub(super) fn or(self, word: &'static str) -> Form<Option<T>> {
        let also = if self.also.is_empty() {
            format!("or {word}")
        } else {
            format!("{}, or {word}", self.also)
        };
        let parse = self.parse;
        let parse: Parse<Option<T>> =
            Box::new(move |text| if text == word { Some(None) } else { parse(text).map(Some) });
        Form { placeholder: self.placeholder, also, is_list: self.is_list, rule: self.rule, parse }
    }

    /// The same form with several values allowed, as one text with commas between.
    pub(super) fn list(self) -> Self {
        Self { is_list: true, ..self }
    }
}

impl<T: PartialOrd + 'static> Form<T> {
    /// The same form for values from `least` to `most`, which are written in this form.
    pub(super) fn between(self, least: &'static str, most: &'static str) -> Self {
        let bound = |text| self.read(text).expect("a bound is written in the form it bounds");
        let range = bound(least)..=bound(most);
        let parse = self.parse;
        Self {
            also: format!("from {least} to {most}"),
            parse: Box::new(move |text| parse(text).filter(|value| range.contains(value))),
            ..self
        }
    }
}

/// A number of bytes: `1048576`, `64KiB`, `10GiB`, `10GB`.
pub(super) fn size() -> Form<u64> {
    let rule = "a size is a whole number of bytes with an optional unit, such as 1048576, 64K, \
                64KiB (the same) or 10GiB";
    Form::new("SIZE", rule, parse_size)
}

/// A number of bytes that are held in memory.
pub(super) fn memory_size() -> Form<usize> {
    let Form { placeholder, rule, .. } = size();
    Form::new(placeholder, rule, |text| usize::try_from(parse_size(text)?).ok())
}

/// Reads a number of bytes with an optional unit: `1048576`, `64KiB`, `10GB`; `64K` is `64KiB`, as
/// with curl and wget.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor).filter(|bytes| *bytes <= MAX_LENGTH)
}

/// A time span: `500ms`, `30s`, `5m`, `24h`, `7d`.
pub(super) fn duration() -> Form<Duration> {
    let rule = "a time is a whole number with a unit (ms, s, m, h or d), such as 500ms, 30s or 24h";
    Form::new("TIME", rule, parse_time)
}

/// Reads a whole number with a unit of time: `500ms`, `30s`, `24h`.
pub fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let factor_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor_ms).map(Duration::from_millis)
}

/// The decimal number that `text` begins with, and what follows it.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((parse_bytes(number)?, unit))
}

/// A whole number of things.
pub(super) fn count() -> Form<usize> {
    Form::new("NUMBER", "a whole number", |text| usize::try_from(parse_bytes(text)?).ok())
}

/// One of some words; `words` has them with `|` between, in the order of `values`.
pub(super) fn choice<T: Copy + 'static, const COUNT: usize>(
    words: &'static str,
    values: [T; COUNT],
) -> Form<T> {
    let rule = words.replace('|', " or ");
    Form::new(words, rule, move |text| {
        let position = words.split('|').position(|word| word == text)?;
        values.get(position).copied()
    })
}

/// `on` or `off`.
pub(super) fn switch() -> Form<bool> {
    choice("on|off", [true, false])
}

/// The address to listen on.
pub(super) fn address() -> Form<SocketAddr> {
    let rule = "an IP address and a port, such as 127.0.0.1:1080, 0.0.0.0:80 or [::]:1080";
    Form::new("ADDRESS", rule, |text| text.parse().ok())
}

/// A folder, as a path that need not exist yet.
pub(super) fn folder() -> Form<PathBuf> {
    Form::new("FOLDER", "the path of a folder, which must not be empty", |text| {
        (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
    })
}

/// What is logged: a level, and levels for single modules.
pub(super) fn log_filter() -> Form<Targets> {
    let rule = "a level (error, warn, info, debug, trace or off), and after commas others for \
                single modules, such as info,resumed::engine=debug";
    Form::new("FILTER", rule, |text| {
        // A word that is no level would be read as the name of a module, and silence the rest;
        // the empty one as the level error.
        let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
        let is_filter = text.split(',').all(|part| match part.rsplit_once('=') {
            Some((module, level)) => !module.is_empty() && is_level(level),
            None => is_level(part),
        });
        is_filter.then(|| text.parse().ok()).flatten()
    })
    .list()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_with_an_optional_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1_048_576),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64kib", 65_536),
            ("500k", 512_000),
            ("20M", 20_971_520),
            ("10GB", 10_000_000_000),
            ("10GiB", 10_737_418_240),
            ("1TiB", 1_099_511_627_776),
            ("9223372036854775807", MAX_LENGTH),
        ] {
            assert_eq!(size().read(text), Some(bytes), "{text:?}");
        }
        for wrong in ["", "GiB", "10 GiB", "10 giraffes", "1.5GiB", "-1", "+1", "10Ki", "10Gibi"] {
            assert_eq!(size().read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_size_beyond_the_largest_file_is_refused_and_never_wraps() {
        for wrong in ["9223372036854775808", "8388608TiB", "18014398509481984KiB"] {
            assert_eq!(size().read(wrong), None, "{wrong:?}");
        }
        assert_eq!(size().read("8388607TiB"), Some(MAX_LENGTH - (1 << 40) + 1));
    }

    #[test]
    fn a_time_is_a_whole_number_with_a_unit() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration().read(text), Some(Duration::from_millis(ms)), "{text:?}");
        }
        for wrong in ["", "30", "0", "s", "1.5h", "-1s", "30S", "1h30m", "9223372036854775807d"] {
            assert_eq!(duration().read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_word_for_no_value_is_told_in_what_is_allowed() {
        let form = size().or("none");
        assert_eq!(form.read("none"), Some(None));
        assert_eq!(form.read("5"), Some(Some(5)));
        assert_eq!(form.read("None"), None);
        assert!(form.allowed().ends_with("or 10GiB; or none"), "{}", form.allowed());
    }

    #[test]
    fn bounds_belong_to_what_is_allowed() {
        let form = count().between("1", "10");
        assert_eq!(form.read("1"), Some(1));
        assert_eq!(form.read("10"), Some(10));
        assert_eq!(form.read("0"), None);
        assert_eq!(form.read("11"), None);
        assert_eq!(form.allowed(), "a whole number; from 1 to 10");
    }

    #[test]
    fn a_choice_takes_its_words_only() {
        let form = switch();
        assert_eq!(form.read("on"), Some(true));
        assert_eq!(form.read("off"), Some(false));
        for wrong in ["", "On", "on|off", "yes", "true"] {
            assert_eq!(form.read(wrong), None, "{wrong:?}");
        }
        assert_eq!(form.allowed(), "on or off");
    }

    #[test]
    fn an_address_is_an_ip_address_and_a_port() {
        for right in ["127.0.0.1:1080", "0.0.0.0:0", "[::]:1080", "[::1]:65535"] {
            assert!(address().read(right).is_some(), "{right:?}");
        }
        for wrong in ["", "localhost:1080", "127.0.0.1", ":1080", "::1:1080", "127.0.0.1:65536"] {
            assert_eq!(address().read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_misspelled_level_is_refused_and_not_taken_for_a_module() {
        for right in ["info", "off", "warn,resumed=debug", "info,resumed::engine=trace"] {
            assert!(log_filter().read(right).is_some(), "{right:?}");
        }
        for wrong in ["", "inof", "info,", "resumed=loud", "=debug", "info;debug"] {
            assert_eq!(log_filter().read(wrong), None, "{wrong:?}");
        }
    }
}
