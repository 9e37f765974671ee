//! One way for a daemon to end.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tells every task of a daemon that the end has come, and waits for them.
///
/// Cloning shares it. [`Shutdown::child`] makes one that ends with its parent, or alone.
#[derive(Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
    failure: Arc<Mutex<Option<String>>>,
}

impl Shutdown {
    /// Nothing has ended yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One for a part of this daemon: triggered with this one, or by itself. Its tasks and failure are its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), ..Self::default() }
    }

    /// Tells all tasks to end. Doing so again changes nothing.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Ends the daemon because it cannot go on; the first reason is kept for [`Shutdown::failure`].
    pub fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!(%reason, "cannot go on");
        self.failure.lock().get_or_insert(reason);
        self.trigger();
    }

    /// Why the daemon could not go on, if that is how it ended.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Whether the end was told.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits for the end to be told. Safe to cancel.
    pub async fn triggered(&self) {
        self.token.cancelled().await;
    }

    /// The token behind this, for libraries that take one.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Runs a task that [`Shutdown::drained`] waits for. The task watches [`Shutdown::triggered`] itself.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// A future that [`Shutdown::drained`] waits for, wherever it runs.
    pub fn track<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.tasks.track_future(future)
    }

    /// Runs a task without which the daemon cannot go on: its error or panic is a [`Shutdown::fail`].
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let task = self.tasks.spawn(task);
        let shutdown = self.clone();
        self.tasks.spawn(async move {
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => shutdown.fail(format!("{name}: {error:#}")),
                Err(stopped) => shutdown.fail(format!("{name}: {stopped}")),
            }
        });
    }

    /// Waits for all tasks to end, at most `grace`; says whether they did. Call after the end was told.
    pub async fn drained(&self, grace: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }

    /// Triggers on SIGTERM and on ctrl-C (SIGINT) from now on.
    ///
    /// # Errors
    /// The operating system refuses to tell of signals.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
                _ = interrupt.recv() => tracing::info!("ctrl-C: stopping"),
                () = shutdown.triggered() => {}
            }
            shutdown.trigger();
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn tasks_end_when_told_and_are_waited_for() {
        let shutdown = Shutdown::new();
        let inner = shutdown.clone();
        let task = shutdown.spawn(async move {
            inner.triggered().await;
            7
        });
        assert!(!shutdown.is_triggered());
        shutdown.trigger();
        assert!(shutdown.drained(LONG).await);
        assert_eq!(task.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_child_ends_alone_or_with_its_parent() {
        let parent = Shutdown::new();
        let (first, second) = (parent.child(), parent.child());
        first.fail("broken");
        assert!(!parent.is_triggered() && !second.is_triggered());
        assert_eq!((first.failure().as_deref(), parent.failure()), (Some("broken"), None));
        parent.trigger();
        assert!(second.is_triggered());
    }

    #[tokio::test]
    async fn a_critical_task_that_fails_ends_the_daemon_with_its_reason() {
        let shutdown = Shutdown::new();
        shutdown.spawn_critical("journal", async { Err(anyhow::anyhow!("the sync failed")) });
        shutdown.triggered().await;
        assert_eq!(shutdown.failure().as_deref(), Some("journal: the sync failed"));
        let shutdown = Shutdown::new();
        shutdown.spawn_critical("journal", async { panic!("no") });
        shutdown.triggered().await;
        assert!(shutdown.failure().unwrap().starts_with("journal: "), "{:?}", shutdown.failure());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_not_waited_for_forever() {
        let shutdown = Shutdown::new();
        shutdown.spawn(std::future::pending::<()>());
        shutdown.trigger();
        assert!(!shutdown.drained(Duration::from_secs(5)).await);
    }
}
