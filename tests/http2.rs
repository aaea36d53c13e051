//! HTTP/2 without TLS, on the port that also speaks HTTP/1.1 (RFC 9113 §3.3, prior knowledge).
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use bytes::Bytes;
use common::{TestServer, pattern};
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::client::conn::http2::{Builder, SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No test waits longer.
const PATIENCE: Duration = Duration::from_secs(10);

type Content = BoxBody<Bytes, Infallible>;

fn content(bytes: &[u8], trailers: Option<HeaderMap>) -> Content {
    let mut frames: Vec<_> =
        bytes.chunks(1000).map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
    frames.extend(trailers.map(Frame::trailers));
    BoxBody::new(StreamBody::new(stream::iter(frames.into_iter().map(Ok))))
}

async fn connect(server: &TestServer) -> SendRequest<Content> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(
    sender: &mut SendRequest<Content>,
    (method, path): (&str, &str),
    fields: &[(&str, &str)],
    content: Content,
) -> (Response<()>, Bytes) {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .header("tus-resumable", "1.0.0");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(content).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    (Response::from_parts(parts, ()), body.collect().await.unwrap().to_bytes())
}

const APPEND: [(&str, &str); 2] =
    [("content-type", "application/offset+octet-stream"), ("upload-offset", "0")];

async fn create(sender: &mut SendRequest<Content>, length: &str) -> String {
    let fields = [("upload-length", length)];
    let (answer, _) = send(sender, ("POST", "/files/"), &fields, content(b"", None)).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let location = answer.headers()["location"].to_str().unwrap();
    location.strip_prefix("http://localhost").unwrap().to_owned()
}

#[tokio::test]
async fn an_upload_and_its_download_by_range() {
    let server = TestServer::start().await;
    let mut sender = connect(&server).await;
    let bytes = pattern(3_000_000);
    let path = create(&mut sender, "3000000").await;
    let (answer, _) = send(&mut sender, ("PATCH", &path), &APPEND, content(&bytes, None)).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()["upload-offset"], "3000000");
    let (answer, _) = send(&mut sender, ("HEAD", &path), &[], content(b"", None)).await;
    assert_eq!(answer.headers()["upload-offset"], "3000000");
    let range = [("range", "bytes=1000000-1999999")];
    let (answer, got) = send(&mut sender, ("GET", &path), &range, content(b"", None)).await;
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(got, bytes[1_000_000..2_000_000]);
    drop(sender);
    server.stop().await;
}

#[tokio::test]
async fn a_checksum_may_come_behind_the_content() {
    let server = TestServer::start().await;
    let mut sender = connect(&server).await;
    let path = create(&mut sender, "11").await;
    let fields = [APPEND[0], APPEND[1], ("trailer", "upload-checksum")];
    let trailer = |value: &str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("upload-checksum", value.parse().unwrap());
        content(b"hello world", Some(trailers))
    };
    let wrong = trailer("sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let (answer, _) = send(&mut sender, ("PATCH", &path), &fields, wrong).await;
    assert_eq!(answer.status().as_u16(), 460);
    let right = trailer("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
    let (answer, _) = send(&mut sender, ("PATCH", &path), &fields, right).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    drop(sender);
    server.stop().await;
}

const SHORT: Duration = Duration::from_millis(300);

/// A connection, and the task that ends with it.
async fn connect_with(
    server: &TestServer,
    builder: &Builder<TokioExecutor>,
) -> (SendRequest<Content>, JoinHandle<()>) {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let ends = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender, ends)
}

fn get(path: &str) -> Request<Content> {
    Request::get(format!("http://localhost{path}")).body(content(b"", None)).unwrap()
}

#[tokio::test]
async fn a_peer_that_asks_for_nothing_more_is_left() {
    let server = TestServer::start_with(|settings| {
        settings.connections.header_timeout = SHORT;
        settings.connections.idle_timeout = SHORT;
    })
    .await;
    let (mut sender, ends) = connect_with(&server, &Builder::new(TokioExecutor::new())).await;
    for _ in 0..3 {
        assert_eq!(sender.send_request(get("/")).await.unwrap().status(), StatusCode::NOT_FOUND);
        tokio::time::sleep(SHORT / 3).await;
    }
    timeout(PATIENCE, ends).await.expect("the connection stays").unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_gives_no_window_for_its_answer_is_left() {
    let server = TestServer::start_with(|settings| {
        settings.connections.idle_timeout = SHORT;
    })
    .await;
    let path = server.create_with("", &pattern(1_000_000)).await;
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    let (mut sender, ends) = connect_with(&server, &builder).await;
    let unread = sender.send_request(get(&path)).await.unwrap();
    timeout(PATIENCE, ends).await.expect("the connection stays").unwrap();
    drop(unread);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_reads_slowly_gets_its_answer() {
    let server = TestServer::start_with(|settings| {
        settings.connections.header_timeout = SHORT;
        settings.connections.idle_timeout = SHORT;
    })
    .await;
    let sent = pattern(1_000_000);
    let path = server.create_with("", &sent).await;
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(16 << 10);
    let (mut sender, _) = connect_with(&server, &builder).await;
    let mut body = sender.send_request(get(&path)).await.unwrap().into_body();
    let mut received = Vec::new();
    while let Some(frame) = body.frame().await {
        received.extend_from_slice(&frame.unwrap().into_data().unwrap());
        tokio::time::sleep(SHORT / 20).await;
    }
    assert_eq!(received.len(), sent.len());
    assert!(received == sent, "other bytes");
    server.stop().await;
}

/// A frame on stream 1, or on the connection (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Field lines that no table is needed for (RFC 7541 §6.2.2).
fn field_lines(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

#[tokio::test]
async fn content_that_is_reset_without_an_error_is_not_whole() {
    const END_HEADERS: u8 = 4;
    let server = TestServer::start().await;
    let created = server.request("POST", "/files/", "Upload-Complete: ?0\r\n", b"").await;
    let location = &created.fields["location"];
    let path = &location[location.find("/files/").unwrap()..];
    let fields = field_lines(&[
        (":method", "PATCH"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", path),
        ("content-type", "application/partial-upload"),
        ("upload-complete", "?1"),
        ("upload-offset", "0"),
    ]);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let frames = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, b""),
        frame(1, END_HEADERS, 1, &fields),
        frame(0, 0, 1, b"hello"),
        // RST_STREAM (NO_ERROR).
        frame(3, 0, 1, &[0; 4]),
    ];
    stream.write_all(&frames.concat()).await.unwrap();
    let head = timeout(PATIENCE, async {
        loop {
            let head = server.request("HEAD", path, "", b"").await;
            if head.fields["upload-offset"] == "5" {
                return head;
            }
        }
    });
    assert_eq!(head.await.unwrap().fields["upload-complete"], "?0");
    stream.shutdown().await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    server.stop().await;
}
