//! How many records can be saved, by how many savers at once, and how long one waits.
//!
//! `cargo bench --bench saves`, with `-- FOLDER` for another disk than that of the temporary
//! folder. Each saver makes uploads, and saves each of them once more.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use resumed::protocol::id::UploadId;
use resumed::protocol::metadata::Metadata;
use resumed::protocol::units::Timestamp;
use resumed::protocol::upload::Upload;
use resumed::storage::folder::DataFolder;
use resumed::storage::sled::SledStore;
use resumed::storage::{Durability, RecordStore, StorageError};

/// The saves of one run, shared by its savers.
const SAVES: usize = 16_384;

fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = given.map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Runtime::new()?;
    writeln!(io::stdout(), "durability  savers   saves/s  p50 µs  p99 µs  max µs")?;
    for durability in [Durability::PowerLoss, Durability::Process] {
        for savers in [1, 16, 64] {
            let folder = tempfile::tempdir_in(&folder)?;
            let store = Arc::new(SledStore::open(&DataFolder::open(folder.path())?, durability)?);
            let begin = Instant::now();
            let mut waits = runtime.block_on(run(store, savers))?;
            let took = begin.elapsed();
            waits.sort_unstable();
            let rate = u128::try_from(waits.len())? * 1_000_000 / took.as_micros().max(1);
            let at = |percent: usize| waits[(waits.len() - 1) * percent / 100].as_micros();
            let (p50, p99, max) = (at(50), at(99), at(100));
            let name = format!("{durability:?}");
            writeln!(io::stdout(), "{name:10}  {savers:6}  {rate:8}  {p50:6}  {p99:6}  {max:6}")?;
        }
    }
    Ok(())
}

async fn run(store: Arc<SledStore>, savers: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let tasks = (0..savers).map(|_| tokio::spawn(save(Arc::clone(&store), SAVES / savers)));
    let mut waits = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        waits.extend(task.await??);
    }
    Ok(waits)
}

async fn save(store: Arc<SledStore>, saves: usize) -> Result<Vec<Duration>, StorageError> {
    let metadata =
        Metadata::parse("filename d29ybGQucGRm,filetype YXBwbGljYXRpb24vcGRm").unwrap_or_default();
    let mut waits = Vec::with_capacity(saves);
    while waits.len() < saves {
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| StorageError::io("drawing a random id", None, error.into()))?;
        let id = UploadId::from_bytes(id);
        let upload = Upload::new(id, Some(1 << 20), metadata.clone(), Timestamp(0));
        let begin = Instant::now();
        let version = store.save(upload.clone(), None).await?;
        let made = Instant::now();
        store.save(upload.expiring(Some(Timestamp(1 << 40))), Some(version)).await?;
        waits.extend([made - begin, made.elapsed()]);
    }
    Ok(waits)
}
