//! The command line of `get`.

use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::verify::parse_expected;
use crate::client::flags::{ClientFlags, parse_url};
use crate::protocol::checksum::Checksum;

const AFTER_HELP: &str = "\
Exit codes: 0 all is here; 1 something else; 2 wrong usage, a file is in the way, or another
process fetches it; 3 network; 4 HTTP status, or redirects that lead nowhere; 5 the file changed on
the server; 6 verification; 7 local disk; 130 interrupted.

After any of them the same command goes on where it was.";

/// Download a file, fast, whole and verified
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct GetFlags {
    /// Where the file is; several URLs are mirrors of one file
    #[arg(value_name = "URL", value_parser = parse_url, required_unless_present = "input")]
    pub urls: Vec<Url>,
    /// File or folder to write to; - is standard output. The folder has to be there
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Connections at most
    #[arg(short, long, value_name = "NUMBER", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub connections: u16,
    /// Read URLs from a file, one download a line, with mirrors beside each other; - is standard
    /// input
    ///
    /// What is there, as long as on the server, counts as done.
    #[arg(short, long, value_name = "FILE", conflicts_with = "urls")]
    pub input: Option<PathBuf>,
    /// Refuse other content: blake3:HEX, sha256:HEX or sha512:HEX
    #[arg(long, value_name = "DIGEST", value_parser = parse_expected, conflicts_with = "input")]
    pub expect: Option<Checksum>,
    /// Replace a file that is there already
    #[arg(short, long)]
    pub force: bool,
    /// Stop when the file has changed on the server, rather than starting again
    #[arg(long)]
    pub no_restart: bool,
    /// The connection and the output.
    #[command(flatten)]
    pub client: ClientFlags,
}
