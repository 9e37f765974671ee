//! Harm for tests to find.

use steadfs_common::{InodeId, Name, ROOT_INODE, TxId};
use steadfs_namenode_core::{Key, Record, Tx, View as _};

use crate::commit::payload::{self, Transaction};
use crate::config::NamenodeConfig;
use crate::journal::Journal as _;
use crate::run::Opened;

/// Writes what no command ever writes: a wrong total, a wrong count, a name that leads nowhere, and a counter that is off.
pub(crate) fn harm(config: &NamenodeConfig) {
    let mut opened = Opened::open(config).unwrap();
    let view = opened.store.view();
    let mut tx = Tx::new(&*view);
    let folder = view.entries(ROOT_INODE, None, 1).pop().unwrap().1;
    let mut totals = view.totals(folder);
    totals.files += 5;
    tx.put(Key::Totals(folder), Record::Totals(totals));
    tx.put(Key::Entry(folder, Name::new("ghost").unwrap()), Record::Entry(InodeId(1 << 40)));
    let mut counters = view.counters().unwrap();
    counters.blocks += 3;
    counters.last_tx = counters.last_tx.next();
    tx.put(Key::Counters, Record::Counters(counters));
    let changes = tx.into_changes();
    let transaction = Transaction { id: TxId(counters.last_tx.0), operation: 2, events: Vec::new() };
    let position = opened.journal.append(&payload::encode(&[transaction], &changes)).unwrap();
    opened.writer.apply(position, &changes);
    opened.journal.seal().unwrap();
    opened.store.flush();
}
