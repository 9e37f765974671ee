//! What a journal entry of a batch holds: which transactions it is made of, and what they leave.
//!
//! Version 1: the version; how many transactions, and of each its id, its operation and, behind their length, bytes of
//! what it did (see `events::codec`; none in the first releases); how many changes, and of each its table, its key behind its length, and 0 if the row is deleted
//! or 1 and its value behind its length. Changes are one a row: what several commands did to it is coalesced.

use steadfs_common::TxId;
use steadfs_namenode_core::acl::AclChange;
use steadfs_namenode_core::event::EventBatch;
use steadfs_namenode_core::namespace::quota;
use steadfs_namenode_core::{Changes, Command};

use crate::events::codec;
use crate::store::codec::{CodecError, Reader, Writer};
use crate::store::keys::{self, Table};
use crate::store::records;

const VERSION: u8 = 1;
/// Fewest bytes that a change or transaction takes: bounds what a count may promise.
const MIN_ITEM_BYTES: usize = 3;

/// The number of what is made up for tests of scale, which is no command.
pub(crate) const SYNTHESIZE: u8 = 115;

/// One command of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// Its id: the first, if several things happened.
    pub(crate) id: TxId,
    /// What it was: see [`operation`].
    pub(crate) operation: u8,
    /// What happened.
    pub(crate) events: Vec<EventBatch>,
}

impl Transaction {
    /// Its last id.
    pub(crate) fn last(&self) -> TxId {
        self.events.last().map_or(self.id, |batch| batch.tx)
    }
}

/// The number under which an operation is stored, never used for another; and its name in logs and metrics.
pub(crate) const fn operation(command: &Command) -> (u8, &'static str) {
    match command {
        Command::Format => (1, "format"),
        Command::Mkdirs { .. } => (2, "mkdirs"),
        Command::Create { .. } => (3, "create"),
        Command::Append { .. } => (4, "append"),
        Command::AddBlock { .. } => (5, "add_block"),
        Command::AbandonBlock { .. } => (6, "abandon_block"),
        Command::Complete { .. } => (7, "complete"),
        Command::Fsync { .. } => (8, "fsync"),
        Command::UpdateBlockForPipeline { .. } => (9, "update_block_for_pipeline"),
        Command::UpdatePipeline { .. } => (10, "update_pipeline"),
        Command::RecoverLease { .. } => (11, "recover_lease"),
        Command::ExpireLease { .. } => (12, "expire_lease"),
        Command::CommitBlockSynchronization { .. } => (13, "commit_block_synchronization"),
        Command::Rename { .. } => (14, "rename"),
        Command::Delete { .. } => (15, "delete"),
        Command::SetPermission { .. } => (16, "set_permission"),
        Command::SetOwner { .. } => (17, "set_owner"),
        Command::SetTimes { .. } => (18, "set_times"),
        Command::SetReplication { .. } => (19, "set_replication"),
        Command::TouchAccessTime { .. } => (20, "touch_access_time"),
        Command::Reclaim { .. } => (21, "reclaim"),
        Command::ForgetCalls { .. } => (22, "forget_calls"),
        Command::AcceptLoss { .. } => (80, "accept_loss"),
        Command::ForgetLosses => (81, "forget_losses"),
        Command::RepairFolder { .. } => (82, "repair_folder"),
        Command::RepairCounters { .. } => (83, "repair_counters"),
        Command::Concat { .. } => (23, "concat"),
        Command::Truncate { .. } => (24, "truncate"),
        Command::MakeFolder { .. } => (60, "make_folder"),
        Command::Stage { .. } => (50, "stage"),
        Command::ReplaceContent { .. } => (51, "replace_content"),
        Command::DropStaged { .. } => (52, "drop_staged"),
        Command::OpenLockSession { .. } => (53, "open_lock_session"),
        Command::CloseLockSession { .. } => (54, "close_lock_session"),
        Command::SetAcl { change, .. } => match change {
            AclChange::Modify(_) => (30, "modify_acl_entries"),
            AclChange::RemoveEntries(_) => (31, "remove_acl_entries"),
            AclChange::RemoveDefault => (32, "remove_default_acl"),
            AclChange::Remove => (33, "remove_acl"),
            AclChange::Set(_) => (34, "set_acl"),
        },
        Command::SetQuota { names, space, .. } => (40, quota::operation(*names, *space)),
        Command::SetStoragePolicy { policy: Some(_), .. } => (41, "set_storage_policy"),
        Command::SetStoragePolicy { policy: None, .. } => (42, "unset_storage_policy"),
        Command::SetXAttr { .. } => (35, "set_xattr"),
        Command::RemoveXAttr { .. } => (36, "remove_xattr"),
        Command::SetNodeWish { .. } => (70, "set_node_state"),
        Command::LetGo { .. } => (100, "let_go"),
    }
}

/// The bytes of a batch.
pub(crate) fn encode(transactions: &[Transaction], changes: &Changes) -> Vec<u8> {
    let mut out = Writer::new();
    out.byte(VERSION);
    out.number(transactions.len() as u64);
    for transaction in transactions {
        out.number(transaction.id.0);
        out.byte(transaction.operation);
        out.bytes(&codec::encode(&transaction.events));
    }
    out.number(changes.len() as u64);
    for (key, record) in changes {
        out.byte(keys::table_of(key) as u8);
        out.bytes(&keys::encode(key));
        out.boolean(record.is_some());
        if let Some(record) = record {
            out.bytes(&records::encode(record));
        }
    }
    out.into_bytes()
}

/// The batch in these bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Vec<Transaction>, Changes), CodecError> {
    let mut input = Reader::new("journal entry", bytes);
    let transactions = read_transactions(&mut input)?;
    Ok((transactions, read_changes(input)?))
}

/// Only what the batch in these bytes leaves. What its transactions did is passed over unread: nothing that is told of
/// changes may keep a namenode from starting.
pub(crate) fn changes(bytes: &[u8]) -> Result<Changes, CodecError> {
    let mut input = Reader::new("journal entry", bytes);
    for _ in 0..read_count(&mut input)? {
        let (_id, _operation, _events) = (input.number()?, input.byte()?, input.blob()?);
    }
    read_changes(input)
}

fn read_changes(mut input: Reader<'_>) -> Result<Changes, CodecError> {
    let mut changes = Changes::new();
    for _ in 0..input.count(MIN_ITEM_BYTES)? {
        let table = input.byte()?;
        let table = Table::from_ordinal(table).ok_or_else(|| input.error("it names an unknown table"))?;
        let key = keys::decode(table, input.blob()?)?;
        let record = if input.boolean()? { Some(records::decode(table, input.blob()?)?) } else { None };
        changes.insert(key, record);
    }
    input.end()?;
    Ok(changes)
}

/// Only the transactions of the batch in these bytes.
pub(crate) fn transactions(bytes: &[u8]) -> Result<Vec<Transaction>, CodecError> {
    read_transactions(&mut Reader::new("journal entry", bytes))
}

/// The version, and how many transactions follow.
fn read_count(input: &mut Reader<'_>) -> Result<usize, CodecError> {
    if input.byte()? != VERSION {
        return Err(input.error("it was written by a newer version of SteadFS"));
    }
    input.count(MIN_ITEM_BYTES)
}

fn read_transactions(input: &mut Reader<'_>) -> Result<Vec<Transaction>, CodecError> {
    let count = read_count(input)?;
    let mut transactions = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, operation) = (TxId(input.number()?), input.byte()?);
        transactions.push(Transaction { id, operation, events: codec::decode(input.blob()?)? });
    }
    Ok(transactions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use steadfs_common::InodeId;
    use steadfs_namenode_core::{Key, Record};

    use super::*;

    #[test]
    fn golden_bytes() {
        let changes = Changes::from([
            (Key::Lease(InodeId(1)), None),
            (Key::Reclaim(InodeId(2)), Some(Record::Reclaim { after: None })),
        ]);
        let transactions = [Transaction { id: TxId(300), operation: 15, events: Vec::new() }];
        let bytes = encode(&transactions, &changes);
        let golden = [
            1, 1, 0xac, 2, 15, 0, 2, //
            6, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, //
            7, 8, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 2, 0,
        ];
        assert_eq!(bytes, golden);
        assert_eq!(decode(&bytes).unwrap(), (transactions.to_vec(), changes));
    }

    #[test]
    fn what_cannot_be_told_is_no_obstacle_to_a_start() {
        let row = (Key::Reclaim(InodeId(2)), Some(Record::Reclaim { after: None }));
        // Events of a version that is not known.
        let bytes = [1, 1, 0xac, 2, 15, 2, 99, 99, 1, 7, 8, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 2, 0];
        assert!(transactions(&bytes).is_err());
        assert_eq!(super::changes(&bytes).unwrap(), Changes::from([row]));
    }

    proptest! {
        #[test]
        fn batches_come_back(
            rows in proptest::collection::vec(crate::store::records::tests::record(), 0..8),
            ids in proptest::collection::vec(any::<u64>(), 0..4),
        ) {
            let changes: Changes = rows
                .into_iter()
                .enumerate()
                .filter_map(|(row, (table, record))| {
                    let id = InodeId(row as u64);
                    let key = match table {
                        Table::Inode => Key::Inode(id),
                        Table::Totals => Key::Totals(id),
                        Table::Lease => Key::Lease(id),
                        Table::Counters => Key::Counters,
                        _ => return None,
                    };
                    Some((key, (row % 3 != 0).then_some(record)))
                })
                .collect();
            let transactions: Vec<_> =
                ids.into_iter().map(|id| Transaction { id: TxId(id), operation: 3, events: Vec::new() }).collect();
            let bytes = encode(&transactions, &changes);
            prop_assert_eq!(super::changes(&bytes).unwrap(), changes.clone());
            prop_assert_eq!(decode(&bytes).unwrap(), (transactions, changes));
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut]).is_err());
                prop_assert!(super::changes(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = decode(&bytes);
            let _ = super::changes(&bytes);
        }
    }
}
