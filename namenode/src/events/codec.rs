//! Bytes of what a transaction did, as they lie in a journal entry.
//!
//! Version 1: the version; how many batches, and of each its transaction id, how many events, and of each its kind, inode,
//! parent, content's version, path, and what the kind has. Texts and byte strings lie behind their length. Nothing at
//! all stands for no batches.

use steadfs_common::{FsPath, InodeId, Millis, Name, TxId};
use steadfs_namenode_core::event::{Created, Event, EventBatch, EventKind, MetadataChange};
use steadfs_namenode_core::record::{AclEntry, AclKind, XAttr, XAttrName, XAttrNamespace};

use crate::store::codec::{CodecError, Reader, Writer};

const VERSION: u8 = 1;
/// Fewest bytes that a batch, an event or an entry of a list takes: bounds what a count may promise.
const MIN_ITEM_BYTES: usize = 2;

// Kinds. The numbers are stored.
const CREATE: u8 = 0;
const CLOSE: u8 = 1;
const APPEND: u8 = 2;
const RENAME: u8 = 3;
const METADATA: u8 = 4;
const UNLINK: u8 = 5;
const TRUNCATE: u8 = 6;
const FLUSHED: u8 = 7;

// Kinds of metadata.
const TIMES: u8 = 0;
const REPLICATION: u8 = 1;
const OWNER: u8 = 2;
const MODE: u8 = 3;
const ACL: u8 = 4;
const XATTRS_SET: u8 = 5;
const XATTRS_REMOVED: u8 = 6;
const OTHER: u8 = 7;

/// The bytes of what a transaction did.
pub(crate) fn encode(batches: &[EventBatch]) -> Vec<u8> {
    if batches.is_empty() {
        return Vec::new();
    }
    let mut out = Writer::new();
    out.byte(VERSION);
    out.number(batches.len() as u64);
    for batch in batches {
        out.number(batch.tx.0);
        out.number(batch.events.len() as u64);
        for event in &batch.events {
            write_event(&mut out, event);
        }
    }
    out.into_bytes()
}

/// What the transaction with these bytes did.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<EventBatch>, CodecError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut input = Reader::new("events", bytes);
    if input.byte()? != VERSION {
        return Err(input.error("they were written by a newer version of SteadFS"));
    }
    let count = input.count(MIN_ITEM_BYTES)?;
    let mut batches = Vec::with_capacity(count);
    for _ in 0..count {
        let tx = TxId(input.number()?);
        let count = input.count(MIN_ITEM_BYTES)?;
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            events.push(read_event(&mut input)?);
        }
        batches.push(EventBatch { tx, events });
    }
    input.end()?;
    Ok(batches)
}

fn write_event(out: &mut Writer, event: &Event) {
    out.byte(kind_of(&event.kind));
    out.number(event.inode.0);
    out.number(event.parent.0);
    out.number(event.content.0);
    write_path(out, &event.path);
    match &event.kind {
        EventKind::Create(made) => write_created(out, made),
        EventKind::Close { length, mtime } => {
            out.optional(*length);
            out.number(mtime.0);
        }
        EventKind::Append { new_block } => out.boolean(*new_block),
        EventKind::Truncate { length, mtime } => {
            out.number(*length);
            out.number(mtime.0);
        }
        EventKind::Rename { to, parent, replaced, mtime } => {
            write_path(out, to);
            out.number(parent.0);
            out.optional(replaced.map(|id| id.0));
            out.number(mtime.0);
        }
        EventKind::Unlink { mtime } => out.number(mtime.0),
        EventKind::Metadata(change) => write_metadata(out, change),
        EventKind::Flushed { length } => out.number(*length),
    }
}

fn read_event(input: &mut Reader<'_>) -> Result<Event, CodecError> {
    let kind = input.byte()?;
    let (inode, parent) = (InodeId(input.number()?), InodeId(input.number()?));
    let content = TxId(input.number()?);
    let path = read_path(input)?;
    let kind = match kind {
        CREATE => EventKind::Create(read_created(input)?),
        CLOSE => EventKind::Close { length: input.optional()?, mtime: Millis(input.number()?) },
        APPEND => EventKind::Append { new_block: input.boolean()? },
        TRUNCATE => EventKind::Truncate { length: input.number()?, mtime: Millis(input.number()?) },
        RENAME => EventKind::Rename {
            to: read_path(input)?,
            parent: InodeId(input.number()?),
            replaced: input.optional()?.map(InodeId),
            mtime: Millis(input.number()?),
        },
        UNLINK => EventKind::Unlink { mtime: Millis(input.number()?) },
        METADATA => EventKind::Metadata(read_metadata(input)?),
        FLUSHED => EventKind::Flushed { length: input.number()? },
        _ => return Err(input.error("an event's kind is not known")),
    };
    Ok(Event { inode, parent, path, content, kind })
}

const fn kind_of(kind: &EventKind) -> u8 {
    match kind {
        EventKind::Create(_) => CREATE,
        EventKind::Close { .. } => CLOSE,
        EventKind::Append { .. } => APPEND,
        EventKind::Truncate { .. } => TRUNCATE,
        EventKind::Rename { .. } => RENAME,
        EventKind::Unlink { .. } => UNLINK,
        EventKind::Metadata(_) => METADATA,
        EventKind::Flushed { .. } => FLUSHED,
    }
}

fn write_created(out: &mut Writer, made: &Created) {
    out.boolean(made.directory);
    out.number(made.mtime.0);
    out.text(&made.owner);
    out.text(&made.group);
    out.number(u64::from(made.mode));
    out.number(u64::from(made.replication));
    out.number(made.block_size);
    out.boolean(made.overwrite);
    out.optional(made.replaced.map(|id| id.0));
}

fn read_created(input: &mut Reader<'_>) -> Result<Created, CodecError> {
    Ok(Created {
        directory: input.boolean()?,
        mtime: Millis(input.number()?),
        owner: input.text()?.to_owned(),
        group: input.text()?.to_owned(),
        mode: input.narrow()?,
        replication: input.narrow()?,
        block_size: input.number()?,
        overwrite: input.boolean()?,
        replaced: input.optional()?.map(InodeId),
    })
}

fn write_metadata(out: &mut Writer, change: &MetadataChange) {
    match change {
        MetadataChange::Times { mtime, atime } => {
            out.byte(TIMES);
            out.optional(mtime.map(|time| time.0));
            out.optional(atime.map(|time| time.0));
        }
        MetadataChange::Replication(replication) => {
            out.byte(REPLICATION);
            out.number(u64::from(*replication));
        }
        MetadataChange::Owner { owner, group } => {
            out.byte(OWNER);
            write_name(out, owner.as_deref());
            write_name(out, group.as_deref());
        }
        MetadataChange::Mode(mode) => {
            out.byte(MODE);
            out.number(u64::from(*mode));
        }
        MetadataChange::Acl { access, default } => {
            out.byte(ACL);
            write_entries(out, access);
            write_entries(out, default);
        }
        MetadataChange::XAttrsSet(attributes) => {
            out.byte(XATTRS_SET);
            write_xattrs(out, attributes);
        }
        MetadataChange::XAttrsRemoved(attributes) => {
            out.byte(XATTRS_REMOVED);
            write_xattrs(out, attributes);
        }
        MetadataChange::Other => out.byte(OTHER),
    }
}

fn read_metadata(input: &mut Reader<'_>) -> Result<MetadataChange, CodecError> {
    Ok(match input.byte()? {
        TIMES => MetadataChange::Times {
            mtime: input.optional()?.map(Millis),
            atime: input.optional()?.map(Millis),
        },
        REPLICATION => MetadataChange::Replication(input.narrow()?),
        OWNER => MetadataChange::Owner { owner: read_name(input)?, group: read_name(input)? },
        MODE => MetadataChange::Mode(input.narrow()?),
        ACL => MetadataChange::Acl { access: read_entries(input)?, default: read_entries(input)? },
        XATTRS_SET => MetadataChange::XAttrsSet(read_xattrs(input)?),
        XATTRS_REMOVED => MetadataChange::XAttrsRemoved(read_xattrs(input)?),
        OTHER => MetadataChange::Other,
        _ => return Err(input.error("what changed is not known")),
    })
}

fn write_entries(out: &mut Writer, entries: &[AclEntry]) {
    out.number(entries.len() as u64);
    for entry in entries {
        out.byte(entry.kind as u8);
        out.byte(entry.permission);
        write_name(out, entry.name.as_deref());
    }
}

fn read_entries(input: &mut Reader<'_>) -> Result<Vec<AclEntry>, CodecError> {
    let count = input.count(MIN_ITEM_BYTES)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = AclKind::from_number(input.byte()?);
        let kind = kind.ok_or_else(|| input.error("an access control entry has an unknown kind"))?;
        entries.push(AclEntry { kind, permission: input.byte()?, name: read_name(input)? });
    }
    Ok(entries)
}

fn write_xattrs(out: &mut Writer, attributes: &[XAttr]) {
    out.number(attributes.len() as u64);
    for attribute in attributes {
        out.byte(attribute.name.namespace as u8);
        out.text(&attribute.name.name);
        out.bytes(&attribute.value);
    }
}

fn read_xattrs(input: &mut Reader<'_>) -> Result<Vec<XAttr>, CodecError> {
    let count = input.count(MIN_ITEM_BYTES)?;
    let mut attributes = Vec::with_capacity(count);
    for _ in 0..count {
        let namespace = XAttrNamespace::from_number(input.byte()?);
        let namespace = namespace.ok_or_else(|| input.error("an attribute has an unknown namespace"))?;
        let name = read_text(input)?.to_owned();
        let name = XAttrName { namespace, name };
        attributes.push(XAttr { name, value: input.blob()?.to_vec() });
    }
    Ok(attributes)
}

fn write_name(out: &mut Writer, name: Option<&str>) {
    out.boolean(name.is_some());
    if let Some(name) = name {
        out.text(name);
    }
}

fn read_name(input: &mut Reader<'_>) -> Result<Option<String>, CodecError> {
    Ok(if input.boolean()? { Some(input.text()?.to_owned()) } else { None })
}

fn write_path(out: &mut Writer, path: &FsPath) {
    out.number(path.names().len() as u64);
    for name in path.names() {
        out.text(name.as_str());
    }
}

/// A path as it was. A rename far up may have made it longer than a client may say.
fn read_path(input: &mut Reader<'_>) -> Result<FsPath, CodecError> {
    let count = input.count(MIN_ITEM_BYTES)?;
    let mut names = Vec::with_capacity(count);
    for _ in 0..count {
        let name = Name::new(input.text()?).map_err(|_| input.error("a path has an invalid name"))?;
        names.push(name);
    }
    Ok(names.into_iter().collect())
}

/// A text of any length.
fn read_text<'a>(input: &mut Reader<'a>) -> Result<&'a str, CodecError> {
    let bytes = input.blob()?;
    std::str::from_utf8(bytes).map_err(|_| input.error("a text is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(path: &str, kind: EventKind) -> Event {
        Event { inode: InodeId(7), parent: InodeId(1), path: path.parse().unwrap(), content: TxId(5), kind }
    }

    /// One of each kind.
    fn all() -> Vec<EventBatch> {
        let made = Created {
            directory: false,
            mtime: Millis(1),
            owner: "o".into(),
            group: "g".into(),
            mode: 0o644,
            replication: 3,
            block_size: 9,
            overwrite: true,
            replaced: Some(InodeId(6)),
        };
        let acl = |kind, name: Option<&str>| AclEntry { kind, name: name.map(str::to_owned), permission: 6 };
        let attribute = XAttr {
            name: XAttrName { namespace: XAttrNamespace::User, name: "x".into() },
            value: vec![1, 2],
        };
        let to = "/to".parse().unwrap();
        let kinds = [
            EventKind::Create(made),
            EventKind::Close { length: Some(3), mtime: Millis(2) },
            EventKind::Append { new_block: true },
            EventKind::Truncate { length: 1, mtime: Millis(3) },
            EventKind::Rename { to, parent: InodeId(2), replaced: None, mtime: Millis(4) },
            EventKind::Unlink { mtime: Millis(5) },
            EventKind::Flushed { length: 300 },
            EventKind::Metadata(MetadataChange::Times { mtime: Some(Millis(6)), atime: None }),
            EventKind::Metadata(MetadataChange::Replication(2)),
            EventKind::Metadata(MetadataChange::Owner { owner: None, group: Some("w".into()) }),
            EventKind::Metadata(MetadataChange::Mode(0o700)),
            EventKind::Metadata(MetadataChange::Acl {
                access: vec![acl(AclKind::User, Some("u")), acl(AclKind::Mask, None)],
                default: vec![acl(AclKind::Other, None)],
            }),
            EventKind::Metadata(MetadataChange::XAttrsSet(vec![attribute.clone()])),
            EventKind::Metadata(MetadataChange::XAttrsRemoved(vec![attribute])),
            EventKind::Metadata(MetadataChange::Other),
        ];
        let batch = |(index, kind)| EventBatch { tx: TxId(index as u64), events: vec![event("/a/b", kind)] };
        kinds.into_iter().enumerate().map(batch).collect()
    }

    #[test]
    fn all_kinds_come_back() {
        let batches = all();
        let bytes = encode(&batches);
        assert_eq!(decode(&bytes).unwrap(), batches);
        for cut in 1..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err());
        }
        assert!(encode(&[]).is_empty());
        assert!(decode(&[]).unwrap().is_empty());
    }

    #[test]
    fn golden_bytes() {
        let close = EventKind::Close { length: Some(3), mtime: Millis(2) };
        let events = vec![event("/a/b", EventKind::Append { new_block: false }), event("/a", close)];
        let batch = EventBatch { tx: TxId(300), events };
        let golden = [
            1, 1, 0xac, 2, 2, //
            2, 7, 1, 5, 2, 1, b'a', 1, b'b', 0, //
            1, 7, 1, 5, 1, 1, b'a', 1, 3, 2,
        ];
        assert_eq!(encode(std::slice::from_ref(&batch)), golden);
        assert_eq!(decode(&golden).unwrap(), [batch]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = decode(&bytes);
        }
    }
}
