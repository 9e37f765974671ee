//! The `steadfs fs` and `steadfs admin` commands: arguments in, calls of `steadfs-client`, lines out.
//!
//! Owns what a person types and reads. It holds no rule of the file system and speaks no protocol.
//! Exit codes: 0 done, 1 something failed (or, for `fsck` and `report`, is not healthy; for `safe-to-stop`, is not safe), 2 wrong usage, 130 interrupted.

mod admin;
mod args;
mod attributes;
mod change;
mod datanode;
mod failure;
mod fsck;
mod glob;
mod list;
mod mode;
mod nodes;
mod operate;
mod out;
mod quotas;
mod run;
mod session;
mod stream;
mod transfer;
mod trash;
mod upkeep;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

pub use args::{AdminArgs, AdminCommand, Connection, FsArgs, FsCommand};

use failure::{Failure, Outcome};
use run::Run;
use session::Session;
use transfer::Temporaries;

const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;
/// How long an interrupted command may take to remove what it has begun.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// Runs one `steadfs fs` command. Errors are printed, one line each, to standard error.
pub async fn run_fs(args: FsArgs) -> ExitCode {
    let mut run = Run::new(format!("steadfs fs {}", fs_name(&args.command)));
    let session = match Session::new(&args.connection) {
        Ok(session) => session,
        Err(failure) => return end(&mut run, Err(failure)),
    };
    let temporaries = session.temporaries.clone();
    let done = fs(&session, args.command, &mut run);
    let result = unless_interrupted(done, &temporaries).await;
    result.map_or_else(|code| code, |result| end(&mut run, result))
}

/// Runs one `steadfs admin` command. Errors are printed, one line each, to standard error.
pub async fn run_admin(args: AdminArgs) -> ExitCode {
    let mut run = Run::new(format!("steadfs admin {}", admin_name(&args.command)));
    let session = match Session::new(&args.connection) {
        Ok(session) => session,
        Err(failure) => return end(&mut run, Err(failure)),
    };
    let temporaries = session.temporaries.clone();
    let done = admin_command(&session, args.command, args.json, &mut run);
    let result = unless_interrupted(done, &temporaries).await;
    result.map_or_else(|code| code, |result| end(&mut run, result))
}

async fn fs(session: &Session, command: FsCommand, run: &mut Run) -> Outcome<()> {
    match command {
        FsCommand::Ls(args) => list::ls(session, args, run).await,
        FsCommand::Cat(args) => stream::cat(session, args, run).await,
        FsCommand::Put(args) => transfer::put(session, args, run).await,
        FsCommand::Get(args) => transfer::get(session, args, run).await,
        FsCommand::Mkdir(args) => change::mkdir(session, args, run).await,
        FsCommand::Mv(args) => change::mv(session, args, run).await,
        FsCommand::Cp(args) => transfer::cp(session, args, run).await,
        FsCommand::Rm(args) => change::rm(session, args, run).await,
        FsCommand::Expunge => trash::expunge(session).await,
        FsCommand::Stat(args) => list::stat(session, args, run).await,
        FsCommand::Du(args) => list::du(session, args, run).await,
        FsCommand::Df(args) => list::df(session, args).await,
        FsCommand::Count(args) => quotas::count(session, args, run).await,
        FsCommand::Policy(args) => quotas::policy(session, args, run).await,
        FsCommand::Tail(args) => stream::tail(session, args).await,
        FsCommand::Touch(args) => change::touch(session, args, run).await,
        FsCommand::Append(args) => stream::append(session, args).await,
        FsCommand::Truncate(args) => change::truncate(session, args, run).await,
        FsCommand::Concat(args) => change::concat(session, args).await,
        FsCommand::Chmod(args) => change::chmod(session, args, run).await,
        FsCommand::Chown(args) => change::chown(session, args, run).await,
        FsCommand::Setrep(args) => change::setrep(session, args, run).await,
        FsCommand::Checksum(args) => list::checksum(session, args, run).await,
        FsCommand::Tree(args) => list::tree(session, args).await,
        FsCommand::Getfacl(args) => attributes::getfacl(session, args, run).await,
        FsCommand::Setfacl(args) => attributes::setfacl(session, args, run).await,
        FsCommand::Getfattr(args) => attributes::getfattr(session, args, run).await,
        FsCommand::Setfattr(args) => attributes::setfattr(session, args, run).await,
    }
}

async fn admin_command(session: &Session, command: AdminCommand, json: bool, run: &mut Run) -> Outcome<()> {
    match command {
        AdminCommand::Report => admin::report(session, json, run).await,
        AdminCommand::Quota(args) => quotas::quota(session, args, run).await,
        AdminCommand::Datanodes => admin::datanodes(session, json).await,
        AdminCommand::Datanode(command) => datanode::datanode(session, command, json, run).await,
        AdminCommand::Safemode(command) => admin::safemode(session, command, json).await,
        AdminCommand::Fsck(args) if args.namespace || args.repair => {
            upkeep::check_namespace(session, args.repair, json, run).await
        }
        AdminCommand::Backup { folder } => upkeep::backup(session, folder).await,
        AdminCommand::DataHealth => upkeep::health(session, json, run).await,
        AdminCommand::Scrub => upkeep::scrub(session, json, run).await,
        AdminCommand::Kept { delete } => upkeep::kept(session, delete, json).await,
        AdminCommand::Fsck(args) => fsck::fsck(session, args, json, run).await,
        AdminCommand::Decommission(args) => nodes::decommission(session, args).await,
        AdminCommand::Maintenance(args) => nodes::maintenance(session, args).await,
        AdminCommand::Recommission(args) => nodes::recommission(session, args).await,
        AdminCommand::Balance(args) => nodes::balance(session, args, json, run).await,
        AdminCommand::SafeToStop(args) => nodes::safe_to_stop(session, args, json, run).await,
        AdminCommand::RefreshNodes => operate::refresh_nodes(session).await,
        AdminCommand::OpenFiles(args) => operate::open_files(session, args, json).await,
        AdminCommand::SaveNamespace => operate::save_namespace(session).await,
        AdminCommand::RollJournal => operate::roll_journal(session).await,
        AdminCommand::SaveReport { file } => operate::save_report(session, &file).await,
        AdminCommand::BalancerBandwidth { bytes_per_second } => {
            operate::balancer_bandwidth(session, bytes_per_second).await
        }
    }
}

const fn fs_name(command: &FsCommand) -> &'static str {
    match command {
        FsCommand::Ls(_) => "ls",
        FsCommand::Cat(_) => "cat",
        FsCommand::Put(_) => "put",
        FsCommand::Get(_) => "get",
        FsCommand::Mkdir(_) => "mkdir",
        FsCommand::Mv(_) => "mv",
        FsCommand::Cp(_) => "cp",
        FsCommand::Rm(_) => "rm",
        FsCommand::Expunge => "expunge",
        FsCommand::Stat(_) => "stat",
        FsCommand::Du(_) => "du",
        FsCommand::Df(_) => "df",
        FsCommand::Count(_) => "count",
        FsCommand::Policy(_) => "policy",
        FsCommand::Tail(_) => "tail",
        FsCommand::Touch(_) => "touch",
        FsCommand::Append(_) => "append",
        FsCommand::Truncate(_) => "truncate",
        FsCommand::Concat(_) => "concat",
        FsCommand::Chmod(_) => "chmod",
        FsCommand::Chown(_) => "chown",
        FsCommand::Setrep(_) => "setrep",
        FsCommand::Checksum(_) => "checksum",
        FsCommand::Tree(_) => "tree",
        FsCommand::Getfacl(_) => "getfacl",
        FsCommand::Setfacl(_) => "setfacl",
        FsCommand::Getfattr(_) => "getfattr",
        FsCommand::Setfattr(_) => "setfattr",
    }
}

const fn admin_name(command: &AdminCommand) -> &'static str {
    match command {
        AdminCommand::Report => "report",
        AdminCommand::Datanodes => "datanodes",
        AdminCommand::Datanode(_) => "datanode",
        AdminCommand::Quota(_) => "quota",
        AdminCommand::Safemode(_) => "safemode",
        AdminCommand::Fsck(_) => "fsck",
        AdminCommand::Decommission(_) => "decommission",
        AdminCommand::Maintenance(_) => "maintenance",
        AdminCommand::Recommission(_) => "recommission",
        AdminCommand::Balance(_) => "balance",
        AdminCommand::SafeToStop(_) => "safe-to-stop",
        AdminCommand::RefreshNodes => "refresh-nodes",
        AdminCommand::OpenFiles(_) => "open-files",
        AdminCommand::SaveNamespace => "save-namespace",
        AdminCommand::RollJournal => "roll-journal",
        AdminCommand::Backup { .. } => "backup",
        AdminCommand::DataHealth => "data-health",
        AdminCommand::Scrub => "scrub",
        AdminCommand::Kept { .. } => "kept",
        AdminCommand::SaveReport { .. } => "save-report",
        AdminCommand::BalancerBandwidth { .. } => "balancer-bandwidth",
    }
}

/// Waits for `done`; on ctrl-C removes what it has begun and gives the exit code.
async fn unless_interrupted<T>(
    done: impl Future<Output = T>,
    temporaries: &Temporaries,
) -> Result<T, ExitCode> {
    tokio::select! {
        result = done => return Ok(result),
        // Where signals cannot be had, nothing interrupts.
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
    let _ = tokio::time::timeout(CLEAN_UP, temporaries.remove_all()).await;
    Err(ExitCode::from(INTERRUPTED))
}

fn end(run: &mut Run, result: Outcome<()>) -> ExitCode {
    match result {
        Ok(()) if run.has_failed() => ExitCode::FAILURE,
        Ok(()) | Err(Failure::Pipe) => ExitCode::SUCCESS,
        Err(failure @ Failure::Usage(_)) => {
            run.complain(&failure);
            ExitCode::from(USAGE)
        }
        Err(failure) => {
            run.complain(&failure);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
