//! Work for threads that may block, and its end.

use tokio::task::{JoinHandle, spawn_blocking};

/// Runs what blocks where it may. A panic of it is one of the caller.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(spawn_blocking(work)).await
}

/// What a task returned. A panic of it is one of the caller: no task here is ever aborted.
pub async fn joined<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
