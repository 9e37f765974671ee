//! Carrying out a command while nobody else can.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use steadfs_common::{BlockId, GenStamp, Millis, StorageId};
use steadfs_namenode_core::command::Context;
use steadfs_namenode_core::namespace::kept::NothingOpen;
use steadfs_namenode_core::placement::{Cluster, PlacementRequest};
use steadfs_namenode_core::record::Record;
use steadfs_namenode_core::{Changes, Command, Tx, namespace};

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

/// Plans `command` as the namenode itself, journals it and applies it.
pub(super) fn carry_out(
    opened: &mut Opened,
    config: &NamenodeConfig,
    now: Millis,
    command: &Command,
) -> anyhow::Result<()> {
    let view = opened.store.view();
    let mut tx = Tx::new(&*view);
    let context = Context {
        now,
        steady: Millis(0),
        even: now,
        seed: 0,
        caller: &own_caller(),
        settings: &config.settings(),
        cluster: &Empty,
        renewals: &BTreeMap::new(),
        safe_mode: None,
        clearance: None,
        open: &NothingOpen,
    };
    namespace::plan(&mut tx, &context, command)?;
    let changes = tx.into_changes();
    write(opened, payload::operation(command).0, &changes)?;
    Ok(())
}

/// Journals the changes of one transaction, which have the counters among them, and applies them. Gives the bytes of the
/// journal that it took.
pub(super) fn write(opened: &mut Opened, operation: u8, changes: &Changes) -> anyhow::Result<u64> {
    let last = changes.values().flatten().find_map(|record| match record {
        Record::Counters(counters) => Some(counters.last_tx),
        _ => None,
    });
    let transaction = Transaction { id: last.unwrap_or_default(), operation, events: Vec::new() };
    let bytes = payload::encode(&[transaction], changes);
    let position = opened.journal.append(&bytes)?;
    opened.writer.apply(position, changes);
    Ok(bytes.len() as u64)
}
