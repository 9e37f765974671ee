//! Names for files that are not yet whole, and what becomes of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use steadfs_client::Client;
use steadfs_common::limits::MAX_NAME_BYTES;

use crate::session::Remote;

/// How such names end. Hadoop's shell uses it, so its tools and Spark pass them over.
const SUFFIX: &str = "._COPYING_";

enum Place {
    Remote(Client, String),
    Local(PathBuf),
}

/// The files that are to be removed should this run be interrupted.
#[derive(Default, Clone)]
pub(crate) struct Temporaries {
    places: Arc<Mutex<HashMap<u64, Place>>>,
    next: Arc<AtomicU64>,
}

/// One of them.
pub(crate) struct Temporary {
    all: Temporaries,
    number: u64,
    path: String,
}

impl Temporaries {
    /// A name beside `target`.
    pub(crate) fn remote(&self, target: &Remote) -> Temporary {
        let (folder, name) = target.path.rsplit_once('/').unwrap_or(("", &target.path));
        let path = format!("{folder}/{}", hidden(name));
        self.keep(Place::Remote(target.client.clone(), path.clone()), path)
    }

    /// A name beside the local `target`, in the same folder.
    pub(crate) fn local(&self, target: &Path) -> (Temporary, PathBuf) {
        let name = target.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let path = target.with_file_name(hidden(&name));
        let shown = path.display().to_string();
        (self.keep(Place::Local(path.clone()), shown), path)
    }

    fn keep(&self, place: Place, path: String) -> Temporary {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(number, place);
        Temporary { all: self.clone(), number, path }
    }

    fn take(&self, number: u64) -> Option<Place> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }

    /// Removes all that are left.
    pub(crate) async fn remove_all(&self) {
        let places = std::mem::take(&mut *self.places.lock().unwrap_or_else(PoisonError::into_inner));
        futures::future::join_all(places.into_values().map(remove)).await;
    }
}

async fn remove(place: Place) {
    // It may never have been made.
    match place {
        Place::Remote(client, path) => {
            let _ = client.delete(&path, false).await;
        }
        Place::Local(path) => {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Temporary {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// It has its final name.
    pub(crate) fn forget(self) {
        self.all.take(self.number);
    }

    /// Removes it.
    pub(crate) async fn remove(self) {
        if let Some(place) = self.all.take(self.number) {
            remove(place).await;
        }
    }
}

/// A hidden name for a file that shall be called `name`, unlike any other and not too long.
fn hidden(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let tag = format!(".{:x}-{:x}-{count:x}", std::process::id(), nanos);
    let room = MAX_NAME_BYTES - 1 - tag.len() - SUFFIX.len();
    format!(".{}{tag}{SUFFIX}", &name[..name.floor_char_boundary(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_hidden_unlike_and_short_enough() {
        let (one, other) = (hidden("x.csv"), hidden("x.csv"));
        assert!(one.starts_with(".x.csv.") && one.ends_with("._COPYING_"), "{one}");
        assert_ne!(one, other);
        assert!(hidden(&"ü".repeat(127)).len() <= MAX_NAME_BYTES);
    }

    #[tokio::test]
    async fn what_is_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let all = Temporaries::default();
        let (kept, kept_path) = all.local(&folder.path().join("kept"));
        let (_left, left_path) = all.local(&folder.path().join("left"));
        std::fs::write(&kept_path, "x").unwrap();
        std::fs::write(&left_path, "x").unwrap();
        kept.forget();
        all.remove_all().await;
        assert!(kept_path.exists() && !left_path.exists());
    }
}
