//! What becomes of datanodes whose node is about to go.

use std::collections::BTreeMap;

use steadfs_namenode_core::blocks::Wish;

use super::facts::Stay;

/// What is wanted of the datanodes of each node that does not simply stay: of one that comes back, that they can be down;
/// of one that does not, that nothing is lost with them.
pub(super) fn wishes(leaving: BTreeMap<String, Stay>) -> BTreeMap<String, Wish> {
    let wish = |stay| match stay {
        Stay::Stays => Wish::InService,
        Stay::Cordoned => Wish::Maintenance { until: None },
        Stay::Removed => Wish::Decommission,
    };
    leaving.into_iter().map(|(node, stay)| (node, wish(stay))).collect()
}
