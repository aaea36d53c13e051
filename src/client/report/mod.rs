//! What the person who waits, or the program that reads along, is told.
//!
//! Everything a person reads goes to standard error. With `--json` there is one object a line on
//! standard output instead, or on standard error when standard output takes the bytes themselves;
//! the objects are [`Event`]s.

mod event;
mod meter;
mod outage;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::event::Event;
use self::meter::Meter;
use self::outage::{Attempt, Outages};
use super::failure::Failure;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A bar that moves.
    Bars,
    /// A line now and then.
    Lines,
    /// One JSON object a line.
    Json,
    /// Failures only.
    Quiet,
}

impl Style {
    /// Bars on a terminal, lines elsewhere.
    pub fn of_terminal() -> Self {
        if io::stderr().is_terminal() { Self::Bars } else { Self::Lines }
    }

    /// The time from one sign of life to the next.
    fn interval(self) -> Duration {
        match self {
            Self::Bars => Duration::from_millis(100),
            Self::Lines => Duration::from_secs(5),
            Self::Json => Duration::from_secs(1),
            Self::Quiet => Duration::from_secs(3600),
        }
    }
}

/// Where everything that is shown goes to.
pub struct Reporter {
    style: Style,
    bars: MultiProgress,
    lines: Mutex<Box<dyn Write + Send>>,
    outages: Mutex<Outages>,
}

impl Reporter {
    /// One for this process. `stdout_is_data` when standard output takes the bytes themselves.
    pub fn new(style: Style, stdout_is_data: bool) -> Arc<Self> {
        let to_stdout = style == Style::Json && !stdout_is_data;
        let lines: Box<dyn Write + Send> =
            if to_stdout { Box::new(io::stdout()) } else { Box::new(io::stderr()) };
        let (bars, lines, outages) = (MultiProgress::new(), Mutex::new(lines), Mutex::default());
        Arc::new(Self { style, bars, lines, outages })
    }

    /// How it shows things.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Something worth knowing.
    pub fn note(&self, name: &str, message: &str) {
        self.tell(&Event::Note { name, message }, || format!("{name}: {message}"));
    }

    /// An attempt failed, and there will be another. What several connections of a transfer meet is
    /// told once.
    pub fn retry(&self, name: &str, failure: &Failure, wait: Duration, failed: u32) {
        let message = failure.to_string();
        let attempt = Attempt { name, message: &message, failed, wait };
        if !self.outages.lock().is_news(&attempt, Instant::now()) {
            return;
        }
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.tell(&Event::Retry { name, message: &message, wait_ms, failed }, || {
            format!("{name}: {message}; trying again in {:.1} s", wait.as_secs_f64())
        });
    }

    /// A transfer failed: this is shown also by [`Style::Quiet`].
    pub fn failed(&self, name: &str, failure: &Failure) {
        let message = failure.to_string();
        if self.style == Style::Json {
            let (kind, exit_code) = (failure.kind(), failure.kind().exit_code());
            self.json(&Event::Failed { name, kind, exit_code, message: &message });
        } else {
            self.line(&format!("{name}: {message}"));
        }
    }

    /// A transfer begins.
    pub fn begin(
        self: &Arc<Self>,
        name: &str,
        url: &str,
        total: Option<u64>,
        present: u64,
    ) -> Progress {
        let progress = Progress::new(Arc::clone(self), name, url, total, present);
        let event = Event::Started { name, url, total_bytes: total, present_bytes: present };
        self.tell(&event, || {
            let length =
                total.map_or("length unknown".to_owned(), |total| HumanBytes(total).to_string());
            format!("{name}: {length}{}", before(total, present))
        });
        progress
    }

    fn tell(&self, event: &Event<'_>, words: impl FnOnce() -> String) {
        match self.style {
            Style::Json => self.json(event),
            Style::Bars | Style::Lines => self.line(&words()),
            Style::Quiet => {}
        }
    }

    fn json(&self, event: &Event<'_>) {
        let text = serde_json::to_string(event).expect("an event is made of texts and numbers");
        self.write(&text);
    }

    fn line(&self, text: &str) {
        // What a server said may be among it: it must not move the cursor.
        let clean: String = text.chars().filter(|c| !c.is_control()).collect();
        self.bars.suspend(|| self.write(&format!("resumed: {clean}")));
    }

    /// Nobody can be told that nobody can be told.
    fn write(&self, text: &str) {
        let mut lines = self.lines.lock();
        let _ = writeln!(lines, "{text}");
        let _ = lines.flush();
    }
}

/// How far one transfer is. Counting never waits.
pub struct Progress {
    reporter: Arc<Reporter>,
    name: String,
    url: Mutex<String>,
    total: Option<u64>,
    bytes: AtomicU64,
    moved: Arc<AtomicU64>,
    connections: AtomicUsize,
    meter: Mutex<Meter>,
    begin: Instant,
    bar: Option<ProgressBar>,
}

const KNOWN: &str = "{prefix} {bar:30} {percent:>3}% {bytes}/{total_bytes} {msg}";
const UNKNOWN: &str = "{prefix} {spinner} {bytes} {msg}";

impl Progress {
    fn new(
        reporter: Arc<Reporter>,
        name: &str,
        url: &str,
        total: Option<u64>,
        present: u64,
    ) -> Self {
        let begin = Instant::now();
        let bar = (reporter.style == Style::Bars).then(|| {
            let template = if total.is_some() { KNOWN } else { UNKNOWN };
            let style =
                ProgressStyle::with_template(template).expect("the template is a valid one");
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let clean: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
            reporter.bars.add(bar.with_style(style).with_prefix(clean))
        });
        let moved = Arc::default();
        reporter.outages.lock().begin(name, &moved);
        Self {
            reporter,
            name: name.to_owned(),
            url: Mutex::new(url.to_owned()),
            total,
            bytes: AtomicU64::new(present),
            moved,
            connections: AtomicUsize::new(0),
            meter: Mutex::new(Meter::new(begin, present)),
            begin,
            bar,
        }
    }

    /// The work on it began at this time, with what had to be asked first.
    #[must_use]
    pub fn since(mut self, begin: Instant) -> Self {
        self.begin = begin;
        self
    }

    /// This many more bytes are where they belong.
    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// This many bytes are where they belong, and were not moved for it.
    pub fn found(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// This many bytes turned out to be wrong, and do not count any more.
    pub fn take_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// All bytes that count, also those of earlier runs.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The other end turned out to be this.
    pub fn set_url(&self, url: &str) {
        url.clone_into(&mut self.url.lock());
    }

    /// Bytes move on this many connections.
    pub fn set_connections(&self, connections: usize) {
        self.connections.store(connections, Ordering::Relaxed);
    }

    /// Something worth knowing of it.
    pub fn note(&self, message: &str) {
        self.reporter.note(&self.name, message);
    }

    /// An attempt at a part of it failed; see [`Reporter::retry`].
    pub fn retry(&self, failure: &Failure, wait: Duration, failed: u32) {
        self.reporter.retry(&self.name, failure, wait, failed);
    }

    /// Shows the progress again and again, until it is dropped.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(self.reporter.style.interval()).await;
            self.show();
        }
    }

    fn show(&self) {
        let bytes = self.bytes();
        let bytes_per_s = self.meter.lock().observe(Instant::now(), bytes);
        let left_s = self
            .total
            .and_then(|total| (bytes_per_s > 0).then(|| total.saturating_sub(bytes) / bytes_per_s));
        let connections = self.connections.load(Ordering::Relaxed);
        match (&self.bar, self.reporter.style) {
            (Some(bar), _) => {
                bar.set_position(bytes);
                bar.set_message(in_words(bytes_per_s, left_s, connections));
                bar.tick();
            }
            (None, Style::Json) => self.reporter.json(&Event::Progress {
                name: &self.name,
                bytes,
                total_bytes: self.total,
                bytes_per_s,
                left_s,
                connections,
            }),
            (None, Style::Lines) => {
                let of = self.total.map_or(String::new(), |total| {
                    let percent = bytes.saturating_mul(100).checked_div(total).unwrap_or(100);
                    format!(" of {} ({percent} %)", HumanBytes(total))
                });
                let words = in_words(bytes_per_s, left_s, connections);
                self.reporter.line(&format!("{}: {}{of}, {words}", self.name, HumanBytes(bytes)));
            }
            (None, Style::Bars | Style::Quiet) => {}
        }
    }

    /// The transfer is complete. `path` is the local file, `verified` how its bytes were verified.
    pub fn finish(&self, path: Option<&str>, verified: Option<&str>) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let (bytes, took) = (self.bytes(), self.begin.elapsed());
        let moved_bytes = self.moved.load(Ordering::Relaxed);
        let url = self.url.lock().clone();
        let event = Event::Finished {
            name: &self.name,
            url: &url,
            path,
            bytes,
            moved_bytes,
            seconds: took.as_secs_f64(),
            verified,
        };
        self.reporter.tell(&event, || {
            let how = verified.map_or(String::new(), |how| format!(", verified by {how}"));
            let been = match moved_bytes {
                all if all == bytes => String::new(),
                _ => format!(" ({} in this run)", HumanBytes(moved_bytes)),
            };
            let seconds = took.as_secs_f64();
            format!("{}: complete, {}{been} in {seconds:.1} s{how}", self.name, HumanBytes(bytes))
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.reporter.outages.lock().end(&self.name, &self.moved);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What there was before this run, and what it leaves to do.
fn before(total: Option<u64>, present: u64) -> String {
    let there = HumanBytes(present);
    match total.map(|total| total.saturating_sub(present)) {
        _ if present == 0 => String::new(),
        Some(0) => ", all of it there already".to_owned(),
        Some(rest) => format!(": {there} there already, {} to go", HumanBytes(rest)),
        None => format!(", {there} there already"),
    }
}

fn in_words(bytes_per_s: u64, left_s: Option<u64>, connections: usize) -> String {
    let left = left_s.map_or(String::new(), |left| {
        format!(", {} left", HumanDuration(Duration::from_secs(left)))
    });
    let connections = match connections {
        1 => "1 connection".to_owned(),
        several => format!("{several} connections"),
    };
    format!("{}/s{left}, {connections}", HumanBytes(bytes_per_s))
}
