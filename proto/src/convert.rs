//! Single fields of our messages, checked: what is wrong is named. Nothing past a door sees a generated type.
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use steadfs_common::limits::MAX_PRINCIPAL_BYTES;
use steadfs_common::{
    CallKey, DatanodeUuid, FsError, FsErrorKind, FsPath, FsResult, InodeId, StorageId, StorageType,
};

use crate::steadfs;

/// Most ids in one repeated field: no pipeline and no exclusion list is longer.
const MAX_IDS: usize = 4_096;

fn wrong(field: &str, why: impl fmt::Display) -> FsError {
    FsError::new(FsErrorKind::InvalidRequest, format!("field `{field}`: {why}"))
}

/// The message in `field`, which must be there.
///
/// # Errors
/// [`FsErrorKind::InvalidRequest`] if it is absent.
pub fn required<T>(field: &str, value: Option<T>) -> FsResult<T> {
    value.ok_or_else(|| wrong(field, "is missing"))
}

/// A path.
///
/// # Errors
/// What [`FsPath::parse`] says.
pub fn path(text: &str) -> FsResult<FsPath> {
    FsPath::parse(text)
}

/// An inode id, 0 for none.
#[must_use]
pub const fn file_inode(number: u64) -> Option<InodeId> {
    match number {
        0 => None,
        number => Some(InodeId(number)),
    }
}

/// A name of a user, group, client or host: not empty, at most [`MAX_PRINCIPAL_BYTES`] and without control characters.
///
/// # Errors
/// [`FsErrorKind::InvalidRequest`].
pub fn principal(field: &str, text: &str) -> FsResult<String> {
    if text.is_empty() {
        return Err(wrong(field, "is empty"));
    }
    if text.len() > MAX_PRINCIPAL_BYTES {
        return Err(wrong(field, format_args!("is longer than {MAX_PRINCIPAL_BYTES} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(wrong(field, "holds a control character"));
    }
    Ok(text.to_owned())
}

fn parsed<T: FromStr<Err: fmt::Display>>(field: &str, text: &str) -> FsResult<T> {
    text.parse().map_err(|error| wrong(field, error))
}

fn all<T: FromStr<Err: fmt::Display>>(field: &str, texts: &[String]) -> FsResult<Vec<T>> {
    if texts.len() > MAX_IDS {
        return Err(wrong(field, format_args!("holds more than {MAX_IDS} ids")));
    }
    texts.iter().map(|text| parsed(field, text)).collect()
}

/// A datanode's uuid.
///
/// # Errors
/// [`FsErrorKind::InvalidRequest`] if it is not one.
pub fn datanode_uuid(field: &str, text: &str) -> FsResult<DatanodeUuid> {
    parsed(field, text)
}

/// Datanodes' uuids.
///
/// # Errors
/// [`FsErrorKind::InvalidRequest`] if one is not, or if there are thousands.
pub fn datanode_uuids(field: &str, texts: &[String]) -> FsResult<Vec<DatanodeUuid>> {
    all(field, texts)
}

/// A storage id.
///
/// # Errors
/// [`FsErrorKind::InvalidRequest`] if it is not one.
pub fn storage_id(field: &str, text: &str) -> FsResult<StorageId> {
    parsed(field, text)
}

/// Storage ids.
///
/// # Errors
/// [`FsErrorKind::InvalidRequest`] if one is not, or if there are thousands.
pub fn storage_ids(field: &str, texts: &[String]) -> FsResult<Vec<StorageId>> {
    all(field, texts)
}

/// The key of an at-most-once call; none if the caller sent none.
///
/// # Errors
/// [`FsErrorKind::InvalidRequest`] if the client is not 16 bytes.
pub fn call_key(key: Option<&steadfs::CallKey>) -> FsResult<Option<CallKey>> {
    key.map(|key| {
        let client = key.client[..].try_into().map_err(|_| wrong("key.client", "is not 16 bytes"))?;
        // The bits travel as they are: Hadoop's call ids are signed.
        Ok(CallKey { client, call: key.call as i32 })
    })
    .transpose()
}

/// The message for a call's key.
#[must_use]
pub fn to_call_key(key: &CallKey) -> steadfs::CallKey {
    steadfs::CallKey { client: Bytes::copy_from_slice(&key.client), call: key.call as u32 }
}

/// A type of storage as a message names it.
#[must_use]
pub const fn storage_kind(kind: StorageType) -> steadfs::StorageKind {
    match kind {
        StorageType::Disk => steadfs::StorageKind::Disk,
        StorageType::Ssd => steadfs::StorageKind::Ssd,
        StorageType::Archive => steadfs::StorageKind::Archive,
        StorageType::RamDisk => steadfs::StorageKind::RamDisk,
        StorageType::Provided => steadfs::StorageKind::Provided,
        StorageType::Nvdimm => steadfs::StorageKind::Nvdimm,
    }
}

/// The type that a message names.
#[must_use]
pub const fn storage_type(kind: steadfs::StorageKind) -> StorageType {
    match kind {
        steadfs::StorageKind::Disk => StorageType::Disk,
        steadfs::StorageKind::Ssd => StorageType::Ssd,
        steadfs::StorageKind::Archive => StorageType::Archive,
        steadfs::StorageKind::RamDisk => StorageType::RamDisk,
        steadfs::StorageKind::Provided => StorageType::Provided,
        steadfs::StorageKind::Nvdimm => StorageType::Nvdimm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_fields_are_named() {
        assert_eq!(required::<u8>("block", None).unwrap_err().message(), "field `block`: is missing");
        assert!(storage_id("storage_id", "../x").unwrap_err().message().contains("`storage_id`"));
        assert!(principal("steadfs-user", "").is_err());
        assert!(principal("steadfs-user", "a\nb").is_err());
        assert!(principal("client", &"x".repeat(MAX_PRINCIPAL_BYTES + 1)).is_err());
        assert_eq!(principal("client", "DFSClient_1").unwrap(), "DFSClient_1");
        assert!(datanode_uuids("excluded", &vec![String::new(); MAX_IDS + 1]).is_err());
    }

    #[test]
    fn types_of_storage_come_back() {
        for kind in StorageType::ALL {
            assert_eq!(storage_type(storage_kind(kind)), kind);
        }
    }

    #[test]
    fn call_keys_come_back() {
        let key = CallKey { client: [7; 16], call: -3 };
        assert_eq!(call_key(Some(&to_call_key(&key))).unwrap(), Some(key));
        assert_eq!(call_key(None).unwrap(), None);
        let short = steadfs::CallKey { client: Bytes::from_static(b"short"), call: 1 };
        assert!(call_key(Some(&short)).is_err());
    }
}
