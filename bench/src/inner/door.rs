//! Questions from the request's bytes to the answer's, through everything that stands in between but the socket.

use std::hint::black_box;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use prost::Message;
use steadfs_common::{FsPath, FsResult};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode::{Config, Namenode, hadoop};
use steadfs_namenode_core::Command;
use steadfs_namenode_core::command::{FileRef, NewTimes};
use steadfs_proto::hadoop::{GetBlockLocationsRequestProto, GetFileInfoRequestProto, GetListingRequestProto};
use steadfs_rpc::{Call, Handler};
use tokio::runtime::{Builder, Runtime};

use super::Run;

const FILES: usize = 100;
const FOLDER: &str = "/data/warehouse/db";

/// A namenode with a folder of files. It lives as long as the process.
struct Door {
    runtime: Runtime,
    handler: Arc<dyn Handler>,
    _namenode: Namenode,
}

impl Door {
    fn new(folder: &Path) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a thread");
        let (namenode, handler) = runtime.block_on(start(folder));
        Self { runtime, handler, _namenode: namenode }
    }

    fn call(&self, method: &str, request: &impl Message) -> Call {
        Call {
            protocol: "org.apache.hadoop.hdfs.protocol.ClientProtocol",
            method: method.into(),
            user: "root".into(),
            real_user: None,
            client_id: Some(*b"0123456789abcdef"),
            call_id: 1,
            retry_count: 0,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            caller_context: None,
            request: Bytes::from(request.encode_to_vec()),
        }
    }

    /// Asks all of it once, so that everything is cached, and from then on `times` over without waiting for anything.
    fn asking(self, calls: Vec<Call>) -> Run {
        for call in &calls {
            let answer: FsResult<Bytes> = self.runtime.block_on(Arc::clone(&self.handler).call(call.clone()));
            assert!(!answer.expect("an answer").is_empty());
        }
        Box::new(move || {
            let _within = self.runtime.enter();
            for call in &calls {
                let answer = Arc::clone(&self.handler).call(call.clone()).now_or_never();
                black_box(answer.expect("an answer from memory, at once").expect("an answer"));
            }
        })
    }
}

async fn start(folder: &Path) -> (Namenode, Arc<dyn Handler>) {
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        http_listen: ([127, 0, 0, 1], 0).into(),
        data_dirs: vec![folder.join("a"), folder.join("b")],
        ..Config::default()
    };
    config.insecure.simple = true;
    config.safe_mode.extension_ms = 0;
    config.users.superuser = "root".into();
    config.upkeep.reserved_bytes = 0;
    let namenode = Namenode::start(config, Shutdown::new()).await.expect("empty folders");
    let service = namenode.service();
    let root = service.own_caller().clone();
    service.set_safe_mode(&root, false).expect("a superuser");
    let at = |text: &str| FsPath::parse(text).expect("a path");
    let mkdirs = Command::Mkdirs { path: at(FOLDER), mode: 0o755, unmasked: None, create_parent: true };
    service.submit(&root, None, mkdirs).await.expect("a folder");
    for number in 0..FILES {
        let path = at(&format!("{FOLDER}/f{number}"));
        let create = Command::Create {
            path: path.clone(),
            mode: 0o644,
            unmasked: None,
            client: "bench".into(),
            create: true,
            overwrite: false,
            create_parent: false,
            replication: 3,
            block_size: 128 << 20,
            policy: 0,
        };
        service.submit(&root, None, create).await.expect("a file");
        let complete = Command::Complete {
            file: FileRef { path, inode: None },
            client: "bench".into(),
            last: None,
            times: NewTimes::default(),
        };
        service.submit(&root, None, complete).await.expect("a file without blocks");
    }
    let handler = hadoop::handler(Arc::clone(service));
    (namenode, handler)
}

pub(super) fn stat(folder: &Path) -> Run {
    let door = Door::new(folder);
    let call =
        |number| door.call("getFileInfo", &GetFileInfoRequestProto { src: format!("{FOLDER}/f{number}") });
    let calls = (0..FILES).map(call).collect();
    door.asking(calls)
}

pub(super) fn open(folder: &Path) -> Run {
    let door = Door::new(folder);
    let call = |number| {
        let src = format!("{FOLDER}/f{number}");
        door.call("getBlockLocations", &GetBlockLocationsRequestProto { src, offset: 0, length: 1 << 30 })
    };
    let calls = (0..FILES).map(call).collect();
    door.asking(calls)
}

pub(super) fn list(folder: &Path) -> Run {
    let door = Door::new(folder);
    let request = GetListingRequestProto {
        src: FOLDER.into(),
        need_location: false,
        ..GetListingRequestProto::default()
    };
    let calls = (0..FILES).map(|_| door.call("getListing", &request)).collect();
    door.asking(calls)
}
