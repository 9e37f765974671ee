//! What mounts need beyond files and folders.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use steadfs_common::{FsError, FsErrorKind, FsResult, InodeId, TxId};
use steadfs_namenode_core::command::Command;
use steadfs_namenode_core::event::{Event, EventKind};
use steadfs_namenode_core::locks::{ByteRange, LockKind, LockMode, LockOwner, LockRequest, SessionId};
use steadfs_proto::convert::{path, principal};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::lock_response::Outcome;
use steadfs_proto::steadfs::mounts_server::Mounts;
use steadfs_proto::steadfs::{change::Kind, watch_response::Item};
use tonic::{Request, Status};

use super::Answer;
use super::convert::{as_bool, as_file, inode_status, plain_block};
use crate::locks::LockOutcome;
use crate::service::Service;
use crate::service::locks::{NamedOpen, SessionState};
use crate::service::watch::{Filter, Heard};

pub(super) struct MountsDoor {
    pub(super) service: Arc<Service>,
}

fn heard(heard: Heard, paths: bool) -> pb::WatchResponse {
    let item = match heard {
        Heard::Changed(tx, events) => Item::Changed(pb::Changed {
            transaction: tx.0,
            changes: events.iter().map(|event| change(event, paths)).collect(),
        }),
        Heard::Lost(tx) => Item::Lost(pb::Lost { transaction: tx.0 }),
        Heard::Nothing(tx) => Item::Heartbeat(pb::Heartbeat { transaction: tx.0 }),
    };
    pb::WatchResponse { item: Some(item) }
}

/// Files named by one call at most.
const MAX_KEPT: usize = 1_024;

/// A change; its paths are for those who may pass everywhere.
fn change(event: &Event, paths: bool) -> pb::Change {
    let shown = |path: &steadfs_common::FsPath| if paths { path.to_string() } else { String::new() };
    let mut change = pb::Change {
        inode: event.inode.0,
        parent: event.parent.0,
        path: shown(&event.path),
        content_version: event.content.0,
        ..pb::Change::default()
    };
    let id = |inode: Option<InodeId>| inode.map_or(0, |inode| inode.0);
    let kind = match &event.kind {
        EventKind::Create(made) => {
            (change.directory, change.replaced) = (made.directory, id(made.replaced));
            Kind::Create
        }
        EventKind::Close { length, .. } => {
            change.length = length.unwrap_or_default();
            Kind::Close
        }
        EventKind::Append { .. } => Kind::Append,
        EventKind::Truncate { length, .. } => {
            change.length = *length;
            Kind::Truncate
        }
        EventKind::Rename { to, parent, replaced, .. } => {
            (change.to, change.to_parent, change.replaced) = (shown(to), parent.0, id(*replaced));
            Kind::Rename
        }
        EventKind::Unlink { .. } => Kind::Unlink,
        EventKind::Metadata(_) => Kind::Metadata,
        EventKind::Flushed { length } => {
            change.length = *length;
            Kind::Flushed
        }
    };
    change.kind = kind.into();
    change
}

fn range(first: u64, last: u64) -> FsResult<ByteRange> {
    ByteRange::new(first, last)
        .ok_or_else(|| FsError::invalid_argument(format!("bytes {first} to {last} are no range")))
}

const fn kind(kind: pb::LockKind) -> LockKind {
    match kind {
        pb::LockKind::Flock => LockKind::Flock,
        pb::LockKind::Range => LockKind::Range,
    }
}

const fn owner(session: u64, owner: u64) -> LockOwner {
    LockOwner { session: SessionId(session), owner }
}

fn lock_request(message: &pb::LockRequest) -> FsResult<LockRequest> {
    let kind = kind(message.kind());
    Ok(LockRequest {
        inode: InodeId(message.inode),
        kind,
        owner: owner(message.session, message.owner),
        mode: if message.exclusive { LockMode::Exclusive } else { LockMode::Shared },
        range: if kind == LockKind::Flock { ByteRange::WHOLE } else { range(message.first, message.last)? },
        pid: message.pid,
    })
}

fn outcome(outcome: LockOutcome) -> pb::LockResponse {
    let mut response = pb::LockResponse::default();
    let outcome = match outcome {
        LockOutcome::Granted => Outcome::Granted,
        LockOutcome::Blocked(blocker) => {
            response.exclusive = blocker.mode == LockMode::Exclusive;
            (response.first, response.last) = (blocker.range.first, blocker.range.last);
            (response.pid, response.session) = (blocker.pid, blocker.owner.session.0);
            Outcome::Blocked
        }
        LockOutcome::Waiting => Outcome::Waiting,
        LockOutcome::Deadlock => Outcome::Deadlock,
        LockOutcome::TooMany => Outcome::TooMany,
        LockOutcome::Grace => Outcome::Grace,
        LockOutcome::Cancelled => Outcome::Cancelled,
    };
    response.outcome = outcome.into();
    response
}

fn session(state: SessionState) -> pb::LockSessionResponse {
    pb::LockSessionResponse {
        session: state.id.0,
        lease_ms: state.lease.as_millis() as u64,
        life: state.life,
    }
}

#[tonic::async_trait]
impl Mounts for MountsDoor {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Answer<Self::WatchStream> {
        answer!(self, request, |who, message| {
            let below = if message.below.is_empty() { None } else { Some(path(&message.below)?) };
            let filter = Filter { below, inodes: message.inodes.into_iter().map(InodeId).collect() };
            let after = (message.after != 0).then_some(TxId(message.after));
            let paths = who.superuser;
            let stream = self.service.follow(&who, filter, after).await?;
            let stream = stream.map(move |what| Ok(heard(what, paths)));
            Ok(Box::pin(stream) as Self::WatchStream)
        })
    }

    async fn stage(&self, request: Request<pb::StageRequest>) -> Answer<pb::StageResponse> {
        answer!(self, request, |who, message| {
            let (path, client) = (path(&message.path)?, principal("client", &message.client)?);
            let command = Command::Stage { path, client, block_size: message.block_size };
            let inode = as_file(self.service.submit(&who, None, command).await?)?;
            Ok(pb::StageResponse { status: Some(inode_status(&inode, "")) })
        })
    }

    async fn replace_content(&self, request: Request<pb::ReplaceContentRequest>) -> Answer<pb::BoolResponse> {
        answer!(self, request, |who, message| {
            let command = Command::ReplaceContent {
                path: path(&message.path)?,
                staged: InodeId(message.staged),
                client: principal("client", &message.client)?,
                last: message.last.map(plain_block),
                expected: (message.expected_version != 0).then_some(TxId(message.expected_version)),
            };
            Ok(pb::BoolResponse { result: as_bool(&self.service.submit(&who, None, command).await?)? })
        })
    }

    async fn drop_staged(&self, request: Request<pb::DropStagedRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let (staged, client) = (InodeId(message.staged), principal("client", &message.client)?);
            self.service.submit(&who, None, Command::DropStaged { staged, client }).await?;
            Ok(pb::Empty {})
        })
    }

    async fn open_lock_session(
        &self,
        request: Request<pb::OpenLockSessionRequest>,
    ) -> Answer<pb::LockSessionResponse> {
        answer!(self, request, |who, message| {
            let client = principal("client", &message.client)?;
            self.service.open_lock_session(&who, client).await.map(session)
        })
    }

    async fn renew_lock_session(
        &self,
        request: Request<pb::LockSessionRequest>,
    ) -> Answer<pb::LockSessionResponse> {
        answer!(self, request, |who, message| {
            let id = SessionId(message.session);
            self.service.renew_lock_session(&who, id, message.reclaimed).map(session)
        })
    }

    async fn close_lock_session(&self, request: Request<pb::LockSessionRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            self.service.close_lock_session(&who, SessionId(message.session)).await?;
            Ok(pb::Empty {})
        })
    }

    async fn keep_open(&self, request: Request<pb::KeepOpenRequest>) -> Answer<pb::KeepOpenResponse> {
        answer!(self, request, |who, message| {
            if message.files.len().max(message.released.len()) > MAX_KEPT {
                return Err(FsError::new(FsErrorKind::InvalidRequest, "field `files`: too many"));
            }
            let inodes = |ids: Vec<u64>| ids.into_iter().map(InodeId).collect();
            let (files, released) = (inodes(message.files), inodes(message.released));
            let named = NamedOpen { files, released, begins: message.begin, ended: message.end };
            let (state, gone) = self.service.keep_open(&who, SessionId(message.session), named).await?;
            Ok(pb::KeepOpenResponse {
                lease_ms: state.lease.as_millis() as u64,
                life: state.life,
                gone: gone.into_iter().map(|file| file.0).collect(),
            })
        })
    }

    async fn lock(&self, request: Request<pb::LockRequest>) -> Answer<pb::LockResponse> {
        answer!(self, request, |who, message| {
            let wanted = lock_request(&message)?;
            let wait = Duration::from_millis(message.wait_ms.into());
            let service = &self.service;
            service.lock(&who, wanted, message.request, wait, message.reclaim).await.map(outcome)
        })
    }

    async fn unlock(&self, request: Request<pb::UnlockRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let kind = kind(message.kind());
            let bytes = match kind {
                LockKind::Flock => ByteRange::WHOLE,
                LockKind::Range => range(message.first, message.last)?,
            };
            let owner = owner(message.session, message.owner);
            self.service.unlock(&who, InodeId(message.inode), kind, owner, bytes)?;
            Ok(pb::Empty {})
        })
    }

    async fn test_lock(&self, request: Request<pb::LockRequest>) -> Answer<pb::LockResponse> {
        answer!(self, request, |who, message| {
            self.service.test_lock(&who, &lock_request(&message)?).await.map(outcome)
        })
    }

    async fn cancel_lock(&self, request: Request<pb::CancelLockRequest>) -> Answer<pb::LockResponse> {
        answer!(self, request, |who, message| {
            if message.request == 0 {
                return Err(FsError::new(FsErrorKind::InvalidRequest, "field `request`: is missing"));
            }
            let session = SessionId(message.session);
            self.service.cancel_lock(&who, session, message.request).map(outcome)
        })
    }
}
