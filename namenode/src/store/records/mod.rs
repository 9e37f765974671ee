//! Bytes of values. Each kind has a version byte of its own in front; an old version stays readable when a new one
//! comes. What a field means is said in [`steadfs_namenode_core::record`].

mod block;
mod inode;
mod lock_session;
mod losses;
mod node_wishes;
mod small;
mod xattrs;

use steadfs_namenode_core::{Record, record};

use super::codec::{CodecError, Reader, Writer};
use super::keys::Table;

/// A value that is stored.
pub trait Stored: Sized {
    /// What it is called in messages.
    const WHAT: &'static str;
    /// The version that is written.
    const VERSION: u8;

    /// Writes the fields in today's version.
    fn write(&self, out: &mut Writer);

    /// Reads the fields of a value of `version`.
    ///
    /// # Errors
    /// The bytes are not that, or the version is not known.
    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError>;

    /// Version and fields.
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.byte(Self::VERSION);
        self.write(&mut out);
        out.into_bytes()
    }

    /// Reads what [`Stored::encode`] of this or an older release wrote.
    ///
    /// # Errors
    /// The bytes are not that.
    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut input = Reader::new(Self::WHAT, bytes);
        let version = input.byte()?;
        let value = Self::read(version, &mut input)?;
        input.end()?;
        Ok(value)
    }
}

/// The error for a version that a newer release wrote.
const fn unknown_version(input: &Reader<'_>) -> CodecError {
    input.error("it was written by a newer version of SteadFS")
}

/// The bytes of a record.
#[must_use]
pub fn encode(record: &Record) -> Vec<u8> {
    match record {
        Record::Inode(inode) => inode.encode(),
        Record::Entry(id) => small::Entry(*id).encode(),
        Record::Totals(totals) => totals.encode(),
        Record::Block(block) => block.encode(),
        Record::FileBlock(id) => small::FileBlock(*id).encode(),
        Record::Lease(lease) => lease.encode(),
        Record::Reclaim { after } => small::Reclaim(after.clone()).encode(),
        Record::Retry(retry) => retry.encode(),
        Record::Counters(counters) => counters.encode(),
        Record::XAttrs(attributes) => xattrs::write(attributes),
        Record::NodeWishes(wishes) => node_wishes::write(wishes),
        Record::Losses(losses) => losses::write(losses),
        Record::LockSession(session) => session.encode(),
    }
}

/// The record that these bytes are in `table`.
///
/// # Errors
/// They are not one.
pub fn decode(table: Table, bytes: &[u8]) -> Result<Record, CodecError> {
    Ok(match table {
        Table::Inode => Record::Inode(record::Inode::decode(bytes)?),
        Table::Entry => Record::Entry(small::Entry::decode(bytes)?.0),
        Table::Totals => Record::Totals(record::Totals::decode(bytes)?),
        Table::Block => Record::Block(record::Block::decode(bytes)?),
        Table::FileBlock => Record::FileBlock(small::FileBlock::decode(bytes)?.0),
        Table::Lease => Record::Lease(record::Lease::decode(bytes)?),
        Table::Reclaim => Record::Reclaim { after: small::Reclaim::decode(bytes)?.0 },
        Table::Retry => Record::Retry(record::Retry::decode(bytes)?),
        Table::Counters => Record::Counters(record::Counters::decode(bytes)?),
        Table::XAttrs => Record::XAttrs(XAttrs::decode(bytes)?.0),
        Table::Losses => Record::Losses(Losses::decode(bytes)?.0),
        Table::NodeWishes => Record::NodeWishes(NodeWishes::decode(bytes)?.0),
        Table::LockSession => Record::LockSession(record::LockSession::decode(bytes)?),
    })
}

pub use losses::Losses;
pub use node_wishes::NodeWishes;
pub use small::{Entry, FileBlock, Reclaim};
pub use xattrs::XAttrs;

#[cfg(test)]
pub(crate) mod tests;
