//! The power fails at every call of a store, in every flow; then the machine is started again, and
//! everything that was acknowledged is there. The disk is simulated (`storage::memory`): what was
//! not synced is lost, torn or kept as the seed will have it.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod flows;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flows::Flows;
use resumed::clock::Clock;
use resumed::engine::content::{Content, Piece};
use resumed::engine::{Engine, Fault, Policy};
use resumed::protocol::checksum::{Algorithm, Checksummer};
use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::operation::{Append, Completion, Creation, ExpectedChecksum};
use resumed::protocol::refusal::Refusal;
use resumed::protocol::repr_digests::ReprDigests;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::{Kind, State, Upload};
use resumed::storage::memory::MemoryStore;

/// More than one batch of the append path, so that a write is under way while others come.
const PIECE: usize = 300_000;
const PIECES: usize = 4;
const HOUR: Duration = Duration::from_secs(60 * 60);
/// The seeds of one crash; more by `RESUMED_CRASH_SEEDS=…`.
const SEEDS: u64 = 2;

struct Pieces(VecDeque<Bytes>);

impl Content for Pieces {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Piece> {
        Poll::Ready(self.0.pop_front().map_or(Piece::End, Piece::Bytes))
    }
}

/// Content whose sender is told at once of the upload, and how far it is recorded.
struct Announced(Box<dyn Content>, Arc<Mutex<Option<Upload>>>);

impl Content for Announced {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        self.0.poll_piece(context)
    }

    fn is_announced(&self) -> bool {
        true
    }

    fn recorded(&mut self, upload: &Upload) {
        *self.1.lock().unwrap() = Some(upload.clone());
    }
}

fn bytes_of(seed: u8, length: usize) -> Bytes {
    (0..length).map(|n| seed.wrapping_add(n.to_le_bytes()[0]) ^ n.to_le_bytes()[1]).collect()
}

fn content(bytes: &Bytes) -> Box<dyn Content> {
    let pieces = (0..bytes.len()).step_by(PIECE);
    Box::new(Pieces(pieces.map(|at| bytes.slice(at..bytes.len().min(at + PIECE))).collect()))
}

/// What a client knows of one upload.
#[derive(Clone)]
struct Known {
    id: UploadId,
    bytes: Bytes,
    /// The largest offset that it was told.
    acknowledged: u64,
    is_complete: bool,
    /// It was told that the upload is cancelled.
    is_cancelled: bool,
    /// A request whose answer never came may have cancelled it.
    may_be_cancelled: bool,
}

struct Run {
    engine: Arc<Engine>,
    clock: Clock,
    known: Vec<Known>,
}

impl Run {
    fn new(store: &MemoryStore, clock: &Clock, flows: Flows) -> Self {
        let policy = Policy {
            expire_after: Some(HOUR),
            keeps_tree: true,
            instant_upload: flows.instant_upload(),
            ..Policy::default()
        };
        let (records, data) = (Arc::new(store.clone()), Arc::new(store.clone()));
        let engine = Engine::new(records, data, clock.clone(), policy);
        Self { engine, clock: clock.clone(), known: Vec::new() }
    }

    async fn create(&mut self, kind: Kind, bytes: Bytes) -> Result<usize, Fault> {
        self.create_declared(kind, bytes, ReprDigests::default()).await
    }

    async fn create_declared(
        &mut self,
        kind: Kind,
        bytes: Bytes,
        declared: ReprDigests,
    ) -> Result<usize, Fault> {
        let is_final = matches!(kind, Kind::Final(_));
        let length = Some(bytes.len().try_into().unwrap()).filter(|_| !is_final);
        let metadata = Metadata::default();
        let creation = Creation { kind, length, metadata, declared, content: None };
        let upload = self.engine.create(creation.into(), content(&Bytes::new())).await?;
        Ok(self.know(&upload, bytes))
    }

    fn know(&mut self, upload: &Upload, bytes: Bytes) -> usize {
        let mut known = Known {
            id: upload.id(),
            bytes,
            acknowledged: 0,
            is_complete: false,
            is_cancelled: false,
            may_be_cancelled: false,
        };
        known.learn(upload);
        self.known.push(known);
        self.known.len() - 1
    }

    /// Creates an upload with the first bytes of its content, and is told of it meanwhile.
    async fn announce(&mut self, bytes: Bytes, first: usize) -> Result<usize, Fault> {
        let heard = Arc::new(Mutex::new(None));
        let is_last = first == bytes.len();
        let creation = Creation {
            kind: Kind::Single,
            length: Some(bytes.len().try_into().unwrap()),
            metadata: Metadata::default(),
            declared: ReprDigests::default(),
            content: Some(Append {
                offset: 0,
                length: None,
                content_length: None,
                completion: if is_last { Completion::AtEnd } else { Completion::Later },
                checksum: None,
                max_bytes: None,
            }),
        };
        let announced = Announced(content(&bytes.slice(..first)), Arc::clone(&heard));
        let outcome = self.engine.create(creation.into(), Box::new(announced)).await;
        let heard = heard.lock().unwrap().take();
        let index = heard.map(|upload| self.know(&upload, bytes));
        let index = index.inspect(|index| {
            if let Ok(upload) = &outcome {
                self.known[*index].learn(upload);
            }
        });
        outcome.map(|_| index.expect("it was told before it was created"))
    }

    async fn append(&mut self, index: usize, end: usize, checked: bool) -> Result<(), Fault> {
        let known = self.known[index].clone();
        let begin = usize::try_from(known.acknowledged).unwrap();
        let bytes = known.bytes.slice(begin..end);
        let checksum = checked.then(|| {
            let mut checksummer = Checksummer::new(Algorithm::Crc32c);
            checksummer.update(&bytes);
            ExpectedChecksum::Given(checksummer.finish())
        });
        let append = Append {
            offset: known.acknowledged,
            length: None,
            content_length: None,
            completion: Completion::AtLength,
            checksum,
            max_bytes: None,
        };
        let upload = self.engine.append(known.id, append.into(), content(&bytes)).await?;
        self.known[index].learn(&upload);
        Ok(())
    }

    async fn cancel(&mut self, index: usize) -> Result<(), Fault> {
        self.known[index].may_be_cancelled = true;
        self.engine.cancel(self.known[index].id).await?;
        self.known[index].is_cancelled = true;
        Ok(())
    }

    /// What every client was told holds, and goes on to hold when the work is done again.
    async fn check(&self, known: &[Known], told: &str) {
        for upload in known {
            self.check_one(upload, told).await;
        }
        while self.engine.sweep().await.unwrap() > 0 {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        for upload in known {
            self.check_one(upload, told).await;
        }
    }

    async fn check_one(&self, known: &Known, told: &str) {
        let upload = match self.engine.retrieve_offset(known.id).await {
            Ok(upload) => upload,
            Err(Fault::Refused(Refusal::Gone(_))) => {
                let may_be_gone = known.may_be_cancelled || !known.is_complete;
                assert!(may_be_gone, "{told}: {} is gone", known.id);
                return;
            }
            Err(fault) => panic!("{told}: {}: {fault}", known.id),
        };
        assert!(!known.is_cancelled, "{told}: {} came back", known.id);
        let Some(offset) = upload.offset() else { return };
        assert!(known.acknowledged <= offset, "{told}: the offset went back to {offset}");
        let is_complete = matches!(upload.state(), State::Complete { .. });
        assert!(is_complete || !known.is_complete, "{told}: no longer complete");
        let mut reader = self.engine.read(&upload, 0..offset).await.unwrap();
        let mut got = Vec::new();
        loop {
            let piece = reader.read().await.unwrap();
            if piece.is_empty() {
                break;
            }
            got.extend_from_slice(&piece);
        }
        let end = usize::try_from(offset).unwrap();
        assert!(got == known.bytes[..end], "{told}: other bytes came back of {}", known.id);
        if let Some(digest) = upload.digest() {
            assert_eq!(digest.to_string(), blake3::hash(&known.bytes).to_hex().as_str(), "{told}");
        }
    }
}

impl Known {
    fn learn(&mut self, upload: &Upload) {
        self.acknowledged = upload.offset().unwrap_or(self.acknowledged);
        self.is_complete = upload.is_complete();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn whatever_was_acknowledged_survives_a_power_loss_at_any_call() {
    lose_power_at_any_call(Flows::Usual, 60);
}

#[test]
fn uploads_that_share_their_bytes_survive_a_power_loss_at_any_call() {
    lose_power_at_any_call(Flows::Alike, 40);
}

#[test]
fn uploads_that_were_announced_survive_a_power_loss_at_any_call() {
    lose_power_at_any_call(Flows::Announced, 20);
}

#[test]
fn uploads_whose_digest_was_declared_survive_a_power_loss_at_any_call() {
    lose_power_at_any_call(Flows::Declared, 40);
}

fn lose_power_at_any_call(flows: Flows, least_calls: u64) {
    let seeds = std::env::var("RESUMED_CRASH_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    let calls = block_on(async {
        let store = MemoryStore::new();
        let clock = Clock::manual(Timestamp(1_000_000));
        let mut run = Run::new(&store, &clock, flows);
        run.go_through(flows).await.unwrap();
        let known = run.known.clone();
        run.check(&known, "without a crash").await;
        store.calls()
    });
    assert!(calls > least_calls, "only {calls} calls were made");
    for call in 1..=calls {
        for seed in 0..seeds {
            let told = format!("crash at call {call} of {calls}, seed {seed}");
            block_on(async {
                let store = MemoryStore::new();
                store.crash_at(call);
                let clock = Clock::manual(Timestamp(1_000_000));
                let mut run = Run::new(&store, &clock, flows);
                // A flow that was stopped by the crash has failed; one before it may not have.
                let _ = run.go_through(flows).await;
                let known = run.known.clone();
                let store = store.crash(seed.wrapping_add(call << 32));
                let again = Run::new(&store, &clock, flows);
                again.check(&known, &told).await;
            });
        }
    }
}
