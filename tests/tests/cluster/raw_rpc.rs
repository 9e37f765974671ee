//! One Hadoop call on a connection of its own: for what the independent client cannot ask.

use std::sync::atomic::{AtomicI32, Ordering};

use bytes::{Buf, Bytes};
use prost::Message;
use steadfs_proto::hadoop::{
    IpcConnectionContextProto, RequestHeaderProto, RpcRequestHeaderProto, RpcResponseHeaderProto,
    UserInformationProto,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Every call has its own number: one that came before would be answered as its repetition.
static CALLS: AtomicI32 = AtomicI32::new(0);
const PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";
const CONTEXT_CALL: i32 = -3;
/// `RPC_PROTOCOL_BUFFER`
const KIND: i32 = 2;

/// Calls `method` as `user` at `hdfs://host:port`.
///
/// # Errors
/// The outer one if there was no answer, the inner one is the class of the exception that was the answer.
pub(crate) async fn call<A: Message + Default>(
    url: &str,
    user: &str,
    method: &str,
    request: &impl Message,
) -> anyhow::Result<Result<A, String>> {
    let address = url.trim_start_matches("hdfs://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).await?;
    let mut out = b"hrpc\x09\x00\x00".to_vec();
    let context = IpcConnectionContextProto {
        user_info: Some(UserInformationProto { effective_user: Some(user.into()), real_user: None }),
        protocol: Some(PROTOCOL.into()),
    };
    frame(&mut out, CONTEXT_CALL, &[context.encode_length_delimited_to_vec()]);
    let head = RequestHeaderProto {
        method_name: method.into(),
        declaring_class_protocol_name: PROTOCOL.into(),
        client_protocol_version: 1,
    };
    let number = CALLS.fetch_add(1, Ordering::Relaxed);
    frame(
        &mut out,
        number,
        &[head.encode_length_delimited_to_vec(), request.encode_length_delimited_to_vec()],
    );
    stream.write_all(&out).await?;
    let length = stream.read_u32().await?;
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await?;
    let mut answer = Bytes::from(answer);
    let header = RpcResponseHeaderProto::decode_length_delimited(&mut answer)?;
    if header.status != 0 {
        return Ok(Err(header.exception_class_name.unwrap_or_default()));
    }
    anyhow::ensure!(answer.has_remaining(), "{method} was answered without a message");
    Ok(Ok(A::decode_length_delimited(answer)?))
}

fn frame(out: &mut Vec<u8>, call: i32, parts: &[Vec<u8>]) {
    let header = RpcRequestHeaderProto {
        rpc_kind: Some(KIND),
        rpc_op: Some(0),
        call_id: call,
        client_id: Bytes::from_static(b"sixteen bytes, m"),
        retry_count: Some(-1),
        ..Default::default()
    };
    let mut body = header.encode_length_delimited_to_vec();
    parts.iter().for_each(|part| body.extend_from_slice(part));
    out.extend_from_slice(&u32::try_from(body.len()).expect("a small frame").to_be_bytes());
    out.extend_from_slice(&body);
}
