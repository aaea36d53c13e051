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
use crate::client::report::Progress;

impl Getter {
    /// To standard output.
    pub(super) async fn to_stdout(
        &self,
        attempt: &Attempt<'_>,
        known: Known,
    ) -> Result<(), RangeFailure> {
        let verified = known.verified();
        let progress = self.progress(attempt, &known, &attempt.name);
        let has_ranges = known.facts.has_ranges && attempt.has_ranges;
        match self.stream(attempt, known, (&progress, has_ranges), Sink::Stdout).await {
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
        let verified = known.verified();
        let progress = self.progress(attempt, &known, &name);
        let sink = Sink::File(Arc::clone(&part));
        let length = self.stream(attempt, known, (&progress, false), sink).await?;
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

    /// That of a download over one connection.
    fn progress(&self, attempt: &Attempt<'_>, known: &Known, name: &str) -> Progress {
        let url = shown(&attempt.sources[known.source].url);
        let progress = self.reporter.begin(name, &url, known.facts.length, 0).since(attempt.begin);
        progress.set_connections(1);
        progress
    }

    /// Passes all bytes on, from the first one; how many they were.
    async fn stream(
        &self,
        attempt: &Attempt<'_>,
        known: Known,
        (progress, has_ranges): (&Progress, bool),
        sink: Sink,
    ) -> Result<u64, RangeFailure> {
        let stream = Stream {
            client: &self.client,
            source: &attempt.sources[known.source],
            progress,
            sink,
            has_ranges,
            length: known.facts.length,
            groups: known.groups.as_deref(),
            digests: &known.digests,
            max_tries: self.max_tries,
        };
        Box::pin(stream.run(known.first, &self.stop)).await
    }
}
