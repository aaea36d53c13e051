//! What `--json` tells, one object a line.

use serde::Serialize;

use crate::client::failure::FailureKind;

/// One line of `--json`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A transfer begins, or goes on from an earlier run.
    Started {
        /// What is transferred, in the person's words: a file's name.
        name: &'a str,
        /// The other end.
        url: &'a str,
        /// Its length, if that is known.
        total_bytes: Option<u64>,
        /// What was there already.
        present_bytes: u64,
    },
    /// How far it is.
    Progress {
        /// As in `started`.
        name: &'a str,
        /// What is there now.
        bytes: u64,
        /// The length, if that is known.
        total_bytes: Option<u64>,
        /// Over the last seconds.
        bytes_per_s: u64,
        /// The time left at this speed, if that is known.
        left_s: Option<u64>,
        /// The connections that bytes move on.
        connections: usize,
    },
    /// Something worth knowing, which needs nobody to act.
    Note {
        /// As in `started`.
        name: &'a str,
        /// In words.
        message: &'a str,
    },
    /// An attempt failed, and there will be another. Connections of a transfer that fail together
    /// have one such event.
    Retry {
        /// As in `started`.
        name: &'a str,
        /// Why, in words.
        message: &'a str,
        /// The time until then, in milliseconds.
        wait_ms: u64,
        /// How many attempts in a row failed.
        failed: u32,
    },
    /// A transfer is complete.
    Finished {
        /// As in `started`.
        name: &'a str,
        /// The other end.
        url: &'a str,
        /// The local file, if there is one.
        path: Option<&'a str>,
        /// Its length.
        bytes: u64,
        /// What was moved for it in this run.
        moved_bytes: u64,
        /// How long this run took, from its first request on.
        seconds: f64,
        /// How the bytes were verified, such as `blake3:…`, if they were.
        verified: Option<&'a str>,
    },
    /// A transfer failed.
    Failed {
        /// As in `started`.
        name: &'a str,
        /// What kind of failure it is.
        kind: FailureKind,
        /// The exit code that goes with it.
        exit_code: u8,
        /// In words.
        message: &'a str,
    },
}
