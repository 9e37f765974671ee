//! Files and folders.
//!
//! [`plan`] turns a [`Command`] into changes on a [`Tx`]; [`plan_once`] does so for calls that a client may repeat.
//! [`read::Reader`] answers questions. A service needs nothing else of this module but [`subtree`], where it prepares
//! the deletion of trees, and [`lease::due`], which says which files to recover.

pub mod lease;
pub mod read;
pub mod retry;
pub mod subtree;

use steadfs_common::{FsError, FsResult};

pub use retry::plan_once;

use crate::command::{Command, Context, Outcome};
use crate::tx::Tx;

/// Plans `command`: its changes are written to `tx`, all of them or, on an error, none.
///
/// # Errors
/// What HDFS answers, in its words.
pub fn plan(tx: &mut Tx<'_>, ctx: &Context<'_>, command: &Command) -> FsResult<Outcome> {
    let _ = (tx, ctx, command);
    Err(FsError::refused("unfinished"))
}
