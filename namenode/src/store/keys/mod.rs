//! Bytes of keys, one file a table. No other module builds or takes apart key bytes.
//!
//! Every key sorts in its bytes as [`Key`] sorts within its table, so that listings are range scans.

pub mod block;
pub mod counters;
pub mod entry;
pub mod file_block;
pub mod inode;
pub mod lease;
pub mod lock_session;
pub mod losses;
pub mod node_wishes;
pub mod reclaim;
pub mod retry;
pub mod totals;
pub mod xattrs;

use steadfs_common::InodeId;
use steadfs_namenode_core::Key;

use super::codec::{CodecError, Reader};

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $ordinal:literal, $family:literal;)*) => {
        /// A table: a column family of the store, and a byte in journal entries. The numbers are stored: one that is
        /// retired stays listed here and is never used again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Table {
            $($(#[$doc])* $name = $ordinal,)*
        }

        impl Table {
            /// All tables in use.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The table with this number.
            #[must_use]
            pub const fn from_ordinal(ordinal: u8) -> Option<Self> {
                match ordinal {
                    $($ordinal => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name of its column family.
            #[must_use]
            pub const fn family(self) -> &'static str {
                match self {
                    $(Self::$name => $family,)*
                }
            }
        }
    };
}

tables! {
    /// Inode id → inode. Lives from creation until reclaimed.
    Inode = 1, "inode";
    /// Folder and name → inode id. Lives while the name does.
    Entry = 2, "entry";
    /// Folder → its totals. Lives as long as the folder.
    Totals = 3, "totals";
    /// Block id → block. Lives until its file is reclaimed.
    Block = 4, "block";
    /// File and index → block id. Lives as long as the block is the file's.
    FileBlock = 5, "file_block";
    /// File → its lease. Lives while the file is written.
    Lease = 6, "lease";
    /// Top of a detached tree → how far its removal has come. Lives until the tree is reclaimed.
    Reclaim = 7, "reclaim";
    /// Client and call → the answer it got. Lives for the retry cache's time.
    Retry = 8, "retry";
    /// One row: the counters. Lives for ever.
    Counters = 9, "counters";
    /// Inode → its extended attributes. Lives while the inode has any.
    XAttrs = 10, "xattrs";
    /// One row: what operators want of single datanodes. Lives while they want anything.
    NodeWishes = 12, "node_wishes";
    /// One row: losses that operators accepted. Lives until what is kept since is let go.
    Losses = 16, "losses";
    /// Session → whose it is. Lives until it is closed, or its holder is gone.
    LockSession = 11, "lock_session";
}

/// The table that a key is of.
#[must_use]
pub const fn table_of(key: &Key) -> Table {
    match key {
        Key::Inode(_) => Table::Inode,
        Key::Entry(..) => Table::Entry,
        Key::Totals(_) => Table::Totals,
        Key::Block(_) => Table::Block,
        Key::FileBlock(..) => Table::FileBlock,
        Key::Lease(_) => Table::Lease,
        Key::Reclaim(_) => Table::Reclaim,
        Key::Retry(_) => Table::Retry,
        Key::Counters => Table::Counters,
        Key::XAttrs(_) => Table::XAttrs,
        Key::NodeWishes => Table::NodeWishes,
        Key::Losses => Table::Losses,
        Key::LockSession(_) => Table::LockSession,
    }
}

/// The bytes of a key within its table.
#[must_use]
pub fn encode(key: &Key) -> Vec<u8> {
    match key {
        Key::Inode(id) => inode::encode(*id).to_vec(),
        Key::Entry(folder, name) => entry::encode(*folder, name),
        Key::Totals(id) => totals::encode(*id).to_vec(),
        Key::Block(id) => block::encode(*id).to_vec(),
        Key::FileBlock(file, index) => file_block::encode(*file, *index).to_vec(),
        Key::Lease(id) => lease::encode(*id).to_vec(),
        Key::Reclaim(id) => reclaim::encode(*id).to_vec(),
        Key::Retry(call) => retry::encode(call).to_vec(),
        Key::Counters => counters::encode().to_vec(),
        Key::XAttrs(id) => xattrs::encode(*id).to_vec(),
        Key::NodeWishes => node_wishes::encode().to_vec(),
        Key::Losses => losses::encode().to_vec(),
        Key::LockSession(id) => lock_session::encode(*id).to_vec(),
    }
}

/// The key that these bytes are in `table`.
///
/// # Errors
/// They are not one.
pub fn decode(table: Table, bytes: &[u8]) -> Result<Key, CodecError> {
    Ok(match table {
        Table::Inode => Key::Inode(inode::decode(bytes)?),
        Table::Entry => {
            let (folder, name) = entry::decode(bytes)?;
            Key::Entry(folder, name)
        }
        Table::Totals => Key::Totals(totals::decode(bytes)?),
        Table::Block => Key::Block(block::decode(bytes)?),
        Table::FileBlock => {
            let (file, index) = file_block::decode(bytes)?;
            Key::FileBlock(file, index)
        }
        Table::Lease => Key::Lease(lease::decode(bytes)?),
        Table::Reclaim => Key::Reclaim(reclaim::decode(bytes)?),
        Table::Retry => Key::Retry(retry::decode(bytes)?),
        Table::Counters => {
            counters::decode(bytes)?;
            Key::Counters
        }
        Table::XAttrs => Key::XAttrs(xattrs::decode(bytes)?),
        Table::Losses => {
            losses::decode(bytes)?;
            Key::Losses
        }
        Table::NodeWishes => {
            node_wishes::decode(bytes)?;
            Key::NodeWishes
        }
        Table::LockSession => Key::LockSession(lock_session::decode(bytes)?),
    })
}

/// Big-endian, so that ids sort as numbers.
const fn inode_bytes(id: InodeId) -> [u8; 8] {
    id.0.to_be_bytes()
}

fn inode_from(what: &'static str, bytes: &[u8]) -> Result<InodeId, CodecError> {
    let mut input = Reader::new(what, bytes);
    let id = InodeId(u64::from_be_bytes(input.array()?));
    input.end()?;
    Ok(id)
}

#[cfg(test)]
mod tests;
