//! A made-up tree of any size, for tests of scale.
//!
//! It is made in steps, each of which leaves a sound namespace, in memory that does not grow with the tree: folders that
//! are being filled are written again with every step, in their then state. What no user's call asks of quotas, limits
//! and permissions is not asked here either.

use steadfs_common::{BlockId, FsError, FsResult, GenStamp, InodeId, Millis, Name, ROOT_INODE};

use super::usage::Usage;
use crate::record::{Block, BlockState, Counters, FileBody, Inode, InodeKind, Key, Layout, Record, Totals};
use crate::tx::{Changes, Tx};
use crate::view::View;

/// Folders of files in one folder above them.
const FOLDERS_TOGETHER: u64 = 1_000;

/// What is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The new folder, in the root, that holds it all.
    pub name: Name,
    /// How many files.
    pub files: u64,
    /// Files in a folder, at least 1; the last has the rest.
    pub files_per_folder: u64,
    /// Blocks of each file.
    pub blocks_per_file: u32,
    /// Bytes of each block, all of them full.
    pub block_bytes: u64,
    /// Replicas that each block should have.
    pub replication: u16,
    /// Who owns it all.
    pub owner: String,
    /// Its group.
    pub group: String,
    /// When it was made.
    pub now: Millis,
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Blocks: from the first, before the second.
    pub blocks: (BlockId, BlockId),
    /// The generation stamp of all of them.
    pub stamp: GenStamp,
}

/// A folder that is being filled.
struct Folder {
    inode: Inode,
    totals: Totals,
}

/// Makes a [`Shape`], step by step.
pub struct Builder {
    shape: Shape,
    counters: Counters,
    first_block: BlockId,
    stamp: GenStamp,
    root: Folder,
    top: Folder,
    middle: Option<Folder>,
    leaf: Option<Folder>,
    files: u64,
    leaves: u64,
}

impl Builder {
    /// Begins after the state that `view` shows. Nothing else may change it until the end.
    ///
    /// # Errors
    /// The name is taken, or the shape makes no sense.
    pub fn new(view: &dyn View, shape: Shape) -> FsResult<Self> {
        let not_formatted = || FsError::refused("The namespace is not formatted");
        let counters = view.counters().ok_or_else(not_formatted)?;
        let root = view.inode(ROOT_INODE).ok_or_else(not_formatted)?;
        if view.entry(ROOT_INODE, &shape.name).is_some() {
            return Err(FsError::exists(format!("/{} already exists", shape.name)));
        }
        if shape.files_per_folder == 0 || shape.replication == 0 {
            return Err(FsError::invalid_argument(
                "a folder holds at least one file, and a block has at least one replica",
            ));
        }
        let root = Folder { inode: (*root).clone(), totals: view.totals(ROOT_INODE) };
        let mut counters = counters;
        let stamp = counters.next_stamp;
        counters.next_stamp = stamp.next();
        let mut builder = Self {
            first_block: counters.next_block,
            stamp,
            // Made just below; the root stands in until then.
            top: Folder { inode: root.inode.clone(), totals: Totals::default() },
            shape,
            counters,
            root,
            middle: None,
            leaf: None,
            files: 0,
            leaves: 0,
        };
        let name = builder.shape.name.clone();
        builder.top = builder.folder(ROOT_INODE, name);
        count_child(&mut builder.root.inode);
        builder.root.totals = Usage::FOLDER.added_to(builder.root.totals);
        Ok(builder)
    }

    /// Whether everything is made.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.files == self.shape.files
    }

    /// How many files are made.
    #[must_use]
    pub const fn files(&self) -> u64 {
        self.files
    }

    /// What is made up to now.
    #[must_use]
    pub const fn made(&self) -> Made {
        Made { blocks: (self.first_block, self.counters.next_block), stamp: self.stamp }
    }

    /// Makes more files until about `rows` rows are written, at least one file. The changes are one transaction, the
    /// counters' last.
    pub fn step(&mut self, view: &dyn View, rows: usize) -> Changes {
        let mut tx = Tx::new(view);
        self.counters.last_tx = self.counters.last_tx.next();
        let name = self.shape.name.clone();
        tx.put(Key::Entry(ROOT_INODE, name), Record::Entry(self.top.inode.id));
        while !self.is_done() {
            self.file(&mut tx);
            if tx.rows() >= rows {
                break;
            }
        }
        for folder in [self.leaf.as_ref(), self.middle.as_ref(), Some(&self.top), Some(&self.root)]
            .into_iter()
            .flatten()
        {
            put_folder(&mut tx, folder, self.counters.last_tx);
        }
        tx.put(Key::Counters, Record::Counters(self.counters));
        tx.into_changes()
    }

    fn id(&mut self) -> InodeId {
        let id = self.counters.next_inode;
        self.counters.next_inode = id.next();
        id
    }

    fn inode(&mut self, parent: InodeId, name: Name, kind: InodeKind) -> Inode {
        let (mode, atime) = match kind {
            InodeKind::Directory { .. } => (0o755, Millis(0)),
            InodeKind::File(_) => (0o644, self.shape.now),
        };
        Inode {
            id: self.id(),
            parent,
            name: Some(name),
            owner: self.shape.owner.clone(),
            group: self.shape.group.clone(),
            mode,
            mtime: self.shape.now,
            atime,
            changed: self.counters.last_tx,
            acl: None,
            has_xattrs: false,
            storage_policy: 0,
            kind,
        }
    }

    fn folder(&mut self, parent: InodeId, name: Name) -> Folder {
        let inode = self.inode(parent, name, InodeKind::Directory { children: 0, quota: None });
        Folder { inode, totals: Totals { guarded: self.counters.last_tx.next(), ..Totals::default() } }
    }

    /// Begins another folder of files, the full ones written as they stay.
    fn next_leaf(&mut self, tx: &mut Tx<'_>) {
        if let Some(full) = self.leaf.take() {
            put_folder(tx, &full, self.counters.last_tx);
        }
        if self.leaves.is_multiple_of(FOLDERS_TOGETHER) {
            if let Some(full) = self.middle.take() {
                put_folder(tx, &full, self.counters.last_tx);
            }
            let name = numbered("d", self.leaves / FOLDERS_TOGETHER, 4);
            let middle = self.folder(self.top.inode.id, name.clone());
            tx.put(Key::Entry(self.top.inode.id, name), Record::Entry(middle.inode.id));
            count_child(&mut self.top.inode);
            self.add(Usage::FOLDER);
            self.middle = Some(middle);
        }
        let parent = self.middle.as_ref().map_or(self.top.inode.id, |middle| middle.inode.id);
        let name = numbered("d", self.leaves, 7);
        let leaf = self.folder(parent, name.clone());
        tx.put(Key::Entry(parent, name), Record::Entry(leaf.inode.id));
        self.add(Usage::FOLDER);
        if let Some(middle) = &mut self.middle {
            count_child(&mut middle.inode);
        }
        self.leaf = Some(leaf);
        self.leaves += 1;
    }

    fn file(&mut self, tx: &mut Tx<'_>) {
        let in_folder = self.files % self.shape.files_per_folder;
        if in_folder == 0 {
            self.next_leaf(tx);
        }
        let parent = self.leaf.as_ref().map_or(self.top.inode.id, |leaf| leaf.inode.id);
        let name = numbered("part-", in_folder, 8);
        let blocks = self.shape.blocks_per_file;
        let body = FileBody {
            layout: Layout::Replicated { replication: self.shape.replication },
            length: self.shape.block_bytes.saturating_mul(u64::from(blocks)),
            blocks,
            block_size: self.shape.block_bytes,
            under_construction: false,
            content: self.counters.last_tx,
        };
        let inode = self.inode(parent, name.clone(), InodeKind::File(body));
        tx.put(Key::Entry(parent, name), Record::Entry(inode.id));
        (0..blocks).for_each(|index| self.block(tx, inode.id, index));
        let usage = Usage::of(tx, &inode);
        tx.put_inode(inode);
        if let Some(leaf) = &mut self.leaf {
            count_child(&mut leaf.inode);
            leaf.totals = usage.added_to(leaf.totals);
        }
        self.add(usage);
        self.files += 1;
    }

    fn block(&mut self, tx: &mut Tx<'_>, inode: InodeId, index: u32) {
        let id = self.counters.next_block;
        self.counters.next_block = id.next();
        self.counters.blocks += 1;
        self.counters.complete_blocks += 1;
        tx.put(Key::FileBlock(inode, index), Record::FileBlock(id));
        tx.put_block(Block {
            id,
            stamp: self.stamp,
            length: self.shape.block_bytes,
            replication: self.shape.replication,
            inode,
            index,
            references: 1,
            state: BlockState::Complete,
        });
    }

    /// Adds to the totals above the folders of files.
    fn add(&mut self, usage: Usage) {
        for folder in [self.middle.as_mut(), Some(&mut self.top), Some(&mut self.root)].into_iter().flatten()
        {
            folder.totals = usage.added_to(folder.totals);
        }
    }
}

fn put_folder(tx: &mut Tx<'_>, folder: &Folder, changed: steadfs_common::TxId) {
    tx.put_inode(Inode { changed, ..folder.inode.clone() });
    // As elsewhere: permissions below are others than before.
    let totals = Totals { guarded: changed, ..folder.totals };
    tx.put(Key::Totals(folder.inode.id), Record::Totals(totals));
}

fn count_child(inode: &mut Inode) {
    if let InodeKind::Directory { children, .. } = &mut inode.kind {
        *children += 1;
    }
}

fn numbered(prefix: &str, number: u64, digits: usize) -> Name {
    Name::new(&format!("{prefix}{number:0digits$}")).expect("letters and digits, far below the limit")
}
