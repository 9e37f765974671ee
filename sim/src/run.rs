//! One simulation, from its seed to its verdict.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use steadfs_namenode::service::Node;

use crate::client;
use crate::datanode;
use crate::faults;
use crate::machine;
use crate::random::{Random, mix};
use crate::verdict;
use crate::world::World;

/// Within so much time after the last fault, all clients have come to their end.
const CLIENTS_END: Duration = Duration::from_secs(600);
/// Within so much time after that, everything is whole again.
const WHOLE_AGAIN: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(2);

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of everything that happened.
    pub hash: u64,
    /// So much happened.
    pub events: u64,
    /// Simulated time, in seconds.
    pub seconds: u64,
    /// From the last fault until all clients had ended and everything was whole, in seconds.
    pub healed_in: u64,
    /// What went wrong.
    pub failure: Option<String>,
}

/// Runs the simulation of a seed with its files below `folder`; with `lines`, tells what happens.
///
/// # Errors
/// The operating system: nothing was found out.
pub fn run(seed: u64, folder: &Path, lines: bool) -> anyhow::Result<Outcome> {
    machine::begin(seed);
    let files =
        tempfile::Builder::new().prefix("sim-").tempdir_in(folder).context("a folder for the simulation")?;
    let shape = Random::new(mix(seed ^ 3));
    let (datanodes, clients) = (shape.range(3, 5) as usize, shape.range(2, 4) as usize);
    let world = World::new(seed, files.path().to_owned(), datanodes, clients, lines)?;
    world.note(|| format!("seed {seed}: {datanodes} datanodes, {clients} clients"));
    world.start_namenode();
    (0..datanodes).for_each(|number| datanode::start(&world, number));
    (0..clients).for_each(|number| client::start(&world, number, false));
    faults::start(&world);

    let failed = || world.failure.borrow().is_some();
    let quiet_from = faults::FAULTS_FOR + datanode::SCAN + Duration::from_secs(5);
    world.exec.run(quiet_from, failed);
    let quiet_since = world.exec.now();
    if !failed() && !world.quiet.get() {
        world.fail("the faults have not ended");
    }
    let all_ended = || failed() || world.ended.get() == clients;
    if !world.exec.run(quiet_since + CLIENTS_END, all_ended) {
        let ended = world.ended.get();
        world.fail(format!(
            "{ended} of {clients} clients have come to their end in {CLIENTS_END:?}: {:?}",
            verdict::unrest(&world)
        ));
    }
    settle(&world);
    let healed_in = world.exec.now().saturating_sub(faults::FAULTS_FOR).as_secs();
    if !failed() {
        verdict::judge(&world);
    }
    if !failed() {
        // What is durable is so without the process, too.
        world.stop_namenode(true);
        world.start_namenode();
        settle(&world);
    }
    if !failed() {
        verdict::judge(&world);
    }
    let (hash, events) = world.exec.trace();
    let outcome = Outcome {
        hash,
        events,
        seconds: world.exec.now().as_secs(),
        healed_in,
        failure: world.failure.borrow().clone(),
    };
    for number in 0..datanodes {
        datanode::stop(&world, number, datanode::Stop::Kill);
    }
    world.stop_namenode(false);
    world.exec.clear();
    Ok(outcome)
}

/// Waits until everything is whole.
fn settle(world: &crate::world::Shared) {
    let end = world.exec.now() + WHOLE_AGAIN;
    loop {
        if world.failure.borrow().is_some() {
            return;
        }
        let unrest = verdict::unrest(world);
        if unrest.is_empty() {
            return;
        }
        if world.exec.now() >= end {
            let nodes = world.look(async |namenode| Ok(namenode.service().datanodes()));
            let told = |node: &Arc<Node>| {
                let Node { host_name, uuid, live, last_heartbeat, last_block_report, .. } = &**node;
                format!(
                    "{host_name} {uuid} live {live} heard {last_heartbeat:?} reported {last_block_report:?}"
                )
            };
            let nodes: Vec<String> = nodes.unwrap_or_default().iter().map(told).collect();
            return world
                .fail(format!("not whole after {WHOLE_AGAIN:?}: {unrest:?}; the namenode knows {nodes:?}"));
        }
        world.exec.run(world.exec.now() + LOOK, || false);
    }
}
