//! ClientDatanodeProtocol: what stock clients ask a datanode.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message;
use steadfs_common::{BlockId, FsError, FsErrorKind, FsResult, GenStamp};
use steadfs_proto::hadoop;
use steadfs_rpc::{Call, Handler};

use crate::node::Node;

const PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientDatanodeProtocol";

/// The handler of the datanode's Hadoop RPC port.
pub(crate) struct Ipc {
    node: Arc<Node>,
    started: Instant,
}

impl Ipc {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, started: Instant::now() }
    }

    fn answer(&self, call: Call) -> FsResult<Bytes> {
        match call.method.as_str() {
            "getReplicaVisibleLength" => self.visible_length(call.request),
            "getDatanodeInfo" => Ok(self.info()),
            method => Err(FsError::new(
                FsErrorKind::NoSuchMethod,
                format!("Unknown method {method} called on {PROTOCOL} protocol."),
            )),
        }
    }

    fn visible_length(&self, request: Bytes) -> FsResult<Bytes> {
        let block = hadoop::decode::<hadoop::GetReplicaVisibleLengthRequestProto>(request)?.block;
        let pool = self.node.store.identity().cluster.map(|cluster| cluster.block_pool.0);
        if pool.as_deref() != Some(block.pool_id.as_str()) {
            // Not "no such replica": a client takes that for an empty block.
            let text = "The block is of another block pool than this datanode serves";
            return Err(FsError::new(FsErrorKind::Refused, text));
        }
        let length =
            self.node.store.visible_length(BlockId(block.block_id), GenStamp(block.generation_stamp))?;
        Ok(hadoop::GetReplicaVisibleLengthResponseProto { length }.encode_to_vec().into())
    }

    fn info(&self) -> Bytes {
        let local_info = hadoop::DatanodeLocalInfoProto {
            software_version: env!("CARGO_PKG_VERSION").into(),
            config_version: "1".into(),
            uptime: self.started.elapsed().as_secs(),
        };
        hadoop::GetDatanodeInfoResponseProto { local_info }.encode_to_vec().into()
    }
}

impl Handler for Ipc {
    fn protocols(&self) -> &'static [&'static str] {
        &[PROTOCOL]
    }

    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, FsResult<Bytes>> {
        // Answered from memory: no disk is asked.
        Box::pin(std::future::ready(self.answer(call)))
    }
}
