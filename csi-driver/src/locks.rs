//! One call a volume at a time: a second one is told to come back.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::volumes::{Failure, Outcome};

/// What is being worked on.
#[derive(Clone, Default)]
pub(crate) struct Locks(Arc<Mutex<HashSet<String>>>);

/// Held while a volume is worked on.
pub(crate) struct Held {
    name: String,
    locks: Locks,
}

impl Locks {
    /// Begins to work on `name`.
    pub(crate) fn take(&self, name: &str) -> Outcome<Held> {
        if self.0.lock().insert(name.to_owned()) {
            return Ok(Held { name: name.to_owned(), locks: self.clone() });
        }
        Err(Failure::Busy(format!("another call for {name} is under way")))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.locks.0.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let locks = Locks::default();
        let held = locks.take("a").unwrap();
        assert!(locks.take("a").is_err() && locks.take("b").is_ok());
        drop(held);
        assert!(locks.take("a").is_ok());
    }
}
