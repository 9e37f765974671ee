//! A namenode in this process, for the targets that ask a whole server.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode::{Config, Namenode};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A server that takes longer over a few bytes hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where it listens.
pub struct Server {
    pub rpc: SocketAddr,
    pub http: SocketAddr,
    _runtime: Runtime,
    _folder: TempDir,
}

/// The server of this process. A panic in any of its threads ends the process from the first call on.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            print(panic);
            std::process::abort();
        }));
        start().expect("a namenode starts in a new folder")
    })
}

fn start() -> std::io::Result<Server> {
    let folder = TempDir::new()?;
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        http_listen: ([127, 0, 0, 1], 0).into(),
        data_dirs: vec![folder.path().join("a"), folder.path().join("b")],
        ..Config::default()
    };
    config.insecure.simple = true;
    config.safe_mode.extension_ms = 0;
    config.users.superuser = "root".into();
    config.namespace.min_block_size_bytes = 1_024;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let namenode = runtime
        .block_on(Namenode::start(config, Shutdown::new()))
        .map_err(|error| std::io::Error::other(format!("{error:#}")))?;
    let (rpc, http) = (namenode.rpc_address(), namenode.http_address());
    // It runs until the process ends.
    std::mem::forget(namenode);
    Ok(Server { rpc, http, _runtime: runtime, _folder: folder })
}

/// A connection whose other side must answer or end in time.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time that is not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time that is not zero");
    stream
}

/// Reads until the server ends the connection, and gives what it said.
pub fn drain(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
        {
            panic!("no answer and no end in {PATIENCE:?}");
        }
        // A reset is an end.
        _ => said,
    }
}
