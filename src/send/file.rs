//! One file: its session, its digest, and its upload or the parts of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;
use url::Url;

use super::plan::{Extent, Plan, split};
use super::record::Records;
use super::session::{Part, Session, Slot};
use super::source::{Source, SourceFile};
use super::transfer::{Link, Transfer};
use super::tus::Creation;
use super::{Sender, absolute, metadata};
use crate::client::failure::{Failure, FailureKind};
use crate::client::report::Progress;
use crate::client::{blocking, with_credentials, without_credentials};
use crate::protocol::digest::Blake3Digest;

/// A part that is shorter gains nothing from a connection of its own.
const LEAST_PART_BYTES: u64 = 16 << 20;
/// Longer files take a while to be digested, which is said.
const LONG_BYTES: u64 = 1 << 30;

/// What was read of an earlier session.
type Loaded = Result<Option<Session>, String>;

/// One file on its way.
pub(super) struct Errand {
    pub(super) link: Arc<Link>,
    pub(super) file: Arc<SourceFile>,
    pub(super) blake3: Option<Blake3Digest>,
    /// The value of `Upload-Metadata`.
    pub(super) metadata: String,
    pub(super) records: Records,
}

/// A complete upload, and the digest that the server told of it.
pub(super) struct Complete {
    pub(super) url: Url,
    pub(super) blake3: Option<Blake3Digest>,
}

impl Sender {
    /// Sends a regular file.
    pub(super) async fn send_file(
        &self,
        file: Arc<SourceFile>,
        path: &Path,
    ) -> Result<Url, Failure> {
        let link = self.link(path);
        let pairs = metadata::pairs(path, &self.options);
        let known = metadata::field(&pairs, None);
        let endpoint = without_credentials(&link.endpoint).to_string();
        let (file_path, slot, loaded) = self.slot(&link, path, [endpoint.clone(), known]).await?;
        let earlier = self.earlier(&link, loaded, &file).await?;
        let blake3 = match &earlier {
            Some(session) => session.blake3,
            None if self.options.is_digested => Some(digest(&link, &file).await?),
            None => None,
        };
        let metadata = metadata::field(&pairs, blake3);
        let session = match earlier {
            Some(session) => session,
            None => {
                let borders = match self.borders(&link, (&file, blake3), &metadata).await? {
                    Layout::Here(complete) => {
                        let begun = link.begin(file.stamp.length, 0);
                        begun.found(file.stamp.length);
                        return link.finish(path, &begun, blake3, complete);
                    }
                    Layout::Parts(borders) => borders,
                };
                let named = (file_path.display().to_string(), endpoint);
                Session::new(named, file.stamp.clone(), blake3, borders)
            }
        };
        let records = Records::new(session, slot);
        let errand = Errand { link: Arc::clone(&link), file, blake3, metadata, records };
        let (complete, progress) = Box::pin(self.carry_out(&errand)).await?;
        let finished = link.finish(path, &progress, blake3, complete);
        let is_wrong = |failure: &Failure| failure.kind() == FailureKind::Verification;
        if finished.as_ref().err().is_none_or(is_wrong) {
            errand.records.remove().await;
        }
        finished
    }

    /// Where the file really lies, the place of its session, and what an earlier run wrote there.
    async fn slot(
        &self,
        link: &Link,
        path: &Path,
        facts: [String; 2],
    ) -> Result<(PathBuf, Option<Slot>, Loaded), Failure> {
        let (sessions, path) = (self.sessions.clone(), path.to_owned());
        let (path, slot, loaded) = blocking(move || {
            let path = absolute(&path)?;
            let Some(sessions) = sessions else { return Ok((path, Ok(None), Ok(None))) };
            let [endpoint, known] = &facts;
            let name = path.as_os_str().as_encoded_bytes();
            let slot = sessions.slot(&[name, endpoint.as_bytes(), known.as_bytes()]);
            let loaded = slot.as_ref().map_or(Ok(None), Slot::load);
            Ok((path, slot.map(Some), loaded))
        })
        .await?;
        match slot {
            Ok(slot) => Ok((path, slot, loaded)),
            Err(failure) if failure.kind() == FailureKind::Disk => {
                let message = format!("{failure}; another run could not go on with this one");
                link.reporter.note(&link.name, &message);
                Ok((path, None, loaded))
            }
            Err(failure) => Err(failure),
        }
    }

    /// The session of an earlier run, if there is one and the file is still the same.
    async fn earlier(
        &self,
        link: &Arc<Link>,
        loaded: Loaded,
        file: &Arc<SourceFile>,
    ) -> Result<Option<Session>, Failure> {
        let mut session = match loaded {
            Ok(Some(session)) => session,
            Ok(None) => return Ok(None),
            Err(why) => {
                let message = format!("what an earlier run wrote down cannot be used: {why}");
                link.reporter.note(&link.name, &message);
                return Ok(None);
            }
        };
        if self.options.is_anew {
            let urls = session.parts.iter().filter_map(|part| part.url.as_ref());
            for url in urls.chain(&session.joined) {
                link.cancel(&with_credentials(url.clone(), &link.endpoint)).await;
            }
            return Ok(None);
        }
        let is_same = match session.blake3 {
            _ if session.stamp == file.stamp => true,
            _ if session.stamp.length != file.stamp.length => false,
            Some(before) => digest(link, file).await? == before,
            None => file.stamp.is_likely(&session.stamp),
        };
        if !is_same {
            let message = "the file changed since its upload began";
            return Err(Failure::changed(message).with_words("--restart sends it anew"));
        }
        session.stamp = file.stamp.clone();
        Ok(Some(session))
    }

    /// How a new upload is to be cut; or that it need not be made.
    async fn borders(
        &self,
        link: &Arc<Link>,
        (file, blake3): (&Arc<SourceFile>, Option<Blake3Digest>),
        metadata: &str,
    ) -> Result<Layout, Failure> {
        let length = file.stamp.length;
        let whole = Layout::Parts(vec![(0, length)]);
        let borders = split(length, self.options.connections, LEAST_PART_BYTES);
        if borders.len() == 1 {
            return Ok(whole);
        }
        let abilities = self.abilities(link).await?;
        if !abilities.concatenation {
            let message = "the server cannot join parts; it is sent in one";
            link.reporter.note(&link.name, message);
            return Ok(whole);
        }
        // Parts cannot tell whether the server has the whole. An upload that can is made for the
        // question, and is not wanted when the answer is no.
        if blake3.is_some() && abilities.blake3 && abilities.termination {
            let creation = Creation::Whole(length);
            let asked = link.retried(|| Box::pin(link.create(&creation, metadata))).await?;
            let is_proved = match asked.challenge {
                Some(challenge) => link.prove(&asked.url, challenge, file).await?,
                None => false,
            };
            if asked.blake3 == blake3 || is_proved {
                return Ok(Layout::Here(Complete { url: asked.url, blake3 }));
            }
            link.cancel(&asked.url).await;
        }
        Ok(Layout::Parts(borders))
    }

    /// Sends what a session has not sent yet.
    async fn carry_out(&self, errand: &Errand) -> Result<(Complete, Arc<Progress>), Failure> {
        let (link, session) = (&errand.link, errand.records.session());
        let length = errand.file.stamp.length;
        if let Some(complete) = self.joined_before(errand, &session).await? {
            let progress = link.begin(length, length);
            return Ok((complete, progress));
        }
        let is_one = session.parts.len() == 1;
        let mut transfers = Vec::new();
        let mut present = 0;
        for (number, part) in session.parts.iter().enumerate() {
            let mut transfer = self.transfer(errand, (number, part), is_one);
            present += Box::pin(transfer.settle()).await?;
            transfers.push(transfer);
        }
        let progress = link.begin(length, present);
        progress.set_connections(transfers.len());
        let complete = tokio::select! {
            complete = run_all(transfers, &progress) => complete?,
            () = progress.watch() => unreachable!("it is watched for ever"),
        };
        match <[Complete; 1]>::try_from(complete) {
            Ok([one]) if is_one => Ok((one, progress)),
            Ok([one]) => Ok((self.join(errand, vec![one.url]).await?, progress)),
            Err(parts) => {
                let urls = parts.into_iter().map(|part| part.url).collect();
                Ok((self.join(errand, urls).await?, progress))
            }
        }
    }

    fn transfer(&self, errand: &Errand, (number, part): (usize, &Part), is_one: bool) -> Transfer {
        let bytes = part.end.saturating_sub(part.begin);
        let (creation, metadata) = if is_one {
            (Creation::Whole(bytes), errand.metadata.clone())
        } else {
            (Creation::Partial(bytes), String::new())
        };
        let url = part.url.clone().map(|url| with_credentials(url, &errand.link.endpoint));
        let plan = Plan::new(Extent::Whole(bytes), url, self.options.max_request_bytes);
        let source = Source::File(Arc::clone(&errand.file));
        let record = Some(errand.records.part(number));
        Transfer::new(&errand.link, plan, (creation, metadata), (source, part.begin), record)
    }
}

enum Layout {
    /// The server has it.
    Here(Complete),
    /// It is to be sent, in parts with these borders.
    Parts(Vec<(u64, u64)>),
}

/// All transfers at once, in their order; the first failure ends the others.
async fn run_all(
    transfers: Vec<Transfer>,
    progress: &Arc<Progress>,
) -> Result<Vec<Complete>, Failure> {
    let mut running = JoinSet::new();
    for (number, mut transfer) in transfers.into_iter().enumerate() {
        let progress = Arc::clone(progress);
        running.spawn(async move {
            let url = Box::pin(transfer.run(&progress)).await?;
            let url = url.expect("a file has an end, so there is nothing to wait for");
            Ok::<_, Failure>((number, Complete { url, blake3: transfer.blake3 }))
        });
    }
    let mut complete = Vec::new();
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        complete.push(ended?);
    }
    complete.sort_by_key(|(number, _)| *number);
    Ok(complete.into_iter().map(|(_, complete)| complete).collect())
}

/// The digest of a file.
async fn digest(link: &Link, file: &Arc<SourceFile>) -> Result<Blake3Digest, Failure> {
    /// Stops the reading when nobody waits for it any more.
    struct Stop(Arc<AtomicBool>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    if file.stamp.length >= LONG_BYTES {
        link.reporter.note(&link.name, "its digest is computed first");
    }
    let stop = Stop(Arc::default());
    let (file, told) = (Arc::clone(file), Arc::clone(&stop.0));
    blocking(move || file.digest(&told)).await?.ok_or_else(Failure::interrupted)
}

impl Link {
    /// Begins to show how far it is.
    pub(super) fn begin(&self, length: impl Into<Option<u64>>, present: u64) -> Arc<Progress> {
        let url = without_credentials(&self.endpoint);
        let progress = self.reporter.begin(&self.name, url.as_str(), length.into(), present);
        Arc::new(progress.since(self.begun))
    }

    /// Compares what the server has with what was sent, and says that it is done.
    ///
    /// # Errors
    /// `Verification`.
    pub(super) fn finish(
        &self,
        path: &Path,
        progress: &Progress,
        sent: Option<Blake3Digest>,
        complete: Complete,
    ) -> Result<Url, Failure> {
        let verified = match (sent, complete.blake3) {
            (Some(sent), Some(there)) if sent != there => {
                return Err(Failure::verification(format!(
                    "the server has bytes with the BLAKE3 {there}, and {sent} were sent"
                )));
            }
            (Some(sent), Some(_)) => Some(format!("blake3:{sent}")),
            _ => None,
        };
        progress.set_url(without_credentials(&complete.url).as_str());
        progress.finish(path.to_str(), verified.as_deref());
        Ok(complete.url)
    }
}
