//! Accepting that what came after a restored state is lost.

use steadfs_namenode_core::Command;

use super::plan::carry_out;
use crate::config::NamenodeConfig;
use crate::journal::Journal as _;
use crate::run::Opened;

/// Lets the datanodes of a cluster follow this namenode although they have heard of a later state. Ids that may have been
/// given out since are passed over, and replicas made since are kept until an operator lets them go. Gives the number
/// under which datanodes know this state from now on.
///
/// # Errors
/// The folders cannot be opened, are in use, or the disk says no. It may be tried again.
pub fn accept_loss(config: &NamenodeConfig) -> anyhow::Result<u64> {
    config.validate()?;
    let mut opened = Opened::open(config)?;
    let now = steadfs_daemon::clock::SystemClock::shared().now();
    let incarnation = now.0.max(opened.folders.identity(0).incarnation + 1);
    carry_out(&mut opened, config, now, &Command::AcceptLoss { incarnation })?;
    opened.journal.seal()?;
    opened.store.flush();
    // Last: a datanode that hears of it must find the ids passed over.
    opened.folders.set_incarnation(incarnation)?;
    Ok(incarnation)
}
