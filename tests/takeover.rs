//! An append that hangs does not keep anybody from the upload: whoever comes next ends it, and what
//! it had sent is kept (RUFH §Concurrency; tus 1.0 leaves it open).
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::time::{Duration, Instant};

use common::{CONTENT, Connection, TUS, TestServer, pattern};

/// What the answer may take while the append still hangs. The aim is 100 ms; a test on a busy
/// machine is given more.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Begins an append of 1000 bytes and sends 400 of them.
async fn hang(server: &TestServer, path: &str, content: &[u8]) -> Connection {
    let mut stalled = server.connect().await;
    stalled
        .send(format!(
            "PATCH {path} HTTP/1.1\r\nHost: localhost\r\n{TUS}{CONTENT}Upload-Offset: 0\r\n\
             Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
        ))
        .await;
    stalled.send(&content[..400]).await;
    stalled
}

#[tokio::test]
async fn a_head_ends_an_append_that_hangs_and_tells_what_it_kept() {
    let server = TestServer::start().await;
    let content = pattern(1000);
    for _ in 0..20 {
        let path = server.create("Upload-Length: 1000\r\n").await;
        let mut stalled = hang(&server, &path, &content).await;
        let begin = Instant::now();
        let mut offset = server.offset(&path).await;
        while offset == 0 {
            // The HEAD overtook the request; the append is there at the next one.
            offset = server.offset(&path).await;
            assert!(begin.elapsed() < AT_ONCE, "nothing is kept");
        }
        assert_eq!(offset, 400);
        assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        assert_eq!(stalled.answer("PATCH").await.status, 409);
        let answer = server.append(&path, 400, "", &content[400..]).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        assert_eq!(server.get(&path, "").await.content, content);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_delete_ends_an_append_that_hangs() {
    let server = TestServer::start().await;
    let path = server.create("Upload-Length: 1000\r\n").await;
    let mut stalled = hang(&server, &path, &pattern(1000)).await;
    let begin = Instant::now();
    let answer = server.request("DELETE", &path, TUS, b"").await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    assert!(matches!(stalled.answer("PATCH").await.status, 409 | 410));
    assert_eq!(server.head(&path).await.status, 410);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_appends_at_one_offset_never_mix_their_bytes() {
    let server = TestServer::start().await;
    for _ in 0..50 {
        let path = server.create("Upload-Length: 200000\r\n").await;
        let (ones, twos) = (vec![1; 200_000], vec![2; 200_000]);
        let (one, two) =
            tokio::join!(server.append(&path, 0, "", &ones), server.append(&path, 0, "", &twos));
        let statuses = [one.status, two.status];
        assert!(statuses.iter().all(|status| matches!(status, 204 | 409 | 413)), "{statuses:?}");
        // Whoever came first may have been ended in the middle: then the other went on from
        // another offset, was refused, and the rest is sent now.
        let offset = usize::try_from(server.offset(&path).await).unwrap();
        if offset < 200_000 {
            server.append(&path, offset.try_into().unwrap(), "", &vec![9; 200_000 - offset]).await;
        }
        let content = server.get(&path, "").await.content;
        assert_eq!(content.len(), 200_000);
        let first = content[..offset].first().copied().unwrap_or(9);
        assert!(content[..offset].iter().all(|byte| *byte == first), "bytes of both");
        assert!(content[offset..].iter().all(|byte| *byte == 9));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_complete_upload_is_read_while_somebody_tries_to_write_it() {
    let server = TestServer::start().await;
    let content = pattern(1000);
    let path = server.create_with("", &content).await;
    let mut writer = server.connect().await;
    writer
        .send(format!(
            "PATCH {path} HTTP/1.1\r\nHost: localhost\r\n{TUS}{CONTENT}Upload-Offset: 1000\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        ))
        .await;
    for _ in 0..10 {
        assert_eq!(server.get(&path, "").await.content, content);
        assert_eq!(server.offset(&path).await, 1000);
    }
    server.stop().await;
}

#[tokio::test]
async fn waiting_for_a_stalled_peer_takes_no_processor_time() {
    let server = TestServer::start().await;
    let path = server.create("Upload-Length: 1000\r\n").await;
    let _stalled = hang(&server, &path, &pattern(1000)).await;
    let used = || {
        let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<u64> = text
            .rsplit(") ")
            .next()
            .unwrap()
            .split(' ')
            .filter_map(|field| field.parse().ok())
            .collect();
        // User and system time in ticks of 10 ms: the 14th and 15th field, counted from 1, of
        // which "R" and what goes before it are not numbers.
        fields[10] + fields[11]
    };
    let before = used();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(used() - before < 20, "{} ticks in one second of waiting", used() - before);
    server.stop().await;
}
