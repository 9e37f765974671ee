//! The namenode of the cluster in memory.

use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::namespace_server::Namespace;
use steadfs_proto::to_status;
use tonic::{Request, Response, Status};

use crate::fake::{Block, Books, Fake, File};

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: FsResult<T>) -> Answer<T> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

fn by_inode(books: &mut Books, inode: u64) -> FsResult<&mut File> {
    let file = books.files.values_mut().find(|file| file.inode == inode);
    file.filter(|file| file.open).ok_or_else(|| FsError::new(FsErrorKind::LeaseExpired, "not open"))
}

fn by_block(books: &mut Books, id: u64) -> FsResult<&mut Block> {
    let mut blocks = books.files.values_mut().flat_map(|file| &mut file.blocks);
    blocks.find(|block| block.id == id).ok_or_else(|| FsError::refused("no such block"))
}

fn not_faked<T>() -> Answer<T> {
    Err(Status::unimplemented("not faked"))
}

#[tonic::async_trait]
impl Namespace for Fake {
    async fn get_defaults(&self, _: Request<pb::GetDefaultsRequest>) -> Answer<pb::GetDefaultsResponse> {
        answer(Ok(pb::GetDefaultsResponse {
            block_size: 4_096,
            replication: 3,
            block_pool: "pool".into(),
            lease_soft_limit_ms: 60,
            ..Default::default()
        }))
    }

    async fn stat(&self, request: Request<pb::StatRequest>) -> Answer<pb::StatResponse> {
        let path = request.into_inner().path;
        let books = self.books.lock();
        let file = books.files.get(&path).ok_or_else(|| FsError::not_found(&path));
        answer(file.map(|file| pb::StatResponse { status: Some(self.status_of(file)) }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Answer<pb::ListResponse> {
        const PAGE: usize = 3;
        let request = request.into_inner();
        let books = self.books.lock();
        let folder = format!("{}/", request.path.trim_end_matches('/'));
        let below = books.files.iter().filter_map(|(path, file)| {
            let name = path.strip_prefix(&folder)?;
            let (name, directory) = name.split_once('/').map_or((name, false), |(name, _)| (name, true));
            let status = pb::FileStatus { name: name.into(), directory, ..self.status_of(file) };
            Some(pb::ListEntry { status: Some(status), blocks: vec![] })
        });
        let mut entries: Vec<_> = below.collect();
        let name = |entry: &pb::ListEntry| entry.status.as_ref().unwrap().name.clone();
        entries.dedup_by_key(|entry| name(entry));
        entries.retain(|entry| name(entry) > request.start_after);
        let more = entries.len() > PAGE;
        entries.truncate(PAGE);
        answer(Ok(pb::ListResponse { entries, more }))
    }

    async fn open(&self, request: Request<pb::OpenRequest>) -> Answer<pb::OpenResponse> {
        let path = request.into_inner().path;
        let books = self.books.lock();
        let file = books.files.get(&path).ok_or_else(|| FsError::not_found(&path));
        answer(file.map(|file| {
            let mut blocks = self.blocks_of(file);
            // Later ones have to be asked for.
            blocks.blocks.truncate(2);
            pb::OpenResponse { status: Some(self.status_of(file)), blocks: Some(blocks) }
        }))
    }

    async fn get_blocks(&self, request: Request<pb::GetBlocksRequest>) -> Answer<pb::GetBlocksResponse> {
        let request = request.into_inner();
        let books = self.books.lock();
        let file = books.files.get(&request.path).filter(|file| file.inode == request.inode);
        answer(file.ok_or_else(|| FsError::not_found(&request.path)).map(|file| {
            let mut blocks = self.blocks_of(file);
            blocks.blocks.retain(|block| {
                let end = block.offset + block.block.unwrap().length;
                end > request.offset && block.offset < request.offset + request.length
            });
            pb::GetBlocksResponse { blocks: Some(blocks) }
        }))
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> Answer<pb::CreateResponse> {
        let request = request.into_inner();
        let mut books = self.books.lock();
        if books.files.contains_key(&request.path) && !request.overwrite {
            return answer(Err(FsError::exists(format!("{} already exists", request.path))));
        }
        books.next += 1;
        let file = File {
            inode: books.next,
            blocks: Vec::new(),
            open: true,
            block_size: if request.block_size == 0 { 4_096 } else { request.block_size },
            replication: if request.replication == 0 { 3 } else { request.replication as usize },
        };
        let status = Some(self.status_of(&file));
        books.files.insert(request.path.clone(), file);
        let block =
            if request.first_block { self.allocate(&mut books, &request.path, &[]).ok() } else { None };
        answer(Ok(pb::CreateResponse { status, block }))
    }

    async fn append(&self, request: Request<pb::AppendRequest>) -> Answer<pb::AppendResponse> {
        let path = request.into_inner().path;
        let mut books = self.books.lock();
        let Some(file) = books.files.get_mut(&path) else {
            return answer(Err(FsError::not_found(&path)));
        };
        file.open = true;
        let file = &books.files[&path];
        let last = file.blocks.last().filter(|block| block.length < file.block_size);
        let offset = file.blocks.iter().rev().skip(1).map(|block| block.length).sum();
        let last = last.map(|block| self.located(block, offset));
        answer(Ok(pb::AppendResponse { status: Some(self.status_of(file)), last }))
    }

    async fn add_block(&self, request: Request<pb::AddBlockRequest>) -> Answer<pb::AddBlockResponse> {
        let request = request.into_inner();
        let mut books = self.books.lock();
        if books.nobody_yet > 0 {
            books.nobody_yet -= 1;
            return answer(Err(FsError::new(FsErrorKind::NoDatanodeYet, "0 datanode(s) running")));
        }
        if books.not_yet > 0 {
            books.not_yet -= 1;
            return answer(Err(FsError::new(FsErrorKind::NotReplicatedYet, "not yet")));
        }
        let result = by_inode(&mut books, request.inode).and_then(|file| {
            match (file.blocks.last_mut(), request.previous) {
                (Some(last), Some(previous)) if last.id == previous.id && last.stamp == previous.stamp => {
                    last.length = previous.length;
                    Ok(())
                }
                (None, None) => Ok(()),
                (Some(last), None) if last.length == file.block_size => Ok(()),
                (last, previous) => {
                    let last = last.map(|last| (last.id, last.stamp));
                    Err(FsError::refused(format!("previous {previous:?} is not {last:?}")))
                }
            }
        });
        let result = result.and_then(|()| self.allocate(&mut books, &request.path, &request.excluded));
        answer(result.map(|block| pb::AddBlockResponse { block: Some(block) }))
    }

    async fn abandon_block(&self, request: Request<pb::AbandonBlockRequest>) -> Answer<pb::Empty> {
        let request = request.into_inner();
        let mut books = self.books.lock();
        books.abandoned += 1;
        let id = request.block.unwrap().id;
        answer(by_inode(&mut books, request.inode).map(|file| {
            file.blocks.retain(|block| block.id != id);
            pb::Empty {}
        }))
    }

    async fn complete(&self, request: Request<pb::CompleteRequest>) -> Answer<pb::CompleteResponse> {
        let request = request.into_inner();
        let mut books = self.books.lock();
        if books.not_yet > 0 {
            books.not_yet -= 1;
            return answer(Ok(pb::CompleteResponse { done: false }));
        }
        answer(by_inode(&mut books, request.inode).and_then(|file| {
            match (file.blocks.last_mut(), request.last) {
                (Some(last), Some(given)) if (last.id, last.stamp) == (given.id, given.stamp) => {
                    last.length = given.length;
                }
                (None, None) => {}
                (Some(last), None) if last.length == file.block_size => {}
                (_, given) => return Err(FsError::refused(format!("last {given:?} is not the last"))),
            }
            file.open = false;
            Ok(pb::CompleteResponse { done: true })
        }))
    }

    async fn fsync(&self, request: Request<pb::FsyncRequest>) -> Answer<pb::Empty> {
        let request = request.into_inner();
        answer(by_inode(&mut self.books.lock(), request.inode).map(|file| {
            if let Some(last) = file.blocks.last_mut() {
                last.length = last.length.max(request.last_block_length);
            }
            pb::Empty {}
        }))
    }

    async fn new_stamp(&self, request: Request<pb::NewStampRequest>) -> Answer<pb::NewStampResponse> {
        let mut block = request.into_inner().block.unwrap();
        let mut books = self.books.lock();
        books.next += 1;
        block.stamp = books.next;
        let located = pb::LocatedBlock { block: Some(block), ..Default::default() };
        answer(by_block(&mut books, block.id).map(|_| pb::NewStampResponse { block: Some(located) }))
    }

    async fn update_pipeline(&self, request: Request<pb::UpdatePipelineRequest>) -> Answer<pb::Empty> {
        let request = request.into_inner();
        let (old, new) = (request.old.unwrap(), request.new.unwrap());
        let nodes = request.storage_ids.iter().map(|id| id[3..].parse().unwrap()).collect();
        answer(by_block(&mut self.books.lock(), old.id).and_then(|block| {
            if block.stamp != old.stamp || new.stamp <= old.stamp || new.length < block.length {
                return Err(FsError::refused("an update of another block"));
            }
            (block.stamp, block.length, block.nodes) = (new.stamp, new.length, nodes);
            Ok(pb::Empty {})
        }))
    }

    async fn additional_datanode(
        &self,
        request: Request<pb::AdditionalDatanodeRequest>,
    ) -> Answer<pb::AdditionalDatanodeResponse> {
        let request = request.into_inner();
        let existing: Vec<usize> =
            request.existing_storages.iter().map(|id| id[3..].parse().unwrap()).collect();
        let free =
            |node: &usize| !existing.contains(node) && !request.excluded.contains(&format!("node-{node}"));
        let Some(node) = (0..self.nodes.len()).find(free) else {
            return answer(Err(FsError::new(FsErrorKind::NoDatanode, "no further datanode")));
        };
        let mut locations: Vec<_> = existing.iter().map(|node| self.location(*node)).collect();
        locations.push(self.location(node));
        let block = pb::LocatedBlock { block: request.block, locations, ..Default::default() };
        answer(Ok(pb::AdditionalDatanodeResponse { block: Some(block) }))
    }

    async fn renew_lease(&self, _: Request<pb::RenewLeaseRequest>) -> Answer<pb::Empty> {
        self.books.lock().renewals += 1;
        answer(Ok(pb::Empty {}))
    }

    async fn recover_lease(&self, request: Request<pb::PathRequest>) -> Answer<pb::BoolResponse> {
        let mut books = self.books.lock();
        books.recovered += 1;
        if let Some(file) = books.files.get_mut(&request.into_inner().path) {
            file.open = false;
        }
        answer(Ok(pb::BoolResponse { result: true }))
    }

    async fn report_bad_replicas(&self, request: Request<pb::ReportBadReplicasRequest>) -> Answer<pb::Empty> {
        let blocks = request.into_inner().blocks;
        let bad = blocks.into_iter().flat_map(|block| block.locations).map(|location| location.storage_id);
        self.books.lock().reported_bad.extend(bad);
        answer(Ok(pb::Empty {}))
    }

    async fn mkdirs(&self, _: Request<pb::MkdirsRequest>) -> Answer<pb::Empty> {
        not_faked()
    }

    async fn rename(&self, _: Request<pb::RenameRequest>) -> Answer<pb::BoolResponse> {
        not_faked()
    }

    async fn delete(&self, _: Request<pb::DeleteRequest>) -> Answer<pb::BoolResponse> {
        not_faked()
    }

    async fn set_permission(&self, _: Request<pb::SetPermissionRequest>) -> Answer<pb::StatResponse> {
        not_faked()
    }

    async fn set_owner(&self, _: Request<pb::SetOwnerRequest>) -> Answer<pb::StatResponse> {
        not_faked()
    }

    async fn set_times(&self, _: Request<pb::SetTimesRequest>) -> Answer<pb::StatResponse> {
        not_faked()
    }

    async fn concat(&self, _: Request<pb::ConcatRequest>) -> Answer<pb::Empty> {
        not_faked()
    }

    async fn truncate(&self, _: Request<pb::TruncateRequest>) -> Answer<pb::BoolResponse> {
        not_faked()
    }

    async fn set_replication(&self, _: Request<pb::SetReplicationRequest>) -> Answer<pb::BoolResponse> {
        not_faked()
    }

    async fn set_quota(&self, _: Request<pb::SetQuotaRequest>) -> Answer<pb::Empty> {
        not_faked()
    }

    async fn set_storage_policy(&self, _: Request<pb::SetStoragePolicyRequest>) -> Answer<pb::Empty> {
        not_faked()
    }

    async fn get_storage_policy(&self, _: Request<pb::PathRequest>) -> Answer<pb::StoragePolicyResponse> {
        not_faked()
    }

    async fn content_summary(&self, _: Request<pb::PathRequest>) -> Answer<pb::ContentSummaryResponse> {
        not_faked()
    }

    async fn fs_stats(&self, _: Request<pb::Empty>) -> Answer<pb::FsStatsResponse> {
        not_faked()
    }

    async fn check_access(&self, _: Request<pb::CheckAccessRequest>) -> Answer<pb::Empty> {
        not_faked()
    }
}
