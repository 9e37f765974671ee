//! Version 1: flags (1 folder, 2 has a name, 4 under construction), id, parent, name, owner, group, mode, mtime, atime,
//! changed; of a folder children; of a file layout (0 and the replication), length, blocks, block size, storage policy.

use steadfs_common::{InodeId, Millis, Name, TxId};
use steadfs_namenode_core::record::{FileBody, Inode, InodeKind, Layout};

use super::{Stored, unknown_version};
use crate::store::codec::{CodecError, Reader, Writer};

const DIRECTORY: u8 = 1;
const NAMED: u8 = 2;
const UNDER_CONSTRUCTION: u8 = 4;
const REPLICATED: u8 = 0;

impl Stored for Inode {
    const WHAT: &'static str = "inode";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Writer) {
        let kind = match &self.kind {
            InodeKind::Directory { .. } => DIRECTORY,
            InodeKind::File(file) if file.under_construction => UNDER_CONSTRUCTION,
            InodeKind::File(_) => 0,
        };
        out.byte(kind | if self.name.is_some() { NAMED } else { 0 });
        out.number(self.id.0);
        out.number(self.parent.0);
        if let Some(name) = &self.name {
            out.text(name.as_str());
        }
        out.text(&self.owner);
        out.text(&self.group);
        out.number(u64::from(self.mode));
        out.number(self.mtime.0);
        out.number(self.atime.0);
        out.number(self.changed.0);
        match &self.kind {
            InodeKind::Directory { children } => out.number(*children),
            InodeKind::File(file) => write_file(file, out),
        }
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        if version != 1 {
            return Err(unknown_version(input));
        }
        let flags = input.byte()?;
        if flags & !(DIRECTORY | NAMED | UNDER_CONSTRUCTION) != 0 {
            return Err(input.error("it has unknown flags"));
        }
        let id = InodeId(input.number()?);
        let parent = InodeId(input.number()?);
        let name = if flags & NAMED == 0 {
            None
        } else {
            let text = input.text()?;
            Some(Name::new(text).map_err(|_| input.error("its name is not valid"))?)
        };
        Ok(Self {
            id,
            parent,
            name,
            owner: input.text()?.to_owned(),
            group: input.text()?.to_owned(),
            mode: input.narrow()?,
            mtime: Millis(input.number()?),
            atime: Millis(input.number()?),
            changed: TxId(input.number()?),
            kind: if flags & DIRECTORY == 0 {
                InodeKind::File(read_file(flags & UNDER_CONSTRUCTION != 0, input)?)
            } else {
                InodeKind::Directory { children: input.number()? }
            },
        })
    }
}

fn write_file(file: &FileBody, out: &mut Writer) {
    let Layout::Replicated { replication } = file.layout;
    out.byte(REPLICATED);
    out.number(u64::from(replication));
    out.number(file.length);
    out.number(u64::from(file.blocks));
    out.number(file.block_size);
    out.byte(file.storage_policy);
}

fn read_file(under_construction: bool, input: &mut Reader<'_>) -> Result<FileBody, CodecError> {
    let layout = match input.byte()? {
        REPLICATED => Layout::Replicated { replication: input.narrow()? },
        _ => return Err(input.error("its layout is not known")),
    };
    Ok(FileBody {
        layout,
        length: input.number()?,
        blocks: input.narrow()?,
        block_size: input.number()?,
        under_construction,
        storage_policy: input.byte()?,
    })
}
