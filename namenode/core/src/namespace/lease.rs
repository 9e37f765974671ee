//! Who may write a file, for how long, and what happens when the writer is gone.

use std::collections::BTreeMap;

use steadfs_common::{InodeId, Millis};

use crate::command::Settings;
use crate::view::View;

/// Holder of a file that the namenode itself is closing.
pub const RECOVERY_HOLDER: &str = "NN_Recovery";

/// Looks at up to `limit` leases after `after`, and gives the files for which [`crate::Command::ExpireLease`] is due; and
/// where to go on, if there is more. Leases of the namenode's own are always among them.
pub fn due(
    view: &dyn View,
    renewals: &BTreeMap<String, Millis>,
    settings: &Settings,
    now: Millis,
    after: Option<InodeId>,
    limit: usize,
) -> (Vec<InodeId>, Option<InodeId>) {
    let rows = view.leases(after, limit);
    let next = if rows.len() < limit { None } else { rows.last().map(|(id, _)| *id) };
    let past = |holder: &str| {
        holder == RECOVERY_HOLDER
            || renewals.get(holder).is_some_and(|renewed| now.since(*renewed) > settings.lease_hard_limit)
    };
    (rows.into_iter().filter(|(_, lease)| past(&lease.holder)).map(|(id, _)| id).collect(), next)
}
