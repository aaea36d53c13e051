//! A record store for programs that do one thing at a time: each call waits for its answer. Not for
//! the async threads of a server.

use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use super::{RecordStore, StorageError, Stored, Version};
use crate::protocol::id::UploadId;
use crate::protocol::upload::Upload;

/// A record store whose calls block.
pub struct BlockingRecords {
    store: Arc<dyn RecordStore>,
    runtime: Runtime,
}

impl BlockingRecords {
    /// Calls that block, over this store.
    ///
    /// # Errors
    ///
    /// The system gives no threads.
    pub fn new(store: Arc<dyn RecordStore>) -> io::Result<Self> {
        Ok(Self { store, runtime: Builder::new_current_thread().build()? })
    }

    /// See [`RecordStore::load`].
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn load(&self, id: UploadId) -> Result<Option<Stored>, StorageError> {
        self.runtime.block_on(self.store.load(id))
    }

    /// See [`RecordStore::save`].
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn save(&self, upload: Upload, expected: Option<Version>) -> Result<Version, StorageError> {
        self.runtime.block_on(self.store.save(upload, expected))
    }

    /// See [`RecordStore::list`].
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn list(&self, after: Option<UploadId>, max: usize) -> Result<Vec<Stored>, StorageError> {
        self.runtime.block_on(self.store.list(after, max))
    }
}
