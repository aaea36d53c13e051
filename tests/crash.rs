//! The power fails at every call of a store, in every flow; then the machine is started again, and
//! everything that was acknowledged is there. The disk is simulated (`storage::memory`): what was
//! not synced is lost, torn or kept as the seed will have it.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use resumed::clock::Clock;
use resumed::engine::content::{Content, Piece};
use resumed::engine::{Engine, Fault, Policy};
use resumed::protocol::checksum::{Algorithm, Checksum, Checksummer};
use resumed::protocol::digest::Blake3Digest;
use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::operation::{Append, Completion, Creation, ExpectedChecksum};
use resumed::protocol::refusal::Refusal;
use resumed::protocol::repr_digests::ReprDigests;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::{Final, Kind, State, Upload};
use resumed::storage::memory::MemoryStore;

/// More than one batch of the append path, so that a write is under way while others come.
const PIECE: usize = 300_000;
const PIECES: usize = 4;
const HOUR: Duration = Duration::from_secs(60 * 60);
/// The length of uploads that are equal: enough for them to share their bytes.
const ALIKE: usize = 70_000;
/// The seeds of one crash; more by `RESUMED_CRASH_SEEDS=…`.
const SEEDS: u64 = 2;

struct Pieces(VecDeque<Bytes>);

impl Content for Pieces {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Piece> {
        Poll::Ready(self.0.pop_front().map_or(Piece::End, Piece::Bytes))
    }

    fn trailer_checksum(&mut self) -> Result<Option<Checksum>, Refusal> {
        Ok(None)
    }
}

/// Content whose sender is told at once of the upload, and how far it is recorded.
struct Announced(Box<dyn Content>, Arc<Mutex<Option<Upload>>>);

impl Content for Announced {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        self.0.poll_piece(context)
    }

    fn trailer_checksum(&mut self) -> Result<Option<Checksum>, Refusal> {
        Ok(None)
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
    fn new(store: &MemoryStore, clock: &Clock) -> Self {
        let policy = Policy { expire_after: Some(HOUR), keeps_tree: true, ..Policy::default() };
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
        let upload = self.engine.create(creation, content(&Bytes::new())).await?;
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
        let outcome = self.engine.create(creation, Box::new(announced)).await;
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
        let upload = self.engine.append(known.id, append, content(&bytes)).await?;
        self.known[index].learn(&upload);
        Ok(())
    }

    async fn cancel(&mut self, index: usize) -> Result<(), Fault> {
        self.known[index].may_be_cancelled = true;
        self.engine.cancel(self.known[index].id).await?;
        self.known[index].is_cancelled = true;
        Ok(())
    }

    async fn go_through(&mut self, flows: Flows) -> Result<(), Fault> {
        match flows {
            Flows::Usual => self.go().await,
            Flows::Alike => self.go_alike().await,
            Flows::Announced => self.go_announced().await,
        }
    }

    /// All flows, one after the other.
    async fn go(&mut self) -> Result<(), Fault> {
        let plain = self.create(Kind::Single, bytes_of(1, PIECE * PIECES)).await?;
        self.append(plain, PIECE / 2, false).await?;
        self.append(plain, PIECE * 3, true).await?;
        let empty = self.create(Kind::Single, Bytes::new()).await?;
        let one = self.create(Kind::Partial, bytes_of(2, PIECE)).await?;
        let two = self.create(Kind::Partial, bytes_of(3, PIECE + 1)).await?;
        self.append(one, PIECE, false).await?;
        let parts: Arc<[UploadId]> = [one, two, one].map(|index| self.known[index].id).into();
        let made_of = |index: usize| self.known[index].bytes.clone();
        let joined: Bytes = [made_of(one), made_of(two), made_of(one)].concat().into();
        let kind = Kind::Final(Final { parts, as_sent: "final;…".into() });
        let waiting = self.create(kind.clone(), joined.clone()).await?;
        self.append(two, PIECE + 1, true).await?;
        let upload = self.engine.retrieve_offset(self.known[waiting].id).await?;
        self.known[waiting].learn(&upload);
        let ready = self.create(kind, joined).await?;
        self.cancel(one).await?;
        self.append(plain, PIECE * PIECES, false).await?;
        let expiring = self.create(Kind::Single, bytes_of(4, 10)).await?;
        // Lets the joins in the background have their turn.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        self.cancel(ready).await?;
        self.clock.advance(HOUR * 2);
        self.known[expiring].may_be_cancelled = true;
        while self.engine.sweep().await? > 0 {
            tokio::task::yield_now().await;
        }
        let _ = empty;
        Ok(())
    }

    /// Equal uploads: one that is sent, one that is sent too, and one that need not be.
    async fn go_alike(&mut self) -> Result<(), Fault> {
        let bytes = bytes_of(5, ALIKE);
        let declared = ReprDigests::from(Some(Blake3Digest::of(&bytes)));
        let first = self.create(Kind::Single, bytes.clone()).await?;
        self.append(first, ALIKE, false).await?;
        let twin = self.create(Kind::Single, bytes.clone()).await?;
        self.append(twin, ALIKE, false).await?;
        let instant = self.create_declared(Kind::Single, bytes, declared).await?;
        assert!(self.known[instant].is_complete);
        self.cancel(first).await?;
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        let late = self.create(Kind::Single, self.known[twin].bytes.clone()).await?;
        self.append(late, ALIKE, true).await?;
        self.cancel(twin).await?;
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Uploads whose clients are told of them at once, and say when they are complete.
    async fn go_announced(&mut self) -> Result<(), Fault> {
        self.announce(bytes_of(6, PIECE * PIECES), PIECE * PIECES).await?;
        let begun = self.announce(bytes_of(7, PIECE * 2), PIECE).await?;
        self.append(begun, PIECE * 2, false).await?;
        let voided = self.announce(bytes_of(8, PIECE), PIECE / 2).await?;
        let append = Append {
            offset: self.known[voided].acknowledged,
            length: None,
            content_length: None,
            completion: Completion::Later,
            checksum: None,
            max_bytes: None,
        };
        self.known[voided].may_be_cancelled = true;
        let (id, too_much) = (self.known[voided].id, content(&bytes_of(8, PIECE)));
        match self.engine.append(id, append, too_much).await {
            Err(Fault::Refused(Refusal::BeyondLength { .. })) => {}
            other => return other.map(|_| ()),
        }
        self.known[voided].is_cancelled = true;
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

/// The flows of one run.
#[derive(Clone, Copy)]
enum Flows {
    Usual,
    Alike,
    Announced,
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

fn lose_power_at_any_call(flows: Flows, least_calls: u64) {
    let seeds = std::env::var("RESUMED_CRASH_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    let calls = block_on(async {
        let store = MemoryStore::new();
        let clock = Clock::manual(Timestamp(1_000_000));
        let mut run = Run::new(&store, &clock);
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
                let mut run = Run::new(&store, &clock);
                // A flow that was stopped by the crash has failed; one before it may not have.
                let _ = run.go_through(flows).await;
                let known = run.known.clone();
                let store = store.crash(seed.wrapping_add(call << 32));
                let again = Run::new(&store, &clock);
                again.check(&known, &told).await;
            });
        }
    }
}
