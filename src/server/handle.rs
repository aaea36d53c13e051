//! One request, read top to bottom: what its URL names, what it asks for, what came of it, how
//! that is told.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::body::{RequestContent, ResponseBody};
use super::location::Locations;
use super::{beside, cors, digests, download};
use crate::engine::{Engine, Fault};
use crate::protocol::head::{RequestHead, ResponseHead, Target};
use crate::protocol::id::UploadId;
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
    pub(super) async fn handle(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let (mut parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        // One that cannot be read is refused when the request is decoded.
        if let Ok(method) = tus::effective_method(&parts.method, &parts.headers) {
            parts.method = method;
        }
        let expects_continue = parts.headers.contains_key(EXPECT);
        let content = RequestContent::new(
            body,
            Arc::clone(&self.patience),
            expects_continue,
            self.drains.clone(),
        );
        let mut response = match self.locations.target(parts.uri.path()) {
            _ if !has_one_host(&parts) => {
                let problem = "has to stand in every request, once (RFC 9112 §3.2)";
                tell_fault(&Refusal::malformed("Host", problem).into())
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
                    beside::answer(&self.engine, &self.locations, (id, beside), &parts).await;
                answer.unwrap_or_else(|fault| tell_fault(&fault))
            }
            Some(target) => self.answer(&parts, target, content).await,
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
        parts: &Parts,
        target: Target,
        content: RequestContent,
    ) -> Response<ResponseBody> {
        let head = RequestHead {
            method: &parts.method,
            target,
            headers: &parts.headers,
            content_length: content.exact_length(),
        };
        let span = match target {
            Target::Upload(Some(id)) => {
                tracing::debug_span!("request", method = %parts.method, dialect = "tus", upload = %id)
            }
            Target::Upload(None) | Target::Collection => {
                tracing::debug_span!("request", method = %parts.method, dialect = "tus")
            }
        };
        let answer = async {
            let done = match tus::decode(&head, self.engine.limits()) {
                Ok(operation) => self.carry_out(operation, parts, content).await,
                Err(refusal) => Err(refusal.into()),
            };
            done.unwrap_or_else(|fault| tell_fault(&fault))
        };
        answer.instrument(span).await
    }

    async fn carry_out(
        &self,
        operation: Operation,
        parts: &Parts,
        content: RequestContent,
    ) -> Result<Response<ResponseBody>, Fault> {
        let outcome = match operation {
            Operation::Discover => Outcome::Discovered,
            Operation::Create(creation) => {
                let has_content = creation.content.is_some();
                let upload = self.engine.create(creation, Box::new(content)).await?;
                Outcome::Created { upload, has_content }
            }
            Operation::Append(id, append) => {
                Outcome::Appended(self.engine.append(id, append, Box::new(content)).await?)
            }
            Operation::RetrieveOffset(id) => {
                Outcome::Offset(self.engine.retrieve_offset(id).await?)
            }
            Operation::Cancel(id) => {
                self.engine.cancel(id).await?;
                Outcome::Cancelled
            }
            Operation::Read(id) => return self.read(id, parts).await,
        };
        let location = match &outcome {
            Outcome::Created { upload, .. } => {
                self.locations.location(&parts.uri, &parts.headers, upload.id())
            }
            Outcome::Discovered
            | Outcome::Appended(_)
            | Outcome::Offset(_)
            | Outcome::Cancelled => String::new(),
        };
        let mut head = tus::encode(&outcome, &location, self.engine.limits());
        if let Some(upload) = outcome.upload() {
            digests::tell(upload, &parts.headers, &mut head.headers);
        }
        Ok(response(head, ResponseBody::empty()))
    }

    async fn read(&self, id: UploadId, parts: &Parts) -> Result<Response<ResponseBody>, Fault> {
        let upload = self.engine.look(id).await?;
        if upload.is_complete() {
            return Ok(download::respond(&self.engine, &upload, parts));
        }
        if parts.method == Method::HEAD {
            // Without Tus-Resumable, but there is nothing else that it could ask for.
            let outcome = Outcome::Offset(self.engine.retrieve_offset(id).await?);
            return Ok(response(
                tus::encode(&outcome, "", self.engine.limits()),
                ResponseBody::empty(),
            ));
        }
        Err(Refusal::NotComplete { offset: upload.offset().unwrap_or_default() }.into())
    }
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
fn tell_fault(fault: &Fault) -> Response<ResponseBody> {
    let (head, message) = match fault {
        Fault::Refused(refusal) => {
            tracing::debug!(%refusal, "refused");
            (tus::encode_refusal(refusal), refusal.to_string())
        }
        Fault::Storage(error) => tell_storage_error(error),
    };
    let mut response = response(head, text(&message));
    response.headers_mut().insert(CONTENT_TYPE, PLAIN_TEXT);
    response
}

fn tell_storage_error(error: &StorageError) -> (ResponseHead, String) {
    match error.failure {
        Failure::Full(_) => {
            tracing::error!(%error, "no room is left");
            (tus::encode_refusal(&Refusal::NoRoom), Refusal::NoRoom.to_string())
        }
        Failure::Conflict => {
            tracing::warn!(%error, "another process wrote the same upload");
            (tus::encode_refusal(&Refusal::Superseded), Refusal::Superseded.to_string())
        }
        Failure::Missing
        | Failure::Damaged(_)
        | Failure::Held { .. }
        | Failure::Closed
        | Failure::Io(_) => {
            tracing::error!(%error, "the store failed");
            let mut head = tus::encode_refusal(&Refusal::ShuttingDown);
            head.status = StatusCode::INTERNAL_SERVER_ERROR;
            head.headers.remove(RETRY_AFTER);
            (head, "the server could not store or read this upload; try again later".to_owned())
        }
    }
}
