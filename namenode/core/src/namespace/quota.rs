//! Quotas and storage policies: setting them, and what a quota refuses.
//!
//! A quota bounds what lies in and below a folder: files and folders, bytes times replication, and the same by type of
//! storage, as far as the files' storage policy is known (see [`crate::record::Settled`]). It refuses what makes more of
//! something and ends above the bound; what is above it already may stay, and get less.

use std::fmt;

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, InodeId, ROOT_INODE, StorageType};

use super::planner::Planner;
use super::read::Action;
use super::resolve::{self, Purpose};
use super::usage::{Usage, effective_policy};
use crate::command::Reply;
use crate::event::MetadataChange;
use crate::policy::{self, StoragePolicy};
use crate::record::{Inode, InodeKind, Quota};

/// What happens to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It stays.
    Keep,
    /// There is none any more.
    Clear,
    /// It is this.
    Set(u64),
}

/// HDFS's number for [`Bound::Keep`].
const KEEP: i64 = i64::MAX;
/// HDFS's number for [`Bound::Clear`].
const CLEAR: i64 = -1;

impl Bound {
    /// The two bounds of HDFS's call: names and space.
    ///
    /// # Errors
    /// IllegalArgument: a negative number that means nothing.
    pub fn pair(names: i64, space: i64) -> FsResult<(Self, Self)> {
        let bound = |number: i64| match number {
            KEEP => Some(Self::Keep),
            CLEAR => Some(Self::Clear),
            number => u64::try_from(number).ok().map(Self::Set),
        };
        bound(names).zip(bound(space)).ok_or_else(|| {
            FsError::new(
                FsErrorKind::IllegalArgument,
                format!("Illegal value for nsQuota or ssQuota : {names} and {space}"),
            )
        })
    }

    const fn number(self) -> i64 {
        match self {
            Self::Keep => KEEP,
            Self::Clear => CLEAR,
            Self::Set(bound) => bound.cast_signed(),
        }
    }

    const fn over(self, old: Option<u64>) -> Option<u64> {
        match self {
            Self::Keep => old,
            Self::Clear => None,
            Self::Set(bound) => Some(bound),
        }
    }
}

impl Quota {
    /// Whether nothing is bounded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Types in the order in which HDFS looks at their quotas. It has none for memory.
pub const TYPES_WITH_QUOTA: [StorageType; 5] =
    [StorageType::Ssd, StorageType::Disk, StorageType::Archive, StorageType::Provided, StorageType::Nvdimm];

/// [`crate::Command::SetQuota`]
pub(crate) fn set_quota(
    p: &mut Planner<'_>,
    path: &FsPath,
    names: Bound,
    space: Bound,
    kind: Option<StorageType>,
) -> FsResult<Reply> {
    let by_owner = p.ctx.settings.owner_sets_quota;
    if !by_owner {
        check_superuser(p, names, space)?;
    }
    let at = p.resolve(path, Purpose::Use)?;
    if by_owner && !p.guard.passes_everywhere() {
        match at.parent() {
            // Its own owner could lift the bound.
            Some(parent) => p.guard.check_owner(parent, at.path.prefix(at.path.names().len() - 1))?,
            None => check_superuser(p, names, space)?,
        }
    }
    if kind.is_some() && names != Bound::Keep {
        return Err(FsError::new(
            FsErrorKind::UnsupportedAction,
            // HDFS's own words, with the blank that they lack.
            format!(
                "Failed to set quota by storage type because eitherdfs.quota.by.storage.type.enabled is set to true \
                 or nsQuota value is illegal {}",
                names.number()
            ),
        ));
    }
    let target = at.target().ok_or_else(|| {
        FsError::new(FsErrorKind::NotFound, format!("Directory does not exist: {}", at.path))
    })?;
    let mut inode = Inode::clone(target);
    let InodeKind::Directory { quota, .. } = &mut inode.kind else {
        return Err(FsError::new(FsErrorKind::NotADirectory, format!("`{}': Is not a directory", at.path)));
    };
    let mut new = quota.as_deref().cloned().unwrap_or_default();
    match kind {
        None => {
            new.names = names.over(new.names);
            new.space = space.over(new.space);
        }
        // Nothing in memory lasts: HDFS takes the call and counts nothing.
        Some(StorageType::RamDisk) => {}
        Some(kind) => new.types[kind.index()] = space.over(new.types[kind.index()]),
    }
    let new = (!new.is_empty()).then(|| Box::new(new));
    if *quota != new {
        *quota = new;
        p.metadata_changed(inode.id, MetadataChange::Other);
        p.write(inode);
    }
    Ok(Reply::Done)
}

/// The operation's name in logs.
#[must_use]
pub const fn operation(names: Bound, space: Bound) -> &'static str {
    match (names, space) {
        (Bound::Clear, Bound::Keep) => "clear_quota",
        (Bound::Keep, Bound::Clear) => "clear_space_quota",
        (_, Bound::Keep) => "set_quota",
        _ => "set_space_quota",
    }
}

fn check_superuser(p: &Planner<'_>, names: Bound, space: Bound) -> FsResult<()> {
    if p.guard.passes_everywhere() {
        return Ok(());
    }
    let operation = match operation(names, space) {
        "clear_quota" => "clearQuota",
        "clear_space_quota" => "clearSpaceQuota",
        "set_quota" => "setQuota",
        _ => "setSpaceQuota",
    };
    Err(FsError::denied(format!(
        "Access denied for user {}. Superuser privilege is required for operation {operation}",
        p.ctx.caller.user
    )))
}

/// [`crate::Command::SetStoragePolicy`]
pub(crate) fn set_policy(p: &mut Planner<'_>, path: &FsPath, name: Option<&str>) -> FsResult<Reply> {
    let wanted = name.map(named).transpose()?;
    let at = p.resolve(path, Purpose::Use)?;
    at.check_target(&p.guard, Action::WRITE)?;
    let target = at.target().ok_or_else(|| no_such(&at.path))?;
    if target.file().is_some() {
        check_file_policy(target, wanted)?;
    }
    let mut inode = Inode::clone(target);
    inode.storage_policy = wanted.map_or(0, |policy| policy.id);
    if inode.storage_policy != target.storage_policy {
        let before = p.usage(target);
        p.metadata_changed(inode.id, MetadataChange::Other);
        let inode = p.write(inode);
        let change = p.usage(&inode) - before;
        if inode.id != ROOT_INODE {
            p.add_totals(inode.parent, change, false)?;
        }
    }
    Ok(Reply::Done)
}

/// A policy that makes its replicas at creation can neither come nor go later.
fn check_file_policy(file: &Inode, wanted: Option<&StoragePolicy>) -> FsResult<()> {
    if let Some(policy) = wanted.filter(|policy| policy.from_creation) {
        return Err(FsError::invalid_argument(format!("Policy {policy} cannot be set after file creation.")));
    }
    match policy::by_id(file.storage_policy) {
        Some(policy) if policy.from_creation => Err(FsError::invalid_argument(format!(
            "Existing policy {} cannot be changed after file creation.",
            policy.name
        ))),
        _ => Ok(()),
    }
}

/// The policy that a client names.
///
/// # Errors
/// InvalidArgument: there is none of this name.
pub fn named(name: &str) -> FsResult<&'static StoragePolicy> {
    policy::by_name(name)
        .ok_or_else(|| FsError::invalid_argument(format!("Cannot find a block policy with the name {name}")))
}

pub(crate) fn no_such(path: &FsPath) -> FsError {
    FsError::new(FsErrorKind::NotFound, format!("File/Directory does not exist: {path}"))
}

/// Whether the totals hold a change already when it is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Yes,
    NotYet,
}

/// Whether `change`, of something in `folder`, stays within the quotas of this folder and all above it, up to (and
/// without) `until`. The nearest quota that it breaks is the one that is told.
pub(crate) fn check(
    p: &Planner<'_>,
    folder: InodeId,
    change: Usage,
    counted: Counted,
    until: Option<InodeId>,
) -> FsResult<()> {
    let (mut id, mut change) = (folder, change);
    while Some(id) != until {
        let inode = p.inode(id)?;
        if let Some(quota) = inode.quota() {
            check_one(p, &inode, quota, change, counted)?;
        }
        if id == ROOT_INODE {
            return Ok(());
        }
        change = change.settled_by(inode.storage_policy);
        id = inode.parent;
    }
    Ok(())
}

fn check_one(
    p: &Planner<'_>,
    folder: &Inode,
    quota: &Quota,
    change: Usage,
    counted: Counted,
) -> FsResult<()> {
    let used = p.usage(folder);
    // Where each would end.
    let end = |used: i64, change: i64| match counted {
        Counted::Yes => used,
        Counted::NotYet => used.wrapping_add(change),
    };
    let exceeded = |bound: Option<u64>, used: i64, change: i64| {
        let (bound, end) = (i64::try_from(bound?).ok()?, end(used, change));
        (change > 0 && end > bound).then_some((bound, end))
    };
    let path = || resolve::full_path(&p.tx, folder.id).unwrap_or_else(FsPath::root);
    if let Some((bound, end)) = exceeded(quota.names, used.names(), change.names()) {
        return Err(names_exceeded(&path(), bound, end));
    }
    if let Some((bound, end)) = exceeded(quota.space, used.space(), change.space()) {
        return Err(space_exceeded(&path(), bound, end));
    }
    if quota.types.iter().all(Option::is_none) {
        return Ok(());
    }
    let policy = effective_policy(&p.tx, folder);
    let (used, change) = (used.settled_by(policy), change.settled_by(policy));
    for kind in TYPES_WITH_QUOTA {
        let at = kind.index();
        if let Some((bound, end)) = exceeded(quota.types[at], used.types()[at], change.types()[at]) {
            return Err(type_exceeded(kind, &path(), bound, end));
        }
    }
    Ok(())
}

/// Whether so many `names`, one below the other and counted already, may be new in `folder`. HDFS makes missing folders
/// one by one: it names the quota that the first one breaks, and how many there would be then.
pub(crate) fn check_new(p: &Planner<'_>, folder: InodeId, names: usize) -> FsResult<()> {
    let names = names as i64;
    let mut worst: Option<(i64, InodeId, i64)> = None;
    let mut id = folder;
    loop {
        let inode = p.inode(id)?;
        let bound = inode.quota().and_then(|quota| i64::try_from(quota.names?).ok());
        if let Some(bound) = bound {
            let before = p.usage(&inode).names().wrapping_sub(names);
            let step = bound.wrapping_sub(before).wrapping_add(1).max(1);
            if step <= names && worst.is_none_or(|(first, ..)| step < first) {
                worst = Some((step, id, bound));
            }
        }
        if id == ROOT_INODE {
            break;
        }
        id = inode.parent;
    }
    let Some((step, id, bound)) = worst else { return Ok(()) };
    let before = p.usage(&*p.inode(id)?).names().wrapping_sub(names);
    let path = resolve::full_path(&p.tx, id).unwrap_or_else(FsPath::root);
    Err(names_exceeded(&path, bound, before.wrapping_add(step)))
}

fn names_exceeded(path: &FsPath, bound: i64, count: i64) -> FsError {
    FsError::new(
        FsErrorKind::NamespaceQuota,
        format!(
            "The NameSpace quota (directories and files) of directory {path} is exceeded: quota={bound} file \
             count={count}"
        ),
    )
}

fn space_exceeded(path: &FsPath, bound: i64, end: i64) -> FsError {
    FsError::new(
        FsErrorKind::SpaceQuota,
        format!(
            "The DiskSpace quota of {path} is exceeded: quota = {bound} B = {} but diskspace consumed = {end} B = {}",
            Bytes(bound),
            Bytes(end)
        ),
    )
}

fn type_exceeded(kind: StorageType, path: &FsPath, bound: i64, end: i64) -> FsError {
    FsError::new(
        FsErrorKind::TypeQuota,
        format!(
            "Quota by storage type : {kind} on path : {path} is exceeded. quota = {} but space consumed = {}",
            Bytes(bound),
            Bytes(end)
        ),
    )
}

/// Bytes as HDFS shows them: in the largest binary unit that they reach, with two decimals if they are no whole number
/// of it.
struct Bytes(i64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];
        let size = self.0.unsigned_abs();
        let Some(at) = (size.max(1).ilog2() / 10).checked_sub(1) else { return write!(f, "{} B", self.0) };
        let shift = (at + 1) * 10;
        if size.is_multiple_of(1 << shift) {
            return write!(f, "{} {}", self.0 >> shift, UNITS[at as usize]);
        }
        write!(f, "{:.2} {}", self.0 as f64 / (1_u64 << shift) as f64, UNITS[at as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_as_in_hdfs() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!([shown(0), shown(100), shown(1_023)], ["0 B", "100 B", "1023 B"]);
        assert_eq!([shown(1_024), shown(1_600), shown(3 << 20)], ["1 KB", "1.56 KB", "3 MB"]);
        assert_eq!([shown((3 << 20) + 200), shown(10 << 50)], ["3.00 MB", "10 PB"]);
        assert_eq!(shown(i64::MAX), "8.00 EB");
    }

    #[test]
    fn numbers_of_hdfs_are_bounds() {
        assert_eq!(Bound::pair(i64::MAX, -1).unwrap(), (Bound::Keep, Bound::Clear));
        assert_eq!(Bound::pair(0, 5).unwrap(), (Bound::Set(0), Bound::Set(5)));
        let error = Bound::pair(3, -5).unwrap_err();
        assert_eq!(error.message(), "Illegal value for nsQuota or ssQuota : 3 and -5");
    }
}
