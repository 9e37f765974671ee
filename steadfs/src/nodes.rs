//! `steadfs namenode` and `steadfs datanode`.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_daemon::{config, logs, parent};
use steadfs_datanode::Datanode;
use steadfs_namenode::Namenode;

use crate::dev::{DatanodeDoors, NamenodeDoors};
use crate::{DatanodeArguments, NodeArguments, Place};

/// How long tasks may take to end after the node itself has stopped.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves the namespace until it is told to stop.
pub(crate) async fn namenode(arguments: &NodeArguments) -> anyhow::Result<()> {
    let shutdown = prepare(arguments)?;
    let config = steadfs_namenode::Config::load(&arguments.config)?;
    let node = Namenode::start(config, shutdown.clone()).await?;
    let doors = NamenodeDoors::of(&node);
    announce(arguments, &doors, &format!("serving {}; status page {}", doors.url(), doors.http_url()))?;
    node.stopped().await;
    finish(&shutdown).await
}

/// Serves replicas until it is told to stop.
pub(crate) async fn datanode(arguments: &DatanodeArguments) -> anyhow::Result<()> {
    let DatanodeArguments { node: arguments, place } = arguments;
    let shutdown = prepare(arguments)?;
    let mut config: steadfs_datanode::Config = config::load(&arguments.config)?;
    place.settle(&mut config)?;
    let (file, again) = (arguments.config.clone(), place.clone());
    let reload: steadfs_datanode::Reload = Arc::new(move || {
        let mut config: steadfs_datanode::Config = config::load(&file)?;
        again.settle(&mut config)?;
        Ok(config)
    });
    let node = Datanode::start_reloading(config, Some(reload), shutdown.clone()).await?;
    let doors = DatanodeDoors::of(&node);
    announce(arguments, &doors, &format!("datanode {} serving at {}", doors.uuid, doors.data))?;
    node.stopped().await;
    finish(&shutdown).await
}

impl Place {
    /// Puts what was told in place of what the configuration says.
    pub(crate) fn settle(&self, config: &mut steadfs_datanode::Config) -> anyhow::Result<()> {
        let told = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        if let Some(node) = told(&self.node_name) {
            config.node = node;
        }
        if let Some(rack) = told(&self.rack) {
            config.rack = rack;
        }
        if let Some(ip) = told(&self.advertised_ip) {
            let read = ip.parse().with_context(|| format!("--advertised-ip {ip:?} is not an IP address"))?;
            config.advertised_ip = Some(read);
        }
        Ok(())
    }
}

fn prepare(arguments: &NodeArguments) -> anyhow::Result<Shutdown> {
    logs::init("info");
    if let Some(pid) = arguments.parent {
        parent::die_with_parent(pid)?;
    }
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("listening for signals")?;
    Ok(shutdown)
}

/// Tells who started this process that the doors are open: JSON for `steadfs dev`, a sentence for a person.
fn announce(arguments: &NodeArguments, doors: &impl serde::Serialize, sentence: &str) -> anyhow::Result<()> {
    let line = match arguments.parent {
        Some(_) => serde_json::to_string(doors).context("writing the doors as JSON")?,
        None => sentence.to_owned(),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("writing to standard output")
}

async fn finish(shutdown: &Shutdown) -> anyhow::Result<()> {
    shutdown.trigger();
    if !shutdown.drained(DRAIN).await {
        tracing::warn!("some tasks did not end in time");
    }
    match shutdown.failure() {
        Some(reason) => bail!(reason),
        None => Ok(()),
    }
}
