//! A light Hadoop RPC client: framed calls and nothing else, so that a server is measured and not its driver.
//!
//! Works against SteadFS and against Apache HDFS alike.

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use prost::Message;
use steadfs_proto::hadoop::{
    AddBlockRequestProto, AddBlockResponseProto, CompleteRequestProto, CompleteResponseProto,
    CreateRequestProto, DeleteRequestProto, ExtendedBlockProto, FsPermissionProto, FsServerDefaultsProto,
    GetBlockLocationsRequestProto, GetBlockLocationsResponseProto, GetFileInfoRequestProto,
    GetListingRequestProto, GetListingResponseProto, GetServerDefaultsRequestProto,
    GetServerDefaultsResponseProto, IpcConnectionContextProto, LocatedBlockProto, LocatedBlocksProto,
    MkdirsRequestProto, RenameRequestProto, RequestHeaderProto, RpcRequestHeaderProto,
    RpcResponseHeaderProto, UserInformationProto,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";
const CONTEXT_CALL: i32 = -3;
/// `RPC_PROTOCOL_BUFFER` and `RPC_FINAL_PACKET`.
const KIND: i32 = 2;
const FINAL: i32 = 0;
/// `CREATE`, without which only an existing file may be overwritten.
const CREATE_FLAG: u32 = 1;
/// A stock client's first question covers ten blocks of the usual size.
const OPEN_BYTES: u64 = 10 * (128 << 20);

/// One connection with at most one call outstanding.
pub(crate) struct Connection {
    stream: TcpStream,
    client: bytes::Bytes,
    call: i32,
    input: BytesMut,
}

impl Connection {
    /// Connects and introduces `user`.
    pub(crate) async fn open(address: &str, user: &str, number: u64) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        let mut id = [0_u8; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        id[8..12].copy_from_slice(&std::process::id().to_be_bytes());
        let client = bytes::Bytes::copy_from_slice(&id);
        let mut connection = Self { stream, client, call: 0, input: BytesMut::new() };
        let mut out = b"hrpc\x09\x00\x00".to_vec();
        let context = IpcConnectionContextProto {
            user_info: Some(UserInformationProto { effective_user: Some(user.into()), real_user: None }),
            protocol: Some(PROTOCOL.into()),
        };
        connection.frame(&mut out, CONTEXT_CALL, -1, &[&context.encode_length_delimited_to_vec()]);
        connection.stream.write_all(&out).await?;
        Ok(connection)
    }

    fn frame(&self, out: &mut Vec<u8>, call: i32, retry: i32, parts: &[&[u8]]) {
        let header = RpcRequestHeaderProto {
            rpc_kind: Some(KIND),
            rpc_op: Some(FINAL),
            call_id: call,
            client_id: self.client.clone(),
            retry_count: Some(retry),
            ..Default::default()
        }
        .encode_length_delimited_to_vec();
        let length = header.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(&header);
        parts.iter().for_each(|part| out.extend_from_slice(part));
    }

    async fn call(&mut self, method: &str, request: &impl Message) -> anyhow::Result<()> {
        self.answered(method, request).await.map(|_| ())
    }

    async fn ask<R: Message + Default>(&mut self, method: &str, request: &impl Message) -> anyhow::Result<R> {
        Ok(R::decode_length_delimited(self.answered(method, request).await?)?)
    }

    /// The answer behind its header.
    async fn answered(&mut self, method: &str, request: &impl Message) -> anyhow::Result<BytesMut> {
        let head = RequestHeaderProto {
            method_name: method.into(),
            declaring_class_protocol_name: PROTOCOL.into(),
            client_protocol_version: 1,
        };
        let mut out = Vec::with_capacity(256);
        self.call += 1;
        self.frame(
            &mut out,
            self.call,
            0,
            &[&head.encode_length_delimited_to_vec(), &request.encode_length_delimited_to_vec()],
        );
        self.stream.write_all(&out).await?;
        let mut frame = self.answer().await?;
        let header = RpcResponseHeaderProto::decode_length_delimited(&mut frame)?;
        if header.call_id as i32 != self.call {
            bail!("{method}: the answer is to call {}, not {}", header.call_id, self.call);
        }
        if header.status != 0 {
            bail!("{method}: {}", header.error_msg.unwrap_or_default());
        }
        Ok(frame)
    }

    async fn answer(&mut self) -> anyhow::Result<BytesMut> {
        loop {
            if self.input.len() >= 4 {
                let length =
                    u32::from_be_bytes([self.input[0], self.input[1], self.input[2], self.input[3]]) as usize;
                if self.input.len() >= 4 + length {
                    self.input.advance(4);
                    return Ok(self.input.split_to(length));
                }
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                bail!("the server closed the connection");
            }
        }
    }

    pub(crate) async fn stat(&mut self, path: &str) -> anyhow::Result<()> {
        self.call("getFileInfo", &GetFileInfoRequestProto { src: path.into() }).await
    }

    /// What a stock client asks when it opens a file.
    pub(crate) async fn open_file(&mut self, path: &str) -> anyhow::Result<()> {
        self.open_at(path, 0).await
    }

    /// What a stock client asks when it goes on reading a file at `offset`.
    pub(crate) async fn open_at(&mut self, path: &str, offset: u64) -> anyhow::Result<()> {
        let request = GetBlockLocationsRequestProto { src: path.into(), offset, length: OPEN_BYTES };
        self.call("getBlockLocations", &request).await
    }

    pub(crate) async fn list(&mut self, path: &str) -> anyhow::Result<()> {
        let request = GetListingRequestProto { src: path.into(), need_location: false, ..Default::default() };
        self.call("getListing", &request).await
    }

    /// All pages of a folder, as a stock client asks for them; how many entries there are.
    pub(crate) async fn list_all(&mut self, path: &str) -> anyhow::Result<u64> {
        let (mut entries, mut after) = (0, bytes::Bytes::new());
        loop {
            let request =
                GetListingRequestProto { src: path.into(), start_after: after, need_location: false };
            let answer: GetListingResponseProto = self.ask("getListing", &request).await?;
            let page = answer.dir_list.with_context(|| format!("{path} is not there"))?;
            entries += page.partial_listing.len() as u64;
            match page.partial_listing.last() {
                Some(last) if page.remaining_entries > 0 => after = last.path.clone(),
                _ => return Ok(entries),
            }
        }
    }

    pub(crate) async fn mkdirs(&mut self, path: &str) -> anyhow::Result<()> {
        self.make_folder(path, 0o755).await
    }

    pub(crate) async fn make_folder(&mut self, path: &str, perm: u32) -> anyhow::Result<()> {
        let request = MkdirsRequestProto {
            src: path.into(),
            masked: FsPermissionProto { perm },
            create_parent: true,
            unmasked: None,
        };
        self.call("mkdirs", &request).await
    }

    pub(crate) async fn rename(&mut self, from: &str, to: &str) -> anyhow::Result<()> {
        self.call("rename", &RenameRequestProto { src: from.into(), dst: to.into() }).await
    }

    pub(crate) async fn delete(&mut self, path: &str) -> anyhow::Result<()> {
        self.call("delete", &DeleteRequestProto { src: path.into(), recursive: true }).await
    }

    /// The name under which this connection's files are written.
    pub(crate) fn holder(&self) -> anyhow::Result<String> {
        Ok(format!("bench-{}", u64::from_be_bytes(self.client[..8].try_into()?)))
    }

    pub(crate) async fn create(&mut self, path: &str) -> anyhow::Result<()> {
        self.create_with(path, 1, 128 << 20).await
    }

    pub(crate) async fn create_with(
        &mut self,
        path: &str,
        replication: u32,
        block_size: u64,
    ) -> anyhow::Result<()> {
        let request = CreateRequestProto {
            src: path.into(),
            masked: FsPermissionProto { perm: 0o644 },
            client_name: self.holder()?,
            create_flag: CREATE_FLAG,
            create_parent: true,
            replication,
            block_size,
            ..Default::default()
        };
        self.call("create", &request).await
    }

    pub(crate) async fn complete(&mut self, path: &str) -> anyhow::Result<()> {
        self.complete_with(path, None).await.map(|_| ())
    }

    /// Whether the file is closed: not before its last block was reported.
    pub(crate) async fn complete_with(
        &mut self,
        path: &str,
        last: Option<ExtendedBlockProto>,
    ) -> anyhow::Result<bool> {
        let request =
            CompleteRequestProto { src: path.into(), client_name: self.holder()?, last, file_id: None };
        Ok(self.ask::<CompleteResponseProto>("complete", &request).await?.result)
    }

    pub(crate) async fn add_block(
        &mut self,
        path: &str,
        previous: Option<ExtendedBlockProto>,
    ) -> anyhow::Result<LocatedBlockProto> {
        let request = AddBlockRequestProto {
            src: path.into(),
            client_name: self.holder()?,
            previous,
            ..Default::default()
        };
        Ok(self.ask::<AddBlockResponseProto>("addBlock", &request).await?.block)
    }

    pub(crate) async fn locations(&mut self, path: &str) -> anyhow::Result<LocatedBlocksProto> {
        let request = GetBlockLocationsRequestProto { src: path.into(), offset: 0, length: i64::MAX as u64 };
        let answer: GetBlockLocationsResponseProto = self.ask("getBlockLocations", &request).await?;
        answer.locations.with_context(|| format!("{path} is not there"))
    }

    /// What a client that names nothing gets.
    pub(crate) async fn defaults(&mut self) -> anyhow::Result<FsServerDefaultsProto> {
        let request = GetServerDefaultsRequestProto {};
        Ok(self.ask::<GetServerDefaultsResponseProto>("getServerDefaults", &request).await?.server_defaults)
    }
}
