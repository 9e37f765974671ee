//! HDFS's storage policies: which types of storage a file's replicas are meant for.

use smallvec::SmallVec;
use steadfs_common::StorageType;
use steadfs_common::StorageType::{Archive, Disk, Nvdimm, Provided, RamDisk, Ssd};

/// The types of a block's replicas, the first replica's first.
pub type Types = SmallVec<[StorageType; 4]>;

/// A storage policy. The numbers and names are HDFS's; numbers are stored.
#[derive(Debug, PartialEq, Eq)]
pub struct StoragePolicy {
    /// Its number.
    pub id: u8,
    /// Its name.
    pub name: &'static str,
    /// The types of the replicas in order; those past the end have the last one. One or two types.
    pub types: &'static [StorageType],
    /// What a new block's replica gets if there is none of its type: the first that there is.
    pub creation_fallbacks: &'static [StorageType],
    /// The same for a replica of a block that has others already.
    pub replication_fallbacks: &'static [StorageType],
    /// Whether it must be given with the file's creation, and stays.
    pub from_creation: bool,
}

/// What files have that were given nothing else.
pub const HOT: &StoragePolicy = &POLICIES[3];
/// Replicas in memory first.
pub const LAZY_PERSIST: &StoragePolicy = &POLICIES[7];

/// All policies, by number.
pub const POLICIES: [StoragePolicy; 8] = [
    policy(1, "PROVIDED", &[Provided, Disk], &[Provided, Disk], &[Provided, Disk]),
    policy(2, "COLD", &[Archive], &[], &[]),
    policy(5, "WARM", &[Disk, Archive], &[Disk, Archive], &[Disk, Archive]),
    policy(7, "HOT", &[Disk], &[], &[Archive]),
    policy(10, "ONE_SSD", &[Ssd, Disk], &[Ssd, Disk], &[Ssd, Disk]),
    policy(12, "ALL_SSD", &[Ssd], &[Disk], &[Disk]),
    policy(14, "ALL_NVDIMM", &[Nvdimm], &[Disk], &[Disk]),
    StoragePolicy { from_creation: true, ..policy(15, "LAZY_PERSIST", &[RamDisk, Disk], &[Disk], &[Disk]) },
];

const fn policy(
    id: u8,
    name: &'static str,
    types: &'static [StorageType],
    creation_fallbacks: &'static [StorageType],
    replication_fallbacks: &'static [StorageType],
) -> StoragePolicy {
    StoragePolicy { id, name, types, creation_fallbacks, replication_fallbacks, from_creation: false }
}

/// The policy with this number; none for 0, which inherits, and for what a newer release knows.
#[must_use]
pub fn by_id(id: u8) -> Option<&'static StoragePolicy> {
    POLICIES.iter().find(|policy| policy.id == id)
}

/// The policy with this name, in any case.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static StoragePolicy> {
    POLICIES.iter().find(|policy| policy.name.eq_ignore_ascii_case(name))
}

impl StoragePolicy {
    /// The types that so many replicas are meant for. As in HDFS none is memory, where nothing lasts.
    #[must_use]
    pub fn types_of(&self, replicas: usize) -> Types {
        let types = self.lasting();
        let last = types.last().copied().unwrap_or_default();
        types.iter().copied().chain(std::iter::repeat(last)).take(replicas).collect()
    }

    /// The types but memory, which only ever comes first.
    const fn lasting(&self) -> &'static [StorageType] {
        match self.types {
            [RamDisk, rest @ ..] => rest,
            all => all,
        }
    }

    /// The space by type of files with `charged` bytes that take `space` with all their replicas, of which each file has
    /// one at least. Exact for differences too: it is linear, in wrapping numbers.
    #[must_use]
    pub(crate) fn space_by_type(&self, charged: i64, space: i64) -> [i64; StorageType::COUNT] {
        let mut types = [0; StorageType::COUNT];
        match self.lasting() {
            [] => {}
            [only] => types[only.index()] = space,
            [first, then, ..] => {
                types[first.index()] = charged;
                types[then.index()] = space.wrapping_sub(charged);
            }
        }
        types
    }

    /// What is used in place of a type, `missing` being those there are none of.
    #[must_use]
    pub fn fallback(&self, new_block: bool, missing: &[StorageType]) -> Option<StorageType> {
        let fallbacks = if new_block { self.creation_fallbacks } else { self.replication_fallbacks };
        fallbacks.iter().copied().find(|kind| !missing.contains(kind))
    }
}

impl std::fmt::Display for StoragePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list =
            |types: &[StorageType]| types.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        write!(
            f,
            "BlockStoragePolicy{{{}:{}, storageTypes=[{}], creationFallbacks=[{}], replicationFallbacks=[{}]}}",
            self.name,
            self.id,
            list(self.types),
            list(self.creation_fallbacks),
            list(self.replication_fallbacks)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_found_by_number_and_name() {
        for policy in &POLICIES {
            assert_eq!(by_id(policy.id), Some(policy));
            assert_eq!(by_name(&policy.name.to_lowercase()), Some(policy));
            assert!((1..=2).contains(&policy.types.len()), "what space_by_type counts");
        }
        assert!(POLICIES.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert_eq!((HOT.name, LAZY_PERSIST.name), ("HOT", "LAZY_PERSIST"));
        assert_eq!((by_id(0), by_name("")), (None, None));
    }

    #[test]
    fn sums_are_those_of_each_replica() {
        for policy in &POLICIES {
            for replicas in 1..6 {
                let mut expected = [0; StorageType::COUNT];
                policy.types_of(replicas).iter().for_each(|kind| expected[kind.index()] += 10);
                assert_eq!(policy.space_by_type(10, 10 * replicas as i64), expected, "{policy}");
            }
        }
    }

    #[test]
    fn a_policy_prints_as_hdfs_prints_it() {
        assert_eq!(
            HOT.to_string(),
            "BlockStoragePolicy{HOT:7, storageTypes=[DISK], creationFallbacks=[], replicationFallbacks=[ARCHIVE]}"
        );
    }
}
