//! Files being written: creation, blocks, pipelines, leases.

use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::command::{Command, NewTimes, Reply};
use steadfs_namenode_core::namespace::quota;
use steadfs_namenode_core::policy;
use steadfs_proto::hadoop::{
    AbandonBlockRequestProto, AbandonBlockResponseProto, AddBlockFlagProto, AddBlockRequestProto,
    AddBlockResponseProto, AppendRequestProto, AppendResponseProto, CompleteRequestProto,
    CompleteResponseProto, CreateFlagProto, CreateRequestProto, CreateResponseProto, FsyncRequestProto,
    FsyncResponseProto, GetAdditionalDatanodeRequestProto, GetAdditionalDatanodeResponseProto,
    RecoverLeaseRequestProto, RecoverLeaseResponseProto, RenewLeaseRequestProto, RenewLeaseResponseProto,
    UpdateBlockForPipelineRequestProto, UpdateBlockForPipelineResponseProto, UpdatePipelineRequestProto,
    UpdatePipelineResponseProto,
};

use super::paths::Purpose;
use super::{Asked, answers, convert, paths, unexpected};

/// Most nodes that a client may wish for.
const MAX_FAVORED: usize = 512;

const fn has(flags: u32, flag: CreateFlagProto) -> bool {
    flags & flag as u32 != 0
}

pub(super) async fn create(asked: Asked, request: CreateRequestProto) -> FsResult<CreateResponseProto> {
    if !matches!(request.ec_policy_name(), "" | "replication") {
        return Err(FsError::new(FsErrorKind::Unsupported, "create: erasure coding is not supported"));
    }
    let flags = request.create_flag;
    let policy = match request.storage_policy() {
        _ if has(flags, CreateFlagProto::LazyPersist) => policy::LAZY_PERSIST.id,
        "" => 0,
        name => quota::named(name)?.id,
    };
    let command = Command::Create {
        path: paths::new(&request.src, Purpose::Create)?,
        mode: convert::mode(&request.masked),
        unmasked: request.unmasked.as_ref().map(convert::mode),
        client: convert::client_name(&request.client_name)?,
        create: has(flags, CreateFlagProto::Create),
        overwrite: has(flags, CreateFlagProto::Overwrite),
        create_parent: request.create_parent,
        replication: convert::replication(request.replication),
        block_size: request.block_size,
        policy,
    };
    match asked.submit_once(command).await? {
        Reply::File(inode) => Ok(CreateResponseProto { fs: Some(convert::inode(&inode, "")) }),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn append(asked: Asked, request: AppendRequestProto) -> FsResult<AppendResponseProto> {
    let command = Command::Append {
        path: convert::path(&request.src)?,
        client: convert::client_name(&request.client_name)?,
        new_block: has(request.flag(), CreateFlagProto::NewBlock),
    };
    match asked.submit_once(command).await? {
        Reply::Appended { inode, last } => Ok(AppendResponseProto {
            block: last.map(|last| convert::located_block(&asked.pool, &asked.service.located(&last))),
            stat: Some(convert::inode(&inode, "")),
        }),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn add_block(
    mut asked: Asked,
    request: AddBlockRequestProto,
) -> FsResult<AddBlockResponseProto> {
    if request.favored_nodes.len() > MAX_FAVORED {
        return Err(FsError::invalid_argument(format!("more than {MAX_FAVORED} favored nodes")));
    }
    if request.flags().any(|flag| flag == AddBlockFlagProto::IgnoreClientLocality) {
        asked.caller.address = None;
    }
    let command = Command::AddBlock {
        file: convert::file_ref(&request.src, request.file_id)?,
        client: convert::client_name(&request.client_name)?,
        previous: request
            .previous
            .as_ref()
            .map(|block| convert::block_ref(&asked.pool, block))
            .transpose()?,
        excluded: convert::datanodes(&request.exclude_nodes)?,
        avoid_local: request.flags().any(|flag| flag == AddBlockFlagProto::NoLocalWrite),
        favored: request.favored_nodes,
    };
    let placed = answers::block(asked.submit(command).await?)?;
    Ok(AddBlockResponseProto { block: convert::located_block(&asked.pool, &asked.service.located(&placed)) })
}

pub(super) async fn abandon_block(
    asked: Asked,
    request: AbandonBlockRequestProto,
) -> FsResult<AbandonBlockResponseProto> {
    let command = Command::AbandonBlock {
        file: convert::file_ref(&request.src, request.file_id)?,
        client: convert::client_name(&request.holder)?,
        block: convert::block_ref(&asked.pool, &request.b)?,
    };
    answers::done(asked.submit(command).await?)?;
    Ok(AbandonBlockResponseProto {})
}

pub(super) async fn complete(asked: Asked, request: CompleteRequestProto) -> FsResult<CompleteResponseProto> {
    let command = Command::Complete {
        file: convert::file_ref(&request.src, request.file_id)?,
        client: convert::client_name(&request.client_name)?,
        last: request.last.as_ref().map(|block| convert::block_ref(&asked.pool, block)).transpose()?,
        times: NewTimes::default(),
    };
    Ok(CompleteResponseProto { result: answers::truth(asked.submit(command).await?)? })
}

pub(super) async fn fsync(asked: Asked, request: FsyncRequestProto) -> FsResult<FsyncResponseProto> {
    let command = Command::Fsync {
        file: convert::file_ref(&request.src, request.file_id)?,
        client: convert::client_name(&request.client)?,
        // -1 is "not known".
        last_block_length: request.last_block_length.and_then(|length| u64::try_from(length).ok()),
        // They call it with the first `hflush` or `hsync` of a block, and then with those alone that are to update the length.
        synced: None,
    };
    answers::done(asked.submit(command).await?)?;
    Ok(FsyncResponseProto {})
}

pub(super) async fn update_block_for_pipeline(
    asked: Asked,
    request: UpdateBlockForPipelineRequestProto,
) -> FsResult<UpdateBlockForPipelineResponseProto> {
    let block = convert::block_ref(&asked.pool, &request.block)?;
    let client = convert::client_name(&request.client_name)?;
    let placed = answers::block(asked.submit(Command::UpdateBlockForPipeline { block, client }).await?)?;
    let located = asked.service.located(&placed);
    Ok(UpdateBlockForPipelineResponseProto { block: convert::located_block(&asked.pool, &located) })
}

pub(super) async fn update_pipeline(
    asked: Asked,
    request: UpdatePipelineRequestProto,
) -> FsResult<UpdatePipelineResponseProto> {
    if request.storage_i_ds.len() != request.new_nodes.len() {
        return Err(FsError::new(
            FsErrorKind::InvalidRequest,
            format!("{} new nodes with {} storage ids", request.new_nodes.len(), request.storage_i_ds.len()),
        ));
    }
    let command = Command::UpdatePipeline {
        client: convert::client_name(&request.client_name)?,
        old: convert::block_ref(&asked.pool, &request.old_block)?,
        new: convert::block_ref(&asked.pool, &request.new_block)?,
        storages: convert::storages("storageIDs", &request.storage_i_ds)?,
        // These clients do not say.
        synced: None,
    };
    answers::done(asked.submit_once(command).await?)?;
    Ok(UpdatePipelineResponseProto {})
}

pub(super) async fn get_additional_datanode(
    asked: Asked,
    request: GetAdditionalDatanodeRequestProto,
) -> FsResult<GetAdditionalDatanodeResponseProto> {
    let located = asked
        .service
        .additional_datanode(
            &asked.caller,
            &convert::file_ref(&request.src, request.file_id)?,
            &convert::client_name(&request.client_name)?,
            convert::block_ref(&asked.pool, &request.blk)?,
            &convert::storages("existingStorageUuids", &request.existing_storage_uuids)?,
            &convert::datanodes(&request.excludes)?,
            request.num_additional_nodes as usize,
        )
        .await?;
    Ok(GetAdditionalDatanodeResponseProto { block: convert::located_block(&asked.pool, &located) })
}

pub(super) async fn renew_lease(
    asked: Asked,
    request: RenewLeaseRequestProto,
) -> FsResult<RenewLeaseResponseProto> {
    asked.service.renew_lease(&asked.caller, &convert::client_name(&request.client_name)?);
    Ok(RenewLeaseResponseProto {})
}

pub(super) async fn recover_lease(
    asked: Asked,
    request: RecoverLeaseRequestProto,
) -> FsResult<RecoverLeaseResponseProto> {
    let reply = asked.submit(Command::RecoverLease { path: convert::path(&request.src)? }).await?;
    Ok(RecoverLeaseResponseProto { result: answers::truth(reply)? })
}
