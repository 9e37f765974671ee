//! Listings.

use std::pin::Pin;
use std::sync::Arc;

use fuser::FileAttr;
use futures::{Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use steadfs_client::{Client, FileStatus, FsResult};

use super::{Caller, Mount, ROOT};
use crate::errno::{Answer, failed};
use crate::handles::Handle;
use crate::handoff::{Slot, SlotKind};

type Listing = Pin<Box<dyn Stream<Item = FsResult<FileStatus>> + Send>>;

/// Entries given to the kernel in one go at most; its buffer takes fewer.
pub(crate) const MAX_ENTRIES: usize = 512;

/// An open folder. Its entries are numbered from 1: `.`, `..`, then the names in their order.
pub(crate) struct FolderHandle {
    client: Client,
    number: u64,
    /// Taken out while it is used: the kernel asks one after the other.
    state: Mutex<Option<Cursor>>,
}

/// The listing, and the number of its next entry.
struct Cursor {
    listing: Listing,
    next: u64,
    /// What the kernel had no room for.
    left: Option<FileStatus>,
}

/// One entry of a listing.
pub(crate) struct Entry {
    /// By which the listing goes on behind it.
    pub(crate) position: u64,
    pub(crate) name: String,
    pub(crate) attributes: FileAttr,
}

impl FolderHandle {
    /// One that a process before this one had open: its listing begins anew.
    pub(super) fn left(client: Client, number: u64) -> Self {
        Self { client, number, state: Mutex::default() }
    }
}

/// Numbers of `.` and `..`.
const DOTS: u64 = 2;

impl Mount {
    /// `request`: by which the kernel wants it.
    pub(crate) async fn open_folder(&self, caller: Caller, number: u64, request: u64) -> Answer<u64> {
        if let Some((handle, _)) = self.handles.opened_before(request) {
            return Ok(handle);
        }
        let client = self.client(caller).await?;
        let mut cursor = self.cursor(&client, number);
        // The first page tells whether the folder is there and may be read.
        cursor.left =
            cursor.listing.try_next().await.map_err(|error| super::by_number("a listing", &error))?;
        let handle = FolderHandle { client, number, state: Mutex::new(Some(cursor)) };
        let slot = Slot {
            inode: number,
            user: caller.user,
            flags: 0,
            kind: SlotKind::Folder,
            unlinked: false,
            alias: 0,
            backing: None,
            request,
        };
        self.handles.add(Handle::Folder(Arc::new(handle)), slot)
    }

    fn cursor(&self, client: &Client, number: u64) -> Cursor {
        let listing = client.list(&self.path(number));
        Cursor { listing: listing.boxed(), next: DOTS, left: None }
    }

    /// Entries behind `position`, as many as fit: `take` answers whether it has room for one more.
    pub(crate) async fn read_folder(
        &self,
        folder: &FolderHandle,
        position: u64,
        mut take: impl FnMut(&Entry) -> bool,
    ) -> Answer<()> {
        let mut at = position;
        while at < DOTS {
            let dot = self.dot(folder, at).await?;
            if !take(&dot) {
                return Ok(());
            }
            at += 1;
        }
        let cursor = folder.state.lock().take().filter(|cursor| cursor.next == at);
        let mut cursor = match cursor {
            Some(cursor) => cursor,
            None => self.skipped(folder, at).await?,
        };
        for _ in 0..MAX_ENTRIES {
            let status = match cursor.left.take() {
                Some(status) => status,
                None => match cursor.listing.try_next().await {
                    Ok(Some(status)) => status,
                    Ok(None) => break,
                    Err(error) => return Err(failed("a listing", &error)),
                },
            };
            let entry = Entry {
                position: cursor.next + 1,
                name: status.name().to_owned(),
                attributes: self.attributes(&folder.client, &status).await,
            };
            if !take(&entry) {
                cursor.left = Some(status);
                break;
            }
            cursor.next += 1;
        }
        *folder.state.lock() = Some(cursor);
        Ok(())
    }

    /// A listing from its start, wound forward: for who jumps, or goes on with a listing that another process began.
    async fn skipped(&self, folder: &FolderHandle, at: u64) -> Answer<Cursor> {
        let mut cursor = self.cursor(&folder.client, folder.number);
        while cursor.next < at {
            match cursor.listing.try_next().await {
                Ok(Some(_)) => cursor.next += 1,
                Ok(None) => break,
                Err(error) => return Err(failed("a listing", &error)),
            }
        }
        cursor.next = at;
        Ok(cursor)
    }

    async fn dot(&self, folder: &FolderHandle, at: u64) -> Answer<Entry> {
        // What is above is not known by its number; nobody relies on the number of `..` in a listing.
        let number = if at == 0 { folder.number } else { ROOT };
        let attributes = self.stat(&folder.client, folder.number).await?;
        let attributes = FileAttr { ino: fuser::INodeNo(number), ..attributes };
        Ok(Entry { position: at + 1, name: [".", ".."][at as usize].to_owned(), attributes })
    }
}
