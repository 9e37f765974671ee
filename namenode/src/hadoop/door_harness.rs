//! What the door's tests stand on: a namenode, a client that speaks in bytes, and a datanode that only pretends.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use prost::{Message, Name};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_proto::hadoop::rpc_request_header_proto::OperationProto;
use steadfs_proto::hadoop::rpc_response_header_proto::RpcStatusProto;
use steadfs_proto::hadoop::*;
use steadfs_proto::steadfs;
use steadfs_proto::steadfs::datanode_link_client::DatanodeLinkClient;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Config, Namenode};

pub(super) const CLIENT: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";
pub(super) const HOLDER: &str = "DFSClient_NONMAPREDUCE_1_1";
pub(super) const ROOT: &str = "root";

pub(super) struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    namenode: Namenode,
    _folder: TempDir,
}

pub(super) async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        http_listen: ([127, 0, 0, 1], 0).into(),
        data_dirs: vec![folder.path().join("a"), folder.path().join("b")],
        ..Config::default()
    };
    config.insecure.simple = true;
    config.safe_mode.extension_ms = 0;
    config.users.superuser = ROOT.into();
    config.users.groups.insert("alice".into(), vec!["staff".into()]);
    config.namespace.min_block_size_bytes = 1_024;
    config.namespace.default_replication = 1;
    let shutdown = Shutdown::new();
    let namenode = Namenode::start(config, shutdown.clone()).await.unwrap();
    let running = Running { address: namenode.rpc_address(), shutdown, namenode, _folder: folder };
    let leave = SetSafeModeRequestProto { action: SafeModeActionProto::SafemodeLeave as i32, checked: None };
    let mut client = Client::connect_as(&running, ROOT, None, [0; 16]).await;
    assert!(!client.call::<SetSafeModeResponseProto>("setSafeMode", &leave).await.unwrap().result);
    running
}

impl Running {
    pub(super) fn service(&self) -> &std::sync::Arc<crate::service::Service> {
        self.namenode.service()
    }

    pub(super) async fn stop(self) {
        self.shutdown.trigger();
        self.namenode.stopped().await;
    }
}

/// A client as HDFS has them: one connection, calls one after the other.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) id: [u8; 16],
    pub(super) calls: i32,
}

/// An exception: its class and its message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Thrown(pub(super) String, pub(super) String);

impl Client {
    pub(super) async fn connect(server: &Running, user: &str) -> Self {
        Self::connect_as(server, user, None, *b"0123456789abcdef").await
    }

    pub(super) async fn connect_as(server: &Running, user: &str, real: Option<&str>, id: [u8; 16]) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let mut client = Self { stream, id, calls: 0 };
        client.stream.write_all(b"hrpc\x09\x00\x00").await.unwrap();
        let context = IpcConnectionContextProto {
            user_info: Some(UserInformationProto {
                effective_user: Some(user.into()),
                real_user: real.map(Into::into),
            }),
            protocol: Some(CLIENT.into()),
        };
        client.send(-3, -1, &[context.encode_length_delimited_to_vec()]).await;
        client
    }

    pub(super) async fn send(&mut self, call_id: i32, retry: i32, parts: &[Vec<u8>]) {
        let header = RpcRequestHeaderProto {
            rpc_kind: Some(RpcKindProto::RpcProtocolBuffer as i32),
            rpc_op: Some(OperationProto::RpcFinalPacket as i32),
            call_id,
            client_id: Bytes::copy_from_slice(&self.id),
            retry_count: Some(retry),
            ..Default::default()
        };
        let mut body = header.encode_length_delimited_to_vec();
        parts.iter().for_each(|part| body.extend(part));
        let mut frame = BytesMut::new();
        frame.put_u32(body.len().try_into().unwrap());
        frame.extend(body);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// A call of any protocol, with any bytes for a request.
    pub(super) async fn raw(
        &mut self,
        protocol: &str,
        method: &str,
        call: (i32, i32),
        request: Vec<u8>,
    ) -> Result<Bytes, Thrown> {
        let header = RequestHeaderProto {
            method_name: method.into(),
            declaring_class_protocol_name: protocol.into(),
            client_protocol_version: 1,
        };
        let mut delimited = BytesMut::new();
        prost::encoding::encode_varint(request.len() as u64, &mut delimited);
        delimited.extend(request);
        self.send(call.0, call.1, &[header.encode_length_delimited_to_vec(), delimited.to_vec()]).await;
        let mut bytes = vec![0; self.stream.read_u32().await.unwrap() as usize];
        self.stream.read_exact(&mut bytes).await.unwrap();
        let mut rest = Bytes::from(bytes);
        let mut part = || {
            let length = usize::try_from(prost::encoding::decode_varint(&mut rest).unwrap()).unwrap();
            rest.split_to(length)
        };
        let header: RpcResponseHeaderProto = decode(part()).unwrap();
        assert_eq!(header.call_id.cast_signed(), call.0);
        match RpcStatusProto::try_from(header.status).unwrap() {
            RpcStatusProto::Success => Ok(part()),
            RpcStatusProto::Error => {
                Err(Thrown(header.exception_class_name.unwrap(), header.error_msg.unwrap()))
            }
            RpcStatusProto::Fatal => panic!("fatal: {header:?}"),
        }
    }

    pub(super) async fn call<R: Message + Name + Default>(
        &mut self,
        method: &str,
        request: &impl Message,
    ) -> Result<R, Thrown> {
        self.calls += 1;
        self.repeat(method, (self.calls, 0), request).await
    }

    pub(super) async fn repeat<R: Message + Name + Default>(
        &mut self,
        method: &str,
        call: (i32, i32),
        request: &impl Message,
    ) -> Result<R, Thrown> {
        // What we send must have every field that clients require: `decode` sees to it.
        self.raw(CLIENT, method, call, request.encode_to_vec()).await.map(|bytes| decode(bytes).unwrap())
    }

    pub(super) async fn stat(&mut self, src: &str) -> Option<HdfsFileStatusProto> {
        let request = GetFileInfoRequestProto { src: src.into() };
        self.call::<GetFileInfoResponseProto>("getFileInfo", &request).await.unwrap().fs
    }

    pub(super) async fn mkdirs(&mut self, src: &str) -> Result<bool, Thrown> {
        let request = MkdirsRequestProto {
            src: src.into(),
            masked: FsPermissionProto { perm: 0o755 },
            create_parent: true,
            unmasked: None,
        };
        Ok(self.call::<MkdirsResponseProto>("mkdirs", &request).await?.result)
    }

    pub(super) async fn create(&mut self, src: &str) -> Result<HdfsFileStatusProto, Thrown> {
        Ok(self.call::<CreateResponseProto>("create", &create(src)).await?.fs.unwrap())
    }

    pub(super) async fn complete(
        &mut self,
        src: &str,
        last: Option<ExtendedBlockProto>,
        file_id: Option<u64>,
    ) -> bool {
        let request = CompleteRequestProto { src: src.into(), client_name: HOLDER.into(), last, file_id };
        self.call::<CompleteResponseProto>("complete", &request).await.unwrap().result
    }

    pub(super) async fn list(
        &mut self,
        src: &str,
        after: &str,
        locations: bool,
    ) -> Option<DirectoryListingProto> {
        let request = GetListingRequestProto {
            src: src.into(),
            start_after: Bytes::copy_from_slice(after.as_bytes()),
            need_location: locations,
        };
        self.call::<GetListingResponseProto>("getListing", &request).await.unwrap().dir_list
    }

    pub(super) async fn locations(&mut self, src: &str) -> Result<LocatedBlocksProto, Thrown> {
        let request = GetBlockLocationsRequestProto { src: src.into(), offset: 0, length: 1 << 40 };
        Ok(self
            .call::<GetBlockLocationsResponseProto>("getBlockLocations", &request)
            .await?
            .locations
            .unwrap())
    }
}

pub(super) fn create(src: &str) -> CreateRequestProto {
    CreateRequestProto {
        src: src.into(),
        masked: FsPermissionProto { perm: 0o644 },
        client_name: HOLDER.into(),
        create_flag: CreateFlagProto::Create as u32,
        create_parent: true,
        replication: 1,
        block_size: 1_024,
        crypto_protocol_version: vec![2],
        ..Default::default()
    }
}

pub(super) fn names(listing: &DirectoryListingProto) -> Vec<&str> {
    listing.partial_listing.iter().map(|entry| std::str::from_utf8(&entry.path).unwrap()).collect()
}

pub(super) fn class<T: std::fmt::Debug>(result: Result<T, Thrown>) -> String {
    result.unwrap_err().0.rsplit('.').next().unwrap().to_owned()
}

/// A datanode that says it has what it is told to write.
pub(super) struct Pretender {
    pub(super) link: DatanodeLinkClient<tonic::transport::Channel>,
    pub(super) uuid: String,
    pub(super) storage: String,
}

pub(super) const SESSION: u64 = 1;

impl Pretender {
    pub(super) async fn register(server: &Running) -> Self {
        let link = DatanodeLinkClient::connect(format!("http://{}", server.address)).await.unwrap();
        let uuid = "00000000-0000-0000-0000-000000000001".to_owned();
        let mut node = Self { link, storage: format!("DS-{uuid}"), uuid };
        let request = steadfs::RegisterRequest {
            address: Some(node.address()),
            version: env!("CARGO_PKG_VERSION").into(),
            storages: vec![node.volume()],
            session: SESSION,
            ..Default::default()
        };
        node.link.register(request).await.unwrap();
        let report = steadfs::BlockReportSlice {
            uuid: node.uuid.clone(),
            session: SESSION,
            report_id: 1,
            storage_id: node.storage.clone(),
            replicas: Vec::new(),
            storage_done: true,
            knows: None,
        };
        node.link.block_report(tokio_stream::iter([report])).await.unwrap();
        let beat = steadfs::HeartbeatRequest {
            uuid: node.uuid.clone(),
            session: SESSION,
            storages: vec![node.volume()],
            active_transfers: 0,
            address: Some(node.address()),
            ..steadfs::HeartbeatRequest::default()
        };
        node.link.heartbeat(beat).await.unwrap();
        node
    }

    pub(super) fn address(&self) -> steadfs::DatanodeAddress {
        steadfs::DatanodeAddress {
            uuid: self.uuid.clone(),
            ip: "127.0.0.1".into(),
            host_name: "pretender".into(),
            data_port: 9_866,
            ipc_port: 9_867,
            http_port: 0,
        }
    }

    pub(super) fn volume(&self) -> steadfs::StorageReport {
        steadfs::StorageReport {
            storage_id: self.storage.clone(),
            capacity: 1 << 40,
            remaining: 1 << 40,
            ..Default::default()
        }
    }

    pub(super) async fn received(&mut self, block: &ExtendedBlockProto) {
        let change = steadfs::blocks_changed_request::Change {
            storage_id: self.storage.clone(),
            block: Some(steadfs::Block {
                id: block.block_id,
                stamp: block.generation_stamp,
                length: block.num_bytes(),
            }),
            kind: steadfs::blocks_changed_request::Kind::Received as i32,
        };
        let request = steadfs::BlocksChangedRequest {
            uuid: self.uuid.clone(),
            session: SESSION,
            changes: vec![change],
            moves: Vec::new(),
            end: None,
        };
        self.link.blocks_changed(request).await.unwrap();
    }
}
