//! Extended attributes of one inode. Version 1: how many, then each one's namespace, name and value.

use steadfs_namenode_core::record::{XAttr, XAttrName, XAttrNamespace};

use super::{Stored, unknown_version};
use crate::store::codec::{CodecError, Reader, Writer};

/// All attributes of an inode.
pub struct XAttrs(pub Vec<XAttr>);

/// The bytes of `attributes`.
pub(super) fn write(attributes: &[XAttr]) -> Vec<u8> {
    XAttrs(attributes.to_vec()).encode()
}

impl Stored for XAttrs {
    const WHAT: &'static str = "extended attributes";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer) {
        out.number(self.0.len() as u64);
        for attribute in &self.0 {
            out.byte(attribute.name.namespace as u8);
            out.text(&attribute.name.name);
            out.number(attribute.value.len() as u64);
            out.raw(&attribute.value);
        }
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        if version != 1 {
            return Err(unknown_version(input));
        }
        let count: u32 = input.narrow()?;
        let mut attributes = Vec::new();
        for _ in 0..count {
            let namespace = XAttrNamespace::from_number(input.byte()?)
                .ok_or_else(|| input.error("its namespace is not known"))?;
            let name = input.text()?.to_owned();
            let length: u32 = input.narrow()?;
            let name = XAttrName { namespace, name };
            attributes.push(XAttr { name, value: input.raw(length as usize)?.to_vec() });
        }
        Ok(Self(attributes))
    }
}
