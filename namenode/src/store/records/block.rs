//! Version 1: state (0 complete, 1 committed, 2 under construction, 3 under construction and in recovery), id, stamp,
//! length, replication, inode, index, references; the pipeline unless complete; of a recovery stamp, when it was
//! started, and perhaps the length to truncate to.
//!
//! Version 2: the same, and under construction in the end the bytes that are known to be synced, and whether
//! the others may be (0, 1).

use steadfs_common::{BlockId, GenStamp, InodeId, Millis};
use steadfs_namenode_core::record::{Block, BlockState, Recovery};

use super::{Stored, unknown_version};
use crate::store::codec::{CodecError, Reader, Writer};

const COMPLETE: u8 = 0;
const COMMITTED: u8 = 1;
const UNDER_CONSTRUCTION: u8 = 2;
const IN_RECOVERY: u8 = 3;

impl Stored for Block {
    const WHAT: &'static str = "block";
    const VERSION: u8 = 2;

    fn write(&self, out: &mut Writer) {
        out.byte(match &self.state {
            BlockState::Complete => COMPLETE,
            BlockState::Committed { .. } => COMMITTED,
            BlockState::UnderConstruction { recovery: None, .. } => UNDER_CONSTRUCTION,
            BlockState::UnderConstruction { recovery: Some(_), .. } => IN_RECOVERY,
        });
        out.number(self.id.0);
        out.number(self.stamp.0);
        out.number(self.length);
        out.number(u64::from(self.replication));
        out.number(self.inode.0);
        out.number(u64::from(self.index));
        out.number(u64::from(self.references));
        match &self.state {
            BlockState::Complete => {}
            BlockState::Committed { expected } => out.storages(expected),
            BlockState::UnderConstruction { expected, recovery, synced, unsure } => {
                out.storages(expected);
                if let Some(recovery) = recovery {
                    out.number(recovery.stamp.0);
                    out.number(recovery.started.0);
                    out.optional(recovery.truncate_to);
                }
                out.number(*synced);
                out.boolean(*unsure);
            }
        }
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        if !(1..=2).contains(&version) {
            return Err(unknown_version(input));
        }
        let state = input.byte()?;
        let mut block = Self {
            id: BlockId(input.number()?),
            stamp: GenStamp(input.number()?),
            length: input.number()?,
            replication: input.narrow()?,
            inode: InodeId(input.number()?),
            index: input.narrow()?,
            references: input.narrow()?,
            state: read_state(state, input)?,
        };
        if let BlockState::UnderConstruction { synced, unsure, .. } = &mut block.state {
            // Version 1 did not tell: all of it counts as synced.
            (*synced, *unsure) =
                if version == 1 { (block.length, false) } else { (input.number()?, input.boolean()?) };
        }
        Ok(block)
    }
}

/// All of a state but what is synced.
fn read_state(state: u8, input: &mut Reader<'_>) -> Result<BlockState, CodecError> {
    Ok(match state {
        COMPLETE => BlockState::Complete,
        COMMITTED => BlockState::Committed { expected: input.storages()? },
        UNDER_CONSTRUCTION => BlockState::UnderConstruction {
            expected: input.storages()?,
            recovery: None,
            synced: 0,
            unsure: false,
        },
        IN_RECOVERY => BlockState::UnderConstruction {
            expected: input.storages()?,
            recovery: Some(Recovery {
                stamp: GenStamp(input.number()?),
                started: Millis(input.number()?),
                truncate_to: input.optional()?,
            }),
            synced: 0,
            unsure: false,
        },
        _ => return Err(input.error("its state is not known")),
    })
}
