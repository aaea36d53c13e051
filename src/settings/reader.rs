//! Goes through the table of settings once: takes each value from where it was given, and notes
//! the key. With nothing given, that same walk yields all keys and the defaults.

use std::collections::BTreeMap;

use super::error::{SettingsError, Source};
use super::forms::Form;

/// What is known of a setting besides its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The name in the file, in kebab-case; flag and variable follow from it.
    pub name: &'static str,
    /// The group it belongs to.
    pub heading: &'static str,
    /// The value it has when none is given.
    pub default: &'static str,
    /// What stands for the value in the help, such as `SIZE`.
    pub placeholder: &'static str,
    /// Further words or bounds, such as `or none`; may be empty.
    pub also: String,
    /// One sentence on what it does, without the full stop.
    pub help: &'static str,
}

impl Key {
    /// The flag on the command line: `--max-length`.
    pub fn flag(&self) -> String {
        flag(self.name)
    }

    /// The environment variable: `RESUMED_MAX_LENGTH`.
    pub fn variable(&self) -> String {
        variable(self.name)
    }
}

pub(super) fn flag(name: &str) -> String {
    format!("--{name}")
}

pub(super) fn variable(name: &str) -> String {
    format!("RESUMED_{}", name.replace('-', "_").to_uppercase())
}

/// A value as someone wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// The text; that of a list has commas between.
    pub(super) text: String,
    /// Whether it was written as a list.
    pub(super) is_list: bool,
    /// Where it was written.
    pub(super) from: Source,
}

/// Takes the values for the table, and collects its keys.
pub(super) struct Reader<'a> {
    given: &'a BTreeMap<String, Given>,
    heading: &'static str,
    keys: Vec<Key>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(given: &'a BTreeMap<String, Given>) -> Self {
        Self { given, heading: "", keys: Vec::new() }
    }

    /// Begins a group of settings.
    pub(super) fn heading(&mut self, heading: &'static str) {
        self.heading = heading;
    }

    /// Declares a setting and reads its value.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Wrong`] when the value is not of this form.
    pub(super) fn read<T: 'static>(
        &mut self,
        name: &'static str,
        default: &'static str,
        form: &Form<T>,
        help: &'static str,
    ) -> Result<T, SettingsError> {
        self.keys.push(Key {
            name,
            heading: self.heading,
            default,
            placeholder: form.placeholder,
            also: form.also.clone(),
            help,
        });
        let (text, is_list) = match self.given.get(name) {
            Some(given) => (given.text.as_str(), given.is_list),
            None => (default, false),
        };
        let value = if is_list && !form.is_list { None } else { form.read(text) };
        value.ok_or_else(|| self.wrong(name, &form.allowed()))
    }

    /// The refusal of the value that `name` has.
    pub(super) fn wrong(&self, name: &str, allowed: &str) -> SettingsError {
        let default = || self.keys.iter().find(|key| key.name == name).map(|key| key.default);
        let (value, from) = match self.given.get(name) {
            Some(given) => (given.text.clone(), given.from.clone()),
            None => (default().unwrap_or_default().to_owned(), Source::Default),
        };
        SettingsError::Wrong { key: name.to_owned(), value, from, allowed: allowed.to_owned() }
    }

    /// The keys that were declared, in their order.
    pub(super) fn into_keys(self) -> Vec<Key> {
        self.keys
    }
}
