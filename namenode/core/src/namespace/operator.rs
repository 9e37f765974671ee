//! What operators order of the cluster and is kept with the namespace.

use steadfs_common::{DatanodeUuid, FsError, FsErrorKind, FsResult};

use super::planner::Planner;
use crate::blocks::{MAX_DATANODES, Wish};
use crate::command::Reply;
use crate::record::{Key, Record};
use crate::view::View as _;

/// [`crate::Command::SetNodeWish`]
pub(crate) fn set_node_wish(p: &mut Planner<'_>, node: DatanodeUuid, wish: Wish) -> FsResult<Reply> {
    let mut wishes = p.tx.node_wishes();
    let before = wishes.clone();
    wishes.retain(|(uuid, _)| *uuid != node);
    if wish != Wish::InService {
        wishes.push((node, wish));
        wishes.sort_unstable_by_key(|(uuid, _)| *uuid);
    }
    if wishes.len() > MAX_DATANODES {
        return Err(FsError::new(
            FsErrorKind::Refused,
            format!(
                "{MAX_DATANODES} datanodes are out of service already: recommission those that are gone for good"
            ),
        ));
    }
    if wishes == before {
        return Ok(Reply::Done);
    }
    if wishes.is_empty() {
        p.tx.delete(Key::NodeWishes);
    } else {
        p.tx.put(Key::NodeWishes, Record::NodeWishes(wishes));
    }
    Ok(Reply::Done)
}
