//! May the caller delete everything below a folder? Or look into it?
//!
//! HDFS asks it of every folder of the tree that is not empty. A tree may be huge, so a service walks it on a pinned
//! view, off the commit thread, in bounded steps; the [`Clearance`] that the walk ends with goes into the
//! [`Context`](crate::Context). The plan believes it if nothing has changed in the tree since that could have made the
//! walk end otherwise. [`Totals::guarded`](crate::record::Totals::guarded) of the tree's top knows: every ancestor's is
//! set when a folder's owner, group or mode changes, when an empty folder gets its first entry, when a folder with the
//! sticky bit gets one, and when a folder that is not empty is moved in. Plain writing into a tree does not set it.
//!
//! Small trees need none of that: the plan walks up to [`INLINE_ROWS`] rows by itself. If that is not enough it answers
//! `Retriable`: the service walks again, and after a few tries has the plan walk the whole tree itself
//! ([`Clearance::WalkWhole`]), so that nothing can come between.

use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, InodeId, Name, TxId};

use super::permission::{Guard, STICKY};
use super::planner::Planner;
use super::read::Action;
use super::resolve::{Purpose, resolve};
use crate::command::{Caller, Command, Settings};
use crate::record::{Inode, InodeKind};
use crate::view::View;

/// Rows that a plan looks at by itself before it asks for a clearance.
pub const INLINE_ROWS: usize = 1_000;

/// Entries read at a time.
const PAGE: usize = 256;

/// What a plan may go by when it must know of everything below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clearance {
    /// What a completed walk says: as of a transaction, this user may delete what is below this folder.
    Walked {
        /// The folder.
        root: InodeId,
        /// The user.
        user: String,
        /// The last transaction that the walk saw.
        as_of: TxId,
    },
    /// The plan walks by itself, however large the tree is, and all other changes wait: the last resort where a tree
    /// changes faster than it is walked.
    WalkWhole,
}

/// A walk over the folders of a tree; continue it with [`Walk::step`] on the view it was begun on. It remembers one
/// folder a level.
#[derive(Debug)]
pub struct Walk {
    want: Want,
    root: InodeId,
    path: FsPath,
    as_of: TxId,
    levels: Vec<Level>,
}

/// What is wanted of every folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// To empty it, if it holds something.
    Delete,
    /// To look into it.
    Read,
}

/// A folder that is being walked through.
#[derive(Debug)]
struct Level {
    folder: Arc<Inode>,
    after: Option<Name>,
    entered: bool,
}

impl Walk {
    /// Begins the walk that `command` needs; none if it needs none (not a deletion, a superuser, nothing there, …; the
    /// plan will say what is wrong then).
    #[must_use]
    pub fn begin(view: &dyn View, caller: &Caller, settings: &Settings, command: &Command) -> Option<Self> {
        let path = match command {
            Command::Delete { path, recursive: true } => path,
            Command::Rename { from, to_trash: true, .. } => from,
            _ => return None,
        };
        let guard = Guard::new(caller, settings);
        if guard.passes_everywhere() {
            return None;
        }
        let at = resolve(view, &guard, path, Purpose::Use).ok()?;
        let top = at.target().filter(|target| is_filled(target) && !at.path.is_root())?;
        Some(Self::new(Want::Delete, view, top, &at.path))
    }

    /// Begins a walk that finds out whether the caller may look into all folders at and below `path`; none if there is
    /// nothing to find out.
    #[must_use]
    pub fn to_read(view: &dyn View, caller: &Caller, settings: &Settings, path: &FsPath) -> Option<Self> {
        let guard = Guard::new(caller, settings);
        if guard.passes_everywhere() {
            return None;
        }
        let at = resolve(view, &guard, path, Purpose::Use).ok()?;
        let top = at.target().filter(|target| target.is_directory())?;
        Some(Self::new(Want::Read, view, top, &at.path))
    }

    fn new(want: Want, view: &dyn View, top: &Arc<Inode>, path: &FsPath) -> Self {
        let as_of = view.counters().map_or(TxId(0), |counters| counters.last_tx);
        let level = Level { folder: top.clone(), after: None, entered: false };
        Self { want, root: top.id, path: path.clone(), as_of, levels: vec![level] }
    }

    /// Looks at about `rows` more entries. Gives the clearance at the end of the walk, none if there is more.
    ///
    /// # Errors
    /// AccessDenied, for the first folder that the caller may not empty.
    pub fn step(
        &mut self,
        view: &dyn View,
        caller: &Caller,
        settings: &Settings,
        rows: usize,
    ) -> FsResult<Option<Clearance>> {
        let done = self.advance(view, &Guard::new(caller, settings), rows)?;
        let clearance =
            || Clearance::Walked { root: self.root, user: caller.user.clone(), as_of: self.as_of };
        Ok(done.then(clearance))
    }

    /// Goes on for about `rows` entries; whether the walk is done.
    fn advance(&mut self, view: &dyn View, guard: &Guard<'_>, rows: usize) -> FsResult<bool> {
        let mut left = rows.max(1);
        while let Some(level) = self.levels.last_mut() {
            if left == 0 {
                return Ok(false);
            }
            if !level.entered {
                level.entered = true;
                let folder = level.folder.clone();
                match self.want {
                    Want::Delete => guard.check(&folder, self.shown(), Action::ALL)?,
                    Want::Read => {
                        guard.check(&folder, self.shown(), Action::READ_EXECUTE)?;
                        left -= 1;
                        if view.totals(folder.id).directories == 0 {
                            self.levels.pop();
                        }
                    }
                }
                continue;
            }
            let page = PAGE.min(left);
            let entries = view.entries(level.folder.id, level.after.as_ref(), page);
            let ended = entries.len() < page;
            let folder = level.folder.clone();
            let mut below = None;
            for (name, id) in entries {
                left -= 1;
                let Some(inode) = view.inode(id) else { continue };
                if self.want == Want::Delete && folder.mode & STICKY != 0 {
                    let parent = self.shown();
                    guard.check_sticky(&folder, &parent, &inode, format!("{parent}/{name}"))?;
                }
                let wanted = match self.want {
                    Want::Delete => is_filled(&inode),
                    Want::Read => inode.is_directory(),
                };
                if let Some(level) = self.levels.last_mut() {
                    level.after = Some(name);
                }
                if wanted {
                    below = Some(inode);
                    break;
                }
            }
            match below {
                Some(folder) => self.levels.push(Level { folder, after: None, entered: false }),
                None if ended => drop(self.levels.pop()),
                None => {}
            }
        }
        Ok(true)
    }

    /// The path of the folder that is looked at, for messages.
    fn shown(&self) -> String {
        let below = self.levels.len() > 1;
        let mut path = if self.path.is_root() && below { String::new() } else { self.path.to_string() };
        for level in self.levels.iter().skip(1) {
            if let Some(name) = &level.folder.name {
                path.push('/');
                path.push_str(name.as_str());
            }
        }
        path
    }
}

fn is_filled(inode: &Inode) -> bool {
    matches!(inode.kind, InodeKind::Directory { children, .. } if children > 0)
}

/// Whether the caller may delete all below `top`, which lies at `path`: by the clearance, or by a walk: a short one unless
/// the clearance asks for more.
pub(crate) fn check(p: &Planner<'_>, top: &Arc<Inode>, path: &FsPath) -> FsResult<()> {
    if p.guard.passes_everywhere() {
        return Ok(());
    }
    let rows = match p.ctx.clearance {
        Some(Clearance::Walked { root, user, as_of })
            if *root == top.id && *user == p.ctx.caller.user && p.tx.totals(top.id).guarded <= *as_of =>
        {
            return Ok(());
        }
        Some(Clearance::WalkWhole) => usize::MAX,
        _ => INLINE_ROWS,
    };
    if Walk::new(Want::Delete, &p.tx, top, path).advance(&p.tx, &p.guard, rows)? {
        return Ok(());
    }
    Err(FsError::new(
        FsErrorKind::Retriable,
        format!("The permissions of all below {path} must be looked at first"),
    ))
}
