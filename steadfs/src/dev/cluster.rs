//! A cluster on one machine, and what can be done to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use steadfs_client::Client;
use steadfs_daemon::pool::DiskPool;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::doors::{DatanodeDoors, DatanodeEndpoint, Endpoints, NamenodeDoors, NamenodeEndpoint};
use super::layout::{Layout, node_name};
use super::node::{self, ChildSpec, Ended, Node};
use super::settings::Configurations;
use super::{MAX_DATANODES, Options};

/// Ends of nodes that are kept until somebody asks.
const MAX_EVENTS: usize = 2 * MAX_DATANODES as usize;
/// How often a cluster that starts is asked whether it serves.
const POLL: Duration = Duration::from_millis(50);

/// A namenode and its datanodes, running under one folder.
///
/// Dropping it ends everything, but does not wait; [`Cluster::stop`] does.
pub struct Cluster {
    options: Options,
    layout: Arc<Layout>,
    configurations: Configurations,
    /// The little files of a cluster are written here.
    files: DiskPool,
    namenode: Option<Node<NamenodeDoors>>,
    datanodes: Vec<Option<Node<DatanodeDoors>>>,
    /// The doors of the last start, also of a node that has ended.
    doors: NamenodeDoors,
    told: Vec<DatanodeEndpoint>,
    namenode_pid: u32,
    ended: mpsc::Receiver<Ended>,
    events: mpsc::Sender<Ended>,
}

impl Cluster {
    /// Starts all nodes. They know each other when [`Cluster::serving`] says so.
    ///
    /// # Errors
    /// The folder is in use or belongs to something else, an option makes no sense, or a node does not start: a
    /// sentence with the remedy.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let files = DiskPool::new("dev-files", 1, 16).context("starting a thread")?;
        let asked = options.clone();
        let (layout, configurations) = files
            .run(move || {
                let layout = Layout::open(&asked.dir)?;
                let configurations = layout.configurations(&asked)?;
                anyhow::Ok((Arc::new(layout), configurations))
            })
            .await?;
        let (events, ended) = mpsc::channel(MAX_EVENTS);
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut cluster = Self {
            datanodes: (0..options.datanodes).map(|_| None).collect(),
            options,
            layout,
            configurations,
            files,
            namenode: None,
            doors: NamenodeDoors { rpc: unknown, http: unknown },
            told: Vec::new(),
            namenode_pid: 0,
            ended,
            events,
        };
        if let Err(error) = cluster.start_all().await {
            cluster.stop().await;
            return Err(error);
        }
        Ok(cluster)
    }

    async fn start_all(&mut self) -> anyhow::Result<()> {
        self.start_namenode().await?;
        for index in 0..self.datanodes.len() {
            self.start_datanode(index).await?;
        }
        Ok(())
    }

    /// The URL for every client.
    #[must_use]
    pub fn url(&self) -> String {
        self.doors.url()
    }

    /// The URL of the status page.
    #[must_use]
    pub fn http_url(&self) -> String {
        self.doors.http_url()
    }

    /// What `endpoints.json` tells.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            hdfs: self.url(),
            http: self.http_url(),
            namenode: NamenodeEndpoint { pid: self.namenode_pid },
            datanodes: self.told.clone(),
        }
    }

    /// How many datanodes the cluster has, running or not.
    #[must_use]
    pub fn datanodes(&self) -> usize {
        self.datanodes.len()
    }

    /// Where a datanode that runs serves Hadoop RPC and gRPC.
    #[must_use]
    pub fn ipc_address(&self, datanode: usize) -> Option<SocketAddr> {
        self.datanodes.get(datanode)?.as_ref().map(|node| node.doors.ipc)
    }

    /// The folder of a volume of a datanode, both from 0.
    #[must_use]
    pub fn volume(&self, datanode: usize, volume: usize) -> PathBuf {
        self.layout.volume(datanode, volume)
    }

    /// The configuration file of a node as it was last started; `None` is the namenode, `Some(0)` the first datanode.
    #[must_use]
    pub fn config(&self, datanode: Option<usize>) -> PathBuf {
        self.layout.config(datanode)
    }

    /// Starts the namenode, if it does not run; at the ports of its last start.
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn start_namenode(&mut self) -> anyhow::Result<()> {
        if self.namenode.as_ref().is_some_and(Node::is_running) {
            return Ok(());
        }
        let config = self.configurations.namenode.clone();
        self.write_config(None, config.clone()).await?;
        let node = match self.child_spec(None) {
            Some(spec) => node::child(spec, &self.files, self.events.clone()).await,
            None => node::namenode_here(config, self.events.clone()).await,
        };
        let node = node.context("the namenode does not start")?;
        self.doors = node.doors;
        self.namenode_pid = node.pid;
        self.namenode = Some(node);
        // Clients and datanodes will look for it where it was; so will who starts it by hand.
        let (rpc, http) = (self.doors.rpc.port(), self.doors.http.port());
        self.configurations.namenode.listen.set_port(rpc);
        self.configurations.namenode.http_listen.set_port(http);
        self.write_config(None, self.configurations.namenode.clone()).await
    }

    /// Starts a datanode, if it does not run.
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn start_datanode(&mut self, index: usize) -> anyhow::Result<()> {
        if self.datanodes[index].as_ref().is_some_and(Node::is_running) {
            return Ok(());
        }
        let own = self.configurations.datanode(index)?;
        let config = self.layout.datanode_config(&own, self.doors.rpc, index, self.options.volumes);
        self.write_config(Some(index), config.clone()).await?;
        let node = match self.child_spec(Some(index)) {
            Some(spec) => node::child(spec, &self.files, self.events.clone()).await,
            None => {
                let file = self.layout.config(Some(index));
                node::datanode_here(index, config, file, self.events.clone()).await
            }
        };
        let node = node.with_context(|| format!("{} does not start", node_name(Some(index))))?;
        let endpoint = DatanodeEndpoint {
            uuid: node.doors.uuid.clone(),
            pid: node.pid,
            data: node.doors.data,
            ipc: node.doors.ipc,
            dir: self.layout.node(Some(index)),
        };
        match self.told.get_mut(index) {
            Some(told) => *told = endpoint,
            None => self.told.push(endpoint),
        }
        self.datanodes[index] = Some(node);
        Ok(())
    }

    /// Stops the namenode cleanly.
    pub async fn stop_namenode(&mut self) {
        if let Some(node) = self.namenode.take() {
            node.stop().await;
        }
    }

    /// Kills the namenode by SIGKILL, if it is a child process; stops it cleanly otherwise.
    pub async fn kill_namenode(&mut self) {
        if let Some(node) = self.namenode.take() {
            node.kill().await;
        }
    }

    /// Stops a datanode cleanly.
    pub async fn stop_datanode(&mut self, index: usize) {
        if let Some(node) = self.datanodes[index].take() {
            node.stop().await;
        }
    }

    /// Kills a datanode by SIGKILL, if it is a child process; stops it cleanly otherwise.
    pub async fn kill_datanode(&mut self, index: usize) {
        if let Some(node) = self.datanodes[index].take() {
            node.kill().await;
        }
    }

    /// Waits until every datanode that runs is known to the namenode, and changes are allowed.
    ///
    /// # Errors
    /// It did not come to that within `limit`: what is missing.
    pub async fn serving(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let missing = match self.missing().await {
                Ok(None) => return Ok(()),
                Ok(Some(missing)) => missing,
                Err(error) => format!("the namenode does not answer: {error:#}"),
            };
            if Instant::now() >= deadline {
                bail!(missing);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What is missing until the cluster serves.
    async fn missing(&self) -> anyhow::Result<Option<String>> {
        let report = Client::connect(&self.url()).await?.report().await?;
        let live = report.datanodes.iter().filter(|node| node.live).count();
        let running = self.datanodes.iter().flatten().filter(|node| node.is_running()).count();
        if live < running {
            return Ok(Some(format!("{live} of {running} datanodes have registered")));
        }
        Ok(report.safe_mode.map(|reason| format!("safe mode: {reason}")))
    }

    /// Waits for a node to end although nobody asked it to. It is not started again. Safe to cancel.
    pub async fn next_end(&mut self) -> Ended {
        let ended = self.ended.recv().await;
        ended.expect("a sender lives as long as the cluster")
    }

    /// Writes `endpoints.json` under the cluster's folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn tell_endpoints(&self) -> anyhow::Result<()> {
        let (layout, endpoints) = (self.layout.clone(), self.endpoints());
        self.files.run(move || layout.write_endpoints(&endpoints)).await
    }

    /// Stops everything cleanly: the datanodes first, so that the namenode hears of their last replicas.
    pub async fn stop(mut self) {
        let layout = self.layout.clone();
        if let Err(error) = self.files.run(move || layout.forget_endpoints()).await {
            tracing::warn!("{error:#}");
        }
        let stopping: Vec<_> = self
            .datanodes
            .iter_mut()
            .filter_map(Option::take)
            .map(|node| tokio::spawn(node.stop()))
            .collect();
        for datanode in stopping {
            if let Err(error) = datanode.await {
                tracing::error!(%error, "stopping a datanode failed");
            }
        }
        self.stop_namenode().await;
    }

    async fn write_config(
        &self,
        datanode: Option<usize>,
        config: impl serde::Serialize + Send + 'static,
    ) -> anyhow::Result<()> {
        let layout = self.layout.clone();
        self.files.run(move || layout.write_config(datanode, &config)).await
    }

    fn child_spec(&self, datanode: Option<usize>) -> Option<ChildSpec> {
        let binary = self.options.binary.clone()?;
        Some(ChildSpec {
            binary,
            datanode,
            config: self.layout.config(datanode),
            log: self.layout.log(datanode),
        })
    }

    /// The program that nodes run as, if they are child processes.
    #[must_use]
    pub fn binary(&self) -> Option<&Path> {
        self.options.binary.as_deref()
    }
}
