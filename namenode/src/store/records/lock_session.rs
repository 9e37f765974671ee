//! A mount's session. Version 1: user, client, when it was opened.

use steadfs_common::Millis;
use steadfs_namenode_core::record::LockSession;

use super::{Stored, unknown_version};
use crate::store::codec::{CodecError, Reader, Writer};

impl Stored for LockSession {
    const WHAT: &'static str = "lock session";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer) {
        out.text(&self.user);
        out.text(&self.client);
        out.number(self.opened.0);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        if version != 1 {
            return Err(unknown_version(input));
        }
        Ok(Self {
            user: input.text()?.to_owned(),
            client: input.text()?.to_owned(),
            opened: Millis(input.number()?),
        })
    }
}
