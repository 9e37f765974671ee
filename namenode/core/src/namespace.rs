//! Files and folders.
//!
//! [`plan`] turns a [`Command`] into changes on a [`Tx`]; [`plan_once`] does so for calls that a client may repeat.
//! [`read::Reader`] answers questions. A service needs nothing else of this module but [`subtree`], where it prepares
//! the deletion of trees, [`lease::due`], which says which files to recover, and [`retry::expired`].

mod acls;
mod append;
mod attributes;
mod blocks;
pub mod check;
mod concat;
mod create;
mod delete;
mod events;
mod format;
pub mod kept;
pub mod lease;
mod losses;
mod operator;
mod permission;
mod pipeline;
mod planner;
pub mod quota;
pub mod read;
mod rename;
mod replace;
mod reserved;
mod resolve;
pub mod retry;
mod sessions;
pub mod subtree;
pub mod synthetic;
mod truncate;
mod usage;
mod xattrs;

#[cfg(test)]
mod tests;

use steadfs_common::{FsError, FsErrorKind, FsResult};

pub use create::MAX_BLOCK_BYTES;
pub use retry::plan_once;

use self::planner::Planner;
use crate::acl::Modes;
use crate::command::{Command, Context, Outcome, Reply};
use crate::tx::Tx;

/// Plans `command`: its changes are written to `tx`, all of them or, on an error, none.
///
/// # Errors
/// What HDFS answers, in its words.
pub fn plan(tx: &mut Tx<'_>, ctx: &Context<'_>, command: &Command) -> FsResult<Outcome> {
    let (changes, outcome) = if matches!(command, Command::Format) {
        format::format(&*tx, ctx)?
    } else {
        let mut planner = Planner::new(&*tx, ctx)?;
        if let Some(reason) = ctx.safe_mode {
            if let Some(reply) = postponed(command) {
                return Ok(Outcome { reply, effects: Vec::new(), events: Vec::new() });
            }
            refuse_in_safe_mode(command, reason)?;
        }
        let reply = dispatch(&mut planner, command)?;
        planner.finish(reply)
    };
    tx.absorb(changes);
    Ok(outcome)
}

fn dispatch(p: &mut Planner<'_>, command: &Command) -> FsResult<Reply> {
    reserved::check(command)?;
    match command {
        Command::Format => Err(FsError::refused("The namespace is formatted already")),
        Command::Mkdirs { path, mode, unmasked, create_parent } => {
            let modes = Modes { masked: *mode, unmasked: *unmasked };
            create::mkdirs(p, path, modes, *create_parent)
        }
        Command::MakeFolder { path, mode, unmasked } => {
            create::make_folder(p, path, Modes { masked: *mode, unmasked: *unmasked })
        }
        Command::Create {
            path,
            mode,
            unmasked,
            client,
            create,
            overwrite,
            create_parent,
            replication,
            block_size,
            policy,
        } => {
            let new = create::NewFile {
                path,
                modes: Modes { masked: *mode, unmasked: *unmasked },
                client,
                create: *create,
                overwrite: *overwrite,
                create_parent: *create_parent,
                replication: *replication,
                block_size: *block_size,
                policy: *policy,
            };
            create::create(p, &new)
        }
        Command::Append { path, client, new_block } => append::append(p, path, client, *new_block),
        Command::AddBlock { file, client, previous, excluded, favored, avoid_local } => {
            let wishes = blocks::Wishes { excluded, favored, avoid_local: *avoid_local };
            blocks::add(p, file, client, previous.as_ref(), &wishes)
        }
        Command::AbandonBlock { file, client, block } => blocks::abandon(p, file, client, block),
        Command::Complete { file, client, last, times } => {
            blocks::complete(p, file, client, last.as_ref(), *times)
        }
        Command::Fsync { file, client, last_block_length, synced } => {
            blocks::fsync(p, file, client, *last_block_length, *synced)
        }
        Command::UpdateBlockForPipeline { block, client } => pipeline::new_stamp(p, block, client),
        Command::UpdatePipeline { client, old, new, storages, synced } => {
            pipeline::update_pipeline(p, client, old, new, storages, *synced)
        }
        Command::RecoverLease { path } => lease::recover(p, path),
        Command::ExpireLease { file } => lease::expire(p, *file),
        Command::CommitBlockSynchronization {
            block,
            new_stamp,
            new_length,
            close_file,
            delete_block,
            storages,
        } => {
            let done = pipeline::Recovered {
                block,
                stamp: *new_stamp,
                length: *new_length,
                close: *close_file,
                delete: *delete_block,
                storages,
            };
            pipeline::recovered(p, &done)
        }
        Command::Rename { from, to, mode, to_trash } => rename::rename(p, from, to, *mode, *to_trash),
        Command::Delete { path, recursive } => delete::delete(p, path, *recursive),
        Command::Concat { target, sources } => concat::concat(p, target, sources),
        Command::Truncate { path, length, client } => truncate::truncate(p, path, *length, client),
        Command::SetAcl { path, change } => acls::change(p, path, change),
        Command::SetXAttr { path, name, value, flags } => {
            xattrs::set(p, path, name, value.as_deref(), *flags)
        }
        Command::RemoveXAttr { path, name } => xattrs::remove(p, path, name),
        Command::SetPermission { path, mode } => attributes::set_permission(p, path, *mode),
        Command::SetOwner { path, owner, group } => {
            attributes::set_owner(p, path, owner.as_deref(), group.as_deref())
        }
        Command::SetTimes { path, mtime, atime } => attributes::set_times(p, path, *mtime, *atime),
        Command::SetReplication { path, replication } => attributes::set_replication(p, path, *replication),
        Command::SetQuota { path, names, space, kind } => quota::set_quota(p, path, *names, *space, *kind),
        Command::SetStoragePolicy { path, policy } => quota::set_policy(p, path, policy.as_deref()),
        Command::Stage { path, client, block_size } => replace::stage(p, path, client, *block_size),
        Command::ReplaceContent { path, staged, client, last, expected } => {
            replace::replace(p, path, *staged, client, last.as_ref(), *expected)
        }
        Command::DropStaged { staged, client } => replace::drop(p, *staged, client),
        Command::OpenLockSession { client } => sessions::open(p, client),
        Command::CloseLockSession { session } => sessions::close(p, *session),
        Command::TouchAccessTime { file, atime } => Ok(attributes::touch(p, *file, *atime)),
        Command::Reclaim { limit } => delete::reclaim(p, *limit),
        Command::LetGo { files } => kept::let_go(p, files),
        Command::ForgetCalls { keys } => Ok(retry::forget(p, keys)),
        Command::AcceptLoss { incarnation } => losses::accept(p, *incarnation),
        Command::ForgetLosses => Ok(losses::forget(p)),
        Command::RepairFolder { folder } => check::repair_folder(p, *folder),
        Command::RepairCounters { blocks, complete } => Ok(check::repair_counters(p, *blocks, *complete)),
        Command::SetNodeWish { node, wish } => operator::set_node_wish(p, *node, *wish),
    }
}

/// What the namenode's own commands answer in safe mode, where they change nothing: they come again.
const fn postponed(command: &Command) -> Option<Reply> {
    match command {
        Command::ExpireLease { .. } | Command::Reclaim { .. } => Some(Reply::Bool(false)),
        Command::TouchAccessTime { .. } | Command::ForgetCalls { .. } | Command::LetGo { .. } => {
            Some(Reply::Done)
        }
        _ => None,
    }
}

fn refuse_in_safe_mode(command: &Command, reason: &str) -> FsResult<()> {
    let what = match command {
        Command::Format
        | Command::ExpireLease { .. }
        | Command::LetGo { .. }
        | Command::Reclaim { .. }
        | Command::TouchAccessTime { .. }
        | Command::ForgetCalls { .. }
        | Command::AcceptLoss { .. }
        | Command::ForgetLosses
        | Command::RepairFolder { .. }
        | Command::RepairCounters { .. }
        | Command::SetNodeWish { .. }
        | Command::OpenLockSession { .. }
        | Command::CloseLockSession { .. } => return Ok(()),
        Command::Mkdirs { path, .. } | Command::MakeFolder { path, .. } => {
            format!("create directory {path}")
        }
        Command::Create { path, .. } => format!("create file {path}"),
        Command::Append { path, .. } => format!("append to file {path}"),
        Command::AddBlock { file, .. } => format!("add block to {}", file.path),
        Command::AbandonBlock { file, block, .. } => {
            format!("abandon block {} of file {}", block.id, file.path)
        }
        Command::Complete { file, .. } => format!("complete file {}", file.path),
        Command::Fsync { file, .. } => format!("fsync file {}", file.path),
        Command::UpdateBlockForPipeline { block, .. } => {
            format!("get a new generation stamp and an access token for block {}", block.id)
        }
        Command::UpdatePipeline { old, .. } => format!("update the pipeline of block {}", old.id),
        Command::RecoverLease { path } => format!("recover the lease of {path}"),
        Command::CommitBlockSynchronization { block, .. } => {
            format!("commit the recovery of block {}", block.id)
        }
        Command::Rename { from, .. } => format!("rename {from}"),
        Command::Delete { path, .. } => format!("delete {path}"),
        Command::Concat { target, .. } => format!("concat {target}"),
        Command::Stage { path, .. } | Command::ReplaceContent { path, .. } => {
            format!("replace the content of {path}")
        }
        Command::DropStaged { staged, .. } => format!("drop inode {staged}"),
        Command::Truncate { path, .. } => format!("truncate for {path}"),
        Command::SetAcl { path, change } => acls::named(path, change),
        Command::SetXAttr { path, .. } => format!("set XAttr on {path}"),
        Command::RemoveXAttr { path, .. } => format!("remove XAttr entry on {path}"),
        Command::SetPermission { path, .. } => format!("set permission for {path}"),
        Command::SetOwner { path, .. } => format!("set owner for {path}"),
        Command::SetTimes { path, .. } => format!("set times {path}"),
        Command::SetReplication { path, .. } => format!("set replication for {path}"),
        Command::SetQuota { path, .. } => format!("set quota on {path}"),
        Command::SetStoragePolicy { path, policy: Some(_) } => format!("set storage policy for {path}"),
        Command::SetStoragePolicy { path, policy: None } => format!("unset storage policy for {path}"),
    };
    Err(FsError::new(FsErrorKind::SafeMode, format!("Cannot {what}. Name node is in safe mode.\n{reason}")))
}
