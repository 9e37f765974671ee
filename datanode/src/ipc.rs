//! ClientDatanodeProtocol and ReconfigurationProtocol: what stock clients and operators' tools ask a datanode.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message;
use steadfs_common::{BlockId, FsError, FsErrorKind, FsResult, GenStamp, Millis, StorageType};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode_store::VolumeStatus;
use steadfs_proto::hadoop;
use steadfs_rpc::{Call, Handler};

use crate::admin::{check_operator, process_user};
use crate::changes::Changes;
use crate::node::Node;
use crate::reconfigure;

const CLIENT: &str = "org.apache.hadoop.hdfs.protocol.ClientDatanodeProtocol";
const RECONFIGURATION: &str = "org.apache.hadoop.hdfs.protocol.ReconfigurationProtocol";
/// The layouts of configuration that tools of Hadoop 3 expect to be told.
const CONFIG_VERSION: &str = "core-3.0.0,hdfs-1";
/// Longest part of a method's name that an answer repeats, in characters.
const SHOWN_CHARS: usize = 200;

/// The handler of the datanode's Hadoop RPC port.
pub(crate) struct Ipc {
    node: Arc<Node>,
    changes: Arc<Changes>,
    /// The datanode's own end.
    shutdown: Shutdown,
    started: Instant,
    /// Who runs this datanode.
    owner: String,
}

fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn refused(text: &'static str) -> FsError {
    FsError::refused(text)
}

impl Ipc {
    pub(crate) fn new(node: Arc<Node>, changes: Arc<Changes>, shutdown: Shutdown) -> Self {
        Self { node, changes, shutdown, started: Instant::now(), owner: process_user() }
    }

    fn check(&self, call: &Call) -> FsResult<()> {
        let named = &self.node.config.administrators;
        check_operator(&call.user, call.real_user.is_some(), named, &self.owner)
    }

    async fn answer(&self, call: Call) -> FsResult<Bytes> {
        match call.method.as_str() {
            "getReplicaVisibleLength" => self.visible_length(call.request),
            "getDatanodeInfo" => Ok(self.info()),
            "getBalancerBandwidth" => {
                let bandwidth = self.node.admin.balancer_bandwidth();
                Ok(bytes(&hadoop::GetBalancerBandwidthResponseProto { bandwidth }))
            }
            "getVolumeReport" => {
                self.check(&call)?;
                Ok(self.volume_report())
            }
            "triggerBlockReport" => {
                self.check(&call)?;
                self.trigger_report(call.request)
            }
            "refreshNamenodes" => {
                self.check(&call)?;
                // There is one namenode, and it is asked for by name each time.
                Ok(bytes(&hadoop::RefreshNamenodesResponseProto {}))
            }
            "evictWriters" => {
                self.check(&call)?;
                tracing::info!(user = %call.user, "an operator asks all writers to leave");
                self.node.admin.evict_writers();
                Ok(bytes(&hadoop::EvictWritersResponseProto {}))
            }
            "shutdownDatanode" => {
                self.check(&call)?;
                self.shut_down(&call)
            }
            "deleteBlockPool" => {
                self.check(&call)?;
                self.delete_block_pool(call.request)
            }
            "getBlockLocalPathInfo" => Err(FsError::denied(format!(
                "Can't continue with getBlockLocalPathInfo() authorization. The user {} is not configured in \
                 dfs.block.local-path-access.user",
                call.user
            ))),
            "submitDiskBalancerPlan"
            | "cancelDiskBalancerPlan"
            | "queryDiskBalancerPlan"
            | "getDiskBalancerSetting" => {
                self.check(&call)?;
                Err(refused("Disk Balancer is not enabled."))
            }
            _ => self.reconfigure(&call),
        }
    }

    /// What both protocols have: properties that can be changed while the datanode runs.
    fn reconfigure(&self, call: &Call) -> FsResult<Bytes> {
        match call.method.as_str() {
            "startReconfiguration" => {
                self.check(call)?;
                // Its end is asked for by itself.
                drop(reconfigure::start(&self.node, &self.changes, &self.shutdown)?);
                Ok(bytes(&hadoop::StartReconfigurationResponseProto {}))
            }
            "getReconfigurationStatus" => {
                self.check(call)?;
                Ok(bytes(&status_of(self.node.admin.reconfiguration.last())))
            }
            "listReconfigurableProperties" => {
                self.check(call)?;
                let name = reconfigure::PROPERTIES.map(String::from).to_vec();
                Ok(bytes(&hadoop::ListReconfigurablePropertiesResponseProto { name }))
            }
            method => {
                let name: String = method.chars().take(SHOWN_CHARS).collect();
                let text = format!("Unknown method {name} called on {} protocol.", call.protocol);
                Err(FsError::new(FsErrorKind::NoSuchMethod, text))
            }
        }
    }

    fn pool(&self) -> Option<String> {
        self.node.store.identity().cluster.map(|cluster| cluster.block_pool.0)
    }

    fn visible_length(&self, request: Bytes) -> FsResult<Bytes> {
        let block = hadoop::decode::<hadoop::GetReplicaVisibleLengthRequestProto>(request)?.block;
        if self.pool().as_deref() != Some(block.pool_id.as_str()) {
            // Not "no such replica": a client takes that for an empty block.
            return Err(refused("The block is of another block pool than this datanode serves"));
        }
        let length =
            self.node.store.visible_length(BlockId(block.block_id), GenStamp(block.generation_stamp))?;
        Ok(bytes(&hadoop::GetReplicaVisibleLengthResponseProto { length }))
    }

    fn info(&self) -> Bytes {
        let local_info = hadoop::DatanodeLocalInfoProto {
            software_version: env!("CARGO_PKG_VERSION").into(),
            config_version: CONFIG_VERSION.into(),
            uptime: self.started.elapsed().as_secs(),
        };
        bytes(&hadoop::GetDatanodeInfoResponseProto { local_info })
    }

    fn volume_report(&self) -> Bytes {
        let volumes = self.node.store.statuses();
        let volume_info = volumes.iter().filter(|volume| !volume.failed).map(volume_info).collect();
        bytes(&hadoop::GetVolumeReportResponseProto { volume_info })
    }

    fn trigger_report(&self, request: Bytes) -> FsResult<Bytes> {
        let request = hadoop::decode::<hadoop::TriggerBlockReportRequestProto>(request)?;
        if request.incremental {
            self.changes.wake.notify_one();
        } else {
            self.changes.report.notify_one();
        }
        Ok(bytes(&hadoop::TriggerBlockReportResponseProto {}))
    }

    /// What waits is told first: whoever writes here goes on with the other datanodes of its pipeline.
    fn shut_down(&self, call: &Call) -> FsResult<Bytes> {
        let request = hadoop::decode::<hadoop::ShutdownDatanodeRequestProto>(call.request.clone())?;
        tracing::warn!(user = %call.user, upgrade = request.for_upgrade, "an operator ends this datanode");
        self.node.admin.evict_writers();
        self.shutdown.trigger();
        Ok(bytes(&hadoop::ShutdownDatanodeResponseProto {}))
    }

    /// The pool that is served is never deleted; of others there is nothing here.
    fn delete_block_pool(&self, request: Bytes) -> FsResult<Bytes> {
        let request = hadoop::decode::<hadoop::DeleteBlockPoolRequestProto>(request)?;
        if self.pool().as_deref() == Some(request.block_pool.as_str()) {
            return Err(refused(
                "The block pool is still running. First do a refreshNamenodes to shutdown the block pool service",
            ));
        }
        Ok(bytes(&hadoop::DeleteBlockPoolResponseProto {}))
    }
}

fn status_of(task: reconfigure::Task) -> hadoop::GetReconfigurationStatusResponseProto {
    let time = |at: Millis| i64::try_from(at.0).unwrap_or(i64::MAX);
    let change = |change: reconfigure::Change| hadoop::GetReconfigurationStatusConfigChangeProto {
        name: change.name.into(),
        old_value: change.old,
        new_value: Some(change.new),
        error_message: change.error,
    };
    hadoop::GetReconfigurationStatusResponseProto {
        start_time: time(task.began),
        end_time: task.ended.map(time),
        changes: task.changes.into_iter().map(change).collect(),
    }
}

fn volume_info(volume: &VolumeStatus) -> hadoop::DatanodeVolumeInfoProto {
    let kind = match volume.kind {
        StorageType::Disk => hadoop::StorageTypeProto::Disk,
        StorageType::Ssd => hadoop::StorageTypeProto::Ssd,
        StorageType::Archive => hadoop::StorageTypeProto::Archive,
        StorageType::RamDisk => hadoop::StorageTypeProto::RamDisk,
        StorageType::Provided => hadoop::StorageTypeProto::Provided,
        StorageType::Nvdimm => hadoop::StorageTypeProto::Nvdimm,
    };
    hadoop::DatanodeVolumeInfoProto {
        path: volume.path.display().to_string(),
        storage_type: kind as i32,
        used_space: volume.used,
        free_space: volume.remaining,
        reserved_space: volume.reserved,
        reserved_space_for_replicas: volume.kept,
        num_blocks: volume.blocks,
    }
}

impl Handler for Ipc {
    fn protocols(&self) -> &'static [&'static str] {
        &[CLIENT, RECONFIGURATION]
    }

    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, FsResult<Bytes>> {
        Box::pin(async move { self.answer(call).await })
    }
}
