//! Files and folders, for our own clients.

use std::sync::Arc;

use steadfs_common::limits::LISTING_PAGE;
use steadfs_common::{FsError, FsPath, FsResult, Millis};
use steadfs_namenode_core::command::{Command, NewTimes, RenameMode};
use steadfs_namenode_core::namespace::quota;
use steadfs_namenode_core::{Caller, Reply};
use steadfs_proto::convert::{call_key, datanode_uuids, path, principal, required, storage_id, storage_ids};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::namespace_server::Namespace;
use tonic::Request;

use super::convert::{
    as_appended, as_block, as_bool, as_file, block_ref, file_blocks, file_ref, inode_status, located, mode,
    plain_block, replication, stats, status,
};
use super::{Answer, quotas, reply};
use crate::service::{FileStatus, Listing, Service};

/// Blocks whose places a reader is told when it does not say how many it wants.
const OPEN_BLOCKS: u64 = 10;

pub(super) struct NamespaceDoor {
    pub(super) service: Arc<Service>,
}

impl NamespaceDoor {
    /// Carries out a change of which nothing but success is told.
    async fn change(&self, caller: &Caller, command: Command) -> FsResult<pb::Empty> {
        self.service.submit(caller, None, command).await.map(|_| pb::Empty {})
    }

    /// Carries out a change of attributes, and tells what is there then.
    async fn change_told(
        &self,
        caller: &Caller,
        command: Command,
        path: &FsPath,
    ) -> FsResult<pb::StatResponse> {
        self.service.submit(caller, None, command).await?;
        Ok(match self.service.status_after(caller, path).await {
            Some(found) => self.told(&found).await,
            None => pb::StatResponse::default(),
        })
    }

    async fn told(&self, found: &FileStatus) -> pb::StatResponse {
        let nameless = self.service.is_nameless(&found.inode).await;
        pb::StatResponse { status: Some(pb::FileStatus { nameless, ..status(found) }) }
    }

    fn placed(&self, answer: Reply) -> FsResult<Option<pb::LocatedBlock>> {
        Ok(Some(located(&self.service.located(&as_block(answer)?))))
    }

    async fn create_file(&self, caller: &Caller, request: pb::CreateRequest) -> FsResult<pb::CreateResponse> {
        let defaults = self.service.defaults();
        let client = principal("client", &request.client)?;
        let wanted = replication(request.replication)?;
        let at = path(&request.path)?;
        let command = Command::Create {
            path: at.clone(),
            mode: mode(request.mode)?,
            unmasked: request.unmasked.map(mode).transpose()?,
            client: client.clone(),
            create: true,
            overwrite: request.overwrite,
            create_parent: request.create_parent,
            replication: if wanted == 0 { defaults.replication } else { wanted },
            block_size: if request.block_size == 0 { defaults.block_size } else { request.block_size },
            policy: match request.storage_policy.as_str() {
                "" => 0,
                name => quota::named(name)?.id,
            },
        };
        let key = call_key(request.key.as_ref())?;
        let (created, placed) = if request.first_block {
            self.service.create_with_block(caller, key, command, &at, &client).await?
        } else {
            (self.service.submit(caller, key, command).await?, None)
        };
        let inode = as_file(created)?;
        // The file is there: what is wrong with its first block is told to who has something to write.
        let block = match placed {
            Some(placed) => placed.and_then(|placed| self.placed(placed)).unwrap_or_else(|error| {
                tracing::debug!(%error, "a new file has no first block yet");
                None
            }),
            None => None,
        };
        Ok(pb::CreateResponse { status: Some(inode_status(&inode, "")), block })
    }
}

/// The page as a message. It ends early once it holds many places: an answer stays within what a client reads.
fn listing(page: &Listing) -> pb::ListResponse {
    let mut places = 0;
    let mut entries = Vec::with_capacity(page.entries.len());
    for entry in &page.entries {
        let blocks = entry.blocks.as_ref().map(|blocks| &blocks.blocks[..]).unwrap_or_default();
        places += blocks.iter().map(|block| block.locations.len()).sum::<usize>();
        entries.push(pb::ListEntry {
            status: Some(status(entry)),
            blocks: blocks.iter().map(located).collect(),
        });
        if places > LISTING_PAGE {
            break;
        }
    }
    let more = page.remaining > 0 || entries.len() < page.entries.len();
    pb::ListResponse { entries, more }
}

const fn rename_mode(mode: pb::RenameMode) -> RenameMode {
    match mode {
        pb::RenameMode::Classic => RenameMode::Classic,
        pb::RenameMode::NoReplace => RenameMode::NoReplace,
        pb::RenameMode::Overwrite => RenameMode::Overwrite,
    }
}

fn optional(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[tonic::async_trait]
impl Namespace for NamespaceDoor {
    async fn get_defaults(&self, _: Request<pb::GetDefaultsRequest>) -> Answer<pb::GetDefaultsResponse> {
        let defaults = self.service.defaults();
        reply(Ok(pb::GetDefaultsResponse {
            block_size: defaults.block_size,
            replication: defaults.replication.into(),
            bytes_per_checksum: defaults.bytes_per_checksum,
            packet_size: defaults.packet_size,
            block_pool: defaults.block_pool,
            min_block_size: defaults.min_block_size,
            version: defaults.version.into(),
            lease_soft_limit_ms: defaults.lease_soft_limit.as_millis() as u64,
            lease_hard_limit_ms: defaults.lease_hard_limit.as_millis() as u64,
            cluster_id: defaults.cluster_id,
            trash_minutes: defaults.trash_minutes,
        }))
    }

    async fn stat(&self, request: Request<pb::StatRequest>) -> Answer<pb::StatResponse> {
        answer!(self, request, |who, message| {
            let path = path(&message.path)?;
            let found = self.service.status(&who, &path).await?.ok_or_else(|| FsError::not_found(&path))?;
            Ok(self.told(&found).await)
        })
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Answer<pb::ListResponse> {
        answer!(self, request, |who, message| {
            let path = path(&message.path)?;
            let limit = match message.limit as usize {
                0 => LISTING_PAGE,
                limit => limit.min(LISTING_PAGE),
            };
            let after = message.start_after.as_bytes();
            let page = self.service.list(&who, &path, after, limit, message.locations).await?;
            page.as_ref().map(listing).ok_or_else(|| FsError::not_found(&path))
        })
    }

    async fn open(&self, request: Request<pb::OpenRequest>) -> Answer<pb::OpenResponse> {
        answer!(self, request, |who, message| {
            let file = file_ref(&message.path, 0)?;
            let length = match message.length {
                0 => self.service.defaults().block_size.saturating_mul(OPEN_BLOCKS),
                length => length,
            };
            let (found, blocks) = self.service.locations(&who, &file, message.offset, length).await?;
            let nameless = self.service.is_nameless(&found.inode).await;
            let status = pb::FileStatus { nameless, ..status(&found) };
            Ok(pb::OpenResponse { status: Some(status), blocks: Some(file_blocks(&blocks)) })
        })
    }

    async fn get_blocks(&self, request: Request<pb::GetBlocksRequest>) -> Answer<pb::GetBlocksResponse> {
        answer!(self, request, |who, message| {
            let file = file_ref(&message.path, 0)?;
            let (found, blocks) = self.service.locations(&who, &file, message.offset, message.length).await?;
            if message.inode != 0 && found.inode.id.0 != message.inode {
                return Err(FsError::not_found(format_args!("{} (another file is there now)", file.path)));
            }
            Ok(pb::GetBlocksResponse { blocks: Some(file_blocks(&blocks)) })
        })
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> Answer<pb::CreateResponse> {
        answer!(self, request, |who, message| self.create_file(&who, message).await)
    }

    async fn append(&self, request: Request<pb::AppendRequest>) -> Answer<pb::AppendResponse> {
        answer!(self, request, |who, message| {
            let command = Command::Append {
                path: path(&message.path)?,
                client: principal("client", &message.client)?,
                new_block: false,
            };
            let key = call_key(message.key.as_ref())?;
            let (inode, last) = as_appended(self.service.submit(&who, key, command).await?)?;
            let last = last.map(|placed| located(&self.service.located(&placed)));
            Ok(pb::AppendResponse { status: Some(inode_status(&inode, "")), last })
        })
    }

    async fn add_block(&self, request: Request<pb::AddBlockRequest>) -> Answer<pb::AddBlockResponse> {
        answer!(self, request, |who, message| {
            let command = Command::AddBlock {
                file: file_ref(&message.path, message.inode)?,
                client: principal("client", &message.client)?,
                previous: message.previous.map(plain_block),
                excluded: datanode_uuids("excluded", &message.excluded)?,
                favored: Vec::new(),
                avoid_local: false,
            };
            let answer = self.service.submit(&who, None, command).await?;
            Ok(pb::AddBlockResponse { block: self.placed(answer)? })
        })
    }

    async fn abandon_block(&self, request: Request<pb::AbandonBlockRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let file = file_ref(&message.path, message.inode)?;
            let client = principal("client", &message.client)?;
            let block = block_ref("block", message.block)?;
            self.change(&who, Command::AbandonBlock { file, client, block }).await
        })
    }

    async fn complete(&self, request: Request<pb::CompleteRequest>) -> Answer<pb::CompleteResponse> {
        answer!(self, request, |who, message| {
            let file = file_ref(&message.path, message.inode)?;
            let client = principal("client", &message.client)?;
            let last = message.last.map(plain_block);
            let times = NewTimes { mtime: message.mtime.map(Millis), atime: message.atime.map(Millis) };
            let command = Command::Complete { file, client, last, times };
            let answer = self.service.submit(&who, None, command).await?;
            Ok(pb::CompleteResponse { done: as_bool(&answer)? })
        })
    }

    async fn fsync(&self, request: Request<pb::FsyncRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let file = file_ref(&message.path, message.inode)?;
            let client = principal("client", &message.client)?;
            let last_block_length = Some(message.last_block_length);
            let synced = Some(!message.flushed_only);
            self.change(&who, Command::Fsync { file, client, last_block_length, synced }).await
        })
    }

    async fn new_stamp(&self, request: Request<pb::NewStampRequest>) -> Answer<pb::NewStampResponse> {
        answer!(self, request, |who, message| {
            let block = block_ref("block", message.block)?;
            let client = principal("client", &message.client)?;
            let answer =
                self.service.submit(&who, None, Command::UpdateBlockForPipeline { block, client }).await?;
            Ok(pb::NewStampResponse { block: self.placed(answer)? })
        })
    }

    async fn update_pipeline(&self, request: Request<pb::UpdatePipelineRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let command = Command::UpdatePipeline {
                client: principal("client", &message.client)?,
                old: block_ref("old", message.old)?,
                new: block_ref("new", message.new)?,
                storages: storage_ids("storage_ids", &message.storage_ids)?,
                synced: message.synced_length,
            };
            let key = call_key(message.key.as_ref())?;
            self.service.submit(&who, key, command).await.map(|_| pb::Empty {})
        })
    }

    async fn additional_datanode(
        &self,
        request: Request<pb::AdditionalDatanodeRequest>,
    ) -> Answer<pb::AdditionalDatanodeResponse> {
        answer!(self, request, |who, message| {
            let file = file_ref(&message.path, message.inode)?;
            let client = principal("client", &message.client)?;
            let block = block_ref("block", message.block)?;
            let existing = storage_ids("existing_storages", &message.existing_storages)?;
            let excluded = datanode_uuids("excluded", &message.excluded)?;
            let service = &self.service;
            let found =
                service.additional_datanode(&who, &file, &client, block, &existing, &excluded, 1).await?;
            Ok(pb::AdditionalDatanodeResponse { block: Some(located(&found)) })
        })
    }

    async fn renew_lease(&self, request: Request<pb::RenewLeaseRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            self.service.renew_lease(&who, &principal("client", &message.client)?);
            Ok(pb::Empty {})
        })
    }

    async fn recover_lease(&self, request: Request<pb::PathRequest>) -> Answer<pb::BoolResponse> {
        answer!(self, request, |who, message| {
            let command = Command::RecoverLease { path: path(&message.path)? };
            let answer = self.service.submit(&who, None, command).await?;
            Ok(pb::BoolResponse { result: as_bool(&answer)? })
        })
    }

    async fn mkdirs(&self, request: Request<pb::MkdirsRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let (path, mode, unmasked) =
                (path(&message.path)?, mode(message.mode)?, message.unmasked.map(mode).transpose()?);
            if message.exclusive {
                let key = call_key(message.key.as_ref())?;
                let command = Command::MakeFolder { path, mode, unmasked };
                return self.service.submit(&who, key, command).await.map(|_| pb::Empty {});
            }
            let create_parent = message.create_parent;
            self.change(&who, Command::Mkdirs { path, mode, unmasked, create_parent }).await
        })
    }

    async fn rename(&self, request: Request<pb::RenameRequest>) -> Answer<pb::BoolResponse> {
        answer!(self, request, |who, message| {
            let mode = rename_mode(message.mode());
            let (from, to) = (path(&message.from)?, path(&message.to)?);
            let key = call_key(message.key.as_ref())?;
            let command = Command::Rename { from, to, mode, to_trash: message.to_trash };
            let answer = self.service.submit(&who, key, command).await?;
            // The second form has errors where the first has `false`, and nothing to say otherwise.
            let result = if mode == RenameMode::Classic { as_bool(&answer)? } else { true };
            Ok(pb::BoolResponse { result })
        })
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Answer<pb::BoolResponse> {
        answer!(self, request, |who, message| {
            let command = Command::Delete { path: path(&message.path)?, recursive: message.recursive };
            let key = call_key(message.key.as_ref())?;
            let answer = self.service.submit(&who, key, command).await?;
            Ok(pb::BoolResponse { result: as_bool(&answer)? })
        })
    }

    async fn concat(&self, request: Request<pb::ConcatRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let target = path(&message.target)?;
            let sources = message.sources.iter().map(|source| path(source)).collect::<FsResult<_>>()?;
            let key = call_key(message.key.as_ref())?;
            let answer = self.service.submit(&who, key, Command::Concat { target, sources }).await;
            answer.map(|_| pb::Empty {})
        })
    }

    async fn truncate(&self, request: Request<pb::TruncateRequest>) -> Answer<pb::BoolResponse> {
        answer!(self, request, |who, message| {
            let (path, client) = (path(&message.path)?, principal("client", &message.client)?);
            let command = Command::Truncate { path, length: message.length, client };
            let answer = self.service.submit(&who, None, command).await?;
            Ok(pb::BoolResponse { result: as_bool(&answer)? })
        })
    }

    async fn set_permission(&self, request: Request<pb::SetPermissionRequest>) -> Answer<pb::StatResponse> {
        answer!(self, request, |who, message| {
            let (at, mode) = (path(&message.path)?, mode(message.mode)?);
            self.change_told(&who, Command::SetPermission { path: at.clone(), mode }, &at).await
        })
    }

    async fn set_owner(&self, request: Request<pb::SetOwnerRequest>) -> Answer<pb::StatResponse> {
        answer!(self, request, |who, message| {
            let named = |field, text: String| optional(text).map(|text| principal(field, &text)).transpose();
            let (owner, group) = (named("owner", message.owner)?, named("group", message.group)?);
            let at = path(&message.path)?;
            self.change_told(&who, Command::SetOwner { path: at.clone(), owner, group }, &at).await
        })
    }

    async fn set_times(&self, request: Request<pb::SetTimesRequest>) -> Answer<pb::StatResponse> {
        answer!(self, request, |who, message| {
            let (mtime, atime) = (message.mtime.map(Millis), message.atime.map(Millis));
            let at = path(&message.path)?;
            self.change_told(&who, Command::SetTimes { path: at.clone(), mtime, atime }, &at).await
        })
    }

    async fn set_replication(&self, request: Request<pb::SetReplicationRequest>) -> Answer<pb::BoolResponse> {
        answer!(self, request, |who, message| {
            let (path, replication) = (path(&message.path)?, replication(message.replication)?);
            let answer =
                self.service.submit(&who, None, Command::SetReplication { path, replication }).await?;
            Ok(pb::BoolResponse { result: as_bool(&answer)? })
        })
    }

    async fn content_summary(&self, request: Request<pb::PathRequest>) -> Answer<pb::ContentSummaryResponse> {
        answer!(self, request, |who, message| {
            let sums = self.service.content_summary(&who, &path(&message.path)?).await?;
            Ok(quotas::content_summary(&sums))
        })
    }

    async fn set_quota(&self, request: Request<pb::SetQuotaRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let command = quotas::set_quota(&message)?;
            self.change(&who, command).await
        })
    }

    async fn set_storage_policy(&self, request: Request<pb::SetStoragePolicyRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let policy = optional(message.policy);
            self.service.set_storage_policy(&who, path(&message.path)?, policy).await?;
            Ok(pb::Empty {})
        })
    }

    async fn get_storage_policy(
        &self,
        request: Request<pb::PathRequest>,
    ) -> Answer<pb::StoragePolicyResponse> {
        answer!(self, request, |who, message| {
            let found = self.service.storage_policy(&who, &path(&message.path)?).await?;
            Ok(pb::StoragePolicyResponse { policy: found.map_or("", |policy| policy.name).to_owned() })
        })
    }

    async fn fs_stats(&self, _: Request<pb::Empty>) -> Answer<pb::FsStatsResponse> {
        reply(Ok(stats(&self.service.fs_stats())))
    }

    async fn report_bad_replicas(&self, request: Request<pb::ReportBadReplicasRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let mut bad = Vec::with_capacity(message.blocks.len());
            for found in message.blocks {
                let block = block_ref("blocks.block", found.block)?;
                let storages = found.locations.iter().map(|place| storage_id("locations", &place.storage_id));
                bad.push((block, storages.collect::<FsResult<Vec<_>>>()?));
            }
            self.service.report_bad_replicas(&who, &bad);
            Ok(pb::Empty {})
        })
    }

    async fn check_access(&self, request: Request<pb::CheckAccessRequest>) -> Answer<pb::Empty> {
        answer!(self, request, |who, message| {
            let bits = u8::try_from(message.mode).ok().filter(|bits| *bits <= 7);
            let bits = required("mode (0 to 7)", bits)?;
            self.service.check_access(&who, &path(&message.path)?, bits).await?;
            Ok(pb::Empty {})
        })
    }
}
