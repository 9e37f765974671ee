//! The `steadfs fs` and `steadfs admin` commands: arguments in, calls of `steadfs-client`, lines out.
//!
//! Owns what a person types and reads. It holds no rule of the file system and speaks no protocol.
//! Exit codes: 0 done, 1 something failed (or, for `fsck` and `report`, is not healthy), 2 wrong usage.

mod args;
mod mode;

use std::process::ExitCode;

pub use args::{AdminArgs, AdminCommand, FsArgs, FsCommand};

/// Runs one `steadfs fs` command. Errors are printed, one line each, to standard error.
pub async fn run_fs(args: FsArgs) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}

/// Runs one `steadfs admin` command. Errors are printed, one line each, to standard error.
pub async fn run_admin(args: AdminArgs) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}
