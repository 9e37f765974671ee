//! The server over real sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use proptest::prelude::{Strategy, any};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_daemon::http::Router;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_proto::hadoop::rpc_request_header_proto::OperationProto;
use steadfs_proto::hadoop::rpc_response_header_proto::{RpcErrorCodeProto, RpcStatusProto};
use steadfs_proto::hadoop::{
    GetFileInfoRequestProto, IpcConnectionContextProto, RequestHeaderProto, RpcKindProto,
    RpcRequestHeaderProto, RpcResponseHeaderProto, UserInformationProto, decode,
};
use steadfs_proto::steadfs::HeartbeatRequest;
use steadfs_proto::steadfs::datanode_link_client::DatanodeLinkClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::{Call, Handler, Metrics, Options, Server};

const PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";
const CLIENT: &[u8; 16] = b"0123456789abcdef";
const SIMPLE: &[u8] = b"hrpc\x09\x00\x00";

/// `echo` answers with the request, `who` with the caller, `wait` once the gate lets it.
struct Echo {
    gate: Semaphore,
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
}

impl Handler for Echo {
    fn protocols(&self) -> &'static [&'static str] {
        &[PROTOCOL]
    }

    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, FsResult<Bytes>> {
        async move {
            match &*call.method {
                "echo" => Ok(call.request),
                "who" => {
                    Ok(format!("{} {:?} {:?}", call.user, call.real_user, call.key().map(|key| key.call))
                        .into())
                }
                "wait" => {
                    let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
                    self.most_waiting.fetch_max(waiting, Ordering::SeqCst);
                    self.gate.acquire().await.unwrap().forget();
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    Ok(call.request)
                }
                "fail" => Err(FsError::not_found("/x")),
                other => Err(FsError::new(FsErrorKind::NoSuchMethod, format!("Unknown method {other}"))),
            }
        }
        .boxed()
    }
}

struct Running {
    address: SocketAddr,
    echo: Arc<Echo>,
    metrics: Metrics,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

async fn start(options: Options) -> Running {
    let echo = Arc::new(Echo { gate: Semaphore::new(0), waiting: 0.into(), most_waiting: 0.into() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown, metrics) = (listener.local_addr().unwrap(), Shutdown::new(), Metrics::default());
    let handler: Arc<dyn Handler> = Arc::clone(&echo) as _;
    let server = Server::new(handler, metrics.clone()).with_grpc(tonic::service::Routes::default());
    let task = tokio::spawn(server.with_options(options).serve(listener, shutdown.clone()));
    Running { address, echo, metrics, shutdown, task }
}

fn frame(call_id: i32, client: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
    let header = RpcRequestHeaderProto {
        rpc_kind: Some(RpcKindProto::RpcProtocolBuffer as i32),
        rpc_op: Some(OperationProto::RpcFinalPacket as i32),
        call_id,
        client_id: Bytes::copy_from_slice(client),
        retry_count: Some(0),
        ..Default::default()
    };
    let mut body = header.encode_length_delimited_to_vec();
    parts.iter().for_each(|part| body.extend(part));
    let mut frame = BytesMut::new();
    frame.put_u32(body.len().try_into().unwrap());
    frame.extend(body);
    frame.to_vec()
}

fn context() -> Vec<u8> {
    let context = IpcConnectionContextProto {
        user_info: Some(UserInformationProto { effective_user: Some("alice".into()), real_user: None }),
        protocol: Some(PROTOCOL.into()),
    };
    frame(-3, CLIENT, &[context.encode_length_delimited_to_vec()])
}

fn call_of(protocol: &str, call_id: i32, method: &str, src: &str) -> Vec<u8> {
    let header = RequestHeaderProto {
        method_name: method.into(),
        declaring_class_protocol_name: protocol.into(),
        client_protocol_version: 1,
    };
    let request = GetFileInfoRequestProto { src: src.into() };
    frame(
        call_id,
        CLIENT,
        &[header.encode_length_delimited_to_vec(), request.encode_length_delimited_to_vec()],
    )
}

fn call(call_id: i32, method: &str, src: &str) -> Vec<u8> {
    call_of(PROTOCOL, call_id, method, src)
}

struct Answer {
    header: RpcResponseHeaderProto,
    body: Bytes,
}

impl Answer {
    fn id(&self) -> i32 {
        self.header.call_id.cast_signed()
    }

    fn detail(&self) -> RpcErrorCodeProto {
        RpcErrorCodeProto::try_from(self.header.error_detail.unwrap()).unwrap()
    }

    fn status(&self) -> RpcStatusProto {
        RpcStatusProto::try_from(self.header.status).unwrap()
    }
}

/// A client that has said who it is.
async fn client(server: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[SIMPLE.to_vec(), context()].concat()).await.unwrap();
    stream
}

async fn answer(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut bytes).await?;
    let mut rest = Bytes::from(bytes);
    let mut part = || {
        let length = usize::try_from(prost::encoding::decode_varint(&mut rest).unwrap()).unwrap();
        rest.split_to(length)
    };
    let header: RpcResponseHeaderProto = decode(part()).unwrap();
    let body = if header.status == RpcStatusProto::Success as i32 { part() } else { Bytes::new() };
    assert!(rest.is_empty(), "bytes follow an answer");
    Ok(Answer { header, body })
}

/// Sends `bytes` on a connection of their own; all that comes back until the server closes it.
async fn all_answers(server: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut back = Vec::new();
    let _ = stream.read_to_end(&mut back).await;
    back
}

/// The one fatal answer to `bytes`, after which the connection is closed.
async fn fatal(server: &Running, bytes: &[u8]) -> (RpcErrorCodeProto, String) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let told = answer(&mut stream).await.unwrap();
    assert_eq!(told.status(), RpcStatusProto::Fatal);
    assert!(answer(&mut stream).await.is_err(), "the connection must end");
    (told.detail(), told.header.error_msg.unwrap())
}

#[tokio::test]
async fn calls_are_answered_in_the_order_they_are_ready() {
    let server = start(Options::default()).await;
    let mut stream = client(&server).await;
    stream
        .write_all(&[call(1, "wait", "/slow"), call(2, "who", ""), call(3, "fail", "")].concat())
        .await
        .unwrap();
    let (second, third) = (answer(&mut stream).await.unwrap(), answer(&mut stream).await.unwrap());
    assert_eq!((second.id(), &second.body[..]), (2, &b"alice None Some(2)"[..]));
    assert_eq!((&second.header.client_id.unwrap()[..], second.header.retry_count), (&CLIENT[..], Some(0)));
    assert_eq!(
        (third.id(), third.status(), third.detail()),
        (3, RpcStatusProto::Error, RpcErrorCodeProto::ErrorApplication)
    );
    assert_eq!(third.header.exception_class_name.as_deref(), Some("java.io.FileNotFoundException"));
    server.echo.gate.add_permits(1);
    let first = answer(&mut stream).await.unwrap();
    assert_eq!((first.id(), &first.body[..]), (1, &b"\x0a\x05/slow"[..]));
    // Nothing is sent that was not asked for: the next answer is to the next call.
    stream.write_all(&[frame(-4, CLIENT, &[]), call(4, "echo", "/e")].concat()).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().id(), 4);
}

#[tokio::test]
async fn what_is_not_known_is_named() {
    let server = start(Options::default()).await;
    let mut stream = client(&server).await;
    stream.write_all(&[call(1, "nonsense", ""), call_of("x.Y", 2, "echo", "")].concat()).await.unwrap();
    let (method, protocol) = (answer(&mut stream).await.unwrap(), answer(&mut stream).await.unwrap());
    assert_eq!(method.detail(), RpcErrorCodeProto::ErrorNoSuchMethod);
    assert!(method.header.error_msg.unwrap().contains("nonsense"));
    assert_eq!(protocol.detail(), RpcErrorCodeProto::ErrorNoSuchProtocol);
    assert!(protocol.header.error_msg.unwrap().contains("x.Y"));
}

#[tokio::test]
async fn a_client_with_tokens_is_let_in_by_its_word() {
    let server = start(Options::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let hello = frame(-33, b"", &[b"\x02\x10\x01".to_vec()]);
    stream.write_all(&[b"hrpc\x09\x00\xdf".to_vec(), hello].concat()).await.unwrap();
    let told = answer(&mut stream).await.unwrap();
    assert_eq!((told.id(), told.status(), &told.body[..]), (-33, RpcStatusProto::Success, &b"\x10\x00"[..]));
    stream.write_all(&[context(), call(0, "who", "")].concat()).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().body, "alice None Some(0)");
}

#[tokio::test]
async fn what_is_out_of_order_ends_the_connection_and_says_why() {
    let server = start(Options::default()).await;
    let sasl = frame(-33, b"", &[b"\x02\x10\x01".to_vec()]);
    let other = frame(1, b"another client's", &[]);
    for (what, bytes) in [
        ("before the connection context", call(0, "echo", "")),
        ("SASL was not asked for", sasl.clone()),
        ("came twice", [context(), context()].concat()),
        ("another client", [context(), other].concat()),
        ("out-of-band call -7", frame(-7, CLIENT, &[])),
        ("a client id of 3 bytes", frame(0, b"abc", &[])),
        ("header is cut off", b"\0\0\0\x01\x7f".to_vec()),
        ("above the limit", b"\x7f\xff\xff\xff".to_vec()),
        ("a frame of -1 bytes", b"\xff\xff\xff\xff".to_vec()),
    ] {
        let (_, message) = fatal(&server, &[SIMPLE.to_vec(), bytes].concat()).await;
        assert!(message.contains(what), "{message} for {what}");
    }
    let during = fatal(&server, &[b"hrpc\x09\x00\xdf".to_vec(), context()].concat()).await;
    assert!(during.1.contains("during SASL"), "{during:?}");
    let nobody = fatal(&server, &[SIMPLE.to_vec(), frame(-3, CLIENT, &[b"\0".to_vec()])].concat()).await;
    assert_eq!(nobody.0, RpcErrorCodeProto::FatalUnauthorized);
    assert_eq!(fatal(&server, b"hrpc\x0a\x00\x00").await.0, RpcErrorCodeProto::FatalVersionMismatch);
    // Counted once the client has gone.
    while server.metrics.broken.get() < 12 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client(&server).await.peer_addr().unwrap(), server.address);
}

#[tokio::test]
async fn a_browser_and_a_stranger_are_told_little() {
    let server = start(Options::default()).await;
    let page = all_answers(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(page.starts_with(b"HTTP/1.1 404 "), "{page:?}");
    assert!(all_answers(&server, b"\x16\x03\x01\x02\x00").await.is_empty());
}

#[tokio::test]
async fn http_is_served_on_the_same_port_if_there_are_pages() {
    let echo = Arc::new(Echo { gate: Semaphore::new(0), waiting: 0.into(), most_waiting: 0.into() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    let server = Server::new(echo, Metrics::default()).with_http(Router::new());
    let task = tokio::spawn(server.serve(listener, shutdown.clone()));
    for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 404 "), "{method}: {told}");
        assert!(!told.contains("IPC"), "{told}");
    }
    shutdown.trigger();
    task.await.unwrap();
}

#[tokio::test]
async fn grpc_is_served_on_the_same_port() {
    let server = start(Options::default()).await;
    let mut link = DatanodeLinkClient::connect(format!("http://{}", server.address)).await.unwrap();
    // No service is behind the routes: that it is gRPC which says so is what counts.
    assert_eq!(
        link.heartbeat(HeartbeatRequest::default()).await.unwrap_err().code(),
        tonic::Code::Unimplemented
    );
}

#[tokio::test]
async fn one_connection_has_so_many_calls_and_no_more() {
    const CALLS: usize = 50;
    let server = start(Options { max_in_flight: 3, ..Options::default() }).await;
    let mut stream = client(&server).await;
    let calls: Vec<u8> = (0..CALLS as i32).flat_map(|id| call(id, "wait", "/w")).collect();
    stream.write_all(&calls).await.unwrap();
    server.echo.gate.add_permits(CALLS);
    let mut seen = Vec::new();
    for _ in 0..CALLS {
        seen.push(answer(&mut stream).await.unwrap().id());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..CALLS as i32).collect::<Vec<_>>());
    assert!(server.echo.most_waiting.load(Ordering::SeqCst) <= 3);
    assert_eq!(server.metrics.in_flight.get(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_and_others_are_served() {
    let server = start(Options { max_unsent: 64 << 10, ..Options::default() }).await;
    let mut deaf = client(&server).await;
    let big = call(1, "echo", &"x".repeat(60 << 10));
    // More than all socket buffers hold: at some point nothing more is taken.
    let stuffed = tokio::spawn(async move {
        for _ in 0..1_000 {
            deaf.write_all(&big).await?;
        }
        io::Result::Ok(deaf)
    });
    let mut stream = client(&server).await;
    for id in 0..100 {
        stream.write_all(&call(id, "echo", "/e")).await.unwrap();
        assert_eq!(answer(&mut stream).await.unwrap().id(), id);
    }
    assert!(!stuffed.is_finished());
    stuffed.abort();
}

#[tokio::test]
async fn large_frames_share_a_bound() {
    let options = Options {
        own_bytes: 4 << 10,
        shared_bytes: 64 << 10,
        frame: Duration::from_millis(200),
        ..Options::default()
    };
    let server = start(options).await;
    let mut stream = client(&server).await;
    // Larger than the connection's own, within the shared.
    let src = "x".repeat(40 << 10);
    stream.write_all(&call(1, "echo", &src)).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().body.len(), src.len() + 4);
    // One that never ends has the share, so another finds none; both end in time.
    stream.write_all(&[b"\0\0\xc0\0".to_vec(), vec![0; 100]].concat()).await.unwrap();
    let mut second = client(&server).await;
    second.write_all(&[b"\0\0\xc0\0".to_vec(), vec![0; 100]].concat()).await.unwrap();
    assert!(answer(&mut stream).await.is_err());
    let _ = answer(&mut second).await;
    // The share came back.
    let mut third = client(&server).await;
    third.write_all(&call(1, "echo", &src)).await.unwrap();
    assert_eq!(answer(&mut third).await.unwrap().id(), 1);
    // Larger than all there is.
    third.write_all(b"\0\x02\0\0").await.unwrap();
    assert_eq!(answer(&mut third).await.unwrap().status(), RpcStatusProto::Fatal);
}

#[tokio::test]
async fn who_is_slow_or_silent_is_closed() {
    let short = Duration::from_millis(50);
    let server = start(Options { handshake: short, frame: short, idle: short, ..Options::default() }).await;
    for bytes in [&b""[..], b"hr", b"hrpc\x09", b"PRI * HT", SIMPLE, &[SIMPLE, b"\0\0\0\x09abc"].concat()] {
        assert!(all_answers(&server, bytes).await.is_empty());
    }
    for rest in [&b""[..], b"\0\0", b"\0\0\0\x09abc"] {
        assert!(all_answers(&server, &[SIMPLE, &context()[..], rest].concat()).await.is_empty());
    }
}

#[tokio::test]
async fn calls_are_finished_when_the_server_stops() {
    let server = start(Options::default()).await;
    let mut stream = client(&server).await;
    stream.write_all(&[call(1, "wait", "/w"), call(2, "echo", "/e")].concat()).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().id(), 2);
    server.shutdown.trigger();
    server.echo.gate.add_permits(1);
    assert_eq!(answer(&mut stream).await.unwrap().id(), 1);
    assert!(answer(&mut stream).await.is_err());
    server.task.await.unwrap();
    assert_eq!(server.metrics.open.get(), 0);
}

#[tokio::test]
async fn a_call_that_does_not_end_does_not_keep_the_server() {
    let server = start(Options { grace: Duration::from_millis(10), ..Options::default() }).await;
    let mut stream = client(&server).await;
    stream.write_all(&[call(1, "wait", "/w"), call(2, "echo", "/e")].concat()).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().id(), 2);
    server.shutdown.trigger();
    server.task.await.unwrap();
    assert!(answer(&mut stream).await.is_err());
    assert_eq!((server.metrics.open.get(), server.metrics.in_flight.get()), (0, 0));
}

#[tokio::test]
async fn connections_past_the_limit_wait() {
    let server = start(Options { max_connections: 2, ..Options::default() }).await;
    let (first, _second) = (client(&server).await, client(&server).await);
    let mut third = client(&server).await;
    third.write_all(&call(1, "echo", "/e")).await.unwrap();
    assert!(answer(&mut third).now_or_never().is_none());
    drop(first);
    assert_eq!(answer(&mut third).await.unwrap().id(), 1);
}

#[tokio::test]
async fn random_bytes_end_their_connection_and_nothing_else() {
    let server = start(Options { handshake: Duration::from_millis(50), ..Options::default() }).await;
    let mut good = client(&server).await;
    let mut runner = TestRunner::deterministic();
    let anything = proptest::collection::vec(any::<u8>(), 0..200);
    for (id, begin) in [&b""[..], b"hrpc", SIMPLE, b"hrpc\x09\x00\xdf", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
        .into_iter()
        .cycle()
        .take(40)
        .enumerate()
    {
        let bytes = [begin, &anything.new_tree(&mut runner).unwrap().current()].concat();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let id = i32::try_from(id).unwrap();
        good.write_all(&call(id, "echo", "/e")).await.unwrap();
        assert_eq!(answer(&mut good).await.unwrap().id(), id);
    }
}
