//! The one table of settings: each is one line here, with its key, default, form and help.
//!
//! The line that reads a setting is also what declares it. The flag, the environment variable,
//! the key in the file, the help and the test of `config/resumed.toml` all follow from it, and a
//! field without a line does not compile.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::Targets;

use super::address::{BasePath, Origins, PublicUrl};
use super::error::SettingsError;
use super::forms::{
    Form, address, choice, count, duration, folder, log_filter, memory_size, size, switch,
};
use super::reader::Reader;
use super::uploads;
use crate::engine::Policy;
use crate::storage::Durability;

/// All settings of `resumed serve`, each checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where clients find the server.
    pub listening: Listening,
    /// Where uploads lie, and how safely.
    pub storage: Storage,
    /// What uploads may be, and for how long they are kept.
    pub uploads: Policy,
    /// What connections may take, and how long the server waits for them.
    pub connections: Connections,
    /// Which web pages of other origins may use the server; none when cross-origin use is off.
    pub cors: Option<Cors>,
    /// What is logged, and in which form.
    pub logging: Logging,
}

impl Settings {
    pub(super) fn read(table: &mut Reader<'_>) -> Result<Self, SettingsError> {
        Ok(Self {
            listening: Listening::read(table)?,
            storage: Storage::read(table)?,
            uploads: uploads::read(table)?,
            connections: Connections::read(table)?,
            cors: Cors::read(table)?,
            logging: Logging::read(table)?,
        })
    }
}

/// Where clients find the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Listening {
    /// The address and port of the listening socket; port 0 lets the system pick one.
    pub address: SocketAddr,
    /// The path under which uploads lie.
    pub base_path: BasePath,
    /// The URL that answers use in place of what the request said.
    pub public_url: Option<PublicUrl>,
    /// Whether `Forwarded` and `X-Forwarded-*` of a request are believed.
    pub is_behind_proxy: bool,
}

impl Listening {
    fn read(table: &mut Reader<'_>) -> Result<Self, SettingsError> {
        table.heading("Listening");
        Ok(Self {
            address: table.read(
                "listen",
                "127.0.0.1:1080",
                &address(),
                "Address and port to listen on; port 0 picks a free one",
            )?,
            base_path: table.read(
                "base-path",
                "/files/",
                &base_path(),
                "Path under which uploads are created",
            )?,
            public_url: table.read(
                "public-url",
                "none",
                &public_url().or("none"),
                "URL under which clients reach the base path, when it differs from what requests \
                 say",
            )?,
            is_behind_proxy: table.read(
                "behind-proxy",
                "off",
                &switch(),
                "Believe Forwarded and X-Forwarded-* in requests; only behind a proxy that sets \
                 them",
            )?,
        })
    }
}

fn base_path() -> Form<BasePath> {
    let rule = "a path that begins and ends with /, such as /files/ or /; between are letters, \
                digits and - . _ ~, and no segment is empty, . or ..";
    Form::new("PATH", rule, BasePath::parse)
}

fn public_url() -> Form<PublicUrl> {
    let rule = "an absolute http or https URL that ends with /, such as \
                https://uploads.example.org/files/, without user, query and fragment";
    Form::new("URL", rule, PublicUrl::parse)
}

/// Where uploads lie, and how safely.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// The folder of all data, as it was given; relative to the working directory.
    pub data_dir: PathBuf,
    /// What an acknowledged byte survives.
    pub durability: Durability,
    /// The bytes that stay free on the disk of the data; an append that would take them is refused.
    pub min_free_bytes: u64,
}

impl Storage {
    fn read(table: &mut Reader<'_>) -> Result<Self, SettingsError> {
        table.heading("Storage");
        Ok(Self {
            data_dir: table.read(
                "data-dir",
                "./data",
                &folder(),
                "Folder of the uploads; created when missing",
            )?,
            durability: table.read(
                "durability",
                "power-loss",
                &choice("power-loss|process", [Durability::PowerLoss, Durability::Process]),
                "What acknowledged bytes survive: the loss of power, or only the death of the \
                 process (faster)",
            )?,
            min_free_bytes: table.read(
                "min-free",
                "16MiB",
                &size(),
                "Space to keep free on the disk of the data, beside as much as the upload records \
                 take; appends and creations that would take it are refused",
            )?,
        })
    }
}

/// What connections may take, and how long the server waits for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Connections {
    /// The connections that are served at once.
    pub max_connections: usize,
    /// The largest head of a request in bytes; at least 8 KiB, below which hyper panics.
    pub max_header_bytes: usize,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Between two pieces of a request's content, and of an answer.
    pub idle_timeout: Duration,
    /// The lowest rate of a request's content in bytes per second; any rate when none.
    pub min_rate_bytes_per_s: Option<u64>,
    /// How long content may come slower than that before the request is ended.
    pub min_rate_grace: Duration,
    /// How long requests may go on after the server was told to stop.
    pub shutdown_timeout: Duration,
}

impl Connections {
    fn read(table: &mut Reader<'_>) -> Result<Self, SettingsError> {
        table.heading("Connections");
        Ok(Self {
            max_connections: table.read(
                "max-connections",
                "10000",
                &count().between("1", "1000000"),
                "Connections that are served at once; further ones wait",
            )?,
            max_header_bytes: table.read(
                "max-header-bytes",
                "128KiB",
                &memory_size().between("8KiB", "1MiB"),
                "Largest head of a request: its first line and all header fields",
            )?,
            header_timeout: table.read(
                "header-timeout",
                "30s",
                &duration().between("100ms", "1h"),
                "Longest wait for a request's head",
            )?,
            idle_timeout: table.read(
                "idle-timeout",
                "60s",
                &duration().between("100ms", "24h"),
                "Longest wait for the next bytes of a request's content, what arrived is kept; and for \
                 a client to read more of an answer",
            )?,
            min_rate_bytes_per_s: table.read(
                "min-rate",
                "none",
                &size().between("1", "1GiB").or("none"),
                "Slowest content that is accepted, in bytes per second; what arrived is kept",
            )?,
            min_rate_grace: table.read(
                "min-rate-grace",
                "10s",
                &duration().between("1s", "1h"),
                "How long content may come slower than min-rate",
            )?,
            shutdown_timeout: table.read(
                "shutdown-timeout",
                "10s",
                &duration().between("0s", "1h"),
                "How long requests may go on after SIGTERM or SIGINT; what arrived is kept",
            )?,
        })
    }
}

/// Which web pages of other origins may use the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// The origins of those pages.
    pub origins: Origins,
    /// Whether they may send cookies and the like. Never true for [`Origins::Any`].
    pub allows_credentials: bool,
}

impl Cors {
    fn read(table: &mut Reader<'_>) -> Result<Option<Self>, SettingsError> {
        table.heading("Cross-origin");
        let is_on = table.read(
            "cors",
            "on",
            &switch(),
            "Let web pages of other origins use the server (CORS)",
        )?;
        let origins = table.read(
            "cors-origins",
            "*",
            &origins(),
            "Origins of those pages, with commas between; * stands for all",
        )?;
        let allows_credentials = table.read(
            "cors-credentials",
            "off",
            &switch(),
            "Let those pages send cookies and HTTP authentication",
        )?;
        if is_on && allows_credentials && origins == Origins::Any {
            // Any page in the world could act with the cookies of its visitor.
            let allowed = "on only when cors-origins lists the origins, instead of *";
            return Err(table.wrong("cors-credentials", allowed));
        }
        Ok(is_on.then_some(Self { origins, allows_credentials }))
    }
}

fn origins() -> Form<Origins> {
    let rule = "* or origins with commas between, such as https://app.example.org or \
                http://localhost:5173, without a path";
    Form::new("ORIGINS", rule, Origins::parse).list()
}

/// What is logged, and in which form.
#[derive(Clone, Debug, PartialEq)]
pub struct Logging {
    /// Which events are logged.
    pub filter: Targets,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Logging {
    fn read(table: &mut Reader<'_>) -> Result<Self, SettingsError> {
        table.heading("Logging");
        Ok(Self {
            filter: table.read(
                "log",
                "info",
                &log_filter(),
                "What is logged to standard error: a level, and others for single modules",
            )?,
            format: table.read(
                "log-format",
                "text",
                &choice("text|json", [LogFormat::Text, LogFormat::Json]),
                "Form of the log's lines",
            )?,
        })
    }
}
