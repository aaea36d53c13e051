//! Clients that upload, and that remember what they were told and how long the trace was by then.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use resumed::protocol::checksum::{Algorithm, Checksummer};
use serde::{Deserialize, Serialize};

use crate::program::{Answer, PATIENCE, Random, Slow, append, content, create_with, request};

/// What a client was told, or asked for.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub enum Fact {
    Created,
    Offset(u64),
    Complete,
    /// It may be gone from here on,
    AskedToCancel,
    /// and is from here on.
    Cancelled,
}

/// An upload as its client knows it.
#[derive(Clone, Deserialize, Serialize)]
pub struct Upload {
    pub path: String,
    /// Its content: where each piece begins in the endless content that all share, and its length.
    pieces: Vec<(u64, u64)>,
    is_deferred: bool,
    /// The parts of a final upload, by their places in the list.
    parts: Vec<usize>,
    /// Each with the length of the trace when it was known; an asking, before it was sent.
    facts: Vec<(u64, Fact)>,
}

impl Upload {
    fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|(first, length)| content(*first, *length)).collect()
    }

    pub fn length(&self) -> u64 {
        self.pieces.iter().map(|(_, length)| length).sum()
    }

    pub fn told(&self, fact: Fact) -> bool {
        self.facts.iter().any(|(_, told)| *told == fact)
    }

    pub fn offset(&self) -> u64 {
        let offset = |(_, fact): &(u64, Fact)| match fact {
            Fact::Offset(offset) => Some(*offset),
            _ => None,
        };
        self.facts.iter().filter_map(offset).max().unwrap_or(0)
    }
}

pub struct Client {
    pub random: Random,
    pub address: SocketAddr,
    pub trace: PathBuf,
    pub uploads: Vec<Upload>,
}

impl Client {
    /// What this client knew when the trace was so long.
    pub fn known_at(&self, point: u64) -> Vec<Upload> {
        let mut uploads = self.uploads.clone();
        for upload in &mut uploads {
            upload.facts.retain(|(at, _)| *at <= point);
            // It is all from before the trace that begins now.
            upload.facts.iter_mut().for_each(|(at, _)| *at = 0);
        }
        // They were created one after the other.
        uploads.retain(|upload| upload.told(Fact::Created));
        uploads
    }

    /// When it learned something.
    pub fn moments(&self) -> impl Iterator<Item = u64> {
        self.uploads.iter().flat_map(|upload| upload.facts.iter().map(|(at, _)| *at))
    }

    fn traced(&self) -> u64 {
        std::fs::metadata(&self.trace).unwrap().len()
    }

    /// What is true of an upload from now on.
    pub fn learn(&mut self, index: usize, fact: Fact) {
        let now = self.traced();
        self.uploads[index].facts.push((now, fact));
    }

    /// One thing that a client does.
    pub fn step(&mut self) -> io::Result<()> {
        let is_open =
            |upload: &Upload| upload.parts.is_empty() && upload.offset() < upload.length();
        let open: Vec<usize> = (0..self.uploads.len())
            .filter(|index| {
                let upload = &self.uploads[*index];
                is_open(upload) && !upload.told(Fact::AskedToCancel)
            })
            .collect();
        let all: Vec<usize> = (0..self.uploads.len()).collect();
        match self.random.below(20) {
            0 if !self.uploads.is_empty() => {
                let index = *self.random.one_of(&all);
                self.cancel(index)
            }
            1 if !self.uploads.is_empty() => {
                let index = *self.random.one_of(&all);
                self.ask(index).map(drop)
            }
            2 => self.concatenate(),
            3 => self.announced(),
            number if number < 10 || open.is_empty() => self.create("").map(drop),
            _ => {
                let index = *self.random.one_of(&open);
                self.bring_on(index)
            }
        }
    }

    /// Creates an upload, some with content, some of a length that is not told yet.
    fn create(&mut self, fields: &str) -> io::Result<usize> {
        let longest = *self.random.one_of(&[3_000, 20_000, 20_000, 100_000, 1_500_000]);
        let length = self.random.below(longest) + 1;
        let is_deferred = self.random.below(5) == 0;
        let mut fields = fields.to_owned();
        if self.random.below(3) == 0 {
            fields +=
                &format!("Upload-Metadata: name {}\r\n", STANDARD.encode(content(length, 40)));
        }
        let sent = if self.random.below(2) == 0 { 0 } else { self.random.below(length + 1) };
        self.create_with(&fields, length, is_deferred, sent)
    }

    /// Creates an upload of this length with this many of its bytes.
    pub fn create_with(
        &mut self,
        fields: &str,
        length: u64,
        is_deferred: bool,
        sent: u64,
    ) -> io::Result<usize> {
        let first = self.random.below(1 << 40);
        let told = match is_deferred {
            true => "Upload-Defer-Length: 1".to_owned(),
            false => format!("Upload-Length: {length}"),
        };
        let fields = format!("{fields}{told}\r\n");
        let answer = match sent {
            0 => request(self.address, ("POST", "/files/"), &fields, b"")?,
            _ => create_with(self.address, &fields, &content(first, sent))?,
        };
        let answer = answer.expect(&[201])?;
        self.uploads.push(Upload {
            path: answer.path(),
            pieces: vec![(first, length)],
            is_deferred,
            parts: Vec::new(),
            facts: Vec::new(),
        });
        let index = self.uploads.len() - 1;
        self.learn(index, Fact::Created);
        self.learn_offset(index, &answer);
        Ok(index)
    }

    /// Creates an upload by the IETF protocol: its URL is told before its content is sent, and, when
    /// that takes long, how far it is safe.
    fn announced(&mut self) -> io::Result<()> {
        let length = self.random.below(100_000) + 2;
        let first = self.random.below(1 << 40);
        let bytes = content(first, length);
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        let mut connection = Slow::open(self.address)?;
        let head = format!(
            "POST /files/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
             Upload-Draft-Interop-Version: 8\r\nUpload-Complete: ?1\r\n\r\n"
        );
        connection.send(head.as_bytes())?;
        let path = connection.head()?.expect(&[104])?.path();
        let (pieces, parts) = (vec![(first, length)], Vec::new());
        self.uploads.push(Upload { path, pieces, is_deferred: false, parts, facts: Vec::new() });
        let index = self.uploads.len() - 1;
        self.learn(index, Fact::Created);
        connection.send(half)?;
        if self.random.below(10) == 0 {
            let told = connection.head()?.expect(&[104])?;
            self.learn_offset(index, &told);
        }
        connection.send(rest)?;
        loop {
            let told = connection.head()?.expect(&[104, 201])?;
            self.learn_offset(index, &told);
            if told.status == 201 {
                self.learn(index, Fact::Offset(length));
                self.learn(index, Fact::Complete);
                return Ok(());
            }
        }
    }

    fn learn_offset(&mut self, index: usize, answer: &Answer) {
        if let Some(offset) = answer.offset() {
            self.learn(index, Fact::Offset(offset));
        }
    }

    /// Cancels an upload.
    pub fn cancel(&mut self, index: usize) -> io::Result<()> {
        self.learn(index, Fact::AskedToCancel);
        let path = self.uploads[index].path.clone();
        let answer = request(self.address, ("DELETE", &path), "", b"")?;
        answer.expect(&[204, 404, 410])?;
        self.learn(index, Fact::Cancelled);
        Ok(())
    }

    /// Asks for the offset.
    pub fn ask(&mut self, index: usize) -> io::Result<Answer> {
        let path = self.uploads[index].path.clone();
        let answer = request(self.address, ("HEAD", &path), "", b"")?;
        if answer.status == 200 {
            self.learn_offset(index, &answer);
        }
        Ok(answer)
    }

    /// Sends a piece of what is missing, some under a checksum.
    fn bring_on(&mut self, index: usize) -> io::Result<()> {
        let most = self.uploads[index].length() - self.uploads[index].offset();
        let count = self.random.below(most) + 1;
        let count = if self.random.below(2) == 0 { most } else { count };
        self.send(index, count)?.expect(&[204]).map(drop)
    }

    /// Sends the next bytes of an upload.
    pub fn send(&mut self, index: usize, count: u64) -> io::Result<Answer> {
        let upload = &self.uploads[index];
        let (begin, length) = (upload.offset(), upload.length());
        let end = begin + count;
        let (from, to) = (usize::try_from(begin).unwrap(), usize::try_from(end).unwrap());
        let bytes = &upload.bytes()[from..to];
        let mut fields = String::new();
        if upload.is_deferred && end == length {
            fields += &format!("Upload-Length: {length}\r\n");
        }
        if self.random.below(3) == 0 {
            let mut checksummer = Checksummer::new(Algorithm::Sha1);
            checksummer.update(bytes);
            let digest = STANDARD.encode(checksummer.finish().digest());
            fields += &format!("Upload-Checksum: sha1 {digest}\r\n");
        }
        let answer = append(self.address, (&upload.path, begin), &fields, bytes)?;
        self.learn_offset(index, &answer);
        if answer.status == 204 {
            assert_eq!(answer.offset(), Some(end), "{}", answer.text());
            if end == length {
                self.learn(index, Fact::Complete);
            }
        }
        Ok(answer)
    }

    /// Joins two new uploads, sometimes before they are complete.
    fn concatenate(&mut self) -> io::Result<()> {
        let one = self.create("Upload-Concat: partial\r\n")?;
        let two = self.create("Upload-Concat: partial\r\n")?;
        let is_early = self.random.below(2) == 0;
        if !is_early {
            self.finish(one)?;
        }
        self.finish(two)?;
        let index = self.join(one, two)?;
        if is_early {
            self.finish(one)?;
        }
        // It can be read at once, or when it is asked for.
        if self.ask(index)?.offset() == Some(self.uploads[index].length()) {
            self.learn(index, Fact::Complete);
        }
        Ok(())
    }

    /// Creates a final upload of these two.
    pub fn join(&mut self, one: usize, two: usize) -> io::Result<usize> {
        let (first, second) = (&self.uploads[one], &self.uploads[two]);
        let fields = format!("Upload-Concat: final;{} {}\r\n", first.path, second.path);
        let pieces = [first.pieces.clone(), second.pieces.clone()].concat();
        let answer = request(self.address, ("POST", "/files/"), &fields, b"")?;
        let (path, parts) = (answer.expect(&[201])?.path(), vec![one, two]);
        self.uploads.push(Upload { path, pieces, is_deferred: false, parts, facts: Vec::new() });
        let index = self.uploads.len() - 1;
        self.learn(index, Fact::Created);
        Ok(index)
    }

    pub fn finish(&mut self, index: usize) -> io::Result<()> {
        let rest = self.uploads[index].length() - self.uploads[index].offset();
        if rest > 0 || self.uploads[index].is_deferred {
            self.send(index, rest)?.expect(&[204])?;
        }
        self.learn(index, Fact::Complete);
        Ok(())
    }

    /// Whether all is there that this client was told. What is unfinished is finished.
    ///
    /// # Errors
    ///
    /// What is lost.
    pub fn check(&mut self) -> Result<(), String> {
        for index in 0..self.uploads.len() {
            let path = self.uploads[index].path.clone();
            self.check_one(index).map_err(|what| format!("{path}: {what}"))?;
        }
        Ok(())
    }

    fn check_one(&mut self, index: usize) -> Result<(), String> {
        let before = self.uploads[index].clone();
        let io = |error: io::Error| error.to_string();
        let head = self.ask(index).map_err(io)?;
        let may_be_gone = before.told(Fact::AskedToCancel);
        match head.status {
            404 | 410 if may_be_gone => {
                self.learn(index, Fact::Cancelled);
                return Ok(());
            }
            _ if before.told(Fact::Cancelled) => return Err(format!("came back: {}", head.text())),
            200 => {}
            _ => return Err(format!("is lost: {}", head.text())),
        }
        if before.parts.is_empty() {
            let offset = head.offset().ok_or("has no offset")?;
            if offset < before.offset() || offset > before.length() {
                return Err(format!("was at {}, is at {offset}", before.offset()));
            }
            let is_deferred = head.field("upload-defer-length").is_some();
            let is_complete = offset == before.length() && !is_deferred;
            if before.told(Fact::Complete) && !is_complete {
                return Err("is no longer complete".to_owned());
            }
            self.uploads[index].is_deferred = is_deferred;
            if !is_complete {
                let rest = before.length() - offset;
                self.send(index, rest).and_then(|answer| answer.expect(&[204])).map_err(io)?;
            }
        } else if !self.wait_until_joined(index)? {
            return Ok(());
        }
        self.learn(index, Fact::Complete);
        let got = request(self.address, ("GET", &before.path), "", b"").map_err(io)?;
        match got.status {
            200 if got.content == before.bytes() => Ok(()),
            200 => Err(format!("has other bytes{}", differs(&got.content, &before.bytes()))),
            _ => Err(format!("cannot be read: {}", got.text())),
        }
    }

    /// Whether the final upload is complete; it need not be when a part of it may be gone.
    fn wait_until_joined(&mut self, index: usize) -> Result<bool, String> {
        let upload = self.uploads[index].clone();
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let head = self.ask(index).map_err(|error| error.to_string())?;
            if head.offset() == Some(upload.length()) {
                return Ok(true);
            }
            if upload.told(Fact::Complete) {
                return Err(format!("is no longer complete: {}", head.text()));
            }
            if upload.parts.iter().any(|part| self.uploads[*part].told(Fact::AskedToCancel)) {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err("is never complete".to_owned())
    }
}

/// Where bytes differ.
fn differs(got: &[u8], wanted: &[u8]) -> String {
    let first = got.iter().zip(wanted).position(|(got, wanted)| got != wanted);
    let count = got.iter().zip(wanted).filter(|(got, wanted)| got != wanted).count();
    format!(": {} of {} bytes, {count} differ, the first at {first:?}", got.len(), wanted.len())
}
