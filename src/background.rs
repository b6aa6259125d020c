//! Work that goes on for as long as the server does. The server can do without none of it: where some ends too early, be it by
//! a panic, nothing is answered from memory any more, and the server ends, to be started anew. Half a server would go on saying
//! "active" out of what nobody keeps up to date.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, OnceLock},
    task::Poll,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::error::{Error, Result};

/// All of it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
    /// What ended too early, first of all.
    lost: Arc<OnceLock<&'static str>>,
    losing: CancellationToken,
}

impl Background {
    /// Begins what the server cannot do without: `work` goes on until it is told to stop.
    pub fn begin<W>(&self, name: &'static str, work: impl FnOnce(CancellationToken) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let work = self.watched(name, self.stop.clone(), work(self.stop.clone()));
        self.tasks.spawn(work);
    }

    /// What the server cannot do without until `end`, to be spawned by the caller.
    pub fn watched(
        &self,
        name: &'static str,
        end: CancellationToken,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let background = self.clone();
        async move {
            match caught(work).await {
                Ok(()) if end.is_cancelled() => {}
                Ok(()) => background.lose(name, "it returned"),
                Err(panic) => background.lose(name, message_of(&*panic)),
            }
        }
    }

    fn lose(&self, name: &'static str, cause: &str) {
        // Whoever answers looks at this, before anybody is told.
        let _first = self.lost.set(name);
        self.losing.cancel();
        tracing::error!(
            task.name = name,
            error.cause = cause,
            "background.task_lost"
        );
    }

    /// Whether all that was begun goes on. One look at memory: every answer asks.
    pub fn is_whole(&self) -> bool {
        self.lost.get().is_none()
    }

    /// INTERNAL where something has ended too early.
    pub fn require_whole(&self) -> Result<()> {
        let Some(name) = self.lost.get() else {
            return Ok(());
        };
        let message = format!("the server cannot go on: its task \"{name}\" was lost");
        Err(Error::internal(message))
    }

    /// Waits until something ends too early.
    pub async fn lost(&self) {
        self.losing.cancelled().await;
    }

    /// Tells all of it to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until all of it has ended.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// For what ends by itself, and is waited for with the rest.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
}

/// Its panic, where it ends by one. It is not polled again then, so that nothing broken is seen.
async fn caught(work: impl Future<Output = ()>) -> Result<(), Box<dyn Any + Send>> {
    let mut work = pin!(work);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}

/// What a panic says.
pub fn message_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn panics(_: CancellationToken) {
        tokio::task::yield_now().await;
        panic!("as it should");
    }

    async fn returns(_: CancellationToken) {}

    async fn stays(stop: CancellationToken) {
        stop.cancelled().await;
    }

    #[tokio::test]
    async fn what_ends_by_a_panic_is_lost_and_the_rest_goes_on_until_it_is_told() {
        let background = Background::default();
        background.begin("the one that stays", stays);
        assert!(background.is_whole());
        background.begin("the one that panics", panics);
        background.lost().await;
        assert!(!background.is_whole());
        let refused = background.require_whole().unwrap_err().to_string();
        assert!(refused.contains("the one that panics"), "{refused}");
        assert_eq!(background.tasks().len(), 1);
        background.stop();
        background.ended().await;
    }

    #[tokio::test]
    async fn what_returns_too_early_is_lost_too() {
        let background = Background::default();
        background.begin("the one that returns", returns);
        background.lost().await;
        assert!(background.require_whole().is_err());
    }

    #[tokio::test]
    async fn what_ends_when_it_is_told_is_not_lost() {
        let background = Background::default();
        background.begin("the one that stays", stays);
        background.stop();
        background.ended().await;
        background.require_whole().unwrap();
    }

    #[tokio::test]
    async fn a_panic_at_the_end_is_not_passed_over() {
        let background = Background::default();
        background.begin("the one that panics", panics);
        background.stop();
        background.ended().await;
        assert!(background.require_whole().is_err());
    }
}
