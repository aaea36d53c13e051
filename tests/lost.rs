//! Bytes that the record promises and that are no longer on the disk: a clear answer, which lets the
//! client begin anew, and no harm when it is only the disk that is away.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use std::fs;

use common::{TestServer, pattern};

#[tokio::test]
async fn an_upload_whose_bytes_are_missing_is_lost_and_says_so() {
    let content = pattern(100_000);
    for damage in ["removed", "cut"] {
        let server = TestServer::start().await;
        let path = server.create("Upload-Length: 100000\r\n").await;
        assert_eq!(server.append(&path, 0, "", &content[..60_000]).await.status, 204);
        match damage {
            "removed" => fs::remove_file(server.file(&path)).unwrap(),
            _ => fs::File::options()
                .write(true)
                .open(server.file(&path))
                .and_then(|file| file.set_len(59_999))
                .unwrap(),
        }
        let answer = server.append(&path, 60_000, "", &content[60_000..]).await;
        assert_eq!(answer.status, 410, "{damage}: {}", answer.text());
        assert!(answer.text().contains("no longer there"), "{}", answer.text());
        assert_eq!(server.head(&path).await.status, 410);
        // Others go on.
        let other = server.create_with("", &content).await;
        assert_eq!(server.get(&other, "").await.content, content);
        server.stop().await;
    }
}

#[tokio::test]
async fn an_upload_is_not_lost_while_the_disk_is_away() {
    let content = pattern(1000);
    let server = TestServer::start().await;
    let path = server.create("Upload-Length: 1000\r\n").await;
    assert_eq!(server.append(&path, 0, "", &content[..600]).await.status, 204);
    let uploads = server.file(&path).ancestors().nth(2).unwrap().to_owned();
    let away = uploads.with_file_name("away");
    fs::rename(&uploads, &away).unwrap();
    fs::create_dir(&uploads).unwrap();
    assert_eq!(server.append(&path, 600, "", &content[600..]).await.status, 500);
    fs::remove_dir(&uploads).unwrap();
    fs::rename(&away, &uploads).unwrap();
    assert_eq!(server.append(&path, 600, "", &content[600..]).await.status, 204);
    assert_eq!(server.get(&path, "").await.content, content);
    server.stop().await;
}
