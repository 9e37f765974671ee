use steadfs_common::{BlockId, GenStamp};

use super::world::{World, user};
use crate::record::Loss;
use crate::view::View;
use crate::{Command, Reply};

#[test]
fn an_accepted_loss_passes_over_ids_once_and_is_let_go() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[10]);
    let before = world.view.counters().unwrap();
    let mut run = |command: Command| world.run_as(&user("root"), None, &command);
    assert_eq!(run(Command::AcceptLoss { incarnation: 9 }), Ok(Reply::Done));
    assert_eq!(run(Command::AcceptLoss { incarnation: 9 }), Ok(Reply::Done), "once");
    let after = world.view.counters().unwrap();
    let gap = 1 << 32;
    assert_eq!(after.next_block, BlockId(before.next_block.0 + gap));
    assert_eq!(after.next_stamp, GenStamp(before.next_stamp.0 + gap));
    assert_eq!(after.next_inode.0, before.next_inode.0 + gap);
    assert_eq!(after.last_tx.0, before.last_tx.0 + gap + 1);
    let loss = Loss {
        incarnation: 9,
        blocks: (before.next_block, after.next_block),
        stamps: (before.next_stamp, after.next_stamp),
    };
    assert_eq!(world.view.losses(), [loss]);
    world.safe_mode = Some(String::new());
    assert_eq!(
        world.run_as(&user("root"), None, &Command::ForgetLosses),
        Ok(Reply::Done),
        "in safe mode too"
    );
    assert_eq!(world.view.losses(), []);
    assert_eq!(world.view.counters().unwrap().next_block, after.next_block);
}
