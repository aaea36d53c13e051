//! A hyper server that answers as a tus server does and keeps nothing: the least that a request
//! can cost. It runs as a child of the bench, from the same program.

use std::convert::Infallible;
use std::env;
use std::io::{self, Write as _};
use std::process::Command;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::Outcome;
use crate::payload::wide;

/// What makes the program this server.
pub(crate) const ARGUMENT: &str = "--serve-bare";

pub(super) fn command() -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(ARGUMENT);
    Ok(command)
}

/// Serves until the process is ended.
pub(crate) fn serve() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        writeln!(io::stdout(), "ready: http://{}/files/", listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection =
                Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            // A client that goes ends its connection.
            tokio::spawn(connection);
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let status = match *request.method() {
        Method::POST => StatusCode::CREATED,
        Method::PATCH => StatusCode::NO_CONTENT,
        _ => StatusCode::OK,
    };
    let begin = request.headers().get("upload-offset").and_then(|value| value.to_str().ok());
    let begin: u64 = begin.and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut content = request.into_body();
    let mut length = 0;
    while let Some(Ok(frame)) = content.frame().await {
        length += frame.data_ref().map_or(0, |piece| wide(piece.len()));
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert("tus-resumable", http::HeaderValue::from_static("1.0.0"));
    fields.insert("cache-control", http::HeaderValue::from_static("no-store"));
    fields.insert("upload-offset", (begin + length).into());
    fields.insert("upload-length", (1 << 20).into());
    if status == StatusCode::CREATED {
        fields.insert("location", http::HeaderValue::from_static("/files/0123456789abcdef"));
    }
    Ok(response)
}
