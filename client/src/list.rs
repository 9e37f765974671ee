//! Listings as streams.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{Stream, try_unfold};
use steadfs_common::limits::MAX_PATH_DEPTH;
use steadfs_common::{FsErrorKind, FsPath, FsResult};
use steadfs_proto::steadfs as pb;

use crate::FileStatus;
use crate::client::Inner;

/// One folder, page by page.
struct Pages {
    folder: FsPath,
    page: VecDeque<FileStatus>,
    start_after: String,
    more: bool,
}

impl Pages {
    fn new(folder: FsPath) -> Self {
        Self { folder, page: VecDeque::new(), start_after: String::new(), more: true }
    }

    async fn next(&mut self, inner: &Inner) -> FsResult<Option<FileStatus>> {
        while self.page.is_empty() && self.more {
            let request = pb::ListRequest {
                path: self.folder.to_string(),
                start_after: self.start_after.clone(),
                limit: 0,
                locations: false,
            };
            let answer = inner.calls.namespace(request, |mut c, r| async move { c.list(r).await }).await?;
            // A page that does not move on would be asked for again and again.
            let last = answer
                .entries
                .last()
                .and_then(|entry| entry.status.as_ref())
                .map(|status| status.name.clone());
            self.more = answer.more && last.as_ref().is_some_and(|name| *name > self.start_after);
            self.start_after = last.unwrap_or_default();
            for status in answer.entries.into_iter().filter_map(|entry| entry.status) {
                self.page.push_back(FileStatus::from_proto(status, &self.folder)?);
            }
        }
        Ok(self.page.pop_front())
    }
}

pub(crate) fn list(
    inner: Arc<Inner>,
    folder: FsResult<FsPath>,
) -> impl Stream<Item = FsResult<FileStatus>> + Send {
    let start = folder.map(Pages::new);
    try_unfold((inner, start), |(inner, pages)| async move {
        let mut pages = pages?;
        Ok(pages.next(&inner).await?.map(|entry| (entry, (inner, Ok(pages)))))
    })
}

/// Depth first, so that what is remembered is a page for each level and never a whole tree.
pub(crate) fn walk(
    inner: Arc<Inner>,
    folder: FsResult<FsPath>,
) -> impl Stream<Item = FsResult<FileStatus>> + Send {
    let start = folder.map(|folder| vec![Pages::new(folder)]);
    try_unfold((inner, start), |(inner, levels)| async move {
        let mut levels = levels?;
        while let Some(pages) = levels.last_mut() {
            match pages.next(&inner).await {
                Ok(Some(entry)) => {
                    if entry.directory && levels.len() <= MAX_PATH_DEPTH {
                        levels.push(Pages::new(entry.path.clone()));
                    }
                    return Ok(Some((entry, (inner, Ok(levels)))));
                }
                // Deleted since it was listed. The folder asked for must be there, though.
                Err(error) if error.kind() == FsErrorKind::NotFound && levels.len() > 1 => {
                    levels.pop();
                }
                Ok(None) => {
                    levels.pop();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    })
}
