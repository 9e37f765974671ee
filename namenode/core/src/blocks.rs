//! Replicas, datanodes, replication work and safe mode: the soft state, which reports rebuild after every start.
//!
//! [`BlockMap`] owns it all. It learns from the namespace by [`crate::Effect`]s, from datanodes by registrations, heartbeats,
//! reports and changes, and answers where blocks are and what each datanode shall do. Time and seeds are arguments.
//!
//! What it never does:
//! * delete a good replica unless as many others as are wanted are known, from reports of their datanodes' present lives;
//! * delete a bad replica before as many good ones live as are wanted (or as the cluster has nodes for);
//! * delete a replica of a block that it does not know, unless the id was given out before and the namespace has no such block;
//! * delete what was made after a state to which the namespace went back, before an operator lets it go;
//! * order anything in safe mode.

mod admin;
#[cfg(test)]
mod admin_test;
mod bad;
mod balance;
#[cfg(test)]
mod balance_test;
mod doubles;
mod effects;
mod excess;
mod failed;
mod kept;
mod leaving;
mod lists;
mod load;
mod map;
#[cfg(test)]
mod map_test;
#[cfg(test)]
mod model_test;
mod moves;
mod nodes;
mod places;
mod recent;
mod recover;
mod report;
mod roster;
mod safe_mode;
mod slow;
mod spread;
mod sweep;
mod table;
mod unheard;
mod work;

pub use admin::{AdminState, Condition, Lacking, MAX_BLOCKING, SurveyedReplica};
pub use balance::{BalanceGoal, BalanceStatus};
pub use kept::MAX_KEPT_COUNTED;
pub use leaving::{StopCheck, Stopping};
pub use lists::{BlocksOn, WorkLists};
pub use map::{BlockCounts, BlockMap, BlockSettings, Located};
pub use nodes::{
    Address, DEFAULT_RACK, Datanode, Datanodes, Heartbeat, MAX_DATANODES, MAX_STORAGES, MAX_VOLUMES,
    NodeIndex, Registration, Storage, VolumeReport,
};
pub use places::StorageIndex;
pub use report::{Change, ChangeKind, Facts, Replica, ReplicaState, ReportPart};
pub use roster::{Host, Roster, Wish};
pub use safe_mode::{SafeCounts, SafeMode, SafeModeSettings};
pub use slow::{MAX_PEERS, PeerLatency};
pub use work::NodeCommand;
