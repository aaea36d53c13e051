//! The command line of `put`.

use std::path::{Path, PathBuf};

use clap::Args;
use url::Url;

use super::Options;
use crate::client::flags::{ClientFlags, parse_url};
use crate::settings::parse_size;

/// Send files to a tus server; a run that was cut off is gone on with by the same command
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The URL of each upload goes to standard output, with the file's name behind it when there are
several.

Exit codes: 0 all was sent; 1 something else; 2 wrong usage; 3 network; 4 HTTP status, or redirects
that lead nowhere; 5 the file changed; 6 verification; 7 local disk; 130 interrupted.")]
pub struct PutFlags {
    /// What is sent; - is standard input
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// Where uploads are created, such as http://127.0.0.1:1080/files/
    #[arg(value_name = "URL", value_parser = endpoint)]
    pub url: Url,
    /// Send a file in up to this many parts at once, which the server joins. It takes that a server
    /// can, and parts of at least 16 MiB
    #[arg(short, long, value_name = "NUMBER", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub connections: u8,
    /// Send up to this many files at once
    #[arg(short, long, value_name = "NUMBER", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
    /// Metadata for the server; can be given several times
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// The name to tell in place of the file's own
    #[arg(long)]
    name: Option<String>,
    /// The media type to tell in place of the one that the name suggests
    #[arg(long = "type", value_name = "TYPE")]
    media_type: Option<String>,
    /// Cancel what an earlier run of the same command began, and begin anew
    #[arg(long)]
    restart: bool,
    /// Do not compute the BLAKE3 digest first: files that the server has are sent all the same
    #[arg(long)]
    no_digest: bool,
    /// The most content of one request. Without it all goes in one, unless something on the way
    /// finds that too large
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_request: Option<u64>,
    /// Of the connection, and of what is shown.
    #[command(flatten)]
    pub client: ClientFlags,
}

impl PutFlags {
    /// What they say about the uploads.
    pub fn options(&self) -> Options {
        Options {
            endpoint: self.url.clone(),
            connections: self.connections.into(),
            max_request_bytes: self.max_request,
            max_tries: self.client.max_tries,
            is_digested: !self.no_digest,
            is_anew: self.restart,
            name: self.name.clone(),
            media_type: self.media_type.clone(),
            metadata: self.meta.clone(),
        }
    }

    /// What is wrong with them together.
    pub fn problem(&self) -> Option<&'static str> {
        let stdins = self.files.iter().filter(|path| super::is_stdin(path)).count();
        if stdins > 1 {
            return Some("standard input can be sent once");
        }
        let has_one_name =
            self.name.is_some() || self.meta.iter().any(|(key, _)| key == "filename");
        (self.files.len() > 1 && has_one_name).then_some("one name cannot be that of several files")
    }
}

fn endpoint(text: &str) -> Result<Url, String> {
    if !text.contains("://") && Path::new(text).exists() {
        return Err("it is a file here, and the URL is missing behind it".to_owned());
    }
    parse_url(text)
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| "metadata is written as KEY=VALUE".to_owned())?;
    let is_key = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    if key.is_empty() || !key.bytes().all(is_key) {
        return Err("a key has visible ASCII letters, and no comma".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn size(text: &str) -> Result<u64, String> {
    let size = parse_size(text).filter(|size| *size > 0);
    size.ok_or_else(|| {
        "a size is a number of bytes with an optional unit, such as 64MiB".to_owned()
    })
}
