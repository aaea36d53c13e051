//! What comes back, and the connections that are kept for the next request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use url::{Origin, Url};

use super::connection::Connection;
use super::failure::Failure;
use super::rate::RateLimit;
use crate::clock::Clock;

/// Idle connections that are kept for one origin.
const MAX_IDLE: usize = 32;

/// Connections that nobody uses.
#[derive(Default)]
pub(super) struct Idle(Mutex<HashMap<Origin, Vec<Connection>>>);

impl Idle {
    pub(super) fn take(&self, origin: &Origin) -> Option<Connection> {
        self.0.lock().get_mut(origin)?.pop()
    }

    fn put(&self, origin: Origin, connection: Connection) {
        let mut idle = self.0.lock();
        let idle = idle.entry(origin).or_default();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

/// The head of an answer, and its content to come.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// Where it came from, after redirects.
    pub url: Url,
    /// The content.
    pub content: Content,
}

impl Answer {
    /// The value of a field that is sent at most once and is text.
    pub fn field(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The answer, if its status is 2xx.
    ///
    /// # Errors
    /// [`super::failure::FailureKind::Status`].
    pub fn expect_success(self, clock: &Clock) -> Result<Self, Failure> {
        if self.status.is_success() { Ok(self) } else { Err(self.failure(clock)) }
    }

    /// The failure that this status is.
    pub fn failure(&self, clock: &Clock) -> Failure {
        Failure::status(&self.url, self.status, &self.headers, clock.now())
    }

    /// Reads a short rest of the content, so that the connection can be kept.
    pub async fn finish(mut self) {
        // Failing to is as good as not trying.
        let _ = self.content.collect(64 << 10).await;
    }
}

/// The content of an answer. Dropped before its end it closes the connection.
pub struct Content {
    pub(super) incoming: Incoming,
    /// Away once the end was read.
    pub(super) connection: Option<Connection>,
    pub(super) home: (Arc<Idle>, Origin),
    pub(super) limit: Arc<RateLimit>,
    /// Bytes that were received and not yet taken from the limit.
    pub(super) owed: usize,
    pub(super) patience: Duration,
    pub(super) closes_after: bool,
}

impl Content {
    /// No other request follows on this connection. So it has to be when the answer came before the
    /// request was sent whole, or the next one would wait for the rest of it.
    pub fn close_after(&mut self) {
        self.closes_after = true;
    }

    /// The next bytes, of which there are some; `None` at the end. A dropped future loses none.
    ///
    /// # Errors
    /// A transient failure of the network.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        if self.owed > 0 {
            // Taken even when the wait is dropped.
            let owed = std::mem::take(&mut self.owed);
            self.limit.take(owed).await;
        }
        loop {
            match connection.next(&mut self.incoming, self.patience).await? {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => {
                    self.owed = bytes.len();
                    return Ok(Some(bytes));
                }
                None => {
                    let (idle, origin) = &self.home;
                    if let Some(connection) = self.connection.take().filter(|_| !self.closes_after)
                    {
                        idle.put(origin.clone(), connection);
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// All of the content.
    ///
    /// # Errors
    /// A failure of the network, or content of more than `most` bytes.
    pub async fn collect(&mut self, most: usize) -> Result<Vec<u8>, Failure> {
        let told = usize::try_from(self.incoming.size_hint().lower()).unwrap_or(most);
        let mut collected = Vec::with_capacity(told.min(most));
        while let Some(bytes) = self.next().await? {
            if collected.len() + bytes.len() > most {
                return Err(Failure::unusable(format!("an answer has more than {most} bytes")));
            }
            collected.extend_from_slice(&bytes);
        }
        Ok(collected)
    }
}
