//! How the copies of the journal are, as others may ask.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// What a copy of the journal is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// It has every entry.
    Complete,
    /// New entries go there; older ones are being copied.
    Filling,
    /// Its disk failed, and nothing goes there. With the reason.
    Left(String),
}

/// One copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyHealth {
    /// Its folder.
    pub folder: PathBuf,
    /// What it is doing.
    pub state: CopyState,
}

/// The state of all copies. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct JournalHealth {
    copies: Arc<Mutex<Vec<CopyHealth>>>,
}

impl JournalHealth {
    /// All copies, in the order of `data_dirs`.
    #[must_use]
    pub fn copies(&self) -> Vec<CopyHealth> {
        self.copies.lock().clone()
    }

    /// Whether a copy is not complete.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.copies.lock().iter().any(|copy| copy.state != CopyState::Complete)
    }

    pub(super) fn begin(&self, folders: &[PathBuf]) {
        let copy = |folder: &PathBuf| CopyHealth { folder: folder.clone(), state: CopyState::Complete };
        *self.copies.lock() = folders.iter().map(copy).collect();
    }

    pub(super) fn set(&self, copy: usize, state: CopyState) {
        let mut copies = self.copies.lock();
        let Some(known) = copies.get_mut(copy).filter(|known| known.state != state) else { return };
        tell(&known.folder, &state);
        known.state = state;
    }

    pub(super) fn state(&self, copy: usize) -> Option<CopyState> {
        self.copies.lock().get(copy).map(|known| known.state.clone())
    }
}

fn tell(folder: &Path, state: &CopyState) {
    let folder = folder.display();
    match state {
        CopyState::Complete => tracing::info!(%folder, "this copy of the journal is complete"),
        CopyState::Filling => {
            tracing::info!(%folder, "this copy of the journal is back, and is being filled")
        }
        CopyState::Left(reason) => tracing::error!(
            %folder, reason,
            "THIS COPY OF THE JOURNAL FAILED and is left out: changes go to the others alone. Mend its disk or make room: \
             it comes back by itself"
        ),
    }
}
