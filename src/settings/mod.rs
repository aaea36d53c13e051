//! What the person who runs the server decides: flags > environment > file > defaults, resolved
//! to one [`Settings`] in which every value is checked.
//!
//! A setting has one name everywhere: `max-length` in the file, `--max-length` on the command line,
//! `RESUMED_MAX_LENGTH` in the environment; and one text form in all three. `table.rs` declares
//! each once. Nothing here touches the network or the data. The engine does not know this layer: it
//! is handed its `Policy`, which is a part of the settings.

mod address;
mod error;
mod file;
pub mod flags;
mod forms;
mod reader;
mod sources;
mod table;
mod uploads;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path;

pub use address::{BasePath, Origins, PublicUrl};
pub use error::{SettingsError, Source};
pub use forms::{parse_size, parse_time};
pub use reader::Key;
pub use table::{Connections, Cors, Listening, LogFormat, Logging, Settings, Storage};

use reader::Reader;

impl Settings {
    /// The settings that follow from the flags (texts by key), the environment, and the file that
    /// either of them names under `config`.
    ///
    /// # Errors
    ///
    /// The first value that is wrong, or name that is unknown: see [`SettingsError`].
    pub fn resolve(
        flags: &BTreeMap<String, String>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        Self::read(&mut Reader::new(&sources::collect(flags, environment)?))
    }

    /// The URL that clients upload to, when the server listens on `bound`.
    pub fn upload_url(&self, bound: SocketAddr) -> String {
        let Listening { public_url, base_path, .. } = &self.listening;
        match public_url {
            Some(url) => url.to_string(),
            // One can listen on the address that stands for all, but not open it everywhere.
            None if bound.ip().is_unspecified() => {
                format!("http://localhost:{}{base_path}", bound.port())
            }
            None => format!("http://{bound}{base_path}"),
        }
    }

    /// The one line that says where the server is reached and where the data lies.
    ///
    /// # Errors
    ///
    /// The data's folder is relative, and the working directory is gone.
    pub fn ready_line(&self, bound: SocketAddr) -> io::Result<String> {
        let data = path::absolute(&self.storage.data_dir)?;
        let url = self.upload_url(bound);
        Ok(format!("resumed is ready: upload to {url}, data in {}", data.display()))
    }
}

/// The settings with nothing given.
impl Default for Settings {
    fn default() -> Self {
        Self::read(&mut Reader::new(&BTreeMap::new())).expect("every default is of its form")
    }
}

/// All keys, in the order of the help and of `config/resumed.toml`.
pub fn keys() -> Vec<Key> {
    let nothing = BTreeMap::new();
    let mut reader = Reader::new(&nothing);
    Settings::read(&mut reader).expect("every default is of its form");
    reader.into_keys()
}

#[cfg(test)]
mod tests;
