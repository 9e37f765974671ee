//! Quotas and storage policies of the plain tree: everything is counted anew each time.

use steadfs_common::{FsErrorKind, FsPath, InodeId, StorageType};

use super::super::super::world::BLOCK;
use super::{Answer, File, Kind, Model, Node, Outcome, State, names};
use crate::Caller;
use crate::namespace::quota::{Bound, TYPES_WITH_QUOTA};
use crate::policy;
use FsErrorKind::{
    AccessDenied, InvalidArgument, NamespaceQuota, NotADirectory, NotFound, SpaceQuota, TypeQuota,
    UnsupportedAction,
};

/// What a tree uses, its top included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Used {
    pub(in super::super) names: i64,
    pub(in super::super) space: i64,
    pub(in super::super) types: [i64; StorageType::COUNT],
}

impl Node {
    /// What this and all below use, where nothing above it but `inherited` says how it is stored.
    pub(super) fn used(&self, inherited: u8) -> Used {
        let policy = if self.policy == 0 { inherited } else { self.policy };
        let mut used = Used { names: 1, ..Used::default() };
        let Kind::File(file) = &self.kind else {
            for below in self.children().into_iter().flatten().map(|(_, child)| child.used(policy)) {
                used.names += below.names;
                used.space += below.space;
                (0..StorageType::COUNT).for_each(|at| used.types[at] += below.types[at]);
            }
            return used;
        };
        for block in &file.blocks {
            let bytes = if block.state == State::Open { BLOCK } else { block.length }.cast_signed();
            used.space += bytes * i64::from(file.replication);
            let types = policy::by_id(policy).map(|policy| policy.types_of(file.replication.into()));
            for kind in types.into_iter().flatten() {
                used.types[kind.index()] += bytes;
            }
        }
        used
    }
}

impl Model {
    fn used_at(&self, names: &[String]) -> Used {
        let inherited =
            (0..names.len()).rev().filter_map(|depth| self.find(&names[..depth])).map(|node| node.policy);
        let inherited = inherited.into_iter().find(|policy| *policy != 0).unwrap_or(0);
        self.find(names).map_or_else(Used::default, |node| node.used(inherited))
    }

    /// Which quota of a folder, or of those above it that have `least` names or more, `self` breaks where `before` is
    /// what was there.
    pub(super) fn exceeds(&self, before: &Self, folder: &[String], least: usize) -> Result<(), FsErrorKind> {
        for depth in (least..=folder.len()).rev() {
            let at = &folder[..depth];
            let Some(quota) = self.find(at).map(|node| &node.quota) else { continue };
            let (was, is) = (before.used_at(at), self.used_at(at));
            let broken = |bound: Option<u64>, was: i64, is: i64| {
                bound.is_some_and(|bound| is > was && is > bound.cast_signed())
            };
            if broken(quota.names, was.names, is.names) {
                return Err(NamespaceQuota);
            }
            if broken(quota.space, was.space, is.space) {
                return Err(SpaceQuota);
            }
            let by_type = |kind: &StorageType| {
                let at = kind.index();
                broken(quota.types[at], was.types[at], is.types[at])
            };
            if TYPES_WITH_QUOTA.iter().any(by_type) {
                return Err(TypeQuota);
            }
        }
        Ok(())
    }

    fn path_of(&self, id: InodeId) -> Vec<String> {
        fn search(node: &Node, id: InodeId, at: &mut Vec<String>) -> bool {
            if node.file().is_some_and(|file| file.id == id) {
                return true;
            }
            for (name, child) in node.children().into_iter().flatten() {
                at.push(name.clone());
                if search(child, id, at) {
                    return true;
                }
                at.pop();
            }
            false
        }
        let mut at = Vec::new();
        search(&self.root, id, &mut at);
        at
    }

    /// Whether the quotas above a file take what `change` makes of it. It is not changed.
    pub(super) fn would_exceed(
        &self,
        id: InodeId,
        change: impl FnOnce(&mut File),
    ) -> Result<(), FsErrorKind> {
        let mut after = self.clone();
        change(after.by_id(id)?);
        let at = self.path_of(id);
        after.exceeds(self, &at[..at.len() - 1], 0)
    }

    pub(in super::super) fn set_quota(
        &mut self,
        who: &Caller,
        at: &FsPath,
        names_bound: Bound,
        space: Bound,
        kind: Option<StorageType>,
    ) -> Outcome {
        if !who.superuser {
            return Err(AccessDenied);
        }
        let names = names(at);
        self.pass(who, &names, AccessDenied)?;
        if kind.is_some() && names_bound != Bound::Keep {
            return Err(UnsupportedAction);
        }
        let node = self.find_mut(&names).ok_or(NotFound)?;
        if node.file().is_some() {
            return Err(NotADirectory);
        }
        let set = |old: &mut Option<u64>, bound| match bound {
            Bound::Keep => {}
            Bound::Clear => *old = None,
            Bound::Set(bound) => *old = Some(bound),
        };
        match kind {
            None => {
                set(&mut node.quota.names, names_bound);
                set(&mut node.quota.space, space);
            }
            Some(StorageType::RamDisk) => {}
            Some(kind) => set(&mut node.quota.types[kind.index()], space),
        }
        Ok(Answer::Done)
    }

    pub(in super::super) fn set_policy(&mut self, who: &Caller, at: &FsPath, name: Option<&str>) -> Outcome {
        let wanted = match name {
            None => None,
            Some(name) => Some(policy::by_name(name).ok_or(InvalidArgument)?),
        };
        let names = names(at);
        self.pass(who, &names, AccessDenied)?;
        self.write(who, &names)?;
        let node = self.find_mut(&names).ok_or(NotFound)?;
        let lasts = |id| policy::by_id(id).is_some_and(|policy| policy.name == "LAZY_PERSIST");
        if node.file().is_some() && (lasts(node.policy) || wanted.is_some_and(|policy| lasts(policy.id))) {
            return Err(InvalidArgument);
        }
        node.policy = wanted.map_or(0, |policy| policy.id);
        Ok(Answer::Done)
    }
}
