//! Every interleaving of announcements with what hyper writes.

use http::StatusCode;
use proptest::prelude::*;

use super::*;

/// A peer that takes so many bytes and no more until it reads.
#[derive(Debug)]
struct Peer {
    unread: usize,
    capacity: usize,
    got: Vec<u8>,
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.capacity - self.unread);
        self.unread += count;
        self.got.extend_from_slice(&bytes[..count]);
        if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Writes as hyper does: messages into a buffer, and in each turn the buffer to the stream and
/// then a flush, if all of it went.
struct Hyper {
    stream: InterimStream<Peer>,
    buffer: Vec<u8>,
    line: InterimLine,
    requests: Vec<Interim>,
    is_running: bool,
}

impl Hyper {
    fn new(capacity: usize) -> Self {
        let line = InterimLine::default();
        let peer = Peer { unread: 0, capacity, got: Vec::new() };
        let stream = InterimStream::new(peer, line.clone());
        Self { stream, buffer: Vec::new(), line, requests: Vec::new(), is_running: false }
    }

    fn turn(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        while !self.buffer.is_empty() {
            match Pin::new(&mut self.stream).poll_write(&mut context, &self.buffer) {
                Poll::Ready(written) => drop(self.buffer.drain(..written.unwrap())),
                Poll::Pending => return,
            }
        }
        assert!(Pin::new(&mut self.stream).poll_flush(&mut context).is_ready());
    }

    fn step(&mut self, step: &Step) {
        let request = self.requests.len();
        match *step {
            Step::Request if !self.is_running => {
                self.requests.push(self.line.open(Version::HTTP_11));
                self.is_running = true;
            }
            Step::Continue if self.is_running => {
                self.buffer.extend_from_slice(format!("[100 {request}]").as_bytes());
            }
            Step::Answer if self.is_running => {
                self.requests.last().unwrap().close();
                self.buffer.extend_from_slice(format!("[200 {request}]").as_bytes());
                self.is_running = false;
            }
            Step::Announce { of } if !self.requests.is_empty() => {
                let of = of % self.requests.len();
                self.requests[of].announce(&head(0, of));
            }
            Step::Progress { of, number } if !self.requests.is_empty() => {
                let of = of % self.requests.len();
                self.requests[of].tell_progress(&head(number, of));
            }
            Step::Turn => self.turn(),
            Step::Read { bytes } => {
                let peer = &mut self.stream.stream;
                peer.unread = peer.unread.saturating_sub(bytes);
            }
            Step::Request | Step::Continue | Step::Answer => {}
            Step::Announce { .. } | Step::Progress { .. } => {}
        }
    }

    /// What the peer gets in the end, a line a message.
    fn finish(mut self) -> Vec<String> {
        for _ in 0..10_000 {
            self.step(&Step::Read { bytes: usize::MAX });
            self.turn();
        }
        let got = String::from_utf8(self.stream.stream.got).unwrap();
        let got = got.replace("HTTP/1.1 104 Upload Resumption Supported\r\nn: ", "[104 ");
        let got = got.replace("\r\n\r\n", "]");
        let messages = got.strip_prefix('[').map_or(Vec::new(), |got| {
            got.strip_suffix(']').unwrap().split("][").map(str::to_owned).collect()
        });
        assert!(messages.iter().all(|message| !message.contains(['[', ']', '\r'])), "{got}");
        messages
    }
}

fn head(number: u32, request: usize) -> ResponseHead {
    let mut headers = http::HeaderMap::new();
    headers.insert("n", format!("{} {number}", request + 1).parse().unwrap());
    ResponseHead { status: StatusCode::from_u16(104).unwrap(), headers }
}

#[derive(Clone, Debug)]
enum Step {
    Request,
    Continue,
    Answer,
    Announce { of: usize },
    Progress { of: usize, number: u32 },
    Turn,
    Read { bytes: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Request),
        1 => Just(Step::Continue),
        1 => Just(Step::Answer),
        2 => any::<usize>().prop_map(|of| Step::Announce { of }),
        3 => any::<usize>().prop_map(|of| Step::Progress { of, number: 0 }),
        4 => Just(Step::Turn),
        3 => (0_usize..60).prop_map(|bytes| Step::Read { bytes }),
    ];
    proptest::collection::vec(step, 0..80).prop_map(|mut steps| {
        for (index, step) in (1..).zip(&mut steps) {
            if let Step::Progress { number, .. } = step {
                *number = index;
            }
        }
        steps
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Pipelined requests, answers at the same time, a peer that reads slowly: messages stay
    /// whole, an interim one comes between the answer to the request before and its own, and
    /// what tells of progress never goes back.
    #[test]
    fn interim_responses_stand_between_messages_and_before_their_answer(
        steps in steps(),
        capacity in 1_usize..100,
    ) {
        let mut hyper = Hyper::new(capacity);
        for step in &steps {
            hyper.step(step);
        }
        let running = hyper.is_running.then(|| hyper.requests.last().unwrap().clone());
        if let Some(interim) = running {
            interim.tell_progress(&head(1000, hyper.requests.len() - 1));
        }
        let (is_running, count) = (hyper.is_running, hyper.requests.len());
        let got = hyper.finish();
        let (mut answered, mut newest) = (0, 0);
        for message in &got {
            let numbers: Vec<usize> =
                message.split(' ').map(|word| word.parse().unwrap()).collect();
            prop_assert_eq!(numbers[1], answered + 1, "{:?}", got);
            match numbers[0] {
                200 => (answered, newest) = (answered + 1, 0),
                104 if numbers[2] > 0 => {
                    prop_assert!(numbers[2] > newest, "{:?}", got);
                    newest = numbers[2];
                }
                _ => {}
            }
        }
        prop_assert_eq!(answered, count - usize::from(is_running));
        // What waits at the end is not forgotten.
        prop_assert_eq!(is_running, newest == 1000, "{:?}", got);
    }
}

#[test]
fn only_http_1_1_has_them() {
    for (version, has) in
        [(Version::HTTP_10, false), (Version::HTTP_11, true), (Version::HTTP_2, false)]
    {
        let mut hyper = Hyper::new(1000);
        let interim = hyper.line.open(version);
        assert_eq!(interim.is_open(), has);
        interim.announce(&head(0, 0));
        hyper.turn();
        assert_eq!(hyper.finish().len(), usize::from(has));
    }
}

#[test]
fn a_flush_does_not_wait_for_a_peer_that_does_not_read() {
    let mut hyper = Hyper::new(10);
    hyper.step(&Step::Request);
    for number in 1..1000 {
        // Panics if the flush is pending.
        hyper.step(&Step::Progress { of: 0, number });
        hyper.turn();
    }
    // The one that was begun, and the newest.
    assert_eq!(hyper.finish(), ["104 1 1", "104 1 999"]);
}
