//! How many answers are kept for repeated calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How long a call waits for room before it is refused.
const WAIT: Duration = Duration::from_secs(30);

/// Bounds the retry cache by number; its time is bounded by the rules. A call whose answer would not find room waits: what
/// was carried out without its answer being kept would be carried out again if it were repeated.
pub(crate) struct SavedAnswers {
    kept: AtomicU64,
    most: u64,
    /// Told when some were forgotten.
    room: Notify,
    /// Told when somebody waits for room.
    wanted: Notify,
}

impl SavedAnswers {
    pub(crate) fn new(most: u64) -> Self {
        Self { kept: AtomicU64::new(0), most, room: Notify::new(), wanted: Notify::new() }
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.kept.load(Ordering::Relaxed) < self.most
    }

    /// Waits for room; false if there is none in time.
    pub(crate) async fn wait_for_room(&self) -> bool {
        let waiting = async {
            loop {
                let mut told = std::pin::pin!(self.room.notified());
                told.as_mut().enable();
                if self.has_room() {
                    return;
                }
                self.wanted.notify_one();
                told.await;
            }
        };
        tokio::time::timeout(WAIT, waiting).await.is_ok()
    }

    /// Waits until somebody wants room.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// One more is kept.
    pub(crate) fn saved(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    /// So many were found to be kept.
    pub(crate) fn counted(&self, kept: u64) {
        self.kept.store(kept, Ordering::Relaxed);
        if self.has_room() {
            self.room.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_for_it() {
        let answers = SavedAnswers::new(1);
        assert!(answers.wait_for_room().await);
        answers.saved();
        let mut waiting = Box::pin(answers.wait_for_room());
        assert!((&mut waiting).now_or_never().is_none());
        answers.wanted().await;
        answers.counted(1);
        assert!((&mut waiting).now_or_never().is_none(), "still full");
        answers.counted(0);
        assert!(waiting.await);
        answers.saved();
        assert!(!answers.wait_for_room().await, "nothing is forgotten: the wait ends");
    }
}
