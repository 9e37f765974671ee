//! Hearing of changes as they happen.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, InodeId};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::change::Kind;
use steadfs_proto::steadfs::watch_response::Item;
use tonic::Streaming;

use crate::Client;
use crate::backoff::Backoff;
use crate::calls::may_repeat;
use crate::client::Inner;
use crate::types::foreign;

/// A server says something at least every 2 seconds. One that was silent for so long is taken for gone.
const SILENCE: Duration = Duration::from_secs(6);
/// Waits between tries to connect again.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What to hear of: what happens in and below a folder, or to some inodes, or both.
#[derive(Clone, Debug, Default)]
pub struct WatchFilter {
    /// Changes in and below this folder, or of this file.
    pub below: Option<String>,
    /// Changes of these inodes, and of what lies directly in them: 65,536 at most, for superusers.
    pub inodes: Vec<InodeId>,
}

/// What a watcher hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// This happened.
    Changed(Change),
    /// All that happened up to this transaction was told: what is cached is true as of then.
    Current(u64),
    /// Changes were missed: whatever is cached may be wrong. Those behind this transaction are told again.
    Lost(u64),
    /// The server is not heard of any more, for up to 6 seconds already: whatever is cached may be wrong until the next
    /// [`Watched::Current`]; changes meanwhile are told before that, or [`Watched::Lost`] is.
    Disconnected,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Under this transaction. Several things may happen under one.
    pub transaction: u64,
    /// To this.
    pub inode: InodeId,
    /// Which lay in this folder.
    pub parent: InodeId,
    /// Where it lay; none for users who may not pass everywhere.
    pub path: Option<FsPath>,
    /// A file's [`FileStatus::content_version`](crate::FileStatus::content_version) afterwards.
    pub content_version: u64,
    /// What.
    pub kind: ChangeKind,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was made.
    Created {
        /// A folder, or a file.
        directory: bool,
        /// The file that was there before and is gone.
        replaced: Option<InodeId>,
    },
    /// Its writer closed it.
    Closed {
        /// Its bytes; 0 if they are not told.
        length: u64,
    },
    /// It is written on.
    Appended,
    /// It was cut.
    Truncated {
        /// To so many bytes.
        length: u64,
    },
    /// It lies elsewhere now.
    Renamed {
        /// Where; none for users who may not pass everywhere.
        to: Option<FsPath>,
        /// In this folder.
        parent: InodeId,
        /// In place of this, which is gone.
        replaced: Option<InodeId>,
    },
    /// It is gone, with all below it.
    Unlinked,
    /// Its mode, owner, times, lists, attributes or quota changed.
    Metadata,
    /// It is being written, and so many bytes are known now.
    Flushed {
        /// The bytes.
        length: u64,
    },
}

impl Change {
    fn from_proto(transaction: u64, change: pb::Change) -> FsResult<Option<Self>> {
        let id = |number: u64| (number != 0).then_some(InodeId(number));
        let path = |text: &str| {
            // A path as it is there: a rename far up may have made it longer than one may ask for.
            let names = text.split('/').filter(|name| !name.is_empty()).map(steadfs_common::Name::new);
            if text.is_empty() { Ok(None) } else { names.collect::<FsResult<FsPath>>().map(Some) }
        };
        let (length, replaced) = (change.length, id(change.replaced));
        let kind = match change.kind() {
            // A newer server tells of things that we do not know.
            Kind::Unknown => return Ok(None),
            Kind::Create => ChangeKind::Created { directory: change.directory, replaced },
            Kind::Close => ChangeKind::Closed { length },
            Kind::Append => ChangeKind::Appended,
            Kind::Truncate => ChangeKind::Truncated { length },
            Kind::Rename => {
                ChangeKind::Renamed { to: path(&change.to)?, parent: InodeId(change.to_parent), replaced }
            }
            Kind::Unlink => ChangeKind::Unlinked,
            Kind::Metadata => ChangeKind::Metadata,
            Kind::Flushed => ChangeKind::Flushed { length },
        };
        Ok(Some(Self {
            transaction,
            inode: InodeId(change.inode),
            parent: InodeId(change.parent),
            path: path(&change.path)?,
            content_version: change.content_version,
            kind,
        }))
    }
}

impl Client {
    /// Hears of changes as they happen: behind transaction `after` (one that an earlier watcher was told), or from now on.
    /// Usually within some 20 ms of the change being answered; see [`Watched`] for what is promised.
    ///
    /// The stream connects again by itself when the server goes away, and goes on where it was. It ends with an error that
    /// trying again would not mend.
    ///
    /// # Errors
    /// As items: `AccessDenied` if the caller may not list the folder, or names inodes without being a superuser;
    /// `NotFound`.
    pub fn watch(
        &self,
        filter: WatchFilter,
        after: Option<u64>,
    ) -> impl Stream<Item = FsResult<Watched>> + Send + use<> {
        let request = pb::WatchRequest {
            after: after.unwrap_or_default(),
            below: filter.below.unwrap_or_default(),
            inodes: filter.inodes.iter().map(|id| id.0).collect(),
        };
        let waits = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let watch =
            Watch { inner: self.inner.clone(), request, stream: None, told: Vec::new(), waits, ended: false };
        futures::stream::unfold(watch, |mut watch| async move {
            let item = watch.next().await?;
            Some((item, watch))
        })
    }
}

struct Watch {
    inner: Arc<Inner>,
    request: pb::WatchRequest,
    stream: Option<Streaming<pb::WatchResponse>>,
    /// What is to be told next, the last first.
    told: Vec<Watched>,
    waits: Backoff,
    ended: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<FsResult<Watched>> {
        loop {
            if let Some(watched) = self.told.pop() {
                return Some(Ok(watched));
            }
            if self.ended {
                return None;
            }
            match self.hear().await {
                Ok(()) => {}
                Err(error) if may_repeat(error.kind()) => {
                    tracing::debug!(%error, "nothing is heard of changes: trying again");
                    let was_heard = self.stream.take().is_some();
                    if was_heard {
                        return Some(Ok(Watched::Disconnected));
                    }
                    tokio::time::sleep(self.waits.next_wait()).await;
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Connects if need be, and takes what the server says next.
    async fn hear(&mut self) -> FsResult<()> {
        let calls = &self.inner.calls;
        let Some(stream) = &mut self.stream else {
            let mut client = calls.mounts_client();
            let call = client.watch(calls.request(self.request.clone()));
            let answer = tokio::time::timeout(SILENCE, call).await.map_err(|_| silent())?;
            self.stream = Some(answer.map_err(|status| calls.error_of(&status))?.into_inner());
            self.waits = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
            return Ok(());
        };
        let next = tokio::time::timeout(SILENCE, stream.message()).await.map_err(|_| silent())?;
        let message = next.map_err(|status| calls.error_of(&status))?.ok_or_else(stopped)?;
        match message.item.ok_or_else(|| foreign("item"))? {
            Item::Changed(changed) => {
                for change in changed.changes.into_iter().rev() {
                    self.told.extend(Change::from_proto(changed.transaction, change)?.map(Watched::Changed));
                }
                self.request.after = changed.transaction;
            }
            Item::Lost(lost) => {
                self.told.push(Watched::Lost(lost.transaction));
                self.request.after = lost.transaction;
            }
            Item::Heartbeat(heartbeat) => {
                self.told.push(Watched::Current(heartbeat.transaction));
                self.request.after = heartbeat.transaction;
            }
        }
        Ok(())
    }
}

fn silent() -> FsError {
    FsError::new(FsErrorKind::Timeout, "the namenode is silent: nothing is heard of changes")
}

fn stopped() -> FsError {
    FsError::new(FsErrorKind::Stopping, "the namenode has stopped telling of changes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_were_meant() {
        let change = pb::Change {
            kind: Kind::Rename.into(),
            inode: 7,
            parent: 2,
            path: "/a/b".into(),
            to: "/c".into(),
            to_parent: 1,
            replaced: 9,
            ..pb::Change::default()
        };
        let read = Change::from_proto(5, change.clone()).unwrap().unwrap();
        assert_eq!((read.transaction, read.inode, read.parent), (5, InodeId(7), InodeId(2)));
        let to = Some("/c".parse().unwrap());
        assert_eq!(read.kind, ChangeKind::Renamed { to, parent: InodeId(1), replaced: Some(InodeId(9)) });
        let unknown = pb::Change { kind: 99, ..change };
        assert_eq!(Change::from_proto(5, unknown).unwrap(), None);
        let secret = pb::Change { kind: Kind::Unlink.into(), ..pb::Change::default() };
        assert_eq!(Change::from_proto(5, secret).unwrap().unwrap().path, None);
    }
}
