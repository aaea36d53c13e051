//! The same upload, driven by tus and by each version of the IETF protocol and cut off at the same
//! places, ends in the same state.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Answer, CONTENT, TUS, TestServer, pattern};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::runtime::Runtime;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    Tus,
    Ietf(u8),
    /// Another one for each request.
    Both,
}

const CLIENTS: [Client; 7] = [
    Client::Tus,
    Client::Ietf(3),
    Client::Ietf(4),
    Client::Ietf(5),
    Client::Ietf(6),
    Client::Ietf(8),
    Client::Both,
];

/// One append: what of the rest it brings, and where its connection ends, in thousandths.
#[derive(Clone, Debug)]
struct Step {
    takes: usize,
    cut: Option<usize>,
    is_chunked: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (1..=1000_usize, proptest::option::of(0..1000_usize), any::<bool>());
    let step = step.prop_map(|(takes, cut, is_chunked)| Step { takes, cut, is_chunked });
    proptest::collection::vec(step, 0..6)
}

fn share(whole: usize, thousandths: usize) -> usize {
    whole * thousandths / 1000
}

impl Client {
    /// The client of a request; with `Both` they take turns.
    fn of_request(self, number: usize) -> Self {
        if self == Self::Both { CLIENTS[number % (CLIENTS.len() - 1)] } else { self }
    }

    fn creation(self, length: usize) -> String {
        match self {
            Self::Tus => format!(
                "{TUS}Upload-Length: {length}\r\n\
                 Upload-Metadata: filename YSBi,filetype dGV4dC9wbGFpbg==\r\n"
            ),
            Self::Both => unreachable!("a request is of one of them"),
            Self::Ietf(_) => format!(
                "{}{}Upload-Length: {length}\r\nContent-Type: text/plain\r\n\
                 Content-Disposition: inline; filename=\"a b\"\r\n",
                self.question(),
                self.completion(false),
            ),
        }
    }

    fn append(self, offset: usize, is_last: bool) -> String {
        let kind = match self {
            Self::Tus => CONTENT,
            Self::Ietf(6..) => "Content-Type: application/partial-upload\r\n",
            Self::Ietf(_) | Self::Both => "",
        };
        let (question, completion) = (self.question(), self.completion(is_last));
        format!("{question}{kind}{completion}Upload-Offset: {offset}\r\n")
    }

    fn completion(self, is_last: bool) -> &'static str {
        match (self, is_last) {
            (Self::Tus | Self::Both, _) => "",
            (Self::Ietf(3), true) => "Upload-Incomplete: ?0\r\n",
            (Self::Ietf(3), false) => "Upload-Incomplete: ?1\r\n",
            (Self::Ietf(_), true) => "Upload-Complete: ?1\r\n",
            (Self::Ietf(_), false) => "Upload-Complete: ?0\r\n",
        }
    }

    fn question(self) -> String {
        match self {
            Self::Tus | Self::Both => TUS.to_owned(),
            Self::Ietf(version) => format!("Upload-Draft-Interop-Version: {version}\r\n"),
        }
    }
}

async fn send(server: &TestServer, path: &str, fields: &str, (bytes, step): (&[u8], &Step)) {
    let mut connection = server.connect().await;
    let framing = if step.is_chunked {
        "Transfer-Encoding: chunked\r\n".to_owned()
    } else {
        format!("Content-Length: {}\r\n", bytes.len())
    };
    connection.send(format!("PATCH {path} HTTP/1.1\r\nHost: h\r\n{framing}{fields}\r\n")).await;
    let sent = &bytes[..share(bytes.len(), step.cut.unwrap_or(1000))];
    if step.is_chunked && !sent.is_empty() {
        connection.send(format!("{:x}\r\n", sent.len())).await;
    }
    connection.send(sent).await;
    if step.cut.is_some() {
        return;
    }
    if step.is_chunked {
        connection.send(if sent.is_empty() { "0\r\n\r\n" } else { "\r\n0\r\n\r\n" }).await;
    }
    let answer = connection.answer("PATCH").await;
    // 409: the server saw the head of a request that was cut off only now.
    assert!(answer.status < 300 || answer.status == 409, "{}", answer.text());
}

/// Uploads the bytes and returns how the upload is told by GET, and by a HEAD of either protocol.
async fn upload(
    server: &TestServer,
    client: Client,
    (bytes, steps): (&[u8], &[Step]),
) -> (Answer, Answer, Answer) {
    let fields = client.of_request(0).creation(bytes.len());
    let answer = server.request("POST", "/files/", &fields, b"").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let location = &answer.fields["location"];
    let path = location[location.find("/files/").unwrap()..].to_owned();
    let last = Step { takes: 1000, cut: None, is_chunked: false };
    let mut before = 0;
    for (number, step) in (1..).zip(steps.iter().chain([&last; 10])) {
        let client = client.of_request(number);
        let head = server.request("HEAD", &path, &client.question(), b"").await;
        let offset: usize = head.fields["upload-offset"].parse().unwrap();
        assert!(
            before <= offset && offset <= bytes.len(),
            "the offset went back: {before} {offset}"
        );
        before = offset;
        let state = server.request("HEAD", &path, "", b"").await;
        if state.fields["upload-complete"] == "?1" {
            break;
        }
        let rest = &bytes[offset..];
        let taken = &rest[..share(rest.len(), step.takes)];
        let is_last = taken.len() == rest.len();
        send(server, &path, &client.append(offset, is_last), (taken, step)).await;
    }
    let heads = [TUS, "Upload-Draft-Interop-Version: 8\r\n"];
    let tus = server.request("HEAD", &path, heads[0], b"").await;
    let ietf = server.request("HEAD", &path, heads[1], b"").await;
    (server.get(&path, "").await, tus, ietf)
}

/// What has to be the same of two uploads.
fn comparable(mut answer: Answer) -> (u16, Vec<(String, String)>, Vec<u8>) {
    for varying in ["date", "last-modified"] {
        answer.fields.remove(varying);
    }
    let mut fields: Vec<_> = answer.fields.into_iter().collect();
    fields.sort();
    (answer.status, fields, answer.content)
}

#[test]
fn an_upload_ends_in_the_same_state_in_every_protocol_wherever_it_was_cut() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(TestServer::start());
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, ..ProptestConfig::default() });
    let plans = (prop_oneof![Just(0), 1..20_usize, 1..400_000_usize], steps());
    let result = runner.run(&plans, |(length, steps)| {
        let bytes = pattern(length);
        let mut first = None;
        for client in CLIENTS {
            let (get, tus, ietf) = runtime.block_on(upload(&server, client, (&bytes, &steps)));
            prop_assert_eq!(&get.content, &bytes, "{:?}", client);
            prop_assert_eq!(&get.fields["upload-complete"], "?1");
            let told = [get, tus, ietf].map(comparable);
            let expected = first.get_or_insert_with(|| told.clone());
            prop_assert_eq!(&told, expected, "{:?}", client);
        }
        Ok(())
    });
    result.unwrap();
    runtime.block_on(server.stop());
}
