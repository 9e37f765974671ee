//! What operators want of single datanodes. Version 1: how many, then each one's uuid (16 bytes), the wish (1 decommission,
//! 2 maintenance) and of maintenance its end in milliseconds, 0 for none.

use steadfs_common::{DatanodeUuid, Millis};
use steadfs_namenode_core::blocks::Wish;
use uuid::Uuid;

use super::{Stored, unknown_version};
use crate::store::codec::{CodecError, Reader, Writer};

const DECOMMISSION: u8 = 1;
const MAINTENANCE: u8 = 2;

/// All wishes, by datanode.
pub struct NodeWishes(pub Vec<(DatanodeUuid, Wish)>);

/// The bytes of `wishes`.
pub(super) fn write(wishes: &[(DatanodeUuid, Wish)]) -> Vec<u8> {
    NodeWishes(wishes.to_vec()).encode()
}

impl Stored for NodeWishes {
    const WHAT: &'static str = "wishes of datanodes";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer) {
        let wishes = || self.0.iter().filter(|(_, wish)| *wish != Wish::InService);
        out.number(wishes().count() as u64);
        for (uuid, wish) in wishes() {
            out.raw(uuid.0.as_bytes());
            match wish {
                Wish::Maintenance { until } => {
                    out.byte(MAINTENANCE);
                    out.number(until.map_or(0, |until| until.0));
                }
                Wish::Decommission | Wish::InService => out.byte(DECOMMISSION),
            }
        }
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        if version != 1 {
            return Err(unknown_version(input));
        }
        let count: u32 = input.narrow()?;
        let mut wishes = Vec::new();
        for _ in 0..count {
            let uuid = DatanodeUuid(Uuid::from_bytes(input.array()?));
            let wish = match input.byte()? {
                DECOMMISSION => Wish::Decommission,
                MAINTENANCE => {
                    let until = input.number()?;
                    Wish::Maintenance { until: (until > 0).then_some(Millis(until)) }
                }
                _ => return Err(input.error("the wish is not known")),
            };
            wishes.push((uuid, wish));
        }
        Ok(Self(wishes))
    }
}
