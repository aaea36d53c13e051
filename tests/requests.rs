//! What holds for every request: the method that counts, and what every answer has.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{CONTENT, TUS, TestServer, pattern};
use resumed::settings::{Cors, Origins};

#[tokio::test]
async fn the_method_that_overrides_is_the_only_one() {
    let server = TestServer::start().await;
    let content = pattern(1000);
    let path = server.create_with("", &content).await;
    let get = "X-HTTP-Method-Override: GET\r\n";
    for method in ["POST", "PATCH", "BREW"] {
        let whole = server.request(method, &path, get, b"").await;
        assert_eq!((whole.status, &whole.content), (200, &content), "{method}");
        let part = server.request(method, &path, &format!("{get}Range: bytes=1-2\r\n"), b"").await;
        assert_eq!((part.status, part.content), (206, content[1..3].to_vec()), "{method}");
    }
    let head = server.request("GET", &path, "X-HTTP-Method-Override: HEAD\r\n", b"").await;
    assert_eq!((head.status, head.content), (200, Vec::new()));
    let page = "Origin: http://page.example\r\nAccess-Control-Request-Method: DELETE\r\n";
    let cancel = format!("{TUS}{page}X-HTTP-Method-Override: DELETE\r\n");
    assert_eq!(server.request("OPTIONS", &path, &cancel, b"").await.status, 204);
    assert_eq!(server.head(&path).await.status, 410);
    server.stop().await;
}

#[tokio::test]
async fn every_answer_to_a_tus_request_says_so() {
    let server = TestServer::start().await;
    let path = server.create_with("", b"content").await;
    let with = ["", "Range: bytes=0-0\r\n", "Range: bytes=9-\r\n", "If-Match: \"x\"\r\n"];
    for fields in with.into_iter().chain(["If-None-Match: *\r\n"]) {
        let answer = server.get(&path, &format!("{TUS}{fields}")).await;
        assert_eq!(answer.fields["tus-resumable"], "1.0.0", "{}", answer.text());
    }
    let answer = server.get("/elsewhere", TUS).await;
    assert_eq!(answer.fields["tus-resumable"], "1.0.0", "{}", answer.text());
    server.stop().await;
}

#[tokio::test]
async fn what_a_proxy_may_have_understood_otherwise_is_refused() {
    let server = TestServer::start().await;
    let mut old = server.connect().await;
    old.send("OPTIONS /files/ HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert_eq!(old.answer("OPTIONS").await.status, 400);
    let path = server.create("Upload-Length: 5\r\n").await;
    let mut coded = server.connect().await;
    coded
        .send(format!(
            "PATCH {path} HTTP/1.1\r\nHost: a\r\n{TUS}{CONTENT}Upload-Offset: 0\r\n\
             Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ))
        .await;
    assert_eq!(coded.answer("PATCH").await.status, 501);
    assert_eq!(server.offset(&path).await, 0);
    server.stop().await;
}

#[tokio::test]
async fn no_method_is_refused_by_naming_it_among_those_that_are_allowed() {
    let server = TestServer::start().await;
    let marked = server.request("PUT", "/files/", TUS, b"").await;
    assert_eq!((marked.status, &*marked.fields["allow"]), (405, "POST, OPTIONS"));
    let unmarked = server.request("PUT", "/files/", "", b"").await;
    assert_eq!(unmarked.status, 412, "{}", unmarked.text());
    let creation = server.request("PUT", "/files/", "Upload-Complete: ?0\r\n", b"").await;
    assert_eq!(creation.status, 201, "{}", creation.text());
    server.stop().await;
}

#[tokio::test]
async fn an_answer_to_content_is_made_with_all_that_the_head_said() {
    let server = TestServer::start_with(|settings| {
        settings.listening.is_behind_proxy = true;
        settings.uploads.keeps_sha256 = true;
        let origins = Origins::parse("http://page.example").unwrap();
        settings.cors = Some(Cors { origins, allows_credentials: true });
    })
    .await;
    let forwarded = "Forwarded: proto=https;host=outer.example\r\n";
    let proxied = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.example\r\n";
    let (page, unwanted) = ("Origin: http://page.example\r\n", "Want-Repr-Digest: sha-512=1\r\n");
    let wanted = format!("{unwanted}Want-Repr-Digest: sha-256=1\r\n");
    let ietf = "Upload-Draft-Interop-Version: 6\r\nUpload-Complete: ?1\r\n";
    let last = format!("{ietf}Content-Type: application/partial-upload\r\nUpload-Offset: 0\r\n");
    for (method, head, has_location) in [
        ("POST", format!("{TUS}{CONTENT}Upload-Length: 5\r\n"), true),
        ("PATCH", format!("{TUS}{CONTENT}Upload-Offset: 0\r\n"), false),
        ("PATCH", format!("{TUS}{CONTENT}Upload-Offset: 3\r\n"), false),
        ("POST", ietf.to_owned(), true),
        ("PATCH", last, true),
    ] {
        for fields in ["", forwarded, proxied, page, unwanted, &wanted] {
            let path = match method {
                "POST" => "/files/".to_owned(),
                _ => server.create("Upload-Length: 5\r\n").await,
            };
            let head = format!("{head}{fields}");
            let answer = server.request(method, &path, &head, b"hello").await;
            let is_refused = head.contains("Upload-Offset: 3");
            assert_eq!(answer.status == 409, is_refused, "{head}{}", answer.text());
            let told = |name: &str| answer.fields.get(name).map(String::as_str);
            assert_eq!(told("tus-resumable").is_some(), head.contains(TUS), "{head}");
            assert_eq!(told("access-control-allow-origin").is_some(), fields == page, "{head}");
            let has_digest = !is_refused && fields != unwanted;
            assert_eq!(told("repr-digest").is_some(), has_digest, "{head}");
            let is_proxied = fields == forwarded || fields == proxied;
            let origin = if is_proxied { "https://outer.example/" } else { "http://" };
            assert_eq!(told("location").is_some(), has_location, "{head}");
            assert!(told("location").is_none_or(|url| url.starts_with(origin)), "{head}{answer:?}");
        }
    }
    server.stop().await;
}
