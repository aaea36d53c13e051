//! The IETF protocol over sockets: what only a running server can show. Single exchanges are in
//! `conformance/cases`.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Answer, TestServer, pattern};

const V8: &str = "Upload-Draft-Interop-Version: 8\r\n";
const LAST: &str = "Upload-Complete: ?1\r\n";
const MORE: &str = "Upload-Complete: ?0\r\n";
const PARTIAL: &str = "Content-Type: application/partial-upload\r\n";

/// The path in a `Location`.
fn path(answer: &Answer) -> String {
    let location = &answer.fields["location"];
    location[location.find("/files/").unwrap()..].to_owned()
}

async fn create(server: &TestServer, fields: &str, content: &[u8]) -> String {
    let answer = server.request("POST", "/files/", fields, content).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    path(&answer)
}

async fn append(server: &TestServer, path: &str, fields: &str, content: &[u8]) -> Answer {
    server.request("PATCH", path, &format!("{PARTIAL}{fields}"), content).await
}

fn chunks(bytes: &[u8]) -> Vec<u8> {
    let mut chunks = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunks.extend_from_slice(bytes);
    chunks.extend_from_slice(b"\r\n0\r\n\r\n");
    chunks
}

/// Sends a request whose content comes in chunks.
async fn send_chunked(server: &TestServer, head: &str, bytes: &[u8]) -> Answer {
    let mut connection = server.connect().await;
    let head = format!("{head}Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.send(head).await;
    connection.send(chunks(bytes)).await;
    connection.answer("PATCH").await
}

#[tokio::test]
async fn the_url_of_a_new_upload_is_told_before_any_of_its_content() {
    let server = TestServer::start().await;
    let mut connection = server.connect().await;
    let head = format!("POST /files/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n{V8}{LAST}\r\n");
    connection.send(&head).await;
    let told = connection.next_message("POST").await;
    assert_eq!(told.status, 104, "{}", told.text());
    assert_eq!(told.fields["upload-draft-interop-version"], "8");
    assert_eq!(told.fields["upload-limit"], "max-age=86400");
    assert!(!told.fields.contains_key("upload-offset"));
    // It is there by then, whatever happens to the connection.
    assert_eq!(server.get(&path(&told), "").await.status, 409);
    connection.send("hello").await;
    let answer = connection.answer("POST").await;
    assert_eq!((answer.status, connection.interim.len()), (201, 0));
    assert_eq!(answer.fields["location"], told.fields["location"]);
    assert_eq!(answer.fields["upload-complete"], "?1");
    assert_eq!(server.get(&path(&answer), "").await.content, b"hello");
    server.stop().await;
}

#[tokio::test]
async fn an_upload_whose_url_was_told_outlives_its_connection() {
    let server = TestServer::start().await;
    let mut connection = server.connect().await;
    let head =
        format!("POST /files/ HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n{V8}{LAST}\r\nhello");
    connection.send(&head).await;
    let path = path(&connection.next_message("POST").await);
    drop(connection);
    let fields = format!("{LAST}Upload-Offset: 5\r\n");
    let answer = loop {
        let head = server.request("HEAD", &path, V8, b"").await;
        assert_eq!(head.fields["upload-complete"], "?0");
        assert_eq!(head.fields["upload-length"], "9");
        if head.fields["upload-offset"] == "5" {
            break append(&server, &path, &fields, b"more").await;
        }
    };
    assert_eq!((answer.status, &*answer.fields["upload-complete"]), (201, "?1"));
    assert_eq!(server.get(&path, "").await.content, b"hellomore");
    server.stop().await;
}

#[tokio::test]
async fn a_104_does_not_take_the_place_of_a_100() {
    let server = TestServer::start().await;
    for version in ["3", "4", "5", "6", "8"] {
        let complete = if version == "3" { "Upload-Incomplete: ?0" } else { "Upload-Complete: ?1" };
        let mut connection = server.connect().await;
        let head = format!(
            "POST /files/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\
             Upload-Draft-Interop-Version: {version}\r\n{complete}\r\n\r\n"
        );
        connection.send(&head).await;
        let first = connection.next_message("POST").await;
        let second = connection.next_message("POST").await;
        let mut both = [first.status, second.status];
        both.sort_unstable();
        assert_eq!(both, [100, 104]);
        connection.send("hello").await;
        let answer = connection.answer("POST").await;
        assert_eq!((answer.status, connection.interim.len()), (201, 0));
    }
    server.stop().await;
}

#[tokio::test]
async fn pipelined_creations_are_each_announced_before_their_answer() {
    const COUNT: usize = 50;
    let server = TestServer::start().await;
    let mut connection = server.connect().await;
    let request = |n: usize| {
        let content = "x".repeat(n);
        format!(
            "POST /files/ HTTP/1.1\r\nHost: h\r\nContent-Length: {n}\r\n{V8}{LAST}\r\n{content}"
        )
    };
    connection.send((0..COUNT).map(request).collect::<String>()).await;
    for n in 0..COUNT {
        let answer = connection.answer("POST").await;
        assert_eq!((answer.status, connection.interim.len()), (201, 1), "{}", answer.text());
        assert_eq!(connection.interim[0].fields["location"], answer.fields["location"]);
        assert_eq!(answer.fields["upload-offset"], n.to_string());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_104_is_only_for_who_named_the_version_and_was_not_refused() {
    let server = TestServer::start().await;
    let mut connection = server.connect().await;
    for fields in [
        LAST.to_owned(),
        format!("{LAST}Upload-Draft-Interop-Version: 7\r\n"),
        format!("{LAST}Upload-Draft-Interop-Version: x\r\n"),
    ] {
        let answer = connection.request("POST", "/files/", &fields, b"hello").await;
        assert_eq!((answer.status, connection.interim.len()), (201, 0), "{fields}");
    }
    let wrong = format!("{V8}{LAST}Upload-Length: 9\r\n");
    let answer = connection.request("POST", "/files/", &wrong, b"hello").await;
    assert_eq!((answer.status, connection.interim.len()), (400, 0));
    // An HTTP/1.0 client would take it for the answer.
    let mut old = server.connect().await;
    let head = format!("POST /files/ HTTP/1.0\r\nContent-Length: 5\r\n{V8}{LAST}\r\nhello");
    old.send(&head).await;
    assert_eq!(old.next_message("POST").await.status, 201);
    server.stop().await;
}

#[tokio::test]
async fn progress_is_told_at_checkpoints_and_never_goes_back() {
    let server = TestServer::start().await;
    let bytes = pattern(150 << 20);
    let path = create(&server, MORE, b"").await;
    let mut connection = server.connect().await;
    let fields = format!("{PARTIAL}{V8}{LAST}Upload-Offset: 0\r\n");
    let answer = connection.request("PATCH", &path, &fields, &bytes).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let told: Vec<u64> = connection
        .interim
        .iter()
        .map(|told| told.fields["upload-offset"].parse().unwrap())
        .collect();
    // This client does not read while it sends, so the newest may have replaced others.
    assert!((1..=2).contains(&told.len()), "{told:?}");
    assert!(told.is_sorted() && told.iter().all(|offset| *offset >= 64 << 20), "{told:?}");
    assert!(connection.interim.iter().all(|told| !told.fields.contains_key("location")));
    server.stop().await;
}

#[tokio::test]
async fn progress_is_told_while_the_connection_is_silent() {
    let server = TestServer::start().await;
    let path = create(&server, MORE, b"").await;
    let mut connection = server.connect().await;
    let head = format!("PATCH {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n");
    let fields = format!("{PARTIAL}{V8}{LAST}Upload-Offset: 0\r\n\r\nhello");
    connection.send(head + &fields).await;
    let told = connection.next_message("PATCH").await;
    assert_eq!((told.status, &*told.fields["upload-offset"]), (104, "5"));
    connection.send("more").await;
    assert_eq!(connection.answer("PATCH").await.status, 201);
    server.stop().await;
}

#[tokio::test]
async fn all_bytes_are_not_yet_a_complete_upload() {
    let server = TestServer::start().await;
    let path = create(&server, &format!("{MORE}Upload-Length: 5\r\n"), b"hello").await;
    let head = server.request("HEAD", &path, "", b"").await;
    assert_eq!((&*head.fields["upload-offset"], &*head.fields["upload-complete"]), ("5", "?0"));
    assert_eq!(server.get(&path, "").await.status, 409);
    let fields = format!("{LAST}Upload-Offset: 5\r\n");
    for _ in 0..2 {
        // The second time the answer is repeated.
        let answer = append(&server, &path, &fields, b"").await;
        assert_eq!((answer.status, &*answer.fields["upload-complete"]), (201, "?1"));
        assert!(answer.fields["location"].ends_with(&path));
    }
    assert_eq!(server.get(&path, "").await.content, b"hello");
    let answer = append(&server, &path, &fields, b"x").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("#inconsistent-upload-length"), "{}", answer.text());
    server.stop().await;
}

#[tokio::test]
async fn the_last_byte_completes_for_a_client_that_never_says_so() {
    let server = TestServer::start().await;
    for (version, kind) in [("5", ""), ("6", PARTIAL)] {
        let more = format!("Upload-Draft-Interop-Version: {version}\r\n{MORE}");
        let path = create(&server, &format!("{more}Upload-Length: 5\r\n"), b"").await;
        let fields = format!("{kind}{more}Upload-Offset: 0\r\n");
        let answer = server.request("PATCH", &path, &fields, b"hello").await;
        assert_eq!((answer.status, &*answer.fields["upload-complete"]), (201, "?1"));
        assert_eq!(server.get(&path, "").await.content, b"hello");
        // Who says it all the same is answered the same.
        let last = format!("{kind}Upload-Draft-Interop-Version: {version}\r\n{LAST}");
        let fields = format!("{last}Upload-Offset: 5\r\n");
        let answer = server.request("PATCH", &path, &fields, b"").await;
        assert_eq!((answer.status, &*answer.fields["upload-complete"]), (201, "?1"));
    }
    server.stop().await;
}

#[tokio::test]
async fn an_empty_upload_is_complete_only_when_it_is_said_to_be() {
    let server = TestServer::start().await;
    let path = create(&server, &format!("{MORE}Upload-Length: 0\r\n"), b"").await;
    assert_eq!(server.request("HEAD", &path, "", b"").await.fields["upload-complete"], "?0");
    let path = create(&server, LAST, b"").await;
    assert_eq!(server.request("HEAD", &path, "", b"").await.fields["upload-complete"], "?1");
    assert_eq!(server.get(&path, "").await.content, b"");
    assert!(!server.file(&path).exists(), "of no bytes there is no file");
    server.stop().await;
}

#[tokio::test]
async fn content_beyond_the_length_ends_the_upload() {
    let server = TestServer::start().await;
    let path = create(&server, &format!("{MORE}Upload-Length: 8\r\n"), b"hello").await;
    // Told beforehand it is only refused.
    let fields = format!("{MORE}Upload-Offset: 5\r\n");
    assert_eq!(append(&server, &path, &fields, b"world").await.status, 400);
    assert_eq!(server.offset(&path).await, 5);
    let head = format!("PATCH {path} HTTP/1.1\r\n{PARTIAL}{fields}");
    let answer = send_chunked(&server, &head, b"world").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("#inconsistent-upload-length"), "{}", answer.text());
    assert_eq!(server.request("HEAD", &path, V8, b"").await.status, 410);
    assert_eq!(append(&server, &path, &fields, b"wor").await.status, 410);
    server.stop().await;
}

#[tokio::test]
async fn content_of_unknown_length_for_a_complete_upload_is_refused_and_harms_it_not() {
    let server = TestServer::start().await;
    let path = create(&server, LAST, b"hello").await;
    for fields in [LAST, MORE] {
        let head = format!("PATCH {path} HTTP/1.1\r\n{PARTIAL}{fields}Upload-Offset: 5\r\n");
        let answer = send_chunked(&server, &head, b"x").await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(server.get(&path, "").await.content, b"hello");
    }
    server.stop().await;
}

#[tokio::test]
async fn last_content_that_ends_before_the_length_completes_nothing() {
    let server = TestServer::start().await;
    let path = create(&server, &format!("{MORE}Upload-Length: 8\r\n"), b"").await;
    let head = format!("PATCH {path} HTTP/1.1\r\n{PARTIAL}{LAST}Upload-Offset: 0\r\n");
    let answer = send_chunked(&server, &head, b"hello").await;
    assert_eq!((answer.status, &*answer.fields["upload-complete"]), (400, "?0"));
    let answer = append(&server, &path, &format!("{LAST}Upload-Offset: 5\r\n"), b"you").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(server.get(&path, "").await.content, b"helloyou");
    server.stop().await;
}

#[tokio::test]
async fn what_was_begun_in_one_protocol_is_finished_in_the_other() {
    let server = TestServer::start().await;
    // tus, IETF, tus, IETF.
    let path = server.create("Upload-Length: 20\r\n").await;
    assert_eq!(server.append(&path, 0, "", b"01234").await.status, 204);
    let head = server.request("HEAD", &path, V8, b"").await;
    assert_eq!((head.status, &*head.fields["upload-offset"]), (204, "5"));
    let fields = format!("{MORE}Upload-Offset: 5\r\n");
    let answer = append(&server, &path, &fields, b"56789").await;
    assert_eq!((answer.status, &*answer.fields["upload-offset"]), (204, "10"));
    assert_eq!(server.offset(&path).await, 10);
    assert_eq!(server.append(&path, 10, "", b"abcde").await.status, 204);
    let answer = append(&server, &path, &format!("{LAST}Upload-Offset: 15\r\n"), b"fghij").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(server.get(&path, "").await.content, b"0123456789abcdefghij");
    // Begun in the IETF protocol, of unknown length, finished in tus.
    let fields = "Content-Type: text/plain\r\nContent-Disposition: inline; filename=\"a b\"\r\n";
    let path = create(&server, &format!("{MORE}{fields}"), b"hello").await;
    let head = server.head(&path).await;
    assert_eq!(head.fields["upload-defer-length"], "1");
    assert_eq!(head.fields["upload-metadata"], "filename YSBi,filetype dGV4dC9wbGFpbg==");
    let answer = server.append(&path, 5, "Upload-Length: 8\r\n", b"you").await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    let got = server.get(&path, "").await;
    assert_eq!(got.content, b"helloyou");
    assert_eq!(got.fields["content-type"], "text/plain");
    assert_eq!(got.fields["content-disposition"], "inline; filename=\"a b\"");
    assert_eq!(got.fields["upload-complete"], "?1");
    server.stop().await;
}

#[tokio::test]
async fn limits_hold_and_are_told() {
    let server = TestServer::start_with(|settings| {
        let limits = &mut settings.uploads.limits;
        limits.max_length = Some(20);
        limits.min_length = 3;
        limits.max_append = Some(8);
        limits.min_append = 2;
        settings.uploads.expire_after = None;
    })
    .await;
    let all = "max-size=20, min-size=3, max-append-size=8, min-append-size=2";
    let options = server.request("OPTIONS", "*", "", b"").await;
    assert_eq!(options.fields["upload-limit"], all);
    let answer = server.request("POST", "/files/", LAST, b"012345678").await;
    assert_eq!((answer.status, &*answer.fields["upload-limit"]), (413, all));
    let fields = format!("{MORE}Upload-Length: 21\r\n");
    let answer = server.request("POST", "/files/", &fields, b"").await;
    assert_eq!((answer.status, &*answer.fields["upload-limit"]), (413, all));
    assert_eq!(server.request("POST", "/files/", LAST, b"01").await.status, 400);
    let path = create(&server, MORE, b"").await;
    let fields = format!("{MORE}Upload-Offset: 0\r\n");
    assert_eq!(append(&server, &path, &fields, b"0").await.status, 400);
    let head = format!("PATCH {path} HTTP/1.1\r\n{PARTIAL}{fields}");
    let answer = send_chunked(&server, &head, b"012345678").await;
    assert_eq!((answer.status, &*answer.fields["upload-limit"]), (413, all));
    assert_eq!(append(&server, &path, &fields, b"01234567").await.status, 204);
    server.stop().await;
}

#[tokio::test]
async fn digests_are_checked() {
    // SHA-256 of "hello", and of "hellomore".
    let right = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
    let server = TestServer::start().await;
    let path = create(&server, MORE, b"").await;
    let fields = |digest: &str| format!("{MORE}Upload-Offset: 0\r\nContent-Digest: {digest}\r\n");
    let answer = append(&server, &path, &fields(right), b"other").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(server.offset(&path).await, 0);
    // What is not known here is ignored.
    let others = fields(&format!("crc32c=:AAAAAA==:, {right}"));
    assert_eq!(append(&server, &path, &others, b"hello").await.status, 204);
    let declared = format!("{LAST}Repr-Digest: {right}\r\n");
    let answer = server.request("POST", "/files/", &declared, b"other").await;
    assert_eq!((answer.status, &*answer.fields["upload-complete"]), (400, "?1"));
    let path = create(&server, &declared, b"hello").await;
    assert_eq!(server.get(&path, "").await.status, 200);
    server.stop().await;
}
