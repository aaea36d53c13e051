//! The way to a server: names, addresses, proxies and TLS, to a stream that HTTP/1.1 can be spoken
//! on.
//!
//! Proxies come from `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, read as curl reads
//! them: plain HTTP and SOCKS5. TLS trusts whom the system trusts (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` change that), and the certificates of `--ca-file`.
//!
//! - RFC 9110 §9.3.6 (CONNECT), RFC 9112 §3.2.2 (absolute-form, for plain HTTP by a proxy)

use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};
use tower_service::Service;
use url::Url;

use super::blocking::blocking;
use super::failure::{Failure, shown};
use super::gather::{Expected, Gathered, Gathering};

/// A connection's bytes, both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream to a server, or to a proxy that passes requests on.
pub(super) struct Way {
    pub(super) stream: Box<dyn Stream>,
    /// Present when requests go to a proxy that reads them, in absolute form.
    pub(super) proxy: Option<ForwardProxy>,
    /// To be told how much is to come.
    pub(super) expected: Expected,
}

/// A proxy that passes plain HTTP requests on.
#[derive(Clone, Debug)]
pub(super) struct ForwardProxy {
    pub(super) authorization: Option<HeaderValue>,
}

/// Opens ways to servers.
pub(super) struct Dialer {
    connector: HttpConnector,
    proxies: Matcher,
    ca_file: Option<PathBuf>,
    tls: OnceCell<TlsConnector>,
    patience: Duration,
    /// The hosts to which there was a connection, so that their names are right ones.
    reached: Mutex<HashSet<String>>,
}

impl Dialer {
    /// A dialer that gives up on an attempt after `patience`.
    pub(super) fn new(patience: Duration, ca_file: Option<PathBuf>) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(patience));
        let (proxies, tls) = (Matcher::from_env(), OnceCell::new());
        Self { connector, proxies, ca_file, tls, patience, reached: Mutex::default() }
    }

    /// A new stream to where the URL points.
    ///
    /// # Errors
    /// A transient failure of the network, or a proxy or certificate that cannot be used.
    pub(super) async fn dial(&self, url: &Url) -> Result<Way, Failure> {
        match timeout(self.patience, self.dial_for_ever(url)).await {
            Ok(way) => way,
            Err(_) => {
                let after = self.patience;
                let url = shown(url);
                Err(Failure::broken_answer(format!("no connection to {url} within {after:?}")))
            }
        }
    }

    async fn dial_for_ever(&self, url: &Url) -> Result<Way, Failure> {
        let target = uri_of(url)?;
        let is_tls = url.scheme() == "https";
        let Some(proxy) = self.proxies.intercept(&target) else {
            let names = host_of(&target);
            let stream = self.call(self.connector.clone(), target, (&names, url)).await?;
            return self.finish(stream, is_tls, url).await;
        };
        let connector = self.connector.clone();
        let names = host_of(proxy.uri());
        match proxy.uri().scheme_str() {
            Some("http") | None if is_tls => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
                if let Some(authorization) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                let stream = self.call(tunnel, target, (&names, url)).await?;
                self.finish(stream, is_tls, url).await
            }
            Some("http") | None => {
                let stream = self.call(connector, proxy.uri().clone(), (&names, url)).await?;
                let authorization = proxy.basic_auth().cloned();
                let proxy = Some(ForwardProxy { authorization });
                let expected = stream.reader().expected();
                Ok(Way { stream: Box::new(stream), proxy, expected })
            }
            Some("socks5" | "socks5h") => {
                let names = format!("{} or {names}", host_of(&target));
                let stream = self.call(socks(&proxy, connector), target, (&names, url)).await?;
                self.finish(stream, is_tls, url).await
            }
            Some(scheme) => Err(Failure::usage(format!(
                "the proxy in the environment is {scheme}://, which cannot be used: http and socks5 can"
            ))),
        }
    }

    /// A connection by `connector`, which asks for the addresses of these names.
    async fn call<C>(
        &self,
        mut connector: C,
        to: Uri,
        (names, url): (&str, &Url),
    ) -> Result<Gathered, Failure>
    where
        C: Service<Uri, Response = TokioIo<TcpStream>>,
        C::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let failed = |error: C::Error| {
            let (error, shown) = (error.into(), shown(url));
            // One that was right a while ago is away for now, with a network of its own, say.
            if !is_unknown_name(&*error) || self.reached.lock().contains(names) {
                return Failure::network(format!("cannot connect to {shown}"), error);
            }
            let message = format!("cannot connect to {shown}: there is no host {names}");
            Failure::broken_answer(message).for_few_tries()
        };
        std::future::poll_fn(|context| connector.poll_ready(context)).await.map_err(failed)?;
        let stream = connector.call(to).await.map_err(failed)?.into_inner();
        self.reached.lock().insert(names.to_owned());
        Ok(Gathering::of(stream))
    }

    /// TLS on top where the URL asks for it.
    async fn finish(&self, stream: Gathered, is_tls: bool, url: &Url) -> Result<Way, Failure> {
        let expected = stream.reader().expected();
        if !is_tls {
            return Ok(Way { stream: Box::new(stream), proxy: None, expected });
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| {
            Failure::usage(format!("{} has no usable host: {error}", shown(url)))
        })?;
        let stream = self.tls().await?.connect(name, stream).await.map_err(|error| {
            // A certificate does not get better by asking again; a connection that was cut may.
            let is_refused = error.kind() == io::ErrorKind::InvalidData;
            let why = refused_certificate(&error).map_or(String::new(), |why| format!(": {why}"));
            let failure = Failure::network(format!("TLS with {} failed{why}", shown(url)), error);
            if is_refused { failure.for_good() } else { failure }
        })?;
        Ok(Way { stream: Box::new(stream), proxy: None, expected })
    }

    async fn tls(&self) -> Result<&TlsConnector, Failure> {
        let set_up = || {
            let ca_file = self.ca_file.clone();
            blocking(move || tls_connector(ca_file.as_deref()))
        };
        self.tls.get_or_try_init(set_up).await
    }
}

fn socks(proxy: &Intercept, connector: HttpConnector) -> SocksV5<HttpConnector> {
    let is_local = proxy.uri().scheme_str() == Some("socks5");
    let socks = SocksV5::new(proxy.uri().clone(), connector).local_dns(is_local);
    match proxy.raw_auth() {
        Some((user, password)) => socks.with_auth(user.to_owned(), password.to_owned()),
        None => socks,
    }
}

fn uri_of(url: &Url) -> Result<Uri, Failure> {
    let unusable = || Failure::usage(format!("{} is not an http:// or https:// URL", shown(url)));
    let (true, Some(host), Some(port)) =
        (matches!(url.scheme(), "http" | "https"), url.host_str(), url.port_or_known_default())
    else {
        return Err(unusable());
    };
    format!("{}://{host}:{port}/", url.scheme()).parse().map_err(|_| unusable())
}

/// Why a certificate was refused and what to do about it, where its error alone says neither.
fn refused_certificate(error: &io::Error) -> Option<&'static str> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(why) = error else { return None };
    match why {
        CertificateError::UnknownIssuer => Some(
            "nobody who is trusted here vouches for its certificate; --ca-file names an \
             authority, or the server's own certificate, to trust",
        ),
        // It is an error of rustls-webpki, which rustls passes on without its type.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            Some(
                "its certificate is one of an authority (CA:TRUE), which may sign others and is not \
             accepted as that of a server; give the server one made with openssl req -x509 \
             -addext basicConstraints=CA:FALSE, or one that the authority signed",
            )
        }
        _ => None,
    }
}

fn host_of(uri: &Uri) -> String {
    uri.host().unwrap_or_default().to_owned()
}

/// Whether the system knows for certain that a name has no address. The standard library tells that
/// by the text of the C library only, which is in English since nothing here asks for another
/// language. Any other text may be that of a name server that is away.
fn is_unknown_name(error: &(dyn Error + 'static)) -> bool {
    const TEXTS: [&str; 5] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
        "nodename nor servname provided, or not known",
    ];
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("failed to lookup address") && TEXTS.iter().any(|end| text.ends_with(end))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

fn tls_connector(ca_file: Option<&Path>) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    // Single certificates that cannot be read are common, and do no harm.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let pem = fs::read(path).map_err(|error| Failure::disk("read", path, error))?;
        let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| {
            Failure::usage(format!("{} is no PEM file: {error}", path.display()))
        })?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(Failure::usage(format!("{} has no usable certificate", path.display())));
        }
    }
    if roots.is_empty() {
        return Err(Failure::usage(
            "the system trusts no certificate authority; name one with --ca-file",
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::network("TLS cannot be set up", error).for_good())?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_that_is_away_knows_nothing_for_certain() {
        let told = |text: &str| {
            let error = io::Error::other(format!("failed to lookup address information: {text}"));
            is_unknown_name(&io::Error::other(error))
        };
        assert!(told("Name or service not known"));
        assert!(told("No address associated with hostname"));
        for passing in ["Temporary failure in name resolution", "Try again", "System error"] {
            assert!(!told(passing), "{passing}");
        }
        assert!(!is_unknown_name(&io::Error::other("Connection refused")));
    }
}
