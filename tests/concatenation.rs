//! Final uploads over sockets: complete at once, readable at once, and independent of their parts
//! from then on (tus 1.0 "Concatenation").
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::time::Duration;

use common::{CONTENT, TUS, TestServer, pattern};

async fn parts(server: &TestServer, content: &[u8], lengths: &[usize]) -> Vec<String> {
    let mut rest = content;
    let mut paths = Vec::new();
    for length in lengths {
        let (part, behind) = rest.split_at(*length);
        paths.push(server.create_with("Upload-Concat: partial\r\n", part).await);
        rest = behind;
    }
    paths
}

async fn concatenate(server: &TestServer, parts: &[String]) -> String {
    server.create(&format!("Upload-Concat: final;{}\r\n", parts.join(" "))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_upload_is_read_at_once_and_until_its_parts_are_joined() {
    let server = TestServer::start().await;
    let content = pattern(5_000_000);
    let parts = parts(&server, &content, &[2_000_000, 0, 1, 2_999_999]).await;
    let path = concatenate(&server, &parts).await;
    let first = server.get(&path, "").await;
    assert_eq!(first.content, content);
    let head = server.head(&path).await;
    assert_eq!(head.fields["upload-offset"], "5000000");
    assert_eq!(head.fields["upload-concat"], format!("final;{}", parts.join(" ")));
    let across = server.get(&path, "Range: bytes=1999990-2000009\r\n").await;
    assert_eq!((across.status, across.content), (206, content[1_999_990..2_000_010].to_vec()));
    // Joined, it has the digest of its bytes for a tag; the tag of before goes on to be known.
    let tag = format!("\"{}\"", blake3::hash(&content).to_hex());
    for _ in 0..500 {
        let got = server.get(&path, "").await;
        assert_eq!(got.content, content);
        if got.fields["etag"] == tag {
            let again = format!("If-Range: {}\r\nRange: bytes=0-0\r\n", first.fields["etag"]);
            assert_eq!(server.get(&path, &again).await.status, 206);
            server.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the parts are never joined");
}

#[tokio::test]
async fn cancelling_a_part_does_not_harm_the_final_upload() {
    let server = TestServer::start().await;
    let content = pattern(30_000);
    let parts = parts(&server, &content, &[10_000, 20_000]).await;
    let one = concatenate(&server, &parts).await;
    let twice = [parts[0].clone(), parts[0].clone()];
    let two = concatenate(&server, &twice).await;
    for part in &parts {
        assert_eq!(server.request("DELETE", part, TUS, b"").await.status, 204);
    }
    assert_eq!(server.get(&one, "").await.content, content);
    assert_eq!(
        server.get(&two, "").await.content,
        [&content[..10_000], &content[..10_000]].concat()
    );
    assert_eq!(server.request("DELETE", &one, TUS, b"").await.status, 204);
    assert_eq!(server.get(&two, "").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_final_upload_waits_for_its_parts() {
    let server = TestServer::start().await;
    let content = pattern(300);
    let done = server.create_with("Upload-Concat: partial\r\n", &content[..100]).await;
    let partial = "Upload-Length: 200\r\nUpload-Concat: partial\r\n";
    let open = server.create(partial).await;
    let path = concatenate(&server, &[done, open.clone()]).await;
    let head = server.head(&path).await;
    assert_eq!(head.status, 200);
    assert!(!head.fields.contains_key("upload-offset"), "{}", head.text());
    assert_eq!(head.fields["upload-length"], "300");
    assert_eq!(server.get(&path, "").await.status, 409);
    assert_eq!(server.append(&path, 0, "", b"x").await.status, 403);
    assert_eq!(server.append(&open, 0, "", &content[100..]).await.status, 204);
    assert_eq!(server.get(&path, "").await.content, content);
    assert_eq!(server.append(&path, 300, "", b"x").await.status, 403);
    server.stop().await;
}

#[tokio::test]
async fn a_part_that_is_cancelled_first_takes_the_final_upload_with_it() {
    let server = TestServer::start().await;
    let open = server.create("Upload-Length: 200\r\nUpload-Concat: partial\r\n").await;
    let path = concatenate(&server, std::slice::from_ref(&open)).await;
    assert_eq!(server.request("DELETE", &open, TUS, b"").await.status, 204);
    assert_eq!(server.head(&path).await.status, 410);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_concatenated_is_refused() {
    let server = TestServer::start_with(|settings| {
        settings.uploads.limits.max_length = Some(1000);
        settings.uploads.limits.max_parts = 3;
    })
    .await;
    let part = server.create_with("Upload-Concat: partial\r\n", &pattern(600)).await;
    let single = server.create_with("", &pattern(10)).await;
    let status = async |concat: String| {
        let fields = format!("{TUS}Upload-Concat: {concat}\r\n");
        server.request("POST", "/files/", &fields, b"").await.status
    };
    assert_eq!(status(format!("final;{part} {part}")).await, 413, "longer than allowed");
    assert_eq!(status(format!("final;{single}")).await, 400, "not a partial upload");
    assert_eq!(status(format!("final;{part} {part} {part} {part}")).await, 400, "too many");
    for wrong in ["final;", "final", "final;/files/../x", "other", "final;/files/0"] {
        assert_eq!(status(wrong.to_owned()).await, 400, "{wrong}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_parts_are_concatenated_by_one_request() {
    let server = TestServer::start().await;
    let content = pattern(7);
    let part = server.create_with("Upload-Concat: partial\r\n", &content).await;
    let url = format!("http://uploads.example.org:1080{part}");
    let parts = vec![url; 1000];
    let path = concatenate(&server, &parts).await;
    assert_eq!(server.get(&path, "").await.content, content.repeat(1000));
    server.stop().await;
}

#[tokio::test]
async fn empty_content_of_unknown_length_is_none() {
    let server = TestServer::start().await;
    let parts = parts(&server, b"content", &[7]).await;
    for (content, status) in [("0\r\n\r\n", 201), ("1\r\nx\r\n0\r\n\r\n", 400)] {
        let media_type = if status == 201 { "" } else { CONTENT };
        let mut peer = server.connect().await;
        peer.send(format!(
            "POST /files/ HTTP/1.1\r\nHost: a\r\n{TUS}{media_type}Transfer-Encoding: chunked\r\n\
             Upload-Concat: final;{}\r\n\r\n{content}",
            parts[0]
        ))
        .await;
        assert_eq!(peer.answer("POST").await.status, status);
    }
    server.stop().await;
}
