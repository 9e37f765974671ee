//! Calls of Hadoop's protocols at a whole namenode. The bytes are calls, one after the other: which method, how many
//! bytes its request has, and these; or `0xff` and raw bytes of the connection to the end.

use std::io::Write;
use std::net::Shutdown;

use bytes::Bytes;
use prost::Message;
use steadfs_proto::hadoop::rpc_request_header_proto::OperationProto;
use steadfs_proto::hadoop::{
    IpcConnectionContextProto, RequestHeaderProto, RpcKindProto, RpcRequestHeaderProto, UserInformationProto,
};

use crate::memory;
use crate::server::{connect, drain, server};

const CLIENT: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";
/// Calls that are made of one input.
const MAX_CALLS: usize = 16;
/// What opens a connection: version 9, no authentication.
const PREAMBLE: &[u8] = b"hrpc\x09\x00\x00";
/// Says that raw bytes follow.
const RAW: u8 = 0xff;

const METHODS: &[&str] = &[
    "abandonBlock",
    "addBlock",
    "allowSnapshot",
    "append",
    "cancelDelegationToken",
    "checkAccess",
    "complete",
    "concat",
    "createEncryptionZone",
    "create",
    "createSnapshot",
    "createSymlink",
    "delete",
    "deleteSnapshot",
    "disallowSnapshot",
    "fsync",
    "getAclStatus",
    "getAdditionalDatanode",
    "getBatchedListing",
    "getBlockLocations",
    "getContentSummary",
    "getDatanodeReport",
    "getDelegationToken",
    "getEditsFromTxid",
    "getErasureCodingPolicy",
    "getEZForPath",
    "getFileInfo",
    "getListing",
    "getLocatedFileInfo",
    "getPreferredBlockSize",
    "getQuotaUsage",
    "getSnapshotDiffReportListing",
    "getSnapshotDiffReport",
    "getStoragePolicy",
    "getXAttrs",
    "isFileClosed",
    "listCorruptFileBlocks",
    "listEncryptionZones",
    "listXAttrs",
    "mkdirs",
    "modifyAclEntries",
    "recoverLease",
    "removeAclEntries",
    "removeAcl",
    "removeDefaultAcl",
    "removeXAttr",
    "rename2",
    "rename",
    "renameSnapshot",
    "renewDelegationToken",
    "renewLease",
    "reportBadBlocks",
    "setAcl",
    "setBalancerBandwidth",
    "setErasureCodingPolicy",
    "setOwner",
    "setPermission",
    "setQuota",
    "setReplication",
    "setSafeMode",
    "setStoragePolicy",
    "setTimes",
    "setXAttr",
    "truncate",
    "unsetErasureCodingPolicy",
    "unsetStoragePolicy",
    "updateBlockForPipeline",
    "updatePipeline",
    "noSuchMethod",
];

/// Sends the calls and waits until the server has ended the connection.
pub fn run(bytes: &[u8]) {
    let server = server();
    memory::limit(memory::SERVER_BYTES);
    let mut stream = connect(server.rpc);
    // A server may end the connection before all is sent.
    let _ = stream.write_all(&connection(bytes));
    let _ = stream.shutdown(Shutdown::Write);
    drain(stream);
}

fn connection(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = PREAMBLE.to_vec();
    let context = IpcConnectionContextProto {
        user_info: Some(UserInformationProto { effective_user: Some("root".into()), real_user: None }),
        protocol: Some(CLIENT.into()),
    };
    frame(&mut out, -3, &[&context.encode_length_delimited_to_vec()]);
    for call in 0..MAX_CALLS {
        let Some((&which, rest)) = bytes.split_first() else { break };
        if which == RAW {
            out.extend_from_slice(rest);
            break;
        }
        let Some((&length, rest)) = rest.split_first() else { break };
        let (request, rest) = rest.split_at(rest.len().min(length.into()));
        bytes = rest;
        let header = RequestHeaderProto {
            method_name: METHODS[usize::from(which) % METHODS.len()].into(),
            declaring_class_protocol_name: CLIENT.into(),
            client_protocol_version: 1,
        };
        let header = header.encode_length_delimited_to_vec();
        let request = Bytes::copy_from_slice(request).encode_length_delimited_to_vec();
        frame(&mut out, call as i32, &[&header, &request]);
    }
    out
}

fn frame(out: &mut Vec<u8>, call_id: i32, parts: &[&[u8]]) {
    let header = RpcRequestHeaderProto {
        rpc_kind: Some(RpcKindProto::RpcProtocolBuffer as i32),
        rpc_op: Some(OperationProto::RpcFinalPacket as i32),
        call_id,
        client_id: Bytes::from_static(b"0123456789abcdef"),
        retry_count: Some(-1),
        ..Default::default()
    };
    let mut body = header.encode_length_delimited_to_vec();
    parts.iter().for_each(|part| body.extend_from_slice(part));
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&body);
}
