//! One request, read top to bottom: what its URL names, what it asks for, what came of it, how
//! that is told.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST, ORIGIN, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use super::announce::Announcer;
use super::body::{RequestContent, ResponseBody};
use super::interim::Interim;
use super::location::{Locations, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use super::{beside, cors, digests, download};
use crate::engine::{Engine, Fault};
use crate::protocol::dialect::Dialect;
use crate::protocol::digest_fields::WANT_REPR_DIGEST;
use crate::protocol::head::{RequestHead, ResponseHead, Target};
use crate::protocol::id::UploadId;
use crate::protocol::ietf;
use crate::protocol::limits::Limits;
use crate::protocol::operation::{Operation, Outcome};
use crate::protocol::refusal::Refusal;
use crate::protocol::tus;
use crate::settings::{Connections, Cors};
use crate::storage::{Failure, StorageError};

/// What every request is handled with.
pub(super) struct Handler {
    pub(super) engine: Arc<Engine>,
    pub(super) locations: Locations,
    pub(super) cors: Option<Cors>,
    pub(super) patience: Arc<Connections>,
    pub(super) drains: TaskTracker,
}

impl Handler {
    /// Answers one request. Never fails: what goes wrong is an answer too.
    pub(super) async fn handle(
        &self,
        (mut parts, body): (Box<Parts>, Incoming),
        interim: &Interim,
    ) -> Response<ResponseBody> {
        let is_head = parts.method == Method::HEAD;
        // One that cannot be read is refused when a request of tus is decoded; the others do not
        // know the field, and are taken for what they say.
        if let Ok(method) = tus::effective_method(&parts.method, &parts.headers) {
            parts.method = method;
        }
        let expects_continue = parts.headers.contains_key(EXPECT);
        let content = Box::new(RequestContent::new(
            (body, parts.version),
            Arc::clone(&self.patience),
            expects_continue,
            self.drains.clone(),
        ));
        let mut response = match self.locations.target(parts.uri.path()) {
            _ if !has_one_host(&parts) => {
                let problem = "has to stand in every request, once (RFC 9112 §3.2)";
                let refusal = Refusal::malformed("Host", problem);
                tell_fault(&refusal.into(), Dialect::Unmarked, self.engine.limits())
            }
            _ if has_strange_coding(&parts.headers) => {
                let message = "Transfer-Encoding can only be chunked here";
                plain(StatusCode::NOT_IMPLEMENTED, message)
            }
            Some(_) if cors::is_preflight(&parts.method, &parts.headers) => {
                Response::new(ResponseBody::empty())
            }
            Some(Target::Upload(None))
                if let Some((id, beside)) = self.locations.beside(parts.uri.path()) =>
            {
                let answer =
                    Box::pin(beside::answer(&self.engine, &self.locations, (id, beside), &parts))
                        .await;
                let limits = self.engine.limits();
                answer.unwrap_or_else(|fault| tell_fault(&fault, Dialect::Unmarked, limits))
            }
            Some(target) => Box::pin(self.answer(&mut parts, target, content, interim)).await,
            None => elsewhere(self.locations.0.base_path.as_str()),
        };
        if let Some(cors) = &self.cors {
            cors::apply(cors, &parts.method, &parts.headers, response.headers_mut());
        }
        if parts.method == Method::HEAD {
            // The text of an error; a download's head never had a body.
            *response.body_mut() = ResponseBody::empty();
            if !is_head {
                // To who reads the answer to another method, it would be the length of what follows.
                response.headers_mut().remove(CONTENT_LENGTH);
            }
        }
        tus::mark(&parts.headers, response.headers_mut());
        response
    }

    async fn answer(
        &self,
        parts: &mut Parts,
        target: Target,
        content: Box<RequestContent>,
        interim: &Interim,
    ) -> Response<ResponseBody> {
        let (dialect, span, decoded) = self.decode(parts, target, content.exact_length());
        let limits = self.engine.limits();
        let answer = async {
            let done = match decoded {
                Ok(operation) => {
                    let content = self.announced(content, &operation, (dialect, parts), interim);
                    if operation.takes_content() {
                        keep_for_answer(parts);
                    }
                    self.carry_out(operation, (dialect, parts), content).await
                }
                Err(refusal) => Err(refusal.into()),
            };
            done.unwrap_or_else(|fault| tell_fault(&fault, dialect, limits))
        };
        answer.instrument(span).await
    }

    /// What the request asks for, in which protocol, and what is logged with it.
    fn decode(
        &self,
        parts: &Parts,
        target: Target,
        content_length: Option<u64>,
    ) -> (Dialect, Span, Result<Operation, Refusal>) {
        let head =
            RequestHead { method: &parts.method, target, headers: &parts.headers, content_length };
        let told = Dialect::of(&head);
        let dialect = told.as_ref().copied().unwrap_or(Dialect::Unmarked);
        let (method, name) = (&parts.method, dialect.name());
        let span = match target {
            Target::Upload(Some(id)) => {
                tracing::debug_span!("request", %method, dialect = name, upload = %id)
            }
            Target::Upload(None) | Target::Collection => {
                tracing::debug_span!("request", %method, dialect = name)
            }
        };
        let decode = || told.and_then(|dialect| dialect.decode(&head, self.engine.limits()));
        let decoded = span.in_scope(decode);
        (dialect, span, decoded)
    }

    /// The content, with what tells its sender how far it is safe.
    fn announced(
        &self,
        mut content: Box<RequestContent>,
        operation: &Operation,
        (dialect, parts): (Dialect, &Parts),
        interim: &Interim,
    ) -> Box<RequestContent> {
        let Dialect::Ietf(spoken) = dialect else { return content };
        let is_creation = matches!(operation, Operation::Create(_));
        let new_at = is_creation.then(|| self.locations.collection(&parts.uri, &parts.headers));
        content.announce_by(Announcer::new(interim, spoken, new_at, &self.engine));
        content
    }

    async fn carry_out(
        &self,
        operation: Operation,
        (dialect, parts): (Dialect, &Parts),
        content: Box<RequestContent>,
    ) -> Result<Response<ResponseBody>, Fault> {
        let outcome = match operation {
            Operation::Discover => Outcome::Discovered,
            Operation::Create(creation) => {
                let has_content = creation.content.is_some();
                let upload = self.engine.create(creation, content).await?;
                Outcome::Created { upload, has_content }
            }
            Operation::Append(id, append) => {
                Outcome::Appended(self.engine.append(id, append, content).await?)
            }
            Operation::RetrieveOffset(id) => {
                Outcome::Offset(Box::pin(self.engine.retrieve_offset(id)).await?)
            }
            Operation::Cancel(id) => {
                self.engine.cancel(id).await?;
                Outcome::Cancelled
            }
            Operation::Read(id) => return Box::pin(self.read(id, (dialect, parts))).await,
        };
        Ok(self.tell(&outcome, (dialect, parts)))
    }

    fn tell(
        &self,
        outcome: &Outcome,
        (dialect, parts): (Dialect, &Parts),
    ) -> Response<ResponseBody> {
        let location = |id| self.locations.location(&parts.uri, &parts.headers, id);
        let time = (self.engine.limits(), self.engine.now());
        let mut head = dialect.encode(outcome, &location, time);
        if let Some(upload) = outcome.upload() {
            digests::tell(upload, &parts.headers, &mut head.headers);
            beside::challenge(&self.engine, upload, &mut head.headers);
        }
        response(head, ResponseBody::empty())
    }

    async fn read(
        &self,
        id: UploadId,
        (dialect, parts): (Dialect, &Parts),
    ) -> Result<Response<ResponseBody>, Fault> {
        let upload = self.engine.look(id).await?;
        if upload.is_complete() {
            let mut response = download::respond(&self.engine, &upload, parts).await?;
            if response.status().is_success() {
                let time = (self.engine.limits(), self.engine.now());
                ietf::add_state(response.headers_mut(), &upload, time);
            }
            return Ok(response);
        }
        // A HEAD that names no protocol can ask for nothing else, and in the IETF protocol a GET
        // asks for the same (RUFH §Offset Retrieval). Any other GET is for a file.
        if parts.method == Method::HEAD || matches!(dialect, Dialect::Ietf(_)) {
            let outcome = Outcome::Offset(self.engine.retrieve_offset(id).await?);
            return Ok(self.tell(&outcome, (dialect, parts)));
        }
        Err(Refusal::NotComplete { offset: upload.offset().unwrap_or_default() }.into())
    }
}

/// The fields of a request that the answer to one with content is made with.
static ANSWERED_WITH: [HeaderName; 7] = [
    HOST,
    FORWARDED,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    ORIGIN,
    WANT_REPR_DIGEST,
    tus::TUS_RESUMABLE,
];

/// So many of them come with a page's request, and fewer with others.
const MOSTLY_KEPT: usize = 3;

/// Leaves of the head, which is decoded, only what the answer is made with, and copies that out of
/// the buffer that it was read into. While content comes, which may be for days, the rest would take
/// 1 KB; and hyper takes another buffer of 8 KiB for the content as long as that one is in use.
fn keep_for_answer(parts: &mut Parts) {
    let mut headers = HeaderMap::with_capacity(MOSTLY_KEPT);
    for (name, value) in parts.headers.iter().filter(|(name, _)| ANSWERED_WITH.contains(name)) {
        let copy = HeaderValue::from_bytes(value.as_bytes());
        headers.append(name, copy.unwrap_or_else(|_| value.clone()));
    }
    parts.headers = headers;
    parts.uri = parts.uri.to_string().parse().unwrap_or_else(|_| parts.uri.clone());
}

/// RFC 9112 §3.2: anything else is 400, since a proxy may have understood it otherwise.
fn has_one_host(parts: &Parts) -> bool {
    let hosts = parts.headers.get_all(HOST).iter().count();
    hosts == 1 || (hosts == 0 && parts.version != Version::HTTP_11)
}

/// RFC 9112 §6.1: content in a coding that is not undone here would be stored as it is.
fn has_strange_coding(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| {
        value.to_str().is_ok_and(|value| value.trim().eq_ignore_ascii_case("chunked"))
    };
    !codings.into_iter().all(is_chunked)
}

fn response(head: ResponseHead, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if head.status.canonical_reason().is_none() {
        // Beside registered ones there is only that of tus 1.0 "Checksum"; hyper would say `<none>`.
        let reason = const { ReasonPhrase::from_static(b"Checksum Mismatch") };
        response.extensions_mut().insert(reason);
    }
    response
}

/// The answer to a URL that is not under the base path.
fn elsewhere(base_path: &str) -> Response<ResponseBody> {
    plain(StatusCode::NOT_FOUND, &format!("nothing is here; uploads are at {base_path}"))
}

/// A text for a person.
pub(super) fn plain(status: StatusCode, message: &str) -> Response<ResponseBody> {
    let mut response = Response::new(text(message));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLAIN_TEXT);
    response
}

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn text(message: &str) -> ResponseBody {
    ResponseBody::Whole(Bytes::from(format!("{message}\n")))
}

/// Tells a client why its request was not carried out. What the store could not do is told
/// without its details, which go to the log.
fn tell_fault(fault: &Fault, dialect: Dialect, limits: &Limits) -> Response<ResponseBody> {
    let (head, content) = match fault {
        Fault::Refused(refusal) => {
            tracing::debug!(%refusal, "refused");
            dialect.encode_refusal(refusal, limits)
        }
        Fault::Storage(error) => tell_storage_error(error, dialect, limits),
    };
    response(head, ResponseBody::Whole(content.into()))
}

fn tell_storage_error(
    error: &StorageError,
    dialect: Dialect,
    limits: &Limits,
) -> (ResponseHead, String) {
    match error.failure {
        Failure::Full(_) => {
            tracing::error!(%error, "no room is left");
            dialect.encode_refusal(&Refusal::NoRoom, limits)
        }
        Failure::Conflict => {
            tracing::warn!(%error, "another process wrote the same upload");
            dialect.encode_refusal(&Refusal::Superseded, limits)
        }
        Failure::Missing
        | Failure::Mismatched { .. }
        | Failure::Damaged(_)
        | Failure::Held { .. }
        | Failure::Closed
        | Failure::Io(_) => {
            tracing::error!(%error, "the store failed");
            dialect
                .encode_failure("the server could not store or read this upload; try again later")
        }
    }
}
