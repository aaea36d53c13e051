//! The flags that every transferring command has.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::Options;
use super::report::Style;
use crate::settings::{parse_size, parse_time};

/// Flags of the connection and of what is shown.
#[derive(Args, Clone, Debug)]
pub struct ClientFlags {
    /// A field to send with every request; can be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header,
          help_heading = "Connection")]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Bytes a second, of all connections together, such as 500K or 20M (with K, M and G as in
    /// KiB, MiB and GiB; KB, MB and GB are decimal)
    #[arg(long, value_name = "SIZE", value_parser = rate, help_heading = "Connection")]
    limit_rate: Option<u64>,
    /// Attempts in a row without progress before giving up; 0 is without an end
    #[arg(long, value_name = "NUMBER", default_value_t = 10, help_heading = "Connection")]
    pub max_tries: u32,
    /// How long a connection may take to be made
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = time,
          help_heading = "Connection")]
    connect_timeout: Duration,
    /// How long nothing may move on a connection before it is made anew
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time,
          help_heading = "Connection")]
    stall_timeout: Duration,
    /// A PEM file with certificates to trust besides the system's: of authorities, or of single
    /// servers (CA:FALSE)
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    ca_file: Option<PathBuf>,
    /// Show errors only
    #[arg(short, long, conflicts_with = "json", help_heading = "Output")]
    quiet: bool,
    /// Show one JSON object a line in place of progress
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl ClientFlags {
    /// What they say about the connection.
    pub fn options(&self) -> Options {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        Options {
            headers,
            connect_timeout: self.connect_timeout,
            stall_timeout: self.stall_timeout,
            limit_bytes_per_s: self.limit_rate,
            ca_file: self.ca_file.clone(),
            ..Options::default()
        }
    }

    /// How progress is to be shown.
    pub fn style(&self) -> Style {
        match (self.quiet, self.json) {
            (true, _) => Style::Quiet,
            (_, true) => Style::Json,
            (false, false) => Style::of_terminal(),
        }
    }
}

/// Reads a URL that a request can go to. One without a scheme is `http://`, as with curl.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let url =
        if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
    let url = url.map_err(|error| format!("{text:?} is no URL: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => {
            Err(format!("{text:?} is {scheme}://, but only http:// and https:// can be used"))
        }
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = text.split_once(':').and_then(|(name, value)| {
        let name = name.trim().parse().ok()?;
        Some((name, value.trim().parse().ok()?))
    });
    parsed.ok_or_else(|| "a field is written as NAME: VALUE".to_owned())
}

fn rate(text: &str) -> Result<u64, String> {
    let rate = parse_size(text).filter(|rate| *rate > 0);
    rate.ok_or_else(|| {
        "a rate is a whole number of bytes with an optional unit, such as 20M or 20MB".to_owned()
    })
}

fn time(text: &str) -> Result<Duration, String> {
    let time = parse_time(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "a time is a whole number with a unit, such as 500ms, 30s or 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_scheme_is_http() {
        assert_eq!(parse_url("host:8080/x").unwrap().as_str(), "http://host:8080/x");
        assert!(parse_url("http://").is_err());
    }
}
