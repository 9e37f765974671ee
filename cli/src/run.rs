//! One command on its way: what failed is said at once, and the others go on.

use crate::failure::{Failure, Outcome};

/// Says what fails, and remembers that something did.
pub(crate) struct Run {
    /// `steadfs fs cat`, at the front of every complaint.
    name: String,
    failed: bool,
}

impl Run {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), failed: false }
    }

    /// Complains about a part that failed, unless the whole has to end.
    pub(crate) fn note(&mut self, result: Outcome<()>) -> Outcome<()> {
        match result {
            Err(failure @ (Failure::Pipe | Failure::Usage(_))) => Err(failure),
            Err(failure) => {
                self.complain(&failure);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The paths that an argument stands for; none, and a complaint, if that is an error.
    pub(crate) fn paths<T>(&mut self, paths: Outcome<Vec<T>>) -> Outcome<Vec<T>> {
        match paths {
            Ok(paths) => Ok(paths),
            // Nothing further can succeed without the server.
            Err(Failure::Remote(None, error)) => Err(Failure::Remote(None, error)),
            Err(failure) => self.note(Err(failure)).map(|()| Vec::new()),
        }
    }

    pub(crate) fn complain(&mut self, failure: &Failure) {
        self.failed = true;
        eprintln!("{}: {failure}", self.name);
    }

    /// Something was not as it should be, and has been said.
    pub(crate) fn mark_failed(&mut self) {
        self.failed = true;
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }
}
