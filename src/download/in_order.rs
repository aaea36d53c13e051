//! Downloads whose bytes come in order: to standard output, and from servers that send no ranges.

use std::path::PathBuf;
use std::sync::Arc;

use super::Getter;
use super::fetch::file_name;
use super::know::{Attempt, Known};
use super::open;
use super::part::PartFile;
use super::source::RangeFailure;
use super::stream::{Sink, Stream};
use crate::client::blocking;
use crate::client::failure::{Failure, shown};

impl Getter {
    /// To standard output.
    pub(super) async fn to_stdout(
        &self,
        attempt: &Attempt<'_>,
        known: Known,
    ) -> Result<(), RangeFailure> {
        let length = known.facts.length;
        let url = shown(&attempt.sources[known.source].url);
        let progress = self.reporter.begin(&attempt.name, &url, length, 0).since(attempt.begin);
        progress.set_connections(1);
        let verified = known.verified();
        let stream = Stream {
            client: &self.client,
            source: &attempt.sources[known.source],
            progress: &progress,
            name: &attempt.name,
            sink: Sink::Stdout,
            has_ranges: known.facts.has_ranges && attempt.has_ranges,
            length,
            groups: known.groups.as_deref(),
            digests: &known.digests,
            max_tries: self.max_tries,
        };
        let outcome = Box::pin(stream.run(known.first, &self.stop)).await;
        match outcome {
            Ok(_) => {}
            Err(RangeFailure::Failed(failure)) => return Err(failure.into()),
            // What was passed on cannot be taken back.
            Err(RangeFailure::Changed(how)) => return Err(Failure::changed(how).into()),
            Err(RangeFailure::NoRanges) => {
                let message = "the server does not keep to ranges, so a cut stream cannot go on";
                return Err(Failure::unusable(message).into());
            }
        }
        progress.finish(None, verified.as_deref());
        Ok(())
    }

    /// From a server that cannot send ranges.
    pub(super) async fn in_order(
        &self,
        attempt: &Attempt<'_>,
        known: Known,
        target: PathBuf,
        part: PartFile,
    ) -> Result<(), RangeFailure> {
        let part = Arc::new(part);
        let name = file_name(&target);
        let what = match known.facts.length {
            None => "the length is not known",
            Some(_) if known.tells_changes() => "the server sends no ranges",
            Some(_) => "nothing would tell that the file changed (no ETag, no Last-Modified)",
        };
        let message = format!("{what}: one connection, and a download that is cut starts again");
        self.reporter.note(&name, &message);
        let (cleared, path, facts) = (Arc::clone(&part), target.clone(), known.facts.clone());
        let on_change = attempt.on_change;
        blocking(move || open::anew(&path, &cleared, &facts, on_change)).await?;
        let url = shown(&attempt.sources[known.source].url);
        let progress = self.reporter.begin(&name, &url, known.facts.length, 0).since(attempt.begin);
        progress.set_connections(1);
        let verified = known.verified();
        let stream = Stream {
            client: &self.client,
            source: &attempt.sources[known.source],
            progress: &progress,
            name: &name,
            sink: Sink::File(Arc::clone(&part)),
            has_ranges: false,
            length: known.facts.length,
            groups: known.groups.as_deref(),
            digests: &known.digests,
            max_tries: self.max_tries,
        };
        let length = Box::pin(stream.run(known.first, &self.stop)).await?;
        let (force, to) = (self.force, target.clone());
        blocking(move || {
            // An attempt that had more may have been cut.
            part.cut(length)?;
            part.publish(&to, force)?;
            open::forget_journal(&to);
            Ok::<_, Failure>(())
        })
        .await?;
        progress.finish(Some(&target.to_string_lossy()), verified.as_deref());
        Ok(())
    }
}
