//! Newtypes for everything that is counted or named.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The id that follows this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number_id!(
    /// A file or folder, for as long as it lives and never again. HDFS numbers them from 16385.
    InodeId
);
number_id!(
    /// A generation stamp: which life of a block a replica belongs to. Rises with every recovery.
    GenStamp
);
number_id!(
    /// One acknowledged change of the namespace.
    TxId
);

/// A block. Contiguous blocks count up from [`FIRST_BLOCK_ID`]; ids with the top bit set (negative to Hadoop) are
/// kept for striped block groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockId(pub u64);

impl BlockId {
    /// The id that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blk_{}", self.0 as i64)
    }
}

impl fmt::Display for BlockId {
    /// `blk_<id>`, as HDFS prints it: signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blk_{}", self.0 as i64)
    }
}

/// The root folder's inode (HDFS: `INodeId.ROOT_INODE_ID`).
pub const ROOT_INODE: InodeId = InodeId(16_385);
/// The first inode id given to a file or folder below the root.
pub const FIRST_INODE_ID: InodeId = InodeId(16_386);
/// The first contiguous block id (HDFS: `SequentialBlockIdGenerator.LAST_RESERVED_BLOCK_ID` + 1).
pub const FIRST_BLOCK_ID: BlockId = BlockId(1_073_741_825);
/// The first generation stamp (HDFS: `GenerationStamp.LAST_RESERVED_STAMP` + 1).
pub const FIRST_GENERATION_STAMP: GenStamp = GenStamp(1_001);

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}")]
pub struct IdError {
    /// What it should have been.
    pub what: &'static str,
    /// The text, as it came.
    pub text: String,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map(Self)
                    .ok_or_else(|| IdError { what: $what, text: text.chars().take(100).collect() })
            }
        }
    };
}

uuid_id!(
    /// A datanode: the UUID on its disks. Its address may change, this does not.
    DatanodeUuid, "", "datanode uuid"
);
uuid_id!(
    /// A volume of a datanode. Written `DS-<uuid>`, as in HDFS.
    StorageId, "DS-", "storage id (DS-<uuid>)"
);

/// The block pool: which cluster blocks belong to. Datanodes and clients compare it as a string.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BlockPoolId(pub String);

impl fmt::Display for BlockPoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who sent a call and which: the key of the retry cache.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallKey {
    /// The client's 16 random bytes.
    pub client: [u8; 16],
    /// The call's number at that client; a repeated call repeats it.
    pub call: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_hdfs_prints_them() {
        assert_eq!(FIRST_BLOCK_ID.to_string(), "blk_1073741825");
        assert_eq!(BlockId(u64::MAX - 15).to_string(), "blk_-16");
        let storage = StorageId(Uuid::nil());
        assert_eq!(storage.to_string(), "DS-00000000-0000-0000-0000-000000000000");
        assert_eq!(storage.to_string().parse::<StorageId>().unwrap(), storage);
    }

    #[test]
    fn foreign_ids_are_refused_by_name() {
        let error = "../x".parse::<StorageId>().unwrap_err();
        assert_eq!(error.to_string(), "`../x` is not a storage id (DS-<uuid>)");
        assert!("DS-".parse::<StorageId>().is_err());
        assert!("".parse::<DatanodeUuid>().is_err());
    }
}
