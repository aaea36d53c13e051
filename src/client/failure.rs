//! What ends an attempt or a whole transfer, and what the process then tells its caller.
//!
//! One type for everything that the clients can meet: its kind decides the exit code, and
//! [`Failure::is_transient`] whether another attempt may help.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Serialize;
use url::Url;

use super::retry::parse_retry_after;
use crate::protocol::units::Timestamp;

/// The kinds of failure; each has an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The command line is wrong, or the local files are not as it needs them.
    Usage,
    /// The peer cannot be reached, is silent, or does not speak HTTP.
    Network,
    /// The peer answered with a status that ends the transfer: an error, or a redirect that leads
    /// nowhere.
    Status,
    /// The file changed in the middle, here or there.
    Changed,
    /// The bytes are not those that were promised.
    Verification,
    /// The local disk refuses.
    Disk,
    /// The person, or the system, said stop.
    Interrupted,
}

impl FailureKind {
    /// The exit code of a process that ends with it. 1 is left to what none of these is.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Network => 3,
            Self::Status => 4,
            Self::Changed => 5,
            Self::Verification => 6,
            Self::Disk => 7,
            Self::Interrupted => 130,
        }
    }
}

type Source = Box<dyn Error + Send + Sync>;

/// Why an attempt, or a transfer, did not succeed.
#[derive(Debug)]
pub struct Failure {
    kind: FailureKind,
    message: String,
    status: Option<StatusCode>,
    is_transient: bool,
    is_soon_certain: bool,
    retry_after: Option<Duration>,
    source: Option<Source>,
}

impl Failure {
    fn new(kind: FailureKind, message: String) -> Self {
        Self {
            kind,
            message,
            status: None,
            is_transient: false,
            is_soon_certain: false,
            retry_after: None,
            source: None,
        }
    }

    /// The person has to ask for something else.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message.into())
    }

    /// The connection failed; another attempt may succeed.
    pub fn network(message: impl Into<String>, source: impl Into<Source>) -> Self {
        let source = Some(source.into());
        let failure = Self::new(FailureKind::Network, message.into());
        Self { is_transient: true, source, ..failure }
    }

    /// The peer cut an answer short or said what cannot be; another attempt may succeed.
    pub fn broken_answer(message: impl Into<String>) -> Self {
        Self { is_transient: true, ..Self::new(FailureKind::Network, message.into()) }
    }

    /// The peer cannot be used this way, however often one asks.
    pub fn unusable(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Network, message.into())
    }

    /// Nothing moved on the connection for this long.
    pub fn stalled(after: Duration) -> Self {
        Self::broken_answer(format!("nothing was received for {after:?}"))
    }

    /// The peer answered with this status. Those that tell of a passing state (RFC 9110 §15: 408,
    /// 425, 429, and the 5xx but 501 and 505) are transient.
    pub fn status(url: &Url, status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Self {
        let is_transient = match status.as_u16() {
            408 | 425 | 429 => true,
            501 | 505 => false,
            other => other >= 500,
        };
        let shown = shown(url);
        let failure = Self::new(FailureKind::Status, format!("{shown} answered {status}"));
        let retry_after = parse_retry_after(headers, now);
        Self { status: Some(status), is_transient, retry_after, ..failure }
    }

    /// The peer sends one on, and that leads nowhere. It answered, and will do so again.
    pub fn redirected(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Status, message.into())
    }

    /// The file changed while it was transferred.
    pub fn changed(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Changed, message.into())
    }

    /// The bytes are wrong.
    pub fn verification(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Verification, message.into())
    }

    /// A system call on a local file failed. `doing` is such as `write`.
    pub fn disk(doing: &str, path: &Path, source: io::Error) -> Self {
        let message = format!("cannot {doing} {}", path.display());
        Self { source: Some(Box::new(source)), ..Self::new(FailureKind::Disk, message) }
    }

    /// A file is to be in a folder that is not there.
    pub fn no_folder(folder: &Path) -> Self {
        let (shown, quoted) = (folder.display(), quoted(&folder.to_string_lossy()));
        let message = format!("the folder {shown} is not there; make it first: mkdir -p {quoted}");
        Self::new(FailureKind::Disk, message)
    }

    /// The process was told to stop.
    pub fn interrupted() -> Self {
        Self::new(FailureKind::Interrupted, "interrupted".into())
    }

    /// The process was told to stop, and keeps what it has.
    pub fn paused() -> Self {
        Self::interrupted().with_words("the same command goes on from here")
    }

    /// Its kind.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The status that the peer answered with, if that is what failed.
    pub fn status_code(&self) -> Option<StatusCode> {
        self.status
    }

    /// Whether another attempt may succeed.
    pub fn is_transient(&self) -> bool {
        self.is_transient
    }

    /// Whether few attempts show that no other will succeed.
    pub fn is_soon_certain(&self) -> bool {
        self.is_soon_certain
    }

    /// How long the peer asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The same failure, which no other attempt will mend.
    #[must_use]
    pub fn for_good(self) -> Self {
        Self { is_transient: false, ..self }
    }

    /// The same failure, which one of the next few attempts mends, or none.
    #[must_use]
    pub fn for_few_tries(self) -> Self {
        Self { is_soon_certain: true, ..self }
    }

    /// The same failure, which may pass.
    #[must_use]
    pub fn for_now(self) -> Self {
        Self { is_transient: true, ..self }
    }

    /// The same failure with more words behind those there are.
    #[must_use]
    pub fn with_words(self, words: &str) -> Self {
        Self { message: format!("{}; {words}", self.message), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        let mut said = self.message.clone();
        let mut source = self.source.as_ref().map(|source| &**source as &(dyn Error + 'static));
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors repeat their cause in their own words.
            if !said.contains(&text) {
                write!(formatter, ": {text}")?;
                said.push_str(&text);
            }
            source = cause.source();
        }
        Ok(())
    }
}

impl Error for Failure {}

/// A URL as it may be shown: without a password.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // A URL without a host cannot have had a password.
        let _ = url.set_password(None);
    }
    url.to_string()
}

/// An argument as it is written in a shell.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if argument.chars().all(is_plain) && !argument.starts_with('-') {
        return argument.to_owned();
    }
    format!("-- '{}'", argument.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_is_to_type_can_be_typed() {
        let told = |folder: &str| Failure::no_folder(Path::new(folder)).to_string();
        assert!(told("a/b-1.c").ends_with("mkdir -p a/b-1.c"));
        assert!(told("no dir").ends_with("mkdir -p -- 'no dir'"));
        assert!(told("-x").ends_with("mkdir -p -- '-x'"));
        assert!(told("it's").ends_with(r"mkdir -p -- 'it'\''s'"));
    }

    #[test]
    fn only_a_passing_status_is_tried_again() {
        let url = Url::parse("http://user:secret@host/x").unwrap();
        for (status, is_transient) in [
            (404, false),
            (403, false),
            (408, true),
            (429, true),
            (500, true),
            (501, false),
            (503, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = Failure::status(&url, status, &HeaderMap::new(), Timestamp(0));
            assert_eq!(failure.is_transient(), is_transient, "{status}");
            assert!(!failure.to_string().contains("secret"), "{failure}");
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let inner = io::Error::other("connection refused");
        let failure = Failure::network("cannot connect to host:1", inner);
        assert_eq!(failure.to_string(), "cannot connect to host:1: connection refused");
    }
}
