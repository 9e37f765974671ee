//! Kinds of storage that a volume may be.

use std::fmt;
use std::str::FromStr;

/// What a volume of a datanode is, as its operator says: HDFS's storage types. The numbers are those of Hadoop's
/// messages, and are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum StorageType {
    /// Spinning disks, and whatever the operator says nothing about.
    #[default]
    Disk = 1,
    /// Solid-state disks.
    Ssd = 2,
    /// Dense disks for what is rarely read.
    Archive = 3,
    /// Memory. Nothing in it lasts, so no quota counts it.
    RamDisk = 4,
    /// Storage outside the cluster.
    Provided = 5,
    /// Non-volatile memory.
    Nvdimm = 6,
}

impl StorageType {
    /// How many types there are.
    pub const COUNT: usize = 6;

    /// All types, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Disk, Self::Ssd, Self::Archive, Self::RamDisk, Self::Provided, Self::Nvdimm];

    /// Its place in an array of all types: its number less one.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize - 1
    }

    /// The type with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Disk),
            2 => Some(Self::Ssd),
            3 => Some(Self::Archive),
            4 => Some(Self::RamDisk),
            5 => Some(Self::Provided),
            6 => Some(Self::Nvdimm),
            _ => None,
        }
    }

    /// Its name in Hadoop.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "DISK",
            Self::Ssd => "SSD",
            Self::Archive => "ARCHIVE",
            Self::RamDisk => "RAM_DISK",
            Self::Provided => "PROVIDED",
            Self::Nvdimm => "NVDIMM",
        }
    }
}

impl fmt::Display for StorageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for StorageType {
    type Err = crate::FsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            crate::FsError::invalid_argument(format!(
                "{text} is no storage type: name one of DISK, SSD, ARCHIVE, RAM_DISK, PROVIDED, NVDIMM"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_places_agree() {
        for (index, kind) in StorageType::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
            assert_eq!(StorageType::from_number(kind as u8), Some(kind));
            assert_eq!(kind.name().to_lowercase().parse::<StorageType>().unwrap(), kind);
        }
        assert_eq!(StorageType::from_number(0), None);
        assert!("TAPE".parse::<StorageType>().is_err());
    }
}
