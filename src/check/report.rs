//! What a check says: one line a finding and a summary, for people or for programs.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::finding::{Finding, Remedy};
use crate::protocol::id::UploadId;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The records.
    pub records: u64,
    /// Those of complete uploads.
    pub complete: u64,
    /// Those of uploads that are not complete.
    pub unfinished: u64,
    /// Those of uploads that are gone.
    pub gone: u64,
    /// The bytes that the records tell of.
    pub recorded_bytes: u64,
    /// The bytes behind the offsets of unfinished uploads.
    pub scratch_bytes: u64,
    /// What is not as it should be.
    pub findings: u64,
    /// How much of it was repaired.
    pub repaired: u64,
    /// The uploads that were left out, since they were being written.
    pub left_out: u64,
    /// The files that no store put there.
    pub strangers: u64,
    /// The bytes that were read and are those that came; `None` when none were to be read.
    pub verified_bytes: Option<u64>,
    /// The uploads with bytes that there is nothing to compare with.
    pub unverifiable: u64,
}

/// In which form a check says what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a check says what it found.
pub struct Report<'a> {
    to: &'a mut dyn Write,
    form: Form,
}

/// What became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was told.
    Told,
    /// It was repaired.
    Repaired(Remedy),
}

impl<'a> Report<'a> {
    /// A report in this form.
    pub fn new(to: &'a mut dyn Write, form: Form) -> Self {
        Self { to, form }
    }

    /// Tells that the records were made anew, and what could not be read of the old ones.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn rebuilt(&mut self, records: u64, unreadable: &[String]) -> io::Result<()> {
        if self.form == Form::Json {
            return self.object(&json!({ "rebuilt": records, "unreadable": unreadable }));
        }
        for what in unreadable {
            writeln!(self.to, "could not be read: {what}")?;
        }
        writeln!(self.to, "{records} records were made anew")
    }

    pub(super) fn finding(
        &mut self,
        id: UploadId,
        finding: &Finding,
        outcome: Outcome,
    ) -> io::Result<()> {
        let remedy = finding.remedy();
        if self.form == Form::Json {
            let (recorded, found) = finding.bytes();
            return self.object(&json!({
                "upload": id.to_string(),
                "finding": finding.name(),
                "message": finding.to_string(),
                "recorded": recorded,
                "found": found,
                "group": finding.group(),
                "repair": remedy.map(Remedy::name),
                "repaired": matches!(outcome, Outcome::Repaired(_)),
            }));
        }
        let name = finding.name();
        match (outcome, remedy) {
            (Outcome::Repaired(remedy), _) => {
                writeln!(self.to, "{id}  {name}: {finding}; repaired: {remedy}")
            }
            (Outcome::Told, Some(remedy)) => {
                writeln!(self.to, "{id}  {name}: {finding}; with --repair {remedy}")
            }
            (Outcome::Told, None) => {
                writeln!(self.to, "{id}  {name}: {finding}; {}", finding.advice())
            }
        }
    }

    pub(super) fn stranger(&mut self, path: &Path) -> io::Result<()> {
        let shown = path.display();
        match self.form {
            Form::Text => writeln!(self.to, "not of an upload, and left alone: {shown}"),
            Form::Json => self.object(&json!({ "unknown": shown.to_string() })),
        }
    }

    pub(super) fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        match self.form {
            Form::Text => self.summary_text(summary),
            Form::Json => self.object(&json!({ "summary": {
                "records": summary.records,
                "complete": summary.complete,
                "unfinished": summary.unfinished,
                "gone": summary.gone,
                "recorded_bytes": summary.recorded_bytes,
                "scratch_bytes": summary.scratch_bytes,
                "findings": summary.findings,
                "repaired": summary.repaired,
                "left_out": summary.left_out,
                "unknown_files": summary.strangers,
                "verified_bytes": summary.verified_bytes,
                "unverifiable": summary.verified_bytes.map(|_| summary.unverifiable),
            } })),
        }
    }

    fn summary_text(&mut self, summary: &Summary) -> io::Result<()> {
        let Summary { records, complete, unfinished, gone, .. } = summary;
        writeln!(
            self.to,
            "{records} uploads ({complete} complete, {unfinished} unfinished, {gone} gone) with {} \
             bytes, {} scratch bytes behind offsets",
            summary.recorded_bytes, summary.scratch_bytes
        )?;
        if let Some(bytes) = summary.verified_bytes {
            let unverifiable = summary.unverifiable;
            writeln!(
                self.to,
                "read {bytes} bytes that are as they came; {unverifiable} uploads have no digest \
                 yet to compare with"
            )?;
        }
        if summary.left_out > 0 {
            writeln!(self.to, "{} uploads left out: they are being written", summary.left_out)?;
        }
        if summary.strangers > 0 {
            writeln!(self.to, "{} files are not of uploads", summary.strangers)?;
        }
        match (summary.findings, summary.repaired) {
            (0, _) => writeln!(self.to, "clean"),
            (findings, repaired) => writeln!(self.to, "{findings} findings, {repaired} repaired"),
        }
    }

    fn object(&mut self, object: &Value) -> io::Result<()> {
        writeln!(self.to, "{object}")
    }
}
