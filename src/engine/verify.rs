//! What is computed over content while it is written, off the async threads: the checksum that it
//! has to have.

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{Engine, Fault};
use crate::protocol::checksum::{Checksum, Checksummer};
use crate::protocol::id::UploadId;
use crate::protocol::operation::ExpectedChecksum;
use crate::protocol::refusal::Refusal;
use crate::storage::{Failure, StorageError};

/// Less than this is hashed where it is: handing it to another thread costs as much.
const INLINE_BYTES: u64 = 16 << 10;

/// The check of one content against its checksum.
pub(super) struct Verification {
    expected: ExpectedChecksum,
    /// Taken out while another thread works on it. `None` for a checksum that comes behind the
    /// content: only then is it known which algorithm it has.
    running: Option<Checksummer>,
}

impl Verification {
    pub(super) fn new(expected: ExpectedChecksum) -> Self {
        let running = match &expected {
            ExpectedChecksum::Given(checksum) => Some(Checksummer::new(checksum.algorithm())),
            ExpectedChecksum::InTrailer => None,
        };
        Self { expected, running }
    }

    /// Takes in the next bytes.
    pub(super) async fn update(&mut self, pieces: Vec<Bytes>, bytes: u64) -> Result<(), Fault> {
        if let Some(running) = self.running.take() {
            self.running = Some(hash(running, pieces, bytes).await?);
        }
        Ok(())
    }

    /// Whether the content has the checksum. `trailer` is the one that came behind it; the bytes
    /// from `offset` to `end` are in the data store.
    pub(super) async fn finish(
        self,
        engine: &Engine,
        trailer: Option<Checksum>,
        written: (UploadId, u64, u64),
    ) -> Result<(), Fault> {
        let expected = match (self.expected, trailer) {
            (ExpectedChecksum::Given(checksum), _) => checksum,
            (ExpectedChecksum::InTrailer, Some(checksum)) => checksum,
            (ExpectedChecksum::InTrailer, None) => {
                let problem = "was announced as a trailer and did not come; nothing was taken";
                return Err(Refusal::malformed("Upload-Checksum", problem).into());
            }
        };
        let algorithm = expected.algorithm();
        let computed = match self.running {
            Some(running) => running,
            None => read_back(engine, Checksummer::new(algorithm), written).await?,
        };
        if computed.matches(&expected) {
            Ok(())
        } else {
            Err(Refusal::ChecksumMismatch(algorithm).into())
        }
    }
}

/// Hashes what was written, once it is known how.
async fn read_back(
    engine: &Engine,
    mut running: Checksummer,
    (id, offset, end): (UploadId, u64, u64),
) -> Result<Checksummer, Fault> {
    let mut reader = engine.data.reader(id, offset..end).await?;
    loop {
        let piece = reader.read().await?;
        if piece.is_empty() {
            return Ok(running);
        }
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        running = hash(running, vec![piece], bytes).await?;
    }
}

async fn hash(
    mut running: Checksummer,
    pieces: Vec<Bytes>,
    bytes: u64,
) -> Result<Checksummer, StorageError> {
    let work = move || {
        pieces.iter().for_each(|piece| running.update(piece));
        running
    };
    if bytes <= INLINE_BYTES {
        return Ok(work());
    }
    let died = |_| StorageError::new("computing the checksum", None, Failure::Closed);
    spawn_blocking(work).await.map_err(died)
}
