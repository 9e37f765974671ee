//! A walk over a tree in pages, depth first, that holds one page a level.

use std::collections::VecDeque;
use std::sync::Arc;

use steadfs_common::{FsError, FsPath, FsResult};
use steadfs_namenode_core::Caller;

use super::{FileStatus, Listing, Service};

/// Entries of a folder held at a time.
const PAGE: usize = 100;

/// A file or folder that a walk came to.
pub(crate) struct Found {
    pub(crate) path: FsPath,
    /// Its status, with the blocks of a file; none for the folder that the walk began with.
    pub(crate) status: Option<FileStatus>,
}

/// A folder under way.
struct Level {
    path: FsPath,
    page: VecDeque<FileStatus>,
    more: bool,
    last: Vec<u8>,
}

/// A walk of everything at and below a path, as far as the caller may see it.
pub(crate) struct Walk {
    service: Arc<Service>,
    caller: Caller,
    levels: Vec<Level>,
    /// What is told next: the top itself.
    first: Option<Found>,
}

impl Walk {
    /// Begins at `top`.
    ///
    /// # Errors
    /// NotFound; AccessDenied.
    pub(crate) async fn new(service: Arc<Service>, caller: Caller, top: FsPath) -> FsResult<Self> {
        let mut walk = Self { service, caller, levels: Vec::new(), first: None };
        let page = walk.page(&top, &[]).await?.ok_or_else(|| FsError::not_found(&top))?;
        // A file lists as itself, without a name.
        if page.entries.first().is_none_or(|entry| entry.name.is_some()) {
            walk.first = Some(Found { path: top.clone(), status: None });
        }
        walk.levels.push(level(top, page));
        Ok(walk)
    }

    async fn page(&self, path: &FsPath, after: &[u8]) -> FsResult<Option<Listing>> {
        self.service.list(&self.caller, path, after, PAGE, true).await
    }

    /// The next file or folder; a folder comes before what is in it.
    ///
    /// # Errors
    /// AccessDenied: a folder may not be read.
    pub(crate) async fn next(&mut self) -> FsResult<Option<Found>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        while let Some(level) = self.levels.last_mut() {
            let Some(entry) = level.page.pop_front() else {
                if level.more {
                    let (path, last) = (level.path.clone(), level.last.clone());
                    let page = self.page(&path, &last).await?.unwrap_or_default();
                    refill(self.levels.last_mut().expect("it was there above"), page);
                } else {
                    self.levels.pop();
                }
                continue;
            };
            let path = match &entry.name {
                Some(name) => level.path.join(name.clone()),
                None => level.path.clone(),
            };
            if entry.inode.is_directory() {
                // One that was removed meanwhile is not there to be told of.
                let Some(page) = self.page(&path, &[]).await? else { continue };
                self.levels.push(self::level(path.clone(), page));
            }
            return Ok(Some(Found { path, status: Some(entry) }));
        }
        Ok(None)
    }
}

fn level(path: FsPath, page: Listing) -> Level {
    let mut level = Level { path, page: VecDeque::new(), more: false, last: Vec::new() };
    refill(&mut level, page);
    level
}

fn refill(level: &mut Level, page: Listing) {
    let last = page.entries.last().and_then(|entry| entry.name.as_ref());
    level.more = page.remaining > 0 && last.is_some();
    level.last = last.map_or_else(Vec::new, |name| name.as_str().as_bytes().to_vec());
    level.page = page.entries.into();
}
