//! What happened, for stock clients' `DFSInotifyEventInputStream`.

use prost::Message;
use steadfs_common::{FsResult, Millis, TxId};
use steadfs_namenode_core::event::{Created, Event, EventBatch, EventKind, MetadataChange};
use steadfs_namenode_core::record::{AclEntry, XAttr};
use steadfs_proto::hadoop::acl_entry_proto::{AclEntryScopeProto, AclEntryTypeProto};
use steadfs_proto::hadoop::{
    AclEntryProto, AppendEventProto, CloseEventProto, CreateEventProto, EventBatchProto, EventProto,
    EventType, EventsListProto, FsPermissionProto, GetCurrentEditLogTxidRequestProto,
    GetCurrentEditLogTxidResponseProto, GetEditsFromTxidRequestProto, GetEditsFromTxidResponseProto,
    INodeType, MetadataUpdateEventProto, MetadataUpdateType, RenameEventProto, TruncateEventProto,
    UnlinkEventProto, XAttrProto,
};

use super::Asked;

/// Events in one answer at most, about (HDFS: `dfs.namenode.inotify.max.events.per.rpc`).
const EVENTS_PER_CALL: usize = 1_000;
/// What stands for a time or length that was not set or is not known.
const NONE: i64 = -1;

pub(super) async fn get_current_edit_log_txid(
    asked: Asked,
    _request: GetCurrentEditLogTxidRequestProto,
) -> FsResult<GetCurrentEditLogTxidResponseProto> {
    let newest = asked.service.newest_transaction(&asked.caller)?;
    Ok(GetCurrentEditLogTxidResponseProto { txid: newest.0.cast_signed() })
}

pub(super) async fn get_edits_from_txid(
    asked: Asked,
    request: GetEditsFromTxidRequestProto,
) -> FsResult<GetEditsFromTxidResponseProto> {
    let from = TxId(u64::try_from(request.txid).unwrap_or(1).max(1));
    let window = asked.service.what_happened(&asked.caller, from, EVENTS_PER_CALL).await?;
    let number = |id: TxId| id.0.cast_signed();
    let events_list = EventsListProto {
        events: Vec::new(),
        first_txid: window.first.map_or(NONE, number),
        last_txid: window.first.map_or(NONE, |_| number(window.last)),
        sync_txid: number(window.newest),
        batch: window.batches.iter().filter_map(|batch| batch_of(batch)).collect(),
    };
    Ok(GetEditsFromTxidResponseProto { events_list })
}

/// The batch as HDFS tells it; none if HDFS would tell nothing.
fn batch_of(batch: &EventBatch) -> Option<EventBatchProto> {
    let events: Vec<EventProto> = batch.events.iter().filter_map(event_of).collect();
    (!events.is_empty()).then(|| EventBatchProto { txid: batch.tx.0.cast_signed(), events })
}

fn event_of(event: &Event) -> Option<EventProto> {
    let path = event.path.to_string();
    let bytes = |length: u64| length.cast_signed();
    let (kind, contents) = match &event.kind {
        EventKind::Create(made) => (EventType::EventCreate, created(path, made).encode_to_vec()),
        EventKind::Close { length, mtime } => {
            let close =
                CloseEventProto { path, file_size: length.map_or(NONE, bytes), timestamp: time(*mtime) };
            (EventType::EventClose, close.encode_to_vec())
        }
        EventKind::Append { new_block } => {
            let append = AppendEventProto { path, new_block: Some(*new_block) };
            (EventType::EventAppend, append.encode_to_vec())
        }
        EventKind::Truncate { length, mtime } => {
            let truncate = TruncateEventProto { path, file_size: bytes(*length), timestamp: time(*mtime) };
            (EventType::EventTruncate, truncate.encode_to_vec())
        }
        EventKind::Rename { to, mtime, .. } => {
            let rename =
                RenameEventProto { src_path: path, dest_path: to.to_string(), timestamp: time(*mtime) };
            (EventType::EventRename, rename.encode_to_vec())
        }
        EventKind::Unlink { mtime } => {
            let unlink = UnlinkEventProto { path, timestamp: time(*mtime) };
            (EventType::EventUnlink, unlink.encode_to_vec())
        }
        EventKind::Metadata(change) => (EventType::EventMetadata, metadata(path, change)?.encode_to_vec()),
        EventKind::Flushed { .. } => return None,
    };
    Some(EventProto { r#type: kind as i32, contents: contents.into() })
}

const fn time(at: Millis) -> i64 {
    at.0.cast_signed()
}

fn created(path: String, made: &Created) -> CreateEventProto {
    CreateEventProto {
        r#type: if made.directory { INodeType::ITypeDirectory } else { INodeType::ITypeFile } as i32,
        path,
        ctime: time(made.mtime),
        owner_name: made.owner.clone(),
        group_name: made.group.clone(),
        perms: FsPermissionProto { perm: u32::from(made.mode) },
        replication: Some(i32::from(made.replication)),
        symlink_target: Some(String::new()),
        overwrite: Some(made.overwrite),
        default_block_size: Some(made.block_size.cast_signed()),
        erasure_coded: Some(false),
    }
}

fn metadata(path: String, change: &MetadataChange) -> Option<MetadataUpdateEventProto> {
    let mut update = MetadataUpdateEventProto {
        path,
        r#type: 0,
        mtime: Some(0),
        atime: Some(0),
        replication: Some(0),
        owner_name: Some(String::new()),
        group_name: Some(String::new()),
        perms: None,
        acls: Vec::new(),
        x_attrs: Vec::new(),
        x_attrs_removed: Some(false),
    };
    let kind = match change {
        MetadataChange::Times { mtime, atime } => {
            update.mtime = Some(mtime.map_or(NONE, time));
            update.atime = Some(atime.map_or(NONE, time));
            MetadataUpdateType::MetaTypeTimes
        }
        MetadataChange::Replication(replication) => {
            update.replication = Some(i32::from(*replication));
            MetadataUpdateType::MetaTypeReplication
        }
        MetadataChange::Owner { owner, group } => {
            update.owner_name = Some(owner.clone().unwrap_or_default());
            update.group_name = Some(group.clone().unwrap_or_default());
            MetadataUpdateType::MetaTypeOwner
        }
        MetadataChange::Mode(mode) => {
            update.perms = Some(FsPermissionProto { perm: u32::from(*mode) });
            MetadataUpdateType::MetaTypePerms
        }
        MetadataChange::Acl { access, default } => {
            let scoped = |scope| move |entry| acl_entry(scope, entry);
            let access = access.iter().map(scoped(AclEntryScopeProto::Access));
            update.acls = access.chain(default.iter().map(scoped(AclEntryScopeProto::Default))).collect();
            MetadataUpdateType::MetaTypeAcls
        }
        MetadataChange::XAttrsSet(attributes) => {
            update.x_attrs = attributes.iter().map(attribute).collect();
            MetadataUpdateType::MetaTypeXattrs
        }
        MetadataChange::XAttrsRemoved(attributes) => {
            let named = |removed: &XAttr| XAttrProto { value: None, ..attribute(removed) };
            update.x_attrs = attributes.iter().map(named).collect();
            update.x_attrs_removed = Some(true);
            MetadataUpdateType::MetaTypeXattrs
        }
        MetadataChange::Other => return None,
    };
    update.r#type = kind as i32;
    Some(update)
}

fn acl_entry(scope: AclEntryScopeProto, entry: &AclEntry) -> AclEntryProto {
    // The numbers of kinds and permissions are HDFS's.
    debug_assert!(AclEntryTypeProto::try_from(i32::from(entry.kind as u8)).is_ok());
    AclEntryProto {
        r#type: i32::from(entry.kind as u8),
        scope: scope as i32,
        permissions: i32::from(entry.permission & 7),
        name: entry.name.clone(),
    }
}

fn attribute(attribute: &XAttr) -> XAttrProto {
    XAttrProto {
        namespace: i32::from(attribute.name.namespace as u8),
        name: attribute.name.name.clone(),
        value: Some(attribute.value.clone().into()),
    }
}
