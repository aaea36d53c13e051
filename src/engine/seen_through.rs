//! Work that is done to its end, whoever goes away meanwhile.
//!
//! It runs where it is waited for. Only when the one who waits is gone does what is left of it become
//! a task of its own. As a task from the beginning it would often be run by another thread than the
//! one that reads its connection, and each piece of the content would wake one of the two.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

type Work<T> = Pin<Box<dyn Future<Output = Result<T, Panic>> + Send>>;

/// What work gives that panicked.
pub(super) type Panic = Box<dyn Any + Send>;

/// Work that ends, dropped or not. `tasks` waits for it.
pub(super) struct SeenThrough<T: Send + 'static> {
    /// `None` when it is done.
    work: Option<Work<T>>,
    tasks: TaskTracker,
    _token: TaskTrackerToken,
}

impl<T: Send + 'static> SeenThrough<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static, tasks: &TaskTracker) -> Self {
        let work: Work<T> = Box::pin(AssertUnwindSafe(work).catch_unwind());
        Self { work: Some(work), tasks: tasks.clone(), _token: tasks.token() }
    }
}

impl<T: Send + 'static> Future for SeenThrough<T> {
    type Output = Result<T, Panic>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = work.as_mut().poll(context);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl<T: Send + 'static> Drop for SeenThrough<T> {
    fn drop(&mut self) {
        // Without a runtime the program is ending, and had its time.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            self.tasks.spawn_on(
                async move {
                    // The panic was told by the hook; nobody waits for the rest.
                    let _ = work.await;
                },
                &runtime,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_dropped_goes_on_and_is_waited_for() {
        let tasks = TaskTracker::new();
        let (go, gone_on) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let work = async move {
            gone_on.await.unwrap();
            tell.send(()).unwrap();
        };
        let mut work = SeenThrough::new(work, &tasks);
        assert!(futures_util::poll!(&mut work).is_pending());
        tasks.close();
        drop(work);
        assert!(!tasks.is_empty());
        go.send(()).unwrap();
        tasks.wait().await;
        told.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_done_is_not_done_again_and_a_panic_is_told() {
        let tasks = TaskTracker::new();
        assert_eq!(SeenThrough::new(async { 1 }, &tasks).await.unwrap(), 1);
        let panics = async { panic!("planned") };
        assert!(SeenThrough::<()>::new(panics, &tasks).await.is_err());
        tasks.close();
        tasks.wait().await;
    }
}
