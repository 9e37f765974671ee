//! Losses that operators accepted. Version 1: how many, then of each its incarnation, and the first and the end of its block
//! ids and of its generation stamps.

use steadfs_common::{BlockId, GenStamp};
use steadfs_namenode_core::record::Loss;

use super::{Stored, unknown_version};
use crate::store::codec::{CodecError, Reader, Writer};

/// Fewest bytes that one takes.
const MIN_BYTES: usize = 5;

/// All losses, oldest first.
pub struct Losses(pub Vec<Loss>);

/// The bytes of `losses`.
pub(super) fn write(losses: &[Loss]) -> Vec<u8> {
    Losses(losses.to_vec()).encode()
}

impl Stored for Losses {
    const WHAT: &'static str = "accepted losses";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer) {
        out.number(self.0.len() as u64);
        for Loss { incarnation, blocks, stamps } in &self.0 {
            for number in [*incarnation, blocks.0.0, blocks.1.0, stamps.0.0, stamps.1.0] {
                out.number(number);
            }
        }
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        if version != 1 {
            return Err(unknown_version(input));
        }
        let count = input.count(MIN_BYTES)?;
        let mut losses = Vec::with_capacity(count);
        for _ in 0..count {
            losses.push(Loss {
                incarnation: input.number()?,
                blocks: (BlockId(input.number()?), BlockId(input.number()?)),
                stamps: (GenStamp(input.number()?), GenStamp(input.number()?)),
            });
        }
        Ok(Self(losses))
    }
}
