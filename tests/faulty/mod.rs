//! A tus server that keeps what it is sent, and does wrong what a test wants it to; and `put` as a
//! process against it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

#[path = "../listening/mod.rs"]
mod listening;

use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use self::listening::{Head, Listening};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub head: Head,
    /// The number of requests with this method before this one.
    pub before: usize,
}

impl Deref for Asked {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Asked {
    pub fn number(&self, name: &str) -> usize {
        self.field(name).parse().unwrap()
    }
}

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection ends after so much content, which is kept.
    Cut(usize),
    /// Nothing is read any more after so much content, which is kept.
    Stall(usize),
    /// It is done, and the connection ends without an answer.
    Unheard,
    /// This is answered in place of doing it, and the content is not read.
    Answer(&'static str),
    /// It is done, and another offset is told.
    Lie(usize),
}

#[derive(Clone, Debug, Default)]
pub struct Upload {
    pub fields: HashMap<String, String>,
    pub length: Option<usize>,
    pub content: Vec<u8>,
    pub is_gone: bool,
}

type Uploads = Arc<Mutex<Vec<Upload>>>;
type Script = dyn Fn(&Asked) -> Fault + Send + Sync;

pub struct Faulty {
    listening: Listening,
    pub uploads: Uploads,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Deref for Faulty {
    type Target = Listening;

    fn deref(&self) -> &Listening {
        &self.listening
    }
}

struct Shared {
    uploads: Uploads,
    asked: Arc<Mutex<Vec<Asked>>>,
    extensions: &'static str,
    /// What stands before the path in `Location`.
    origin: String,
    script: Box<Script>,
}

pub const ALL: &str = "creation,creation-defer-length,concatenation,termination";

impl Faulty {
    pub async fn start(script: impl Fn(&Asked) -> Fault + Send + Sync + 'static) -> Self {
        Self::start_with((ALL, String::new()), script).await
    }

    /// One with these extensions, and with this origin in `Location`.
    pub async fn start_with(
        (extensions, origin): (&'static str, String),
        script: impl Fn(&Asked) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let (uploads, asked) = (Uploads::default(), Arc::default());
        let script = Box::new(script);
        let shared = Arc::new(Shared {
            uploads: Arc::clone(&uploads),
            asked: Arc::clone(&asked),
            extensions,
            origin,
            script,
        });
        let listening = Listening::start(move |stream, _| {
            let shared = Arc::clone(&shared);
            async move { Box::pin(talk(stream, &shared)).await }
        });
        Self { listening: listening.await, uploads, asked }
    }

    pub fn url(&self) -> String {
        format!("http://{}/files/", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// The methods of all requests so far.
    pub fn methods(&self) -> String {
        let asked = self.asked.lock();
        asked.iter().map(|asked| asked.method.as_str()).collect::<Vec<_>>().join(" ")
    }

    pub fn upload(&self, number: usize) -> Upload {
        self.uploads.lock()[number].clone()
    }
}

async fn talk(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut unread = Vec::new();
    loop {
        let Some(asked) = head(&mut stream, &mut unread, shared).await? else { return Ok(()) };
        let fault = (shared.script)(&asked);
        let length: usize = asked.field("content-length").parse().unwrap_or(0);
        if let Fault::Answer(answer) = fault {
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await?;
            if length > 0 {
                // What is not read would be taken for the next request.
                let mut rest = [0; 65536];
                while stream.read(&mut rest).await? > 0 {}
                return Ok(());
            }
            continue;
        }
        let number = asked.target.rsplit('/').next().unwrap().parse().ok();
        let (offset, is_append) =
            (asked.field("upload-offset").parse().ok(), asked.method == "PATCH");
        let is_at_offset = is_append
            && number.zip(offset).is_some_and(|(number, offset): (usize, usize)| {
                let uploads = shared.uploads.lock();
                uploads
                    .get(number)
                    .is_some_and(|upload| !upload.is_gone && upload.content.len() == offset)
            });
        let most = match fault {
            Fault::Cut(most) | Fault::Stall(most) => most.min(length),
            _ => length,
        };
        let mut taken = 0;
        while taken < most {
            if unread.is_empty() && stream.read_buf(&mut unread).await? == 0 {
                return Ok(());
            }
            let piece: Vec<u8> = unread.drain(..unread.len().min(most - taken)).collect();
            taken += piece.len();
            if is_at_offset {
                shared.uploads.lock()[number.unwrap()].content.extend(piece);
            }
        }
        match fault {
            Fault::Cut(_) => return Ok(()),
            Fault::Stall(_) => std::future::pending().await,
            _ => {}
        }
        let mut answer = answer(&asked, number, is_at_offset, shared);
        if let Fault::Unheard = fault {
            return Ok(());
        }
        if let Fault::Lie(offset) = fault {
            let lines = answer.split("\r\n").filter(|line| !line.starts_with("Upload-Offset"));
            answer = lines.collect::<Vec<_>>().join("\r\n");
            answer = answer.replacen("\r\n", &format!("\r\nUpload-Offset: {offset}\r\n"), 1);
        }
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn head(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
    shared: &Shared,
) -> std::io::Result<Option<Asked>> {
    let Some(head) = Head::read(stream, unread).await? else { return Ok(None) };
    let mut log = shared.asked.lock();
    let before = log.iter().filter(|asked| asked.method == head.method).count();
    let asked = Asked { head, before };
    log.push(asked.clone());
    Ok(Some(asked))
}

fn answer(asked: &Asked, number: Option<usize>, is_at_offset: bool, shared: &Shared) -> String {
    const NONE: &str = "Content-Length: 0\r\n\r\n";
    let mut uploads = shared.uploads.lock();
    match asked.method.as_str() {
        "OPTIONS" => {
            let extensions = shared.extensions;
            return format!("HTTP/1.1 200 OK\r\nTus-Extension: {extensions}\r\n{NONE}");
        }
        "POST" => {
            if asked.fields.contains_key("upload-defer-length")
                && !shared.extensions.contains("defer")
            {
                return format!("HTTP/1.1 400 Bad Request\r\n{NONE}");
            }
            let mut upload = Upload { fields: asked.fields.clone(), ..Upload::default() };
            upload.length = asked.field("upload-length").parse().ok();
            if let Some(parts) = asked.field("upload-concat").strip_prefix("final;") {
                for part in parts.split(' ') {
                    let number: usize = part.rsplit('/').next().unwrap().parse().unwrap();
                    upload.content.extend(uploads[number].content.clone());
                }
                upload.length = Some(upload.content.len());
            }
            uploads.push(upload);
            let location = format!("{}/files/{}", shared.origin, uploads.len() - 1);
            return format!("HTTP/1.1 201 Created\r\nLocation: {location}\r\n{NONE}");
        }
        _ => {}
    }
    let upload = number.and_then(|number| uploads.get_mut(number)).filter(|upload| !upload.is_gone);
    let Some(upload) = upload else { return format!("HTTP/1.1 404 Not Found\r\n{NONE}") };
    match asked.method.as_str() {
        "DELETE" => {
            upload.is_gone = true;
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
        }
        "PATCH" if !is_at_offset => format!("HTTP/1.1 409 Conflict\r\n{NONE}"),
        _ => {
            if let Ok(length) = asked.field("upload-length").parse() {
                upload.length = Some(length);
            }
            let length = upload
                .length
                .map_or(String::new(), |length| format!("Upload-Length: {length}\r\n"));
            let status = if asked.method == "PATCH" { "204 No Content" } else { "200 OK" };
            format!("HTTP/1.1 {status}\r\nUpload-Offset: {}\r\n{length}\r\n", upload.content.len())
        }
    }
}

/// How `put` ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub output: String,
    pub errors: String,
}

/// `put` with these arguments, with its state in this folder and nothing else of the environment.
pub fn command(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resumed"));
    command.arg("put").args(arguments).env_clear().env("XDG_STATE_HOME", state);
    command.stdin(Stdio::null());
    command
}

/// Runs `put` to its end, with this on its standard input.
pub async fn put(state: &Path, arguments: &[&str], input: Option<Vec<u8>>) -> Ended {
    let mut command = command(state, arguments);
    let ended = spawn_blocking(move || {
        let piped = input.is_some();
        command.stdin(if piped { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            std::thread::spawn(move || {
                // It may fail before it has read all.
                let _ = std::io::Write::write_all(&mut stdin, &input);
            });
        }
        child.wait_with_output().unwrap()
    });
    let ended = ended.await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = ended.status.code().unwrap();
    Ended { code, output: text(ended.stdout), errors: text(ended.stderr) }
}

/// Bytes that differ everywhere, the same ones each time.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0]).collect()
}
