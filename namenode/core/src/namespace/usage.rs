//! What a file or tree adds to the totals of the folders above it.

use std::ops::{Neg, Sub};

use steadfs_common::{InodeId, ROOT_INODE, StorageType};

use super::read::ContentSummary;
use crate::policy;
use crate::record::{Block, BlockState, FileBody, Inode, InodeKind, Quota, Settled, Totals};
use crate::view::View;

/// A change of [`Totals`]. Sums wrap: what is added is taken away again exactly, whatever a client claims in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    directories: i64,
    files: i64,
    bytes: i64,
    space: i64,
    charged: i64,
    settled: SettledUsage,
}

/// A change of [`Settled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct SettledUsage {
    charged: i64,
    space: i64,
    types: Types,
}

/// Space by type, or its change, at [`StorageType::index`].
pub(crate) type Types = [i64; StorageType::COUNT];

impl Usage {
    const NOTHING: Self = Self {
        directories: 0,
        files: 0,
        bytes: 0,
        space: 0,
        charged: 0,
        settled: SettledUsage { charged: 0, space: 0, types: [0; StorageType::COUNT] },
    };
    /// An empty folder.
    pub(crate) const FOLDER: Self = Self { directories: 1, ..Self::NOTHING };
    /// A file without blocks.
    pub(crate) const EMPTY_FILE: Self = Self { files: 1, ..Self::NOTHING };

    /// What `inode` and all below it use.
    pub(crate) fn of(view: &dyn View, inode: &Inode) -> Self {
        let used = match &inode.kind {
            InodeKind::Directory { .. } => {
                let below = Self::of_totals(&view.totals(inode.id));
                Self { directories: below.directories.wrapping_add(1), ..below }
            }
            InodeKind::File(body) => {
                // Of a closed file the block is not asked for: every rename and deletion comes by here.
                let last = if body.under_construction { last_block(view, inode) } else { None };
                Self {
                    bytes: body.length as i64,
                    space: space(body, last.as_ref()) as i64,
                    charged: charged(body, last.as_ref()) as i64,
                    ..Self::EMPTY_FILE
                }
            }
        };
        used.settled_by(inode.storage_policy)
    }

    /// What these totals say, which leave out the folder itself.
    fn of_totals(totals: &Totals) -> Self {
        Self {
            directories: totals.directories as i64,
            files: totals.files as i64,
            bytes: totals.bytes as i64,
            space: totals.space as i64,
            charged: totals.charged as i64,
            settled: SettledUsage {
                charged: totals.settled.charged as i64,
                space: totals.settled.space as i64,
                types: totals.settled.types.map(u64::cast_signed),
            },
        }
    }

    /// What a file grows by, of which so many more bytes are charged.
    pub(crate) fn of_growth(inode: &Inode, body: &FileBody, charged: i64) -> Self {
        let space = charged.wrapping_mul(i64::from(body.replication()));
        Self { charged, space, ..Self::NOTHING }.settled_by(inode.storage_policy)
    }

    /// This below `folders` nested folders that hold nothing else, themselves included.
    pub(crate) const fn in_folders(self, folders: usize) -> Self {
        Self { directories: self.directories.wrapping_add(folders as i64), ..self }
    }

    /// The same, seen from above something that has this storage policy, or none of its own.
    pub(crate) fn settled_by(self, storage_policy: u8) -> Self {
        let Some(policy) = policy::by_id(storage_policy) else { return self };
        let rest = policy.space_by_type(
            self.charged.wrapping_sub(self.settled.charged),
            self.space.wrapping_sub(self.settled.space),
        );
        let types = std::array::from_fn(|at| self.settled.types[at].wrapping_add(rest[at]));
        Self { settled: SettledUsage { charged: self.charged, space: self.space, types }, ..self }
    }

    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Files and folders.
    pub(crate) const fn names(&self) -> i64 {
        self.directories.wrapping_add(self.files)
    }

    /// Bytes times replication.
    pub(crate) const fn space(&self) -> i64 {
        self.space
    }

    /// The space by type of all whose policy is known: see [`Usage::settled_by`].
    pub(crate) const fn types(&self) -> &Types {
        &self.settled.types
    }

    /// This as an answer. What a client claims may have wrapped a sum: then there is none.
    pub(crate) fn summary(&self, quota: Quota) -> ContentSummary {
        let shown = |sum: i64| u64::try_from(sum).unwrap_or(0);
        ContentSummary {
            length: shown(self.bytes),
            files: shown(self.files),
            directories: shown(self.directories),
            space: shown(self.space),
            types: self.settled.types.map(shown),
            quota,
        }
    }

    pub(crate) fn added_to(&self, totals: Totals) -> Totals {
        let settled = &totals.settled;
        Totals {
            directories: totals.directories.wrapping_add_signed(self.directories),
            files: totals.files.wrapping_add_signed(self.files),
            bytes: totals.bytes.wrapping_add_signed(self.bytes),
            space: totals.space.wrapping_add_signed(self.space),
            charged: totals.charged.wrapping_add_signed(self.charged),
            settled: Settled {
                charged: settled.charged.wrapping_add_signed(self.settled.charged),
                space: settled.space.wrapping_add_signed(self.settled.space),
                types: std::array::from_fn(|at| {
                    settled.types[at].wrapping_add_signed(self.settled.types[at])
                }),
            },
            ..totals
        }
    }
}

/// The storage policy of an inode: its own, else that of the nearest folder above that has one, else 0.
pub(crate) fn effective_policy(view: &dyn View, inode: &Inode) -> u8 {
    if inode.storage_policy != 0 || inode.id == ROOT_INODE {
        return inode.storage_policy;
    }
    policy_below(view, inode.parent)
}

/// The storage policy that what is in a folder inherits.
pub(crate) fn policy_below(view: &dyn View, folder: InodeId) -> u8 {
    let mut id = folder;
    while let Some(inode) = view.inode(id) {
        if inode.storage_policy != 0 || id == ROOT_INODE {
            return inode.storage_policy;
        }
        id = inode.parent;
    }
    0
}

/// Bytes, a last block that is being written counting as a whole one.
pub(crate) fn charged(body: &FileBody, last: Option<&Block>) -> u64 {
    match last {
        Some(Block { state: BlockState::UnderConstruction { .. }, length, .. }) => {
            body.length.wrapping_sub(*length).wrapping_add(body.block_size)
        }
        _ => body.length,
    }
}

/// Bytes times replication, a last block that is being written counting as a whole one.
pub(crate) fn space(body: &FileBody, last: Option<&Block>) -> u64 {
    charged(body, last).wrapping_mul(u64::from(body.replication()))
}

/// A file's last block.
pub(crate) fn last_block(view: &dyn View, inode: &Inode) -> Option<Block> {
    block_at(view, inode, inode.file()?.blocks.checked_sub(1)?)
}

/// A file's block at `index`.
pub(crate) fn block_at(view: &dyn View, inode: &Inode, index: u32) -> Option<Block> {
    view.file_block(inode.id, index).and_then(|id| view.block(id))
}

impl Neg for Usage {
    type Output = Self;

    fn neg(self) -> Self {
        Self::default() - self
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            directories: self.directories.wrapping_sub(other.directories),
            files: self.files.wrapping_sub(other.files),
            bytes: self.bytes.wrapping_sub(other.bytes),
            space: self.space.wrapping_sub(other.space),
            charged: self.charged.wrapping_sub(other.charged),
            settled: SettledUsage {
                charged: self.settled.charged.wrapping_sub(other.settled.charged),
                space: self.settled.space.wrapping_sub(other.settled.space),
                types: std::array::from_fn(|at| self.settled.types[at].wrapping_sub(other.settled.types[at])),
            },
        }
    }
}
