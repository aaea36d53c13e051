//! What every transfer from here needs: HTTP requests with TLS, proxies and redirects, the decision
//! when to try again, a limit of the rate, and words for the person who waits.
//!
//! It knows no ranges and no tus: what is asked, and what an answer means, is the caller's matter.
//!
//! - RFC 9110 §15.4 (redirects), §12.5.3 (Accept-Encoding: bytes are wanted as they are stored)

mod activity;
mod answer;
mod blocking;
mod connection;
mod dial;
pub mod failure;
pub mod flags;
mod gather;
mod lock;
pub mod rate;
mod redirect;
pub mod report;
pub mod retry;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT,
};
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use url::{Origin, Url};

use self::answer::Idle;
pub use self::answer::{Answer, Content};
pub use self::blocking::{blocking, joined};
pub use self::connection::RequestContent;
use self::connection::{Connection, Left};
use self::dial::Dialer;
use self::failure::Failure;
pub use self::lock::open_locked;
use self::rate::RateLimit;
pub use self::redirect::{with_credentials, without_credentials};
use crate::clock::Clock;

const AGENT: &str = concat!("resumed/", env!("CARGO_PKG_VERSION"));

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Fields of every request, over those that the client sets by itself.
    pub headers: HeaderMap,
    /// The time that a connection may take to be made.
    pub connect_timeout: Duration,
    /// The time that nothing may move on a connection that is waited for.
    pub stall_timeout: Duration,
    /// The redirects that are followed for one request.
    pub max_redirects: usize,
    /// Bytes a second, of all requests together.
    pub limit_bytes_per_s: Option<u64>,
    /// A PEM file with certificates to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            headers: HeaderMap::new(),
            connect_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(30),
            max_redirects: 10,
            limit_bytes_per_s: None,
            ca_file: None,
        }
    }
}

/// A request without content.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Where it goes.
    pub url: Url,
    /// Its own fields, over those of [`Options::headers`].
    pub headers: HeaderMap,
    /// Whether it goes to another server than the person named: secrets in [`Options::headers`]
    /// are not meant for that one.
    pub is_elsewhere: bool,
    /// The time that nothing may move while it is answered, if that is longer than
    /// [`Options::stall_timeout`].
    pub patience: Duration,
}

impl Request {
    /// A request with this method and no fields of its own.
    pub fn new(method: Method, url: Url) -> Self {
        let (headers, patience) = (HeaderMap::new(), Duration::ZERO);
        Self { method, url, headers, is_elsewhere: false, patience }
    }

    /// The same request with this field.
    ///
    /// # Panics
    /// When the value cannot stand in a field: check what others said before.
    #[must_use]
    pub fn with(mut self, name: http::HeaderName, value: impl AsRef<str>) -> Self {
        let value = HeaderValue::from_str(value.as_ref()).expect("the value is one of a field");
        self.headers.insert(name, value);
        self
    }
}

/// Sends requests, and keeps connections for the next ones.
pub struct Client {
    options: Options,
    dialer: Dialer,
    clock: Clock,
    limit: Arc<RateLimit>,
    idle: Arc<Idle>,
}

impl Client {
    /// A client with these options.
    pub fn new(options: Options, clock: Clock) -> Self {
        let dialer = Dialer::new(options.connect_timeout, options.ca_file.clone());
        let limit = Arc::new(RateLimit::new(options.limit_bytes_per_s));
        Self { options, dialer, clock, limit, idle: Arc::default() }
    }

    /// The limit that content in either direction has to keep. What is received keeps it by itself;
    /// who sends takes from it.
    pub fn rate_limit(&self) -> &Arc<RateLimit> {
        &self.limit
    }

    /// The clock of the client.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Sends a request without content, such as a GET, and follows redirects that leave the method
    /// as it is. A dropped future closes the connection.
    ///
    /// # Errors
    /// A failure of the network, or redirects that lead nowhere. Any status else is an answer: see
    /// [`Answer::expect_success`].
    pub async fn fetch(&self, request: &Request) -> Result<Answer, Failure> {
        let mut url = request.url.clone();
        for _ in 0..=self.options.max_redirects {
            let is_elsewhere = request.is_elsewhere || url.origin() != request.url.origin();
            let content = Empty::new().map_err(|never| match never {}).boxed_unsync();
            let hop = Request { url: url.clone(), ..request.clone() };
            let answer = self.exchange(&hop, content, is_elsewhere).await?;
            match redirect::next(&request.method, &url, answer.status, &answer.headers)? {
                Some(next) => url = with_credentials(next, &request.url),
                None => return Ok(answer),
            }
            answer.finish().await;
        }
        Err(Failure::redirected(format!(
            "{} was redirected more than {} times",
            failure::shown(&request.url),
            self.options.max_redirects
        )))
    }

    /// Sends a request with content. Redirects are answers here: what was sent may not be
    /// there any more to be sent again. A dropped future closes the connection.
    ///
    /// # Errors
    /// A failure of the network.
    pub async fn send(
        &self,
        request: &Request,
        content: RequestContent,
    ) -> Result<Answer, Failure> {
        self.exchange(request, content, request.is_elsewhere).await
    }

    async fn exchange(
        &self,
        request: &Request,
        content: RequestContent,
        is_elsewhere: bool,
    ) -> Result<Answer, Failure> {
        let url = &request.url;
        let origin = url.origin();
        let mut message = http::Request::new(content);
        *message.method_mut() = request.method.clone();
        *message.headers_mut() = self.fields(request, is_elsewhere)?;
        loop {
            let kept = self.idle.take(&origin);
            let mut connection = match kept {
                Some(connection) => connection,
                None => Box::pin(Connection::open(&self.dialer, url, &self.limit)).await?,
            };
            address(&mut message, url, &connection)?;
            let was_used = connection.is_used;
            let patience = self.options.stall_timeout.max(request.patience);
            let (failure, left) = match connection.send(message, patience).await {
                Ok(response) => return Ok(self.answer(url, origin, connection, response)),
                Err(failed) => failed,
            };
            match left {
                // The server closed a connection that was kept; that is its right.
                Left::Unsent(unsent) if was_used => message = *unsent,
                Left::Closed
                    if was_used && matches!(request.method, Method::GET | Method::HEAD) =>
                {
                    message = http::Request::new(
                        Empty::new().map_err(|never| match never {}).boxed_unsync(),
                    );
                    *message.method_mut() = request.method.clone();
                    *message.headers_mut() = self.fields(request, is_elsewhere)?;
                }
                _ => return Err(failure),
            }
        }
    }

    fn answer(
        &self,
        url: &Url,
        origin: Origin,
        connection: Connection,
        response: Response<Incoming>,
    ) -> Answer {
        let (head, incoming) = response.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            url: url.clone(),
            content: Content {
                incoming,
                connection: Some(connection),
                home: (Arc::clone(&self.idle), origin),
                limit: Arc::clone(&self.limit),
                owed: 0,
                patience: self.options.stall_timeout,
                closes_after: false,
            },
        }
    }

    /// The fields of a request. Secrets stay where they were meant for.
    fn fields(&self, request: &Request, is_elsewhere: bool) -> Result<HeaderMap, Failure> {
        let url = &request.url;
        let mut fields = HeaderMap::new();
        fields.insert(HOST, host(url)?);
        fields.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        fields.insert(ACCEPT, HeaderValue::from_static("*/*"));
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(authorization) = redirect::basic_authorization(url) {
            fields.insert(AUTHORIZATION, authorization);
        }
        for given in [&self.options.headers, &request.headers] {
            for name in given.keys() {
                if is_elsewhere && redirect::is_secret(name) {
                    continue;
                }
                fields.remove(name);
                for value in given.get_all(name) {
                    fields.append(name, value.clone());
                }
            }
        }
        Ok(fields)
    }
}

fn host(url: &Url) -> Result<HeaderValue, Failure> {
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    HeaderValue::from_str(&host)
        .map_err(|_| Failure::usage(format!("{} has no usable host", failure::shown(url))))
}

/// Writes the target in the form that the receiver of the request needs (RFC 9112 §3.2).
fn address<T>(
    message: &mut http::Request<T>,
    url: &Url,
    connection: &Connection,
) -> Result<(), Failure> {
    let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
    let mut target = format!("{}{query}", url.path());
    if let Some(proxy) = &connection.proxy {
        let host = host(url)?;
        target = format!("{}://{}{target}", url.scheme(), host.to_str().unwrap_or_default());
        if let Some(authorization) = &proxy.authorization {
            message.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
    }
    *message.uri_mut() = target
        .parse()
        .map_err(|_| Failure::usage(format!("{} cannot be asked for", failure::shown(url))))?;
    Ok(())
}

/// Content of these bytes.
pub fn content_of(bytes: impl Into<Bytes>) -> RequestContent {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
