//! Somebody who knows the namespace by its events alone. After each command, what it knows is compared with what is
//! stored: so every test of the rules also proves that the events tell all.

use std::collections::BTreeMap;

use steadfs_common::{FsPath, InodeId, Millis, ROOT_INODE, TxId};

use crate::event::{Event, EventBatch, EventKind, MetadataChange};
use crate::memory::MemoryView;
use crate::namespace::kept;
use crate::record::Inode;
use crate::view::View;

/// What is known of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    inode: InodeId,
    parent: InodeId,
    owner: String,
    group: String,
    mode: u16,
    mtime: Option<Millis>,
    replication: u16,
    /// Bytes and content's version of a closed file.
    closed: Option<(u64, TxId)>,
}

#[derive(Default)]
pub(super) struct Follower {
    tree: BTreeMap<FsPath, Known>,
    /// What was stored after the last command.
    stored: BTreeMap<FsPath, Known>,
    last: TxId,
}

impl Follower {
    /// Begins anew if a test has changed what is stored behind the rules' back.
    pub(super) fn catch_up(&mut self, view: &MemoryView) {
        let stored = stored(view);
        if stored != self.stored {
            (self.tree, self.last) = (stored, view.counters().map_or(TxId(0), |counters| counters.last_tx));
        }
    }

    pub(super) fn follow(&mut self, view: &MemoryView, batches: &[EventBatch]) {
        let counters = view.counters().expect("it is formatted");
        for batch in batches {
            assert!(batch.tx > self.last && !batch.events.is_empty(), "{batch:?} after {}", self.last);
            self.last = batch.tx;
            batch.events.iter().for_each(|event| self.apply(event));
        }
        assert!(self.last <= counters.last_tx, "{} is no transaction yet", self.last);
        self.last = counters.last_tx;
        let stored = stored(view);
        for (path, known) in &self.tree {
            let mut known = known.clone();
            let found = stored.get(path).unwrap_or_else(|| panic!("{path} is followed, and not there"));
            // Of an open file nobody is told all, and of a joined one not how long it is.
            if found.closed.is_none() || known.closed.is_none() {
                known.closed = found.closed;
            }
            // The mode holds a part of the list, and follows from it.
            if batches.iter().flat_map(|batch| &batch.events).any(|event| {
                event.inode == known.inode
                    && matches!(event.kind, EventKind::Metadata(MetadataChange::Acl { .. }))
            }) {
                known.mode = found.mode;
            }
            // The times of folders follow from what happens in them.
            known.mtime = known.mtime.and(found.mtime);
            assert_eq!(&known, found, "{path} after {batches:?}");
        }
        assert_eq!(self.tree.len(), stored.len(), "something is stored that nobody was told of");
        for (path, known) in &mut self.tree {
            known.mode = stored[path].mode;
        }
        self.stored = stored;
    }

    fn apply(&mut self, event: &Event) {
        let path = &event.path;
        if let EventKind::Create(made) = &event.kind {
            let replaced = self.tree.get(path).map(|known| known.inode);
            assert_eq!(replaced, made.replaced, "{event:?}");
            let known = Known {
                inode: event.inode,
                parent: event.parent,
                owner: made.owner.clone(),
                group: made.group.clone(),
                mode: made.mode,
                mtime: (!made.directory).then_some(made.mtime),
                replication: made.replication,
                closed: None,
            };
            self.tree.insert(path.clone(), known);
            return;
        }
        if path.is_root() {
            return;
        }
        let known = self.tree.get_mut(path).unwrap_or_else(|| panic!("{event:?} of what nobody knows"));
        assert_eq!((known.inode, known.parent), (event.inode, event.parent), "{event:?}");
        match &event.kind {
            EventKind::Create(_) => unreachable!("it was looked at before"),
            EventKind::Close { length, mtime } => {
                known.closed = length.map(|length| (length, event.content));
                known.mtime = Some(*mtime);
            }
            EventKind::Truncate { length, mtime } => {
                known.closed = Some((*length, event.content));
                known.mtime = Some(*mtime);
            }
            EventKind::Append { .. } | EventKind::Flushed { .. } => {}
            EventKind::Unlink { .. } => self.tree.retain(|at, _| !at.starts_with(path)),
            EventKind::Rename { to, .. } if to == path => {}
            EventKind::Rename { to, parent, replaced, .. } => {
                assert_eq!(self.tree.get(to).map(|known| known.inode), *replaced, "{event:?}");
                let moved: Vec<_> = self
                    .tree
                    .iter()
                    .filter(|(at, _)| at.starts_with(path))
                    .map(|(at, _)| at.clone())
                    .collect();
                for at in moved {
                    let mut known = self.tree.remove(&at).expect("it was just found");
                    if at == *path {
                        known.parent = *parent;
                    }
                    let below = at.names()[path.names().len()..].iter();
                    self.tree.insert(to.names().iter().chain(below).cloned().collect(), known);
                }
            }
            EventKind::Metadata(change) => match change {
                MetadataChange::Times { mtime, .. } => known.mtime = mtime.or(known.mtime),
                MetadataChange::Replication(replication) => known.replication = *replication,
                MetadataChange::Owner { owner, group } => {
                    known.owner = owner.clone().unwrap_or(known.owner.clone());
                    known.group = group.clone().unwrap_or(known.group.clone());
                }
                MetadataChange::Mode(mode) => known.mode = *mode,
                _ => {}
            },
        }
    }
}

fn stored(view: &MemoryView) -> BTreeMap<FsPath, Known> {
    let (mut found, mut left) = (BTreeMap::new(), vec![(FsPath::root(), ROOT_INODE)]);
    while let Some((path, id)) = left.pop() {
        for (name, id) in view.entries(id, None, usize::MAX) {
            // What has lost its name is nobody's to follow.
            if path.is_root() && kept::is_folder(ROOT_INODE, &name) {
                continue;
            }
            let inode = view.inode(id).expect("an entry names it");
            let path = path.join(name);
            found.insert(path.clone(), known(&inode));
            left.push((path, id));
        }
    }
    found
}

fn known(inode: &Inode) -> Known {
    let file = inode.file();
    Known {
        inode: inode.id,
        parent: inode.parent,
        owner: inode.owner.clone(),
        group: inode.group.clone(),
        mode: inode.mode,
        mtime: file.map(|_| inode.mtime),
        replication: file.map_or(0, |body| body.replication()),
        closed: file.filter(|body| !body.under_construction).map(|body| (body.length, body.content)),
    }
}
