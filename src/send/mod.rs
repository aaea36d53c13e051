//! What `put` does: files and streams go to a tus server, and a run that ended in the middle is
//! gone on with by the next one.
//!
//! The [`plan`] decides what is sent next, and is pure; the [`session`] is what a later run has to
//! know; everything else carries them out. Nothing here needs a server that is `resumed`: what only
//! that one has (a file that need not be sent since it is there, the digest of what arrived) is
//! made use of when its answers show it.
//!
//! - tus 1.0 "Core Protocol", "Creation", "Concatenation", "Termination"

mod content;
mod file;
pub mod flags;
mod joined;
mod metadata;
mod pipe;
pub mod plan;
mod proof;
mod record;
pub mod session;
pub mod source;
mod transfer;
mod tus;
pub mod window;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::session::Sessions;
use self::source::SourceFile;
use self::transfer::Link;
use self::tus::Abilities;
use crate::client::failure::Failure;
use crate::client::report::Reporter;
use crate::client::{Client, blocking, without_credentials};

/// How files are sent.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where uploads are created.
    pub endpoint: Url,
    /// The most parts that one file is sent in at once.
    pub connections: u64,
    /// The most content of one request.
    pub max_request_bytes: Option<u64>,
    /// Attempts in a row without progress; 0 is without an end.
    pub max_tries: u32,
    /// Whether files are digested before they are sent.
    pub is_digested: bool,
    /// Whether what earlier runs began is cancelled in place of gone on with.
    pub is_anew: bool,
    /// A name in place of the file's own.
    pub name: Option<String>,
    /// A media type in place of the one that the name tells.
    pub media_type: Option<String>,
    /// Further metadata; these keys win over those of the file.
    pub metadata: Vec<(String, String)>,
}

/// Sends files to one server.
pub struct Sender {
    client: Arc<Client>,
    reporter: Arc<Reporter>,
    /// `None` where none can be kept.
    sessions: Option<Sessions>,
    options: Options,
    stop: CancellationToken,
    abilities: OnceCell<Abilities>,
}

impl Sender {
    /// A sender that is told to stop by `stop`.
    pub fn new(
        client: Client,
        reporter: Arc<Reporter>,
        sessions: Option<Sessions>,
        options: Options,
        stop: CancellationToken,
    ) -> Self {
        let (client, abilities) = (Arc::new(client), OnceCell::new());
        Self { client, reporter, sessions, options, stop, abilities }
    }

    /// Sends what lies at this path, or standard input for `-`. The URL of the complete upload.
    /// A dropped future leaves what another run goes on with.
    ///
    /// # Errors
    /// Any [`Failure`]; those that may pass were tried again before.
    pub async fn send(&self, path: &Path) -> Result<Url, Failure> {
        let goes_on = AtomicBool::new(false);
        let sent = async {
            let opened = path.to_owned();
            match blocking(move || open(&opened)).await? {
                Opened::File(file) => {
                    goes_on.store(self.sessions.is_some(), Ordering::Relaxed);
                    Box::pin(self.send_file(Arc::new(file), path)).await
                }
                Opened::Stream(stream) => Box::pin(self.send_stream(stream, path)).await,
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(match goes_on.load(Ordering::Relaxed) {
                true => Failure::paused(),
                false => Failure::interrupted(),
            }),
            sent = sent => sent.map(|url| without_credentials(&url)),
        }
    }

    fn link(&self, path: &Path) -> Arc<Link> {
        Arc::new(Link {
            client: Arc::clone(&self.client),
            endpoint: self.options.endpoint.clone(),
            reporter: Arc::clone(&self.reporter),
            name: shown_name(path),
            max_tries: self.options.max_tries,
            begun: Instant::now(),
        })
    }

    /// What the server can do, which is asked once.
    async fn abilities(&self, link: &Link) -> Result<Abilities, Failure> {
        let asked = || link.retried(|| Box::pin(link.discover()));
        self.abilities.get_or_try_init(asked).await.copied()
    }
}

/// What a path is in words, in one line.
pub fn shown_name(path: &Path) -> String {
    if is_stdin(path) {
        return "standard input".to_owned();
    }
    path.to_string_lossy().replace(char::is_control, "\u{FFFD}")
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

enum Opened {
    File(SourceFile),
    /// Something that can be read once, and has no length.
    Stream(Box<dyn Read + Send>),
}

fn open(path: &Path) -> Result<Opened, Failure> {
    if is_stdin(path) {
        return Ok(Opened::Stream(Box::new(io::stdin())));
    }
    let unusable = |error| Failure::disk("open", path, error);
    let file = File::open(path).map_err(unusable)?;
    let metadata = file.metadata().map_err(unusable)?;
    if metadata.is_dir() {
        let message = format!("{} is a folder; send an archive of it", path.display());
        return Err(Failure::usage(message));
    }
    // Files of /proc say that they are empty.
    let has_more = metadata.len() == 0 && file.read_at(&mut [0], 0).is_ok_and(|read| read > 0);
    if metadata.is_file() && !has_more {
        return SourceFile::new(file, path).map(Opened::File);
    }
    Ok(Opened::Stream(Box::new(file)))
}

/// Where a file really lies, so that it is the same one from wherever it is named.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| Failure::disk("find", path, error))
}
