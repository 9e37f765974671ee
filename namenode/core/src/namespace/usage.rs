//! What a file or tree adds to the totals of the folders above it.

use std::ops::{Neg, Sub};

use crate::record::{Block, BlockState, FileBody, Inode, InodeKind, Totals};
use crate::view::View;

/// A change of [`Totals`]. Sums wrap: what is added is taken away again exactly, whatever a client claims in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    directories: i64,
    files: i64,
    bytes: i64,
    space: i64,
}

impl Usage {
    /// An empty folder.
    pub(crate) const FOLDER: Self = Self { directories: 1, files: 0, bytes: 0, space: 0 };
    /// A file without blocks.
    pub(crate) const EMPTY_FILE: Self = Self { directories: 0, files: 1, bytes: 0, space: 0 };

    /// What `inode` and all below it use.
    pub(crate) fn of(view: &dyn View, inode: &Inode) -> Self {
        match &inode.kind {
            InodeKind::Directory { .. } => {
                let totals = view.totals(inode.id);
                Self {
                    directories: (totals.directories as i64).wrapping_add(1),
                    files: totals.files as i64,
                    bytes: totals.bytes as i64,
                    space: totals.space as i64,
                }
            }
            InodeKind::File(body) => {
                let last = last_block(view, inode).filter(|_| body.under_construction);
                Self {
                    bytes: body.length as i64,
                    space: space(body, last.as_ref()) as i64,
                    ..Self::EMPTY_FILE
                }
            }
        }
    }

    /// This below `folders` nested folders that hold nothing else, themselves included.
    pub(crate) const fn in_folders(self, folders: usize) -> Self {
        Self { directories: self.directories.wrapping_add(folders as i64), ..self }
    }

    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) const fn added_to(&self, totals: Totals) -> Totals {
        Totals {
            directories: totals.directories.wrapping_add_signed(self.directories),
            files: totals.files.wrapping_add_signed(self.files),
            bytes: totals.bytes.wrapping_add_signed(self.bytes),
            space: totals.space.wrapping_add_signed(self.space),
            ..totals
        }
    }
}

/// Bytes times replication, a last block that is being written counting as a whole one.
pub(crate) fn space(body: &FileBody, last: Option<&Block>) -> u64 {
    let mut bytes = body.length;
    if let Some(Block { state: BlockState::UnderConstruction { .. }, length, .. }) = last {
        bytes = bytes.wrapping_sub(*length).wrapping_add(body.block_size);
    }
    bytes.wrapping_mul(u64::from(body.replication()))
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
        }
    }
}
