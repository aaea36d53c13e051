//! Bytes beyond the recorded offset: what an append left that was killed counts for nothing.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::TestServer;

#[tokio::test]
async fn an_upload_that_is_completed_without_content_has_no_scratch() {
    let server = TestServer::start().await;
    let path = server.create("Upload-Defer-Length: 1\r\n").await;
    assert_eq!(server.append(&path, 0, "", b"abc").await.status, 204);
    std::fs::write(server.file(&path), b"abc and scratch").unwrap();
    assert_eq!(server.append(&path, 3, "Upload-Length: 3\r\n", b"").await.status, 204);
    assert_eq!(server.get(&path, "").await.content, b"abc");
    assert_eq!(std::fs::read(server.file(&path)).unwrap(), b"abc");
    server.stop().await;
}
