//! Datanodes and a namenode that says what a test wants.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_common::{BlockId, ChecksumSpec, FsError, FsErrorKind, GenStamp};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode_store::{Block, CreateOptions, Faults, ReplicaState, ReplicaWriter};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::blocks_changed_request::Kind;
use steadfs_proto::steadfs::command::Command;
use steadfs_proto::steadfs::datanode_link_server::{DatanodeLink, DatanodeLinkServer};
use steadfs_proto::steadfs::replicas_client::ReplicasClient;
use steadfs_proto::to_status;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{Config, Datanode, Reload, VolumeSettings};

/// Nothing here takes so long unless it never comes.
pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const ID: BlockId = BlockId(1_073_741_825);
pub(crate) const G1: GenStamp = GenStamp(1_001);

/// What the namenode was told.
#[derive(Debug)]
pub(crate) enum Told {
    Register(pb::RegisterRequest),
    Heartbeat(pb::HeartbeatRequest),
    Report(Vec<pb::BlockReportSlice>),
    Changes(Vec<pb::blocks_changed_request::Change>),
    Commit(pb::CommitBlockSynchronizationRequest),
    Bad(pb::ReportBadRequest),
    CopyFailed(pb::CopyFailedRequest),
}

/// What the namenode answers.
struct Answers {
    cluster: String,
    epoch: u64,
    heartbeat_ms: u64,
    commands: VecDeque<(u64, Command)>,
    heartbeat_error: Option<FsErrorKind>,
    changes_error: Option<FsErrorKind>,
    /// To what is told of copies, one after the other.
    copy_errors: VecDeque<FsErrorKind>,
}

#[derive(Clone)]
struct Fake {
    told: mpsc::Sender<Told>,
    answers: Arc<Mutex<Answers>>,
}

impl Fake {
    async fn tell(&self, told: Told) {
        // A test that is over does not listen any more.
        let _ = self.told.send(told).await;
    }
}

fn failing(kind: FsErrorKind) -> Status {
    to_status(&FsError::new(kind, "as the test wants"))
}

#[tonic::async_trait]
impl DatanodeLink for Fake {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        self.tell(Told::Register(request.into_inner())).await;
        let answers = self.answers.lock();
        Ok(Response::new(pb::RegisterResponse {
            cluster_id: answers.cluster.clone(),
            block_pool: "BP-1".into(),
            epoch: answers.epoch,
            heartbeat_interval_ms: answers.heartbeat_ms,
            block_report_interval_ms: 3_600_000,
            now: None,
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        self.tell(Told::Heartbeat(request.into_inner())).await;
        let mut answers = self.answers.lock();
        if let Some(kind) = answers.heartbeat_error {
            return Err(failing(kind));
        }
        let (epoch, commands) = match answers.commands.pop_front() {
            Some((epoch, command)) => (epoch, vec![pb::Command { command: Some(command) }]),
            None => (answers.epoch, Vec::new()),
        };
        Ok(Response::new(pb::HeartbeatResponse { epoch, commands, ..pb::HeartbeatResponse::default() }))
    }

    async fn block_report(
        &self,
        request: Request<Streaming<pb::BlockReportSlice>>,
    ) -> Result<Response<pb::BlockReportResponse>, Status> {
        let slices = request.into_inner().collect::<Result<Vec<_>, _>>().await?;
        self.tell(Told::Report(slices)).await;
        Ok(Response::new(pb::BlockReportResponse {}))
    }

    async fn blocks_changed(
        &self,
        request: Request<pb::BlocksChangedRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        self.tell(Told::Changes(request.into_inner().changes)).await;
        match self.answers.lock().changes_error {
            Some(kind) => Err(failing(kind)),
            None => Ok(Response::new(pb::Empty {})),
        }
    }

    async fn commit_block_synchronization(
        &self,
        request: Request<pb::CommitBlockSynchronizationRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        self.tell(Told::Commit(request.into_inner())).await;
        Ok(Response::new(pb::Empty {}))
    }

    async fn report_bad(
        &self,
        request: Request<pb::ReportBadRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        self.tell(Told::Bad(request.into_inner())).await;
        Ok(Response::new(pb::Empty {}))
    }

    async fn copy_failed(
        &self,
        request: Request<pb::CopyFailedRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        self.tell(Told::CopyFailed(request.into_inner())).await;
        match self.answers.lock().copy_errors.pop_front() {
            Some(kind) => Err(failing(kind)),
            None => Ok(Response::new(pb::Empty {})),
        }
    }
}

pub(crate) struct Namenode {
    address: SocketAddr,
    fake: Fake,
    told: mpsc::Receiver<Told>,
    server: tokio::task::JoinHandle<()>,
}

impl Namenode {
    pub(crate) async fn start() -> Self {
        let (told, receive) = mpsc::channel(1_000);
        let answers = Answers {
            cluster: "CID-1".into(),
            epoch: 5,
            heartbeat_ms: 20,
            commands: VecDeque::new(),
            heartbeat_error: None,
            changes_error: None,
            copy_errors: VecDeque::new(),
        };
        let fake = Fake { told, answers: Arc::new(Mutex::new(answers)) };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, server: serve(fake.clone(), listener), fake, told: receive }
    }

    fn answers(&self) -> parking_lot::MutexGuard<'_, Answers> {
        self.fake.answers.lock()
    }

    /// Waits for what `wanted` picks from what is told; the rest is passed over.
    pub(crate) async fn wait<T>(&mut self, mut wanted: impl FnMut(Told) -> Option<T>) -> T {
        tokio::time::timeout(LONG, async {
            loop {
                if let Some(found) = wanted(self.told.recv().await.unwrap()) {
                    return found;
                }
            }
        })
        .await
        .expect("it is told in time")
    }

    pub(crate) async fn registration(&mut self) -> pb::RegisterRequest {
        self.wait(|told| if let Told::Register(request) = told { Some(request) } else { None }).await
    }

    pub(crate) async fn heartbeat(&mut self) -> pb::HeartbeatRequest {
        self.wait(|told| if let Told::Heartbeat(request) = told { Some(request) } else { None }).await
    }

    pub(crate) async fn report(&mut self) -> Vec<pb::BlockReportSlice> {
        self.wait(|told| if let Told::Report(slices) = told { Some(slices) } else { None }).await
    }

    /// Waits for a change of a block of this kind.
    pub(crate) async fn change(&mut self, kind: Kind) -> pb::Block {
        self.wait(|told| {
            let Told::Changes(changes) = told else { return None };
            changes.into_iter().find(|change| change.kind() == kind).and_then(|change| change.block)
        })
        .await
    }

    /// What it answers to the next failed copies it is told.
    pub(crate) fn refuse_copies(&self, errors: impl IntoIterator<Item = FsErrorKind>) {
        self.answers().copy_errors.extend(errors);
    }

    pub(crate) fn command(&self, command: Command) {
        let epoch = self.answers().epoch;
        self.answers().commands.push_back((epoch, command));
    }
}

fn serve(fake: Fake, listener: TcpListener) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let server = tonic::transport::Server::builder().add_service(DatanodeLinkServer::new(fake));
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    })
}

pub(crate) struct Running {
    pub(crate) datanode: Datanode,
    pub(crate) shutdown: Shutdown,
}

/// Two volumes, `a` and `b`.
pub(crate) fn config(namenode: &Namenode, folder: &Path) -> Config {
    let volume = |name: &str| VolumeSettings { path: folder.join(name), ..VolumeSettings::default() };
    let any = ([127, 0, 0, 1], 0).into();
    Config {
        namenode: namenode.address.to_string(),
        volumes: vec![volume("a"), volume("b")],
        data_listen: any,
        ipc_listen: any,
        http_listen: Some(any),
        rack: "/r1".into(),
        ..Config::default()
    }
}

impl Running {
    pub(crate) async fn start(namenode: &Namenode, folder: &Path) -> Self {
        Self::start_with(config(namenode, folder), None).await
    }

    pub(crate) async fn start_with(config: Config, reload: Option<Reload>) -> Self {
        Self::start_on(config, reload, None).await
    }

    /// On disks that fail as a test wants.
    pub(crate) async fn start_on(
        config: Config,
        reload: Option<Reload>,
        faults: Option<Arc<dyn Faults>>,
    ) -> Self {
        let shutdown = Shutdown::new();
        let datanode = Datanode::start_on(config, reload, faults, shutdown.clone()).await.unwrap();
        Self { datanode, shutdown }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(LONG, self.datanode.stopped()).await.unwrap();
    }

    /// Why it could not go on.
    pub(crate) async fn failure(&self) -> String {
        tokio::time::timeout(LONG, self.shutdown.triggered()).await.unwrap();
        self.shutdown.failure().unwrap()
    }

    async fn writer(&self, id: BlockId, data: &'static [u8]) -> ReplicaWriter {
        let node = self.datanode.node().clone();
        let store = node.store.clone();
        let write = move || {
            let block = Block { id, stamp: G1, len: 1 << 20 };
            let writer = store
                .create_rbw(CreateOptions { block, storage: None, spec: ChecksumSpec::DEFAULT })
                .unwrap();
            let mut sums = Vec::new();
            ChecksumSpec::DEFAULT.append_checksums(data, &mut sums);
            writer.write(0, data, &sums).unwrap();
            writer.set_acked(data.len() as u64);
            writer
        };
        node.disks.shared().run(write).await
    }

    pub(crate) async fn finalized(&self, id: BlockId, data: &'static [u8]) -> Block {
        let writer = self.writer(id, data).await;
        self.datanode.node().disk_of(id).run(move || writer.finalize().unwrap()).await
    }

    pub(crate) fn location(&self) -> pb::Location {
        let node = self.datanode.node();
        let address = pb::DatanodeAddress {
            uuid: node.uuid.to_string(),
            ip: "127.0.0.1".into(),
            host_name: "127.0.0.1".into(),
            data_port: node.data_port.into(),
            ipc_port: self.datanode.ipc_address().port().into(),
            http_port: 0,
        };
        pb::Location { datanode: Some(address), storage_id: String::new(), rack: "/r1".into() }
    }
}

fn wire(block: Block) -> pb::Block {
    crate::convert::to_block(block)
}

#[tokio::test]
async fn its_last_words_say_that_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    let session = namenode.registration().await.session;
    assert!(!namenode.heartbeat().await.ending);
    running.stop().await;
    let last = namenode.wait(|told| match told {
        Told::Heartbeat(beat) if beat.ending => Some(beat.session),
        _ => None,
    });
    assert_eq!(last.await, session);
}

#[tokio::test]
async fn it_registers_reports_and_beats() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    let first = namenode.registration().await;
    let address = first.address.unwrap();
    assert_eq!((first.cluster_id.as_str(), first.rack.as_str(), first.storages.len()), ("", "/r1", 2));
    assert_eq!(address.ip, "127.0.0.1");
    assert_eq!(address.data_port, u32::from(running.datanode.data_address().port()));
    let report = namenode.report().await;
    assert_eq!(report.iter().filter(|slice| slice.storage_done).count(), 2);
    let beat = namenode.heartbeat().await;
    assert_eq!(
        (beat.uuid.as_str(), beat.session, beat.storages.len()),
        (address.uuid.as_str(), first.session, 2)
    );
    assert!(beat.storages.iter().all(|storage| storage.capacity > 0 && !storage.failed));
    running.finalized(ID, b"abc").await;
    running.stop().await;

    let again = Running::start(&namenode, folder.path()).await;
    let second = namenode.registration().await;
    assert_eq!(second.cluster_id, "CID-1");
    assert_eq!(second.address.unwrap().uuid, address.uuid);
    assert_ne!(second.session, first.session);
    let report = namenode.report().await;
    let replicas: Vec<_> = report.iter().flat_map(|slice| &slice.replicas).collect();
    assert_eq!(replicas.len(), 1);
    assert_eq!(replicas[0].block, Some(pb::Block { id: ID.0, stamp: G1.0, length: 3 }));
    again.stop().await;
}

#[tokio::test]
async fn a_finalized_replica_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    namenode.answers().heartbeat_ms = 60_000;
    let running = Running::start(&namenode, folder.path()).await;
    namenode.report().await;
    let block = running.finalized(ID, b"abc").await;
    // No heartbeat is due for a minute.
    assert_eq!(namenode.change(Kind::Received).await, wire(block));
    running.stop().await;
}

#[tokio::test]
async fn changes_survive_a_namenode_that_fails_and_end_in_a_report_if_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    namenode.report().await;
    namenode.answers().changes_error = Some(FsErrorKind::Retriable);
    let block = running.finalized(ID, b"abc").await;
    namenode.change(Kind::Received).await;
    namenode.answers().changes_error = None;
    assert_eq!(namenode.change(Kind::Received).await, wire(block), "once more");
    namenode.answers().changes_error = Some(FsErrorKind::InvalidRequest);
    running.finalized(ID.next(), b"abc").await;
    let report = namenode.report().await;
    assert_eq!(report.iter().map(|slice| slice.replicas.len()).sum::<usize>(), 2);
    // The first came and was finalized, the second came.
    assert!(report.iter().all(|slice| slice.knows >= Some(3)), "{report:?}");
    running.stop().await;
}

#[tokio::test]
async fn it_registers_again_when_asked_and_when_the_namenode_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    let first = namenode.registration().await;
    namenode.command(Command::Register(pb::RegisterAgain {}));
    let second = namenode.registration().await;
    assert_eq!((second.session, second.cluster_id.as_str()), (first.session, "CID-1"));
    namenode.report().await;

    namenode.server.abort();
    let _ = (&mut namenode.server).await;
    running.finalized(ID, b"abc").await;
    let listener = loop {
        // Its connections may still close.
        if let Ok(listener) = TcpListener::bind(namenode.address).await {
            break listener;
        }
        tokio::task::yield_now().await;
    };
    namenode.command(Command::Register(pb::RegisterAgain {}));
    namenode.server = serve(namenode.fake.clone(), listener);
    namenode.registration().await;
    let report = namenode.report().await;
    assert_eq!(report.iter().map(|slice| slice.replicas.len()).sum::<usize>(), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_older_namenode_is_not_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    let block = running.finalized(ID, b"abc").await;
    namenode.change(Kind::Received).await;
    let invalidate = || Command::Invalidate(pb::Invalidate { blocks: vec![wire(block)] });
    namenode.answers().commands.push_back((4, invalidate()));
    while !namenode.answers().commands.is_empty() {
        namenode.heartbeat().await;
    }
    namenode.heartbeat().await;
    assert!(running.datanode.node().store.status(ID).is_some());
    namenode.command(invalidate());
    assert_eq!(namenode.change(Kind::Deleted).await, wire(block));
    assert!(running.datanode.node().store.status(ID).is_none());
    running.stop().await;
}

#[tokio::test]
async fn a_double_and_a_foreign_namenode_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    namenode.heartbeat().await;
    namenode.answers().heartbeat_error = Some(FsErrorKind::NotRegistered);
    assert!(running.failure().await.contains("must not share"));
    running.stop().await;

    namenode.answers().heartbeat_error = None;
    namenode.answers().cluster = "CID-2".into();
    let running = Running::start(&namenode, folder.path()).await;
    let failure = running.failure().await;
    assert!(
        failure.contains("CID-1") && failure.contains("CID-2") && failure.contains("empty folder"),
        "{failure}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_failed_volume_and_a_bad_replica_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    let block = running.finalized(ID, b"abc").await;
    namenode.change(Kind::Received).await;
    let node = running.datanode.node().clone();
    let store = node.store.clone();
    let storage = store.status(ID).unwrap().storage;
    let name = if store.volumes()[0].storage == storage { "a" } else { "b" };
    let path = folder.path().join(name).join("finalized/subdir0/subdir0/blk_1073741825");
    std::fs::write(path, b"abd").unwrap();
    assert!(node.disk_of(ID).run(move || store.open_for_read(ID, G1).unwrap().suspect()).await);
    let bad = namenode.wait(|told| if let Told::Bad(bad) = told { Some(bad) } else { None }).await;
    assert_eq!((bad.storage_id, bad.blocks), (storage.to_string(), vec![wire(block)]));

    // At once: what is removed file by file can be written to meanwhile.
    std::fs::rename(folder.path().join(name), folder.path().join("gone")).unwrap();
    let store = node.store.clone();
    node.disks
        .shared()
        .run(move || {
            store.volumes_in_service().into_iter().for_each(|volume| store.check_volume(volume));
        })
        .await;
    let beat = loop {
        let beat = namenode.heartbeat().await;
        if beat.storages.iter().any(|report| report.failed) {
            break beat;
        }
    };
    let failed: Vec<_> = beat.storages.iter().filter(|report| report.failed).map(|r| &r.storage_id).collect();
    assert_eq!(failed, [&storage.to_string()]);
    running.stop().await;
}

#[tokio::test]
async fn a_block_is_recovered_to_what_all_have() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let first = Running::start(&namenode, &folder.path().join("1")).await;
    let second = Running::start(&namenode, &folder.path().join("2")).await;
    let longer = first.writer(ID, b"abcdef").await;
    let shorter = second.writer(ID, b"abcd").await;
    let command = pb::Recover {
        block: Some(pb::Block { id: ID.0, stamp: G1.0, length: 0 }),
        new_stamp: 1_005,
        locations: vec![first.location(), second.location()],
        ..Default::default()
    };
    // Whichever of the two hears it first leads.
    namenode.command(Command::Recover(command));
    let commit =
        namenode.wait(|told| if let Told::Commit(commit) = told { Some(commit) } else { None }).await;
    assert_eq!((commit.new_stamp, commit.new_length, commit.storage_ids.len()), (1_005, 4, 2));
    assert!(commit.close_file && !commit.delete_block);
    for running in [&first, &second] {
        let status = running.datanode.node().store.status(ID).unwrap();
        assert_eq!(status.state, ReplicaState::Finalized);
        assert_eq!(status.block, Block { id: ID, stamp: GenStamp(1_005), len: 4 });
    }
    assert!(longer.flush().is_err() && shorter.flush().is_err());
    drop((longer, shorter));

    // Where nobody has a byte, the block goes.
    let command = pb::Recover {
        block: Some(pb::Block { id: ID.0 + 1, stamp: G1.0, length: 0 }),
        new_stamp: 1_006,
        locations: vec![first.location(), second.location()],
        ..Default::default()
    };
    namenode.command(Command::Recover(command));
    let commit =
        namenode.wait(|told| if let Told::Commit(commit) = told { Some(commit) } else { None }).await;
    assert!(commit.delete_block && commit.storage_ids.is_empty());
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_replica_is_copied_to_another_datanode() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let first = Running::start(&namenode, &folder.path().join("1")).await;
    namenode.report().await;
    let block = first.finalized(ID, b"abcdef").await;
    namenode.change(Kind::Received).await;
    // The first one is the only one that could hear it now.
    let second_folder = folder.path().join("2");
    let second = Running::start(&namenode, &second_folder).await;
    namenode.report().await;
    let transfer = pb::Transfer {
        block: Some(wire(block)),
        targets: vec![second.location()],
        ..pb::Transfer::default()
    };
    // Both may hear it: a datanode that has no such replica refuses.
    for _ in 0..20 {
        namenode.command(Command::Transfer(transfer.clone()));
    }
    assert_eq!(namenode.change(Kind::Received).await, wire(block));
    assert_eq!(second.datanode.node().store.status(ID).unwrap().block, block);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn lengths_of_replicas_being_written_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    namenode.report().await;
    let _writer = running.writer(ID, b"abcdef").await;
    let channel = crate::link::dial(&running.datanode.ipc_address().to_string()).unwrap();
    let mut client = ReplicasClient::new(channel);
    let ask = |id: BlockId, stamp: u64| pb::VisibleLengthRequest {
        block: Some(pb::Block { id: id.0, stamp, length: 0 }),
    };
    let length = client.visible_length(ask(ID, G1.0)).await.unwrap().into_inner().length;
    assert_eq!(length, 6);
    for (id, stamp) in [(ID, 2_000), (ID.next(), G1.0)] {
        let status = client.visible_length(ask(id, stamp)).await.unwrap_err();
        assert_eq!(steadfs_proto::from_status(&status).kind(), FsErrorKind::ReplicaNotFound);
    }
    assert!(client.visible_length(pb::VisibleLengthRequest { block: None }).await.is_err());
    running.stop().await;
}
