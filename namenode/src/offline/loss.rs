//! Accepting that what came after a restored state is lost.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use steadfs_common::{BlockId, GenStamp, Millis, StorageId};
use steadfs_namenode_core::command::Context;
use steadfs_namenode_core::namespace::kept::NothingOpen;
use steadfs_namenode_core::placement::{Cluster, PlacementRequest};
use steadfs_namenode_core::{Command, Tx, View as _, namespace};

use crate::commit::payload::{self, Transaction};
use crate::config::NamenodeConfig;
use crate::journal::Journal as _;
use crate::run::Opened;
use crate::service::own_caller;

/// Nobody is there.
struct Empty;

impl Cluster for Empty {
    fn choose(&self, _request: &PlacementRequest<'_>) -> SmallVec<[StorageId; 3]> {
        SmallVec::new()
    }

    fn live(&self, _block: BlockId, _stamp: GenStamp) -> SmallVec<[StorageId; 3]> {
        SmallVec::new()
    }

    fn datanodes(&self) -> usize {
        0
    }
}

/// Lets the datanodes of a cluster follow this namenode although they have heard of a later state. Ids that may have been
/// given out since are passed over, and replicas made since are kept until an operator lets them go. Gives the number
/// under which datanodes know this state from now on.
///
/// # Errors
/// The folders cannot be opened, are in use, or the disk says no. It may be tried again.
pub fn accept_loss(config: &NamenodeConfig) -> anyhow::Result<u64> {
    config.validate()?;
    let mut opened = Opened::open(config)?;
    let now = steadfs_daemon::clock::SystemClock::shared().now();
    let incarnation = now.0.max(opened.folders.identity(0).incarnation + 1);
    let view = opened.store.view();
    let mut tx = Tx::new(&*view);
    let context = Context {
        now,
        steady: Millis(0),
        seed: 0,
        caller: &own_caller(),
        settings: &config.settings(),
        cluster: &Empty,
        renewals: &BTreeMap::new(),
        safe_mode: None,
        clearance: None,
        open: &NothingOpen,
    };
    let command = Command::AcceptLoss { incarnation };
    namespace::plan(&mut tx, &context, &command)?;
    let last = view.counters().unwrap_or_else(|| unreachable!("an opened namespace was formatted")).last_tx;
    let transaction =
        Transaction { id: last.next(), operation: payload::operation(&command).0, events: Vec::new() };
    let changes = tx.into_changes();
    let position = opened.journal.append(&payload::encode(&[transaction], &changes))?;
    opened.writer.apply(position, &changes);
    opened.journal.seal()?;
    opened.store.flush();
    // Last: a datanode that hears of it must find the ids passed over.
    opened.folders.set_incarnation(incarnation)?;
    Ok(incarnation)
}
