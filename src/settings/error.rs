//! What is wrong with the settings, in words for the person who wrote them.

use std::fmt;
use std::path::PathBuf;

/// Where a setting's value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: it is the default.
    Default,
    /// In the settings file, at a line counted from 1.
    File {
        /// The path as it was given.
        path: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// In this flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("the default"),
            Self::File { path, line } => write!(formatter, "from {}, line {line}", path.display()),
            Self::Environment(variable) => write!(formatter, "from the environment, {variable}"),
            Self::Flag(flag) => write!(formatter, "from the flag {flag}"),
        }
    }
}

/// Why there are no valid settings. Its text names the key, the value, where it was written and
/// what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value is not of the form that its key takes.
    #[error("{key} is {value:?} ({from}): {allowed}")]
    Wrong {
        /// The key.
        key: String,
        /// The value as it was written.
        value: String,
        /// Where it was written.
        from: Source,
        /// What would have been right.
        allowed: String,
    },
    /// There is no setting of this name.
    #[error("{key} is not a setting ({from}); {advice}")]
    Unknown {
        /// The name as it was written.
        key: String,
        /// Where it was written.
        from: Source,
        /// The nearest name, or where to find all names.
        advice: String,
    },
    /// The settings file cannot be read.
    #[error("cannot read the settings file {path:?} ({from}): {source}")]
    Unreadable {
        /// The path as it was given.
        path: PathBuf,
        /// Where the path was written.
        from: Source,
        /// What the system said.
        source: std::io::Error,
    },
    /// The settings file is not TOML.
    #[error(
        "the settings file {path:?} is not TOML at line {line}: {why}; texts need quotes, such as \
         max-length = \"10GiB\""
    )]
    NotToml {
        /// The path as it was given.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser said.
        why: String,
    },
}
