//! The settings as flags of the command line.
//!
//! The flags carry plain texts: defaults, environment and file have their turn after them, so
//! clap's own defaults and variables are not used.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command};

use super::keys;
use super::sources::CONFIG;

const ABOUT: &str = "Serve resumable uploads (tus 1.0.0, and the IETF protocol \
                     \"Resumable Uploads for HTTP\") and downloads of them";

const AFTER_HELP: &str = "\
SIZE is a whole number of bytes with an optional unit: 1048576, 64KiB or 64K, 10GiB, 10GB.
TIME is a whole number with a unit: 500ms, 30s, 5m, 24h, 7d.

Each setting can be given as a flag, in the environment, or in the file that --config names,
as in config/resumed.toml. A flag wins over the environment, the environment over the file,
the file over the default. An empty variable counts as not set.";

/// The command `resumed serve` with a flag for each setting.
pub fn serve_command() -> Command {
    with_settings(Command::new("serve").about(ABOUT), |_| true)
}

/// A command with flags for the settings of these names, and with `--config`. Others can be in the
/// file and the environment all the same, since all commands read the same ones.
pub fn with_settings(command: Command, has: impl Fn(&str) -> bool) -> Command {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .help("TOML file with settings [env: RESUMED_CONFIG]");
    let settings = keys().into_iter().filter(|key| has(key.name)).map(|key| {
        let allowed = if key.also.is_empty() { String::new() } else { format!("[{}] ", key.also) };
        let facts = format!("{allowed}[default: {}] [env: {}]", key.default, key.variable());
        Arg::new(key.name)
            .long(key.name)
            .value_name(key.placeholder)
            .help(format!("{}\n{facts}", key.help))
            .help_heading(key.heading)
            // So that -5 is refused by the setting, which says what is allowed.
            .allow_negative_numbers(true)
    });
    command.after_help(AFTER_HELP).next_line_help(true).arg(config).args(settings)
}

/// The values of the settings that were given as flags, by key; other arguments are left alone.
pub fn given(matches: &ArgMatches) -> BTreeMap<String, String> {
    let keys = keys();
    let is_setting = |name: &&str| *name == CONFIG || keys.iter().any(|key| key.name == *name);
    let names = matches.ids().map(clap::Id::as_str).filter(is_setting);
    let value = |name: &str| matches.get_one::<String>(name).cloned();
    names.filter_map(|name| Some((name.to_owned(), value(name)?))).collect()
}
