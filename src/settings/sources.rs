//! Where settings are given: flags over environment over file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::error::{SettingsError, Source};
use super::reader::{Given, Key, flag, variable};
use super::{file, keys};

/// The name of the one flag, and variable, that is no setting: it names the settings file.
pub(super) const CONFIG: &str = "config";

/// Collects what was given for each key. An empty variable counts as not set, since many tools
/// cannot leave one out. The file is the one named by `--config` or `RESUMED_CONFIG`; no other is
/// looked for.
///
/// # Errors
///
/// The file cannot be read or is not TOML, a name in it is no key, a variable is not UTF-8, or its
/// name is a misspelled key.
pub(super) fn collect(
    flags: &BTreeMap<String, String>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, Given>, SettingsError> {
    let keys = keys();
    let mut over_file = from_environment(&keys, environment)?;
    for (name, text) in flags {
        let given = Given { text: text.clone(), is_list: false, from: Source::Flag(flag(name)) };
        over_file.insert(name.clone(), given);
    }
    let mut given = match over_file.remove(CONFIG) {
        Some(config) => file::read(Path::new(&config.text), config.from)?,
        None => BTreeMap::new(),
    };
    if let Some((key, value)) = given.iter().find(|(name, _)| !is_key(&keys, name)) {
        let advice = match nearest(&keys, key) {
            Some(name) => format!("the nearest is {name}"),
            None => "`resumed serve --help` lists all".to_owned(),
        };
        return Err(SettingsError::Unknown { key: key.clone(), from: value.from.clone(), advice });
    }
    given.extend(over_file);
    Ok(given)
}

fn is_key(keys: &[Key], name: &str) -> bool {
    keys.iter().any(|key| key.name == name)
}

fn from_environment(
    keys: &[Key],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, Given>, SettingsError> {
    let names: BTreeMap<String, &str> = keys
        .iter()
        .map(|key| key.name)
        .chain([CONFIG])
        .map(|name| (variable(name), name))
        .collect();
    let mut given = BTreeMap::new();
    for (written, value) in environment {
        let Some(written) = written.to_str().filter(|_| !value.is_empty()) else { continue };
        let from = Source::Environment(written.to_owned());
        if let Some(name) = names.get(written) {
            let text = utf8(name, &value, &from)?;
            given.insert((*name).to_owned(), Given { text, is_list: false, from });
        } else if let Some(meant) = names.keys().find(|name| is_misspelling(written, name)) {
            let (key, advice) = (written.to_owned(), format!("the nearest is {meant}"));
            return Err(SettingsError::Unknown { key, from, advice });
        }
    }
    Ok(given)
}

fn utf8(name: &str, value: &OsStr, from: &Source) -> Result<String, SettingsError> {
    value.to_str().map(str::to_owned).ok_or_else(|| SettingsError::Wrong {
        key: name.to_owned(),
        value: value.to_string_lossy().into_owned(),
        from: from.clone(),
        allowed: "a text in UTF-8".to_owned(),
    })
}

/// Whether someone who wrote this variable meant that one. Others that begin with `RESUMED_` are
/// none of our business: Kubernetes sets `RESUMED_PORT` and the like for a service of our name.
fn is_misspelling(written: &str, meant: &str) -> bool {
    written.starts_with("RESUMED_")
        && strsim::osa_distance(written, meant) <= 2
        && meant.len() >= "RESUMED_LISTEN".len()
}

/// The key that is most like `written`, when one is alike at all.
fn nearest(keys: &[Key], written: &str) -> Option<&'static str> {
    let written = written.to_lowercase().replace('_', "-");
    let likeness = |key: &Key| strsim::jaro_winkler(&written, key.name);
    let best = keys.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(best) > 0.8).then_some(best.name)
}
