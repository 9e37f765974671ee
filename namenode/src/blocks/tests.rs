//! The owner of blocks behind its gRPC door, with datanodes that only pretend to store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use steadfs_common::{FsErrorKind, Millis};
use steadfs_daemon::clock::ManualClock;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode_core::Command;
use steadfs_proto::from_status;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::admin_client::AdminClient;
use steadfs_proto::steadfs::blocks_changed_request::{Change, Kind};
use steadfs_proto::steadfs::command::Command as Order;
use steadfs_proto::steadfs::datanode_link_client::DatanodeLinkClient;
use steadfs_proto::steadfs::fsck_item::Item;
use steadfs_proto::steadfs::namespace_client::NamespaceClient;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::Blocks;
use crate::NamenodeConfig;
use crate::run::{Assembled, Opened};
use crate::service::own_caller;

const LENGTH: u64 = 700;

/// A namenode without timers: rounds are made by hand, time passes when told.
struct Cluster {
    assembled: Assembled,
    blocks: Arc<Blocks>,
    clock: Arc<ManualClock>,
    channel: Channel,
    shutdown: Shutdown,
}

impl Cluster {
    async fn start(folder: &std::path::Path) -> Self {
        let mut config = NamenodeConfig { data_dirs: vec![folder.join("a")], ..NamenodeConfig::default() };
        config.insecure.simple = true;
        config.datanodes.dead_after_ms = 60_000;
        config.safe_mode.extension_ms = 0;
        config.namespace.complete_wait_ms = 10_000;
        config.journal.segment_bytes = 1 << 20;
        let clock = ManualClock::shared(Millis(1_700_000_000_000));
        let opened = Opened::open(&config).unwrap();
        let blocks = Blocks::new(&config, clock.clone(), opened.store.clone()).unwrap();
        let mut assembled = opened.assemble(&config, clock.clone(), blocks.clone()).await.unwrap();
        assembled.folders.finish().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let routes = crate::grpc::routes(assembled.service.clone(), blocks.clone());
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            let server = tonic::transport::Server::builder().add_routes(routes);
            let incoming = TcpListenerStream::new(listener);
            server
                .serve_with_incoming_shutdown(incoming, async move { stop.triggered().await })
                .await
                .unwrap();
        });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { assembled, blocks, clock, channel, shutdown }
    }

    async fn stop(self) {
        let Self { assembled, blocks, channel, shutdown, .. } = self;
        drop((channel, blocks));
        shutdown.trigger();
        shutdown.drained(Duration::from_secs(10)).await;
        let Assembled { commits, thread, service, folders, .. } = assembled;
        commits.stop();
        drop((service, commits));
        let pool = steadfs_daemon::pool::DiskPool::new("stop", 1, 1).unwrap();
        pool.run(move || {
            thread.join();
            drop(folders);
        })
        .await;
    }

    fn files(&self) -> NamespaceClient<Channel> {
        NamespaceClient::new(self.channel.clone())
    }

    fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    async fn datanodes(&self, count: u32) -> Vec<FakeDatanode> {
        let mut nodes = Vec::new();
        for number in 0..count {
            let mut node = FakeDatanode::new(self, number);
            node.register("").await.unwrap();
            node.report().await.unwrap();
            nodes.push(node);
        }
        self.blocks.tend();
        nodes
    }

    /// Writes a file of one block to wherever the namenode wants it.
    async fn write(&self, path: &str, nodes: &mut [FakeDatanode]) -> pb::LocatedBlock {
        let request = pb::CreateRequest {
            path: path.into(),
            client: "client-1".into(),
            mode: 0o644,
            create_parent: true,
            replication: 3,
            first_block: true,
            ..Default::default()
        };
        let created = self.files().create(by_user(request)).await.unwrap().into_inner();
        let located = created.block.unwrap();
        let block = pb::Block { length: LENGTH, ..located.block.unwrap() };
        let inode = created.status.unwrap().inode;
        let complete = pb::CompleteRequest {
            path: path.into(),
            inode,
            client: "client-1".into(),
            last: Some(block),
            ..Default::default()
        };
        let mut files = self.files();
        let (done, ()) = tokio::join!(files.complete(by_user(complete)), async {
            for node in nodes.iter_mut().filter(|node| node.is_among(&located.locations)) {
                node.receive(block).await;
            }
        });
        assert!(done.unwrap().into_inner().done, "complete waits for the first report of a replica");
        located
    }

    /// Ten seconds pass; all but `silent` send heartbeats and do what they are told. Gives the orders.
    async fn pass(&self, nodes: &mut [FakeDatanode], silent: Option<usize>) -> Vec<(usize, Order)> {
        self.clock.advance(Duration::from_secs(10));
        let mut orders = Vec::new();
        for (at, node) in nodes.iter_mut().enumerate().filter(|(at, _)| Some(*at) != silent) {
            orders.extend(node.beat().await.unwrap().into_iter().map(|order| (at, order)));
        }
        self.blocks.tend();
        orders
    }

    async fn safe_mode(&self) -> pb::SafeModeResponse {
        let request = by_user(pb::SafeModeRequest { action: 0 });
        self.admin().safe_mode(request).await.unwrap().into_inner()
    }

    async fn fsck(&self) -> (Vec<pb::FsckFile>, pb::FsckSummary) {
        let request = by_user(pb::FsckRequest { path: "/".into(), all: false });
        let mut items = self.admin().fsck(request).await.unwrap().into_inner();
        let mut files = Vec::new();
        loop {
            match items.message().await.unwrap().expect("a summary comes last").item.unwrap() {
                Item::File(file) => files.push(file),
                Item::Summary(summary) => return (files, summary),
            }
        }
    }
}

fn by_user<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("steadfs-user", own_caller().user.parse().unwrap());
    request
}

/// Speaks like a datanode and stores nothing but names.
struct FakeDatanode {
    link: DatanodeLinkClient<Channel>,
    number: u32,
    session: u64,
    disk: BTreeMap<u64, pb::Block>,
}

impl FakeDatanode {
    fn new(cluster: &Cluster, number: u32) -> Self {
        let link = DatanodeLinkClient::new(cluster.channel.clone());
        Self { link, number, session: 1, disk: BTreeMap::new() }
    }

    fn uuid(&self) -> String {
        format!("00000000-0000-0000-0000-{:012}", self.number)
    }

    fn storage(&self) -> String {
        format!("DS-00000000-0000-0000-0001-{:012}", self.number)
    }

    fn is_among(&self, locations: &[pb::Location]) -> bool {
        locations.iter().any(|location| location.storage_id == self.storage())
    }

    fn address(&self) -> pb::DatanodeAddress {
        pb::DatanodeAddress {
            uuid: self.uuid(),
            ip: format!("10.0.0.{}", self.number + 1),
            host_name: format!("host-{}", self.number),
            data_port: 9866,
            ipc_port: 9867,
            http_port: 0,
        }
    }

    fn volumes(&self) -> Vec<pb::StorageReport> {
        vec![pb::StorageReport {
            storage_id: self.storage(),
            capacity: 1 << 40,
            remaining: 1 << 40,
            ..Default::default()
        }]
    }

    async fn register(&mut self, cluster_id: &str) -> Result<pb::RegisterResponse, Status> {
        let request = pb::RegisterRequest {
            address: Some(self.address()),
            cluster_id: cluster_id.into(),
            version: "0.1.0".into(),
            rack: String::new(),
            node: String::new(),
            storages: self.volumes(),
            session: self.session,
            ..Default::default()
        };
        self.link.register(request).await.map(tonic::Response::into_inner)
    }

    fn slice(&self, replicas: Vec<pb::Replica>, last: bool) -> pb::BlockReportSlice {
        pb::BlockReportSlice {
            uuid: self.uuid(),
            session: self.session,
            report_id: 7,
            storage_id: self.storage(),
            replicas,
            storage_done: last,
            knows: None,
        }
    }

    async fn report(&mut self) -> Result<(), Status> {
        let replica = |block: &pb::Block| pb::Replica { block: Some(*block), state: 0 };
        let replicas = self.disk.values().map(replica).collect();
        let slices = vec![self.slice(replicas, false), self.slice(Vec::new(), true)];
        self.link.block_report(tokio_stream::iter(slices)).await.map(drop)
    }

    async fn change(&mut self, block: pb::Block, kind: Kind) {
        let change = Change { storage_id: self.storage(), block: Some(block), kind: kind.into() };
        let request = pb::BlocksChangedRequest {
            uuid: self.uuid(),
            session: self.session,
            changes: vec![change],
            moves: Vec::new(),
            end: None,
        };
        self.link.blocks_changed(request).await.unwrap();
    }

    async fn receive(&mut self, block: pb::Block) {
        self.disk.insert(block.id, block);
        self.change(block, Kind::Received).await;
    }

    async fn beat(&mut self) -> Result<Vec<Order>, Status> {
        let request = pb::HeartbeatRequest {
            uuid: self.uuid(),
            session: self.session,
            storages: self.volumes(),
            active_transfers: 0,
            address: Some(self.address()),
            ..pb::HeartbeatRequest::default()
        };
        let answer = self.link.heartbeat(request).await?.into_inner();
        Ok(answer.commands.into_iter().filter_map(|command| command.command).collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_survives_a_datanode_and_its_blocks_go_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(folder.path()).await;
    let mut nodes = cluster.datanodes(4).await;
    let located = cluster.write("/d/f", &mut nodes).await;
    assert_eq!(located.locations.len(), 3);
    let spare = nodes.iter().position(|node| !node.is_among(&located.locations)).unwrap();
    let dead = nodes.iter().position(|node| node.is_among(&located.locations)).unwrap();

    let mut copies = Vec::new();
    for _ in 0..8 {
        copies.extend(cluster.pass(&mut nodes, Some(dead)).await);
    }
    let (_, Order::Transfer(copy)) = copies.pop().expect("a copy is ordered") else { panic!("{copies:?}") };
    assert!(copies.is_empty(), "one order for one lost replica: {copies:?}");
    assert!(nodes[spare].is_among(&copy.targets) && copy.targets.len() == 1);
    let stats = cluster.files().fs_stats(pb::Empty {}).await.unwrap().into_inner();
    assert_eq!((stats.under_replicated, stats.missing), (1, 0));
    let (files, summary) = cluster.fsck().await;
    assert_eq!((files.len(), summary.under_replicated, summary.healthy), (1, 1, true));
    assert_eq!(files[0].blocks[0].live.len(), 2);

    nodes[spare].receive(copy.block.unwrap()).await;
    let (files, summary) = cluster.fsck().await;
    assert_eq!((files.len(), summary.files, summary.directories, summary.bytes), (0, 1, 2, LENGTH));
    let open = by_user(pb::OpenRequest { path: "/d/f".into(), offset: 0, length: 0 });
    let opened = cluster.files().open(open).await.unwrap().into_inner().blocks.unwrap();
    let places = &opened.blocks[0].locations;
    assert!(places.len() == 3 && !nodes[dead].is_among(places) && nodes[spare].is_among(places));

    let delete = by_user(pb::DeleteRequest { path: "/d".into(), recursive: true, key: None });
    assert!(cluster.files().delete(delete).await.unwrap().into_inner().result);
    while cluster.assembled.service.submit(&own_caller(), None, Command::Reclaim { limit: 10 }).await.unwrap()
        == steadfs_namenode_core::Reply::Bool(true)
    {}
    let orders = cluster.pass(&mut nodes, Some(dead)).await;
    let deletions = orders.iter().filter(|(_, order)| matches!(order, Order::Invalidate(_))).count();
    assert_eq!(deletions, 3, "{orders:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_namenode_waits_for_the_reports() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(folder.path()).await;
    let mut nodes = cluster.datanodes(3).await;
    cluster.write("/f", &mut nodes).await;
    let disks: Vec<_> = nodes.iter().map(|node| node.disk.clone()).collect();
    drop(nodes);
    cluster.stop().await;

    let cluster = Cluster::start(folder.path()).await;
    let pool = steadfs_daemon::pool::DiskPool::new("learn", 1, 0).unwrap();
    cluster.blocks.learn(&pool, &cluster.shutdown).await;
    assert_eq!(cluster.blocks.shared.owner.read(|map| map.counts().known), 1, "from the namespace");
    cluster.blocks.tend();
    let state = cluster.safe_mode().await;
    assert!(
        state.on && state.reason.starts_with("The reported blocks 0 has not reached"),
        "{}",
        state.reason
    );
    let mkdirs = by_user(pb::MkdirsRequest {
        path: "/d".into(),
        mode: 0o755,
        create_parent: true,
        ..Default::default()
    });
    let error = from_status(&cluster.files().mkdirs(mkdirs).await.unwrap_err());
    assert_eq!(error.kind(), FsErrorKind::SafeMode, "{error}");
    let stat = by_user(pb::StatRequest { path: "/f".into() });
    assert_eq!(cluster.files().stat(stat).await.unwrap().into_inner().status.unwrap().length, LENGTH);

    for (number, disk) in disks.into_iter().enumerate() {
        let mut node = FakeDatanode { disk, ..FakeDatanode::new(&cluster, number as u32) };
        assert_eq!(node.beat().await.unwrap(), [Order::Register(pb::RegisterAgain {})]);
        node.register("").await.unwrap();
        node.report().await.unwrap();
    }
    cluster.blocks.tend();
    let state = cluster.safe_mode().await;
    assert!(!state.on, "{}", state.reason);
    let report = cluster.admin().report(by_user(pb::Empty {})).await.unwrap().into_inner();
    assert_eq!((report.datanodes.len(), report.files, report.blocks), (3, 1, 1));
    assert_eq!(
        report.stats.unwrap(),
        pb::FsStatsResponse { capacity: 3 << 40, remaining: 3 << 40, ..Default::default() }
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_and_senseless_datanodes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(folder.path()).await;
    let mut node = cluster.datanodes(1).await.remove(0);
    let kind = |status: Status| from_status(&status).kind();

    let error = from_status(&node.register("of-somebody-else").await.unwrap_err());
    assert_eq!(error.kind(), FsErrorKind::NotRegistered);
    assert!(error.message().contains("of-somebody-else"), "{error}");

    let replica = |id: u64| pb::Replica { block: Some(pb::Block { id, stamp: 1, length: 1 }), state: 0 };
    for (slice, expected) in [
        (node.slice(vec![replica(9), replica(8)], true), FsErrorKind::InvalidRequest),
        (node.slice(vec![pb::Replica { block: None, state: 0 }], true), FsErrorKind::InvalidRequest),
        (node.slice(vec![replica(1); 20_000], true), FsErrorKind::InvalidRequest),
        (
            pb::BlockReportSlice { storage_id: "../x".into(), ..node.slice(vec![], true) },
            FsErrorKind::InvalidRequest,
        ),
        (pb::BlockReportSlice { session: 99, ..node.slice(vec![], true) }, FsErrorKind::NotRegistered),
    ] {
        let answer = node.link.block_report(tokio_stream::iter(vec![slice])).await;
        assert_eq!(kind(answer.unwrap_err()), expected);
    }

    // The next life of the same datanode, at another address: the earlier one is over.
    let mut second = FakeDatanode { session: 2, ..FakeDatanode::new(&cluster, 0) };
    second.register("").await.unwrap();
    assert_eq!(kind(node.beat().await.unwrap_err()), FsErrorKind::NotRegistered);
    assert_eq!(kind(node.register("").await.unwrap_err()), FsErrorKind::NotRegistered);
    assert!(second.beat().await.unwrap().is_empty());

    let nobody = cluster.files().stat(pb::StatRequest { path: "/".into() }).await.unwrap_err();
    assert_eq!(kind(nobody), FsErrorKind::InvalidRequest);
    let odd = by_user(pb::MkdirsRequest {
        path: "/d".into(),
        mode: 0o7777,
        create_parent: true,
        ..Default::default()
    });
    assert_eq!(kind(cluster.files().mkdirs(odd).await.unwrap_err()), FsErrorKind::InvalidArgument);
    cluster.stop().await;
}
