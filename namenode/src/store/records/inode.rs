//! Version 2: flags (1 folder, 2 has a name, 4 under construction, 8 an access control list, 16 extended attributes, 32 a
//! quota), id, parent, name, owner, group, mode, mtime, atime, changed, storage policy; the access control list (access
//! entries, default entries: each a count, then kind, permission and name); of a folder children and the quota (names,
//! space, then how many types and each one's); of a file layout (0 and the replication), length, blocks, block size,
//! content. Version 1 had flags up to 4, and a storage policy behind a file's block size alone.

use steadfs_common::{InodeId, Millis, Name, StorageType, TxId};
use steadfs_namenode_core::record::{Acl, AclEntry, AclKind, FileBody, Inode, InodeKind, Layout, Quota};

use super::{Stored, unknown_version};
use crate::store::codec::{CodecError, Reader, Writer};

const DIRECTORY: u8 = 1;
const NAMED: u8 = 2;
const UNDER_CONSTRUCTION: u8 = 4;
const ACL: u8 = 8;
const XATTRS: u8 = 16;
const QUOTA: u8 = 32;
const FLAGS_OF_VERSION_1: u8 = DIRECTORY | NAMED | UNDER_CONSTRUCTION;
const FLAGS: u8 = FLAGS_OF_VERSION_1 | ACL | XATTRS | QUOTA;
const REPLICATED: u8 = 0;

impl Stored for Inode {
    const WHAT: &'static str = "inode";
    const VERSION: u8 = 2;

    fn write(&self, out: &mut Writer) {
        out.byte(flags(self));
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
        out.byte(self.storage_policy);
        if let Some(acl) = &self.acl {
            write_entries(&acl.access, out);
            write_entries(&acl.default, out);
        }
        match &self.kind {
            InodeKind::Directory { children, quota } => {
                out.number(*children);
                if let Some(quota) = quota {
                    write_quota(quota, out);
                }
            }
            InodeKind::File(file) => write_file(file, out),
        }
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Result<Self, CodecError> {
        let known = match version {
            1 => FLAGS_OF_VERSION_1,
            2 => FLAGS,
            _ => return Err(unknown_version(input)),
        };
        let flags = input.byte()?;
        if flags & !known != 0 {
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
        let mut inode = Self {
            id,
            parent,
            name,
            owner: input.text()?.to_owned(),
            group: input.text()?.to_owned(),
            mode: input.narrow()?,
            mtime: Millis(input.number()?),
            atime: Millis(input.number()?),
            changed: TxId(input.number()?),
            storage_policy: if version == 1 { 0 } else { input.byte()? },
            acl: None,
            has_xattrs: flags & XATTRS != 0,
            kind: InodeKind::Directory { children: 0, quota: None },
        };
        if flags & ACL != 0 {
            let (access, default) = (read_entries(input)?, read_entries(input)?);
            inode.acl = Some(Box::new(Acl { access, default }));
        }
        inode.kind = if flags & DIRECTORY == 0 {
            let mut file = read_file(flags & UNDER_CONSTRUCTION != 0, input)?;
            if version == 1 {
                inode.storage_policy = input.byte()?;
            }
            file.content = if version == 1 { inode.changed } else { TxId(input.number()?) };
            InodeKind::File(file)
        } else {
            let children = input.number()?;
            let quota = if flags & QUOTA == 0 { None } else { Some(Box::new(read_quota(input)?)) };
            InodeKind::Directory { children, quota }
        };
        Ok(inode)
    }
}

fn flags(inode: &Inode) -> u8 {
    let (kind, quota) = match &inode.kind {
        InodeKind::Directory { quota, .. } => (DIRECTORY, quota.is_some()),
        InodeKind::File(file) if file.under_construction => (UNDER_CONSTRUCTION, false),
        InodeKind::File(_) => (0, false),
    };
    let marks = [
        (NAMED, inode.name.is_some()),
        (ACL, inode.acl.is_some()),
        (XATTRS, inode.has_xattrs),
        (QUOTA, quota),
    ];
    marks.into_iter().filter(|(_, set)| *set).fold(kind, |flags, (mark, _)| flags | mark)
}

fn write_entries(entries: &[AclEntry], out: &mut Writer) {
    out.number(entries.len() as u64);
    for entry in entries {
        out.byte(entry.kind as u8);
        out.byte(entry.permission);
        out.boolean(entry.name.is_some());
        if let Some(name) = &entry.name {
            out.text(name);
        }
    }
}

fn read_entries(input: &mut Reader<'_>) -> Result<Vec<AclEntry>, CodecError> {
    let count: u32 = input.narrow()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let kind =
            AclKind::from_number(input.byte()?).ok_or_else(|| input.error("its ACL has an unknown kind"))?;
        let permission = input.byte()?;
        let name = if input.boolean()? { Some(input.text()?.to_owned()) } else { None };
        entries.push(AclEntry { kind, name, permission });
    }
    Ok(entries)
}

fn write_quota(quota: &Quota, out: &mut Writer) {
    out.optional(quota.names);
    out.optional(quota.space);
    out.number(quota.types.len() as u64);
    for bound in quota.types {
        out.optional(bound);
    }
}

fn read_quota(input: &mut Reader<'_>) -> Result<Quota, CodecError> {
    let mut quota = Quota { names: input.optional()?, space: input.optional()?, ..Quota::default() };
    let count: u8 = input.narrow()?;
    if usize::from(count) > StorageType::COUNT {
        return Err(input.error("its quota names unknown storage types"));
    }
    for bound in quota.types.iter_mut().take(count.into()) {
        *bound = input.optional()?;
    }
    Ok(quota)
}

fn write_file(file: &FileBody, out: &mut Writer) {
    let Layout::Replicated { replication } = file.layout;
    out.byte(REPLICATED);
    out.number(u64::from(replication));
    out.number(file.length);
    out.number(u64::from(file.blocks));
    out.number(file.block_size);
    out.number(file.content.0);
}

/// The file's part; its content's version comes last in version 2, and is not known in version 1.
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
        content: TxId(0),
    })
}
