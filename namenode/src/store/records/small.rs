//! The records of a line or two. Version 1 of each is its fields in the order of the struct. Version 2 of totals has two
//! more behind those: charged; and settled, as 0 if it is all zero, else 1, charged, space, how many types and each one's
//! space. In version 1 charged is not known: it reads as the length, which is right where no file is being written.

use steadfs_common::{BlockId, GenStamp, InodeId, Millis, Name, StorageType, TxId};
use steadfs_namenode_core::record::{Counters, Lease, Retry, RetryReply, Settled, Totals};

use super::{Stored, unknown_version};
use crate::store::codec::{CodecError, Reader, Writer};

/// What a name stands for.
pub struct Entry(pub InodeId);

/// The block at an index of a file.
pub struct FileBlock(pub BlockId);

/// The mark on a tree to reclaim, with the last name removed. Version 1 had no fields; version 2 has how many names
/// there are (0 or 1), and the name.
pub struct Reclaim(pub Option<Name>);

impl Stored for Entry {
    const WHAT: &'static str = "entry";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer) {
        out.number(self.0.0);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        match version {
            1 => Ok(Self(InodeId(input.number()?))),
            _ => Err(unknown_version(input)),
        }
    }
}

impl Stored for FileBlock {
    const WHAT: &'static str = "block of a file";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer) {
        out.number(self.0.0);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        match version {
            1 => Ok(Self(BlockId(input.number()?))),
            _ => Err(unknown_version(input)),
        }
    }
}

impl Stored for Reclaim {
    const WHAT: &'static str = "tree to reclaim";
    const VERSION: u8 = 2;

    fn write(&self, out: &mut Writer) {
        out.boolean(self.0.is_some());
        if let Some(name) = &self.0 {
            out.text(name.as_str());
        }
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        match version {
            1 => Ok(Self(None)),
            2 if !input.boolean()? => Ok(Self(None)),
            2 => {
                let text = input.text()?;
                Ok(Self(Some(Name::new(text).map_err(|_| input.error("its name is not valid"))?)))
            }
            _ => Err(unknown_version(input)),
        }
    }
}

impl Stored for Totals {
    const WHAT: &'static str = "totals";
    const VERSION: u8 = 2;

    fn write(&self, out: &mut Writer) {
        out.number(self.directories);
        out.number(self.files);
        out.number(self.bytes);
        out.number(self.space);
        out.number(self.guarded.0);
        out.number(self.charged);
        let Settled { charged, space, types } = self.settled;
        out.boolean(self.settled != Settled::default());
        if self.settled != Settled::default() {
            out.number(charged);
            out.number(space);
            out.number(types.len() as u64);
            types.into_iter().for_each(|space| out.number(space));
        }
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        if !matches!(version, 1 | 2) {
            return Err(unknown_version(input));
        }
        let mut totals = Self {
            directories: input.number()?,
            files: input.number()?,
            bytes: input.number()?,
            space: input.number()?,
            guarded: TxId(input.number()?),
            ..Self::default()
        };
        if version == 1 {
            totals.charged = totals.bytes;
            return Ok(totals);
        }
        totals.charged = input.number()?;
        if !input.boolean()? {
            return Ok(totals);
        }
        (totals.settled.charged, totals.settled.space) = (input.number()?, input.number()?);
        let count: u8 = input.narrow()?;
        if usize::from(count) > StorageType::COUNT {
            return Err(input.error("it counts unknown storage types"));
        }
        for space in totals.settled.types.iter_mut().take(count.into()) {
            *space = input.number()?;
        }
        Ok(totals)
    }
}

impl Stored for Lease {
    const WHAT: &'static str = "lease";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer) {
        out.text(&self.holder);
        out.text(&self.machine);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        match version {
            1 => Ok(Self { holder: input.text()?.to_owned(), machine: input.text()?.to_owned() }),
            _ => Err(unknown_version(input)),
        }
    }
}

const DONE: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const FILE: u8 = 3;

impl Stored for Retry {
    const WHAT: &'static str = "saved answer";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer) {
        out.number(self.expires.0);
        match self.reply {
            RetryReply::Done => out.byte(DONE),
            RetryReply::Bool(false) => out.byte(FALSE),
            RetryReply::Bool(true) => out.byte(TRUE),
            RetryReply::File(id) => {
                out.byte(FILE);
                out.number(id.0);
            }
        }
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        if version != 1 {
            return Err(unknown_version(input));
        }
        let expires = Millis(input.number()?);
        let reply = match input.byte()? {
            DONE => RetryReply::Done,
            FALSE => RetryReply::Bool(false),
            TRUE => RetryReply::Bool(true),
            FILE => RetryReply::File(InodeId(input.number()?)),
            _ => return Err(input.error("its answer is not known")),
        };
        Ok(Self { expires, reply })
    }
}

impl Stored for Counters {
    const WHAT: &'static str = "counters";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer) {
        out.number(self.next_inode.0);
        out.number(self.next_block.0);
        out.number(self.next_stamp.0);
        out.number(self.last_tx.0);
        out.number(self.complete_blocks);
        out.number(self.blocks);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        match version {
            1 => Ok(Self {
                next_inode: InodeId(input.number()?),
                next_block: BlockId(input.number()?),
                next_stamp: GenStamp(input.number()?),
                last_tx: TxId(input.number()?),
                complete_blocks: input.number()?,
                blocks: input.number()?,
            }),
            _ => Err(unknown_version(input)),
        }
    }
}
