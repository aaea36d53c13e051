//! The HTTP client under `get` and `put`, against a server that misbehaves.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod liar;

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Method};
use liar::{Act, Liar, bare, head};
use resumed::client::failure::{Failure, FailureKind};
use resumed::client::{Answer, Client, Options, Request, content_of};
use resumed::clock::Clock;
use url::Url;

fn client(options: Options) -> Client {
    Client::new(options, Clock::System)
}

fn get(url: &str) -> Request {
    Request::new(Method::GET, Url::parse(url).unwrap())
}

async fn text(answer: Result<Answer, Failure>) -> String {
    let content = answer.unwrap().content.collect(1000).await.unwrap();
    String::from_utf8(content).unwrap()
}

fn ok(content: &str) -> Vec<Act> {
    vec![head("200 OK", content.len(), ""), Act::Send(content.into())]
}

#[tokio::test]
async fn a_connection_is_used_again_and_one_that_was_closed_is_made_anew() {
    let server = Liar::start(|asked| {
        let mut acts = ok(&asked.connection.to_string());
        if asked.before == 1 {
            acts.push(Act::Close);
        }
        acts
    })
    .await;
    let client = client(Options::default());
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(text(client.fetch(&get(&server.url("/"))).await).await);
    }
    assert_eq!(seen, ["0", "0", "1", "1"]);
}

#[tokio::test]
async fn redirects_are_followed_to_a_bound() {
    let server = Liar::start(|asked| match asked.target.as_str() {
        "/a" => bare("302 Found", "Location: b?c=d\r\n"),
        "/b?c=d" => bare("307 Temporary Redirect", "Location: /end\r\n"),
        "/end" => ok("here"),
        _ => bare("301 Moved", "Location: /circle\r\n"),
    })
    .await;
    let client = client(Options::default());
    let answer = client.fetch(&get(&server.url("/a"))).await.unwrap();
    assert_eq!(answer.url.path(), "/end");
    assert_eq!(text(Ok(answer)).await, "here");
    let failure = client.fetch(&get(&server.url("/circle"))).await.err().unwrap();
    assert_eq!((failure.kind(), failure.is_transient()), (FailureKind::Status, false));
    assert_eq!(server.asked().len(), 3 + 11);
}

#[tokio::test]
async fn secrets_are_not_taken_to_another_server() {
    let end = Liar::start(|_| ok("end")).await;
    let location = format!("Location: {}\r\n", end.url("/"));
    let begin = Liar::start(move |_| bare("302 Found", &location)).await;
    let headers = HeaderMap::from_iter([
        (AUTHORIZATION, HeaderValue::from_static("Bearer secret")),
        ("x-shown".parse().unwrap(), HeaderValue::from_static("yes")),
    ]);
    let client = client(Options { headers, ..Options::default() });
    assert_eq!(text(client.fetch(&get(&begin.url("/"))).await).await, "end");
    assert_eq!(begin.asked()[0].field("authorization"), "Bearer secret");
    assert_eq!(end.asked()[0].field("authorization"), "");
    assert_eq!(end.asked()[0].field("x-shown"), "yes");
    assert_eq!(end.asked()[0].field("accept-encoding"), "identity");
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_a_cut_answer_is_noticed() {
    let server = Liar::start(|asked| match asked.target.as_str() {
        "/silent" => vec![Act::Hang],
        "/stalls" => vec![head("200 OK", 10, ""), Act::Send(b"12345".to_vec()), Act::Hang],
        _ => vec![head("200 OK", 10, ""), Act::Send(b"12345".to_vec()), Act::Close],
    })
    .await;
    let stall_timeout = Duration::from_millis(200);
    let client = client(Options { stall_timeout, ..Options::default() });
    let failure = client.fetch(&get(&server.url("/silent"))).await.err().unwrap();
    assert!(failure.is_transient(), "{failure}");
    for path in ["/stalls", "/cut"] {
        let mut answer = client.fetch(&get(&server.url(path))).await.unwrap();
        let failure = answer.content.collect(100).await.unwrap_err();
        assert_eq!((failure.kind(), failure.is_transient()), (FailureKind::Network, true));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 3, "none of them is used again");
}

#[tokio::test]
async fn a_limit_of_the_rate_is_kept() {
    let server =
        Liar::start(|_| vec![head("200 OK", 60_000, ""), Act::Send(vec![1; 60_000])]).await;
    let client = client(Options { limit_bytes_per_s: Some(100_000), ..Options::default() });
    let begin = std::time::Instant::now();
    let mut answer = client.fetch(&get(&server.url("/"))).await.unwrap();
    assert_eq!(answer.content.collect(60_000).await.unwrap().len(), 60_000);
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(350) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn content_is_sent_once_and_its_redirect_is_an_answer() {
    let server = Liar::start(|_| bare("307 Temporary Redirect", "Location: /other\r\n")).await;
    let request = Request::new(Method::POST, Url::parse(&server.url("/")).unwrap());
    let answer = client(Options::default()).send(&request, content_of("")).await.unwrap();
    assert_eq!(answer.status, 307);
    assert_eq!(server.asked().len(), 1);
}
