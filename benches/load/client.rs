//! One kept-alive HTTP/1.1 connection, and the few requests that the scenarios need.

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::payload::{Payload, wide};
use crate::{Outcome, refuse};

/// The field that says what the content of an append is.
pub(crate) const CONTENT: (&str, &str) = ("Content-Type", "application/offset+octet-stream");

/// The most that the client reads or writes at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Where uploads are created, in the parts that a connection and a request line need.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) authority: String,
    pub(crate) path: String,
}

impl Target {
    /// Reads an `http://` URL that names its port.
    pub(crate) fn parse(url: &str) -> Outcome<Self> {
        let uri: Uri = url.parse()?;
        let authority = uri.authority().ok_or("the URL has no host")?.to_string();
        Ok(Self { authority, path: uri.path().to_owned() })
    }

    /// The path of a `Location`, which may be a whole URL.
    fn path_of(location: &str) -> Outcome<String> {
        let uri: Uri = location.parse()?;
        Ok(uri.path().to_owned())
    }
}

/// The head of a response whose content was read and thrown away.
pub(crate) struct Answer {
    status: StatusCode,
    fields: HeaderMap,
}

impl Answer {
    pub(crate) fn expect(self, wanted: StatusCode, what: &str) -> Outcome<Self> {
        if self.status == wanted {
            return Ok(self);
        }
        refuse(format!("{what}: the status is {}, not {wanted}", self.status))
    }

    fn field(&self, name: &str) -> Outcome<&str> {
        let value = self.fields.get(name).ok_or_else(|| format!("the answer has no {name}"))?;
        Ok(value.to_str()?)
    }

    fn offset(&self) -> Outcome<u64> {
        Ok(self.field("upload-offset")?.parse()?)
    }
}

/// A connection that is opened anew when the server has closed it.
pub(crate) struct Connection {
    target: Target,
    sender: SendRequest<Payload>,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> Outcome<Self> {
        let stream = TcpStream::connect(&target.authority).await?;
        stream.set_nodelay(true)?;
        let mut builder = Builder::new();
        builder.max_buf_size(BUFFER_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // It ends with its sender.
        tokio::spawn(connection);
        Ok(Self { target: target.clone(), sender })
    }

    /// Several connections to the same server.
    pub(crate) async fn open_all(target: &Target, count: usize) -> Outcome<Vec<Self>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(Self::open(target).await?);
        }
        Ok(connections)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        content: Payload,
    ) -> Outcome<Response<Incoming>> {
        if self.sender.ready().await.is_err() {
            *self = Self::open(&self.target.clone()).await?;
            self.sender.ready().await?;
        }
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(HOST, &self.target.authority).header("Tus-Resumable", "1.0.0");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        Ok(self.sender.send_request(request.body(content)?).await?)
    }

    /// Sends a request, and throws away the content of its answer.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        content: Payload,
    ) -> Outcome<Answer> {
        let (head, mut content) = self.send(method, path, fields, content).await?.into_parts();
        while let Some(frame) = content.frame().await {
            frame?;
        }
        Ok(Answer { status: head.status, fields: head.headers })
    }

    /// Creates an upload of this length, and returns its path.
    pub(crate) async fn create(&mut self, length: u64) -> Outcome<String> {
        let length = length.to_string();
        self.post(&[("Upload-Length", &length)], Payload::empty(), "POST").await
    }

    /// Creates an upload and sends it whole, in one request.
    pub(crate) async fn create_with(&mut self, pattern: &Bytes, length: u64) -> Outcome<String> {
        let text = length.to_string();
        let content = Payload::new(pattern, 0, length);
        let path = self.target.path.clone();
        let fields = [("Upload-Length", text.as_str()), CONTENT];
        let answer = self.request(Method::POST, &path, &fields, content).await?;
        let answer = answer.expect(StatusCode::CREATED, "POST with content")?;
        if answer.offset()? != length {
            return refuse("POST with content: the server did not take it".to_owned());
        }
        Target::path_of(answer.field("location")?)
    }

    /// Creates an upload as these fields tell, and returns its path.
    pub(crate) async fn post(
        &mut self,
        fields: &[(&str, &str)],
        content: Payload,
        what: &str,
    ) -> Outcome<String> {
        let path = self.target.path.clone();
        let answer = self.request(Method::POST, &path, fields, content).await?;
        Target::path_of(answer.expect(StatusCode::CREATED, what)?.field("location")?)
    }

    /// Appends the bytes of the pattern that belong at this offset.
    pub(crate) async fn append(
        &mut self,
        path: &str,
        content: (&Bytes, u64, u64),
        checksum: Option<&str>,
    ) -> Outcome<()> {
        let (pattern, offset, length) = content;
        let text = offset.to_string();
        let mut fields = vec![("Upload-Offset", text.as_str()), CONTENT];
        fields.extend(checksum.map(|checksum| ("Upload-Checksum", checksum)));
        let content = Payload::new(pattern, offset, length);
        let answer = self.request(Method::PATCH, path, &fields, content).await?;
        let told = answer.expect(StatusCode::NO_CONTENT, "PATCH")?.offset()?;
        if told != offset + length {
            return refuse(format!("PATCH: the offset is {told}, not {}", offset + length));
        }
        Ok(())
    }

    /// Stores a whole file where the server is no tus server.
    pub(crate) async fn put(&mut self, path: &str, pattern: &Bytes, length: u64) -> Outcome<()> {
        let content = Payload::new(pattern, 0, length);
        let answer = self.request(Method::PUT, path, &[], content).await?;
        answer.expect(StatusCode::CREATED, "PUT")?;
        Ok(())
    }

    /// The offset of an upload.
    pub(crate) async fn head(&mut self, path: &str) -> Outcome<u64> {
        let answer = self.request(Method::HEAD, path, &[], Payload::empty()).await?;
        answer.expect(StatusCode::OK, "HEAD")?.offset()
    }

    /// Fetches a file or one range of it, shows the first piece, and returns the length.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        range: Option<(u64, u64)>,
        first: impl FnOnce(&[u8]) + Send,
    ) -> Outcome<u64> {
        let text = range.map(|(begin, end)| format!("bytes={begin}-{}", end - 1));
        let field = text.as_deref().map(|text| ("Range", text));
        let sent = self.send(Method::GET, path, field.as_slice(), Payload::empty()).await?;
        let wanted = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        if sent.status() != wanted {
            return refuse(format!("GET: the status is {}, not {wanted}", sent.status()));
        }
        let mut content = sent.into_body();
        let (mut length, mut first) = (0, Some(first));
        while let Some(frame) = content.frame().await {
            if let Some(piece) = frame?.data_ref() {
                if let Some(first) = first.take() {
                    first(piece);
                }
                length += wide(piece.len());
            }
        }
        Ok(length)
    }
}
