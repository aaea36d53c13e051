//! Whether the file is there already under its name, and right.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Getter;
use super::fetch::LONG_BYTES;
use super::journal::{self, Subject};
use super::know::{Attempt, Known};
use super::open;
use super::part::{journal_path, part_path};
use super::source::Facts;
use super::verify::{check_digests, is_whole};
use crate::client::failure::{Failure, FailureKind, shown};
use crate::client::report::Reporter;
use crate::protocol::checksum::Checksum;
use crate::protocol::tree::VerifiedGroups;

/// What lies where the file is to be.
enum Found {
    Nothing,
    /// The file.
    Whole {
        length: u64,
    },
    /// Another one, of which so many bytes are known to be right.
    Other {
        right: Option<u64>,
    },
}

/// What the file has to be.
struct Sought {
    target: PathBuf,
    facts: Facts,
    /// Where it would be fetched from, as it is written down.
    url: String,
    groups: Option<Arc<VerifiedGroups>>,
    digests: Vec<Checksum>,
    name: String,
    reporter: Arc<Reporter>,
}

impl Getter {
    /// Whether the file is there already. One that is in the way is a failure.
    pub(super) async fn is_here(
        &self,
        attempt: &Attempt<'_>,
        known: &Known,
        target: &Path,
    ) -> Result<bool, Failure> {
        let sought = Sought {
            target: target.to_owned(),
            facts: known.facts.clone(),
            url: shown(&attempt.sources[known.source].url),
            groups: known.groups.clone(),
            digests: known.digests.clone(),
            name: attempt.name.clone(),
            reporter: Arc::clone(&self.reporter),
        };
        match self.locally(move |stop| sought.find(stop)).await? {
            Found::Nothing => Ok(false),
            Found::Whole { length } => {
                let url = shown(&known.facts.url);
                let progress = self
                    .reporter
                    .begin(&attempt.name, &url, Some(length), length)
                    .since(attempt.begin);
                progress.finish(Some(&target.to_string_lossy()), known.verified().as_deref());
                Ok(true)
            }
            Found::Other { .. } if self.force => Ok(false),
            Found::Other { .. } if attempt.download.is_listed && may_be(target, known) => {
                let message = "exists, as long as on the server: it is left as it is";
                self.reporter.note(&attempt.name, message);
                Ok(true)
            }
            Found::Other { right } => {
                let hint = right.filter(|right| *right > 0).map_or(String::new(), |right| {
                    format!(", and keeps the {right} bytes of it that are right")
                });
                let target = target.display();
                Err(Failure::usage(format!("{target} exists; --force replaces it{hint}")))
            }
        }
    }
}

/// Whether nothing tells that it is another file than the server has.
fn may_be(target: &Path, known: &Known) -> bool {
    known.groups.is_none()
        && known.digests.is_empty()
        && target.metadata().is_ok_and(|found| Some(found.len()) == known.facts.length)
}

impl Sought {
    fn find(&self, stop: &AtomicBool) -> Result<Found, Failure> {
        let target = &self.target;
        let shown = target.display();
        let Ok(metadata) = target.metadata() else {
            return match target.symlink_metadata() {
                // A link to nothing has the name as well.
                Ok(_) => Ok(Found::Other { right: None }),
                Err(_) => Ok(Found::Nothing),
            };
        };
        if metadata.is_dir() {
            return Err(Failure::usage(format!("{shown} is a folder")));
        }
        if !metadata.is_file() {
            let message = "is no regular file, and is not replaced; -o - writes to standard output";
            return Err(Failure::usage(format!("{shown} {message}")));
        }
        let length = metadata.len();
        let journal = journal_path(target);
        if !part_path(target).exists() && journal.metadata().is_ok_and(|found| found.len() == 0) {
            // A run was killed between giving the file its name and forgetting it.
            journal::forget(&journal);
        }
        if length >= LONG_BYTES && self.groups.is_some() {
            self.reporter.note(&self.name, "the file that is here is looked at first");
        }
        match &self.groups {
            Some(groups) => {
                let (is_whole, right) = is_whole(groups, target, stop)?;
                if !is_whole {
                    return Ok(Found::Other { right: Some(right.total()) });
                }
                // It is what the server has, and that may not be what the person expects.
                check_digests(target, length, &self.digests, stop)?;
            }
            None if !self.was_finished(length) && !self.may_be_whole(length) => {
                return Ok(Found::Other { right: None });
            }
            None => match check_digests(target, length, &self.digests, stop) {
                Ok(()) => {}
                Err(failure) if failure.kind() == FailureKind::Verification => {
                    return Ok(Found::Other { right: None });
                }
                Err(failure) => return Err(failure),
            },
        }
        open::forget_journal(target);
        Ok(Found::Whole { length })
    }

    /// Whether its digests can tell that it is what the server has.
    fn may_be_whole(&self, length: u64) -> bool {
        self.facts.length == Some(length) && !self.digests.is_empty()
    }

    /// Whether an earlier run was killed between giving this file its name and forgetting its
    /// journal, which then has all of it.
    fn was_finished(&self, length: u64) -> bool {
        if self.facts.length != Some(length) || part_path(&self.target).exists() {
            return false;
        }
        let validator = self.facts.validator.clone();
        let subject = Subject::new(self.url.clone(), length, validator, self.facts.root);
        journal::load(&journal_path(&self.target))
            .is_some_and(|(left, there)| left.is_same(&subject) && there.contains(0..length))
    }
}
