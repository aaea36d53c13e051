//! Downloads by the library, into a folder of their own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use resumed::client::failure::Failure;
use resumed::client::report::{Reporter, Style};
use resumed::client::{Client, Options};
use resumed::clock::Clock;
use resumed::download::{Destination, Download, Getter};
use resumed::protocol::checksum::Checksum;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

/// What a download is asked for with.
pub struct Setup {
    pub folder: TempDir,
    pub connections: usize,
    pub max_tries: u32,
    pub force: bool,
    pub no_restart: bool,
    pub expect: Option<Checksum>,
    pub stall_timeout: Duration,
    pub name: &'static str,
}

impl Setup {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            connections: 4,
            max_tries: 4,
            force: false,
            no_restart: false,
            expect: None,
            stall_timeout: Duration::from_millis(500),
            name: "file",
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    /// Runs one to its end.
    pub async fn get(&self, urls: &[String]) -> Result<(), Failure> {
        let stop = CancellationToken::new();
        let to = Destination::Path(Some(self.path()));
        timeout(Duration::from_secs(60), self.get_to(urls, to, &stop)).await.expect("it hangs")
    }

    pub async fn get_to(
        &self,
        urls: &[String],
        to: Destination,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let options = Options { stall_timeout: self.stall_timeout, ..Options::default() };
        let getter = Getter {
            client: Arc::new(Client::new(options, Clock::System)),
            reporter: Reporter::new(Style::Quiet, false),
            connections: self.connections,
            max_tries: self.max_tries,
            force: self.force,
            no_restart: self.no_restart,
            stop: stop.clone(),
        };
        let urls = urls.iter().map(|url| Url::parse(url).unwrap()).collect();
        let (expect, is_listed) = (self.expect.clone(), false);
        Box::pin(getter.get(&Download { urls, to, expect, is_listed })).await
    }

    /// The content of the file, which has to be there.
    pub fn content(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    /// The names of all files in the folder.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Compares without printing megabytes.
#[track_caller]
pub fn assert_same(one: &[u8], other: &[u8]) {
    assert_eq!(one.len(), other.len());
    if let Some(at) = (0..one.len()).find(|at| one[*at] != other[*at]) {
        panic!("the first byte that differs is {at}");
    }
}

/// Bytes that are different everywhere and by the seed.
pub fn pattern(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}
