//! `get` over TLS from a server that vouches for itself. The keys were made for these tests.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod liar;

use std::fs;
use std::sync::Arc;

use liar::listening::Listening;
use liar::run::{errors, run_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A server with this certificate and key, which answers anything with a word.
async fn start(pem: &str) -> Listening {
    let certificate = CertificateDer::from_pem_file(pem).unwrap();
    let key = PrivateKeyDer::from_pem_file(pem).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Listening::start(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await?;
            let _head = stream.read(&mut [0; 4096]).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontent").await?;
            stream.shutdown().await
        }
    })
    .await
}

const OTHERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/liar/authority.pem");
const SELF_SIGNED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/liar/self-signed.pem");
/// What `openssl req -x509` makes.
const AUTHORITY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/liar/self-signed-authority.pem");

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_refused_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = [("SSL_CERT_FILE", OTHERS)];
    for (pem, flags, words) in [
        (SELF_SIGNED, &[][..], "--ca-file names an authority"),
        (AUTHORITY, &["--ca-file", AUTHORITY], "basicConstraints=CA:FALSE"),
    ] {
        let server = start(pem).await;
        let url = format!("https://{}/x", server.address);
        let output = run_with(folder.path(), &trusted, &[&["get", &url], flags].concat()).await;
        assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
        assert!(errors(&output).contains(words), "{}", errors(&output));
        assert_eq!(errors(&output).lines().count(), 1, "{}", errors(&output));
    }
    let server = start(SELF_SIGNED).await;
    let url = format!("https://{}/x", server.address);
    let output = run_with(folder.path(), &trusted, &["get", "--ca-file", SELF_SIGNED, &url]).await;
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(fs::read(folder.path().join("x")).unwrap(), b"content");
}
