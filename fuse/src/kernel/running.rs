//! The requests that are being carried out, to find them when a program that waits was interrupted.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Those under way, by the kernel's numbers.
#[derive(Clone, Default)]
pub(crate) struct Running {
    table: Arc<Mutex<HashMap<u64, Arc<Notify>>>>,
}

/// One of them. It is under way until this is dropped.
pub(crate) struct Interrupted {
    running: Running,
    number: u64,
    told: Arc<Notify>,
}

impl Running {
    /// A request is begun.
    pub(crate) fn begin(&self, number: u64) -> Interrupted {
        let told = Arc::new(Notify::new());
        self.table.lock().insert(number, told.clone());
        Interrupted { running: self.clone(), number, told }
    }

    /// Tells a request that its program has a signal; false if it is not under way (yet, or any more).
    pub(crate) fn interrupt(&self, number: u64) -> bool {
        let told = self.table.lock().get(&number).cloned();
        told.inspect(|told| told.notify_one()).is_some()
    }
}

impl Interrupted {
    /// Waits until the program has a signal.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }
}

impl Drop for Interrupted {
    fn drop(&mut self) {
        self.running.table.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_under_way_is_told() {
        let running = Running::default();
        let one = running.begin(4);
        assert!(running.interrupt(4) && !running.interrupt(6));
        one.told().await;
        drop(one);
        assert!(!running.interrupt(4));
    }
}
