//! Work on complete uploads that nobody waits for, or not for long.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::Engine;
use crate::protocol::id::UploadId;

impl Engine {
    /// Does some work for an upload once its turn comes: one at a time, as they take the disk from
    /// those who wait for an answer. `None` when there is work for that upload already. The work is
    /// dropped when the engine stops, so a crash in the middle of it must do no harm.
    pub(super) fn in_background(
        self: &Arc<Self>,
        id: UploadId,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        if !self.working.lock().insert(id) {
            return None;
        }
        let engine = Arc::clone(self);
        Some(self.tasks.spawn(async move {
            let in_turn = async {
                let _turn = engine.work_turn.acquire().await;
                work.await;
            };
            tokio::select! {
                () = engine.stopping.cancelled() => {}
                () = in_turn => {}
            }
            engine.working.lock().remove(&id);
        }))
    }
}
