//! A namenode without sockets and timers: who calls carries messages to its doors and says when time has passed.
//!
//! For simulations of whole clusters. Journal, store, commit thread, rules, soft state and doors are those of a namenode
//! that serves; what [`crate::run()`] starts beside them (listeners, timers, upkeep) is not there.

use std::sync::Arc;

use steadfs_common::{BlockId, FsResult};
use steadfs_daemon::clock::SharedClock;
use steadfs_namenode_core::View as _;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::datanode_link_server::DatanodeLink;
use steadfs_proto::steadfs::namespace_server::Namespace;

use crate::NamenodeConfig;
use crate::blocks::{Blocks, Progress};
use crate::commit::{CommitThread, Commits};
use crate::grpc::Doors;
use crate::identity::DataFolders;
use crate::journal::JournalHealth;
use crate::run::{Assembled, Opened};
use crate::service::{Location, Service};
use crate::store::Store;

/// One life of a namenode.
pub struct InlineNamenode {
    service: Arc<Service>,
    store: Arc<Store>,
    blocks: Arc<Blocks>,
    doors: Doors,
    progress: Option<Progress>,
    commits: Commits,
    thread: CommitThread,
    journal: JournalHealth,
    folders: DataFolders,
}

/// A block of the namespace and who is known to hold it.
#[derive(Clone, Debug)]
pub struct KnownBlock {
    /// Which.
    pub id: BlockId,
    /// Its generation stamp.
    pub stamp: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Replicas that are wanted.
    pub replication: u16,
    /// Whether its file has been closed, or a further block begun.
    pub complete: bool,
    /// Good replicas.
    pub good: Vec<Location>,
    /// Bad replicas.
    pub bad: Vec<Location>,
}

impl InlineNamenode {
    /// Opens the data folders, or makes them, and replays the journal. Blocks.
    ///
    /// # Errors
    /// As a start of the namenode.
    pub async fn open(config: &NamenodeConfig, clock: SharedClock) -> anyhow::Result<Self> {
        config.validate()?;
        let opened = Opened::open(config)?;
        let (store, journal) = (opened.store.clone(), opened.journal.health());
        let blocks = Blocks::new(config, clock.clone(), store.clone())?;
        let Assembled { service, commits, thread, mut folders, .. } =
            opened.assemble(config, clock, blocks.clone()).await?;
        folders.finish()?;
        let doors = Doors::new(service.clone(), blocks.clone());
        Ok(Self { service, store, blocks, doors, progress: None, commits, thread, journal, folders })
    }

    /// The door of clients.
    pub fn namespace(&self) -> &impl Namespace {
        self.doors.namespace()
    }

    /// The door of datanodes; full reports come by [`Self::report`].
    pub fn link(&self) -> &impl DatanodeLink {
        self.doors.link()
    }

    /// What can be asked.
    #[must_use]
    pub const fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Takes a part of a datanode's full report.
    ///
    /// # Errors
    /// As the door.
    pub async fn report(&self, slice: pb::BlockReportSlice) -> FsResult<()> {
        self.doors.take_slice(slice).await
    }

    /// A round of what is done without being asked: due about once a second.
    pub async fn round(&mut self) {
        self.progress = self.blocks.round(self.progress).await;
    }

    /// Takes files from writers that are gone.
    ///
    /// # Errors
    /// Stopping.
    pub async fn expire_leases(&self) -> FsResult<()> {
        self.service.expire_leases().await
    }

    /// Removes what was deleted, and answers that nobody will ask for again.
    ///
    /// # Errors
    /// Stopping.
    pub async fn clean(&self) -> FsResult<()> {
        self.service.reclaim().await?;
        self.service.forget_calls().await
    }

    /// Begins a new segment of the journal.
    ///
    /// # Errors
    /// Stopping.
    pub async fn roll(&self) -> FsResult<()> {
        self.commits.roll().await
    }

    /// Makes the store durable. Blocks.
    pub fn flush(&self) {
        self.store.flush();
    }

    /// Whether every copy of the journal is whole.
    #[must_use]
    pub fn journal_is_whole(&self) -> bool {
        !self.journal.is_degraded()
    }

    /// All blocks of the namespace. Blocks.
    #[must_use]
    pub fn known_blocks(&self) -> Vec<KnownBlock> {
        let blocks = self.store.view().blocks_from(BlockId(0), usize::MAX);
        let known = |block: steadfs_namenode_core::record::Block| {
            let (good, bad) = self.blocks.replicas(block.id);
            KnownBlock {
                id: block.id,
                stamp: block.stamp.0,
                length: block.length,
                replication: block.replication,
                complete: block.state == steadfs_namenode_core::record::BlockState::Complete,
                good,
                bad,
            }
        };
        blocks.into_iter().map(known).collect()
    }

    /// Files that are open for writing.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.store.view().leases(None, usize::MAX).len()
    }

    /// What is wrong with the namespace: nothing ever should be.
    ///
    /// # Errors
    /// Stopping.
    pub async fn problems(&self) -> FsResult<Vec<String>> {
        let checked = self.service.check_namespace(self.service.own_caller(), false).await?;
        Ok(checked.problems)
    }

    /// Ends it. Of what was not durable nothing is made so by this that matters: who simulates a crash has taken the
    /// folders away before. Blocks.
    pub fn end(self) {
        self.commits.stop();
        let Self { service, blocks, doors, thread, folders, commits, store, .. } = self;
        drop((service, blocks, doors, commits));
        thread.join();
        drop((store, folders));
    }
}
