//! What is stored beside the tree: mounts' sessions, orders about datanodes, accepted losses; and repairs, which change
//! nothing where nothing is wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;
use steadfs_common::{DatanodeUuid, FsErrorKind, Millis, ROOT_INODE};

use super::super::world::World;
use super::USERS;
use crate::blocks::Wish;
use crate::locks::SessionId;
use crate::namespace::check;
use crate::record::Inode;
use crate::view::View as _;
use crate::{Command, Reply};

/// A step beside the tree. Numbers choose among what there is, counted round.
#[derive(Clone, Debug)]
pub(super) enum Step {
    OpenSession { who: usize, client: usize },
    CloseSession { who: usize, session: usize },
    Wish { node: usize, wish: usize },
    AcceptLoss { incarnation: u64 },
    ForgetLosses,
    RepairFolder { number: usize },
    RepairCounters,
}

const WISHES: [Wish; 4] = [
    Wish::InService,
    Wish::Decommission,
    Wish::Maintenance { until: None },
    Wish::Maintenance { until: Some(Millis(77)) },
];

pub(super) fn step() -> impl Strategy<Value = Step> {
    let who = || 0..USERS.len();
    prop_oneof![
        3 => (who(), 0..3_usize).prop_map(|(who, client)| Step::OpenSession { who, client }),
        2 => (who(), 0..9_usize).prop_map(|(who, session)| Step::CloseSession { who, session }),
        3 => (0..4_usize, 0..WISHES.len()).prop_map(|(node, wish)| Step::Wish { node, wish }),
        1 => (1..6_u64).prop_map(|incarnation| Step::AcceptLoss { incarnation }),
        1 => Just(Step::ForgetLosses),
        2 => (0..20_usize).prop_map(|number| Step::RepairFolder { number }),
        1 => Just(Step::RepairCounters),
    ]
}

/// What should be stored, the slow way.
#[derive(Default)]
pub(super) struct Beside {
    /// User and name of each mount.
    sessions: BTreeMap<SessionId, (&'static str, String)>,
    wishes: BTreeMap<DatanodeUuid, Wish>,
    /// With the first block id that was passed over, and the first after.
    losses: Vec<(u64, u64)>,
}

fn node(number: usize) -> DatanodeUuid {
    format!("00000000-0000-0000-0000-{number:012x}").parse().unwrap()
}

/// All inodes that names lead to.
fn tree(world: &World) -> Vec<Inode> {
    let mut found = vec![Inode::clone(&world.view.inode(ROOT_INODE).unwrap())];
    let mut at = 0;
    while let Some(inode) = found.get(at) {
        let below = world.view.entries(inode.id, None, usize::MAX);
        found.extend(below.into_iter().map(|(_, id)| Inode::clone(&world.view.inode(id).unwrap())));
        at += 1;
    }
    found
}

impl Beside {
    /// Takes one step with both.
    pub(super) fn step(&mut self, world: &mut World, step: &Step) {
        match step {
            Step::OpenSession { who, client } => {
                let client = format!("mount-{client}");
                let opened = world.run(USERS[*who], &Command::OpenLockSession { client: client.clone() });
                let Ok(Reply::Session(id)) = opened else { panic!("{opened:?}") };
                assert!(self.sessions.keys().all(|known| *known < id), "an id was given out twice");
                self.sessions.insert(id, (USERS[*who], client));
            }
            Step::CloseSession { who, session } => {
                let who = USERS[*who];
                let known = self.sessions.keys().nth(session % (self.sessions.len() + 1)).copied();
                let id = known.unwrap_or(SessionId(u64::MAX));
                let may = self.sessions.get(&id).is_none_or(|(user, _)| *user == who || who == "hdfs");
                let closed = world.run(who, &Command::CloseLockSession { session: id });
                if may {
                    assert_eq!(closed, Ok(Reply::Done));
                    self.sessions.remove(&id);
                } else {
                    assert_eq!(closed.map_err(|error| error.kind()), Err(FsErrorKind::AccessDenied));
                }
            }
            Step::Wish { node: number, wish } => {
                let (node, wish) = (node(*number), WISHES[*wish]);
                assert_eq!(world.run("hdfs", &Command::SetNodeWish { node, wish }), Ok(Reply::Done));
                if wish == Wish::InService {
                    self.wishes.remove(&node);
                } else {
                    self.wishes.insert(node, wish);
                }
            }
            Step::AcceptLoss { incarnation } => self.accept(world, *incarnation),
            Step::ForgetLosses => {
                assert_eq!(world.run("hdfs", &Command::ForgetLosses), Ok(Reply::Done));
                self.losses.clear();
            }
            Step::RepairFolder { number } => {
                let folders: Vec<_> = tree(world).into_iter().filter(Inode::is_directory).collect();
                let folder = folders[number % folders.len()].id;
                let found = check::inode(&world.view, &world.view.inode(folder).unwrap());
                assert_eq!(found, [], "the tree is sound");
                assert_eq!(self.unchanged(world, &Command::RepairFolder { folder }), Ok(Reply::Done));
            }
            Step::RepairCounters => {
                let command = Command::RepairCounters { blocks: 0, complete: 0 };
                assert_eq!(self.unchanged(world, &command), Ok(Reply::Done));
            }
        }
        self.compare(world);
    }

    fn accept(&mut self, world: &mut World, incarnation: u64) {
        let before = world.view.counters().unwrap();
        assert_eq!(world.run("hdfs", &Command::AcceptLoss { incarnation }), Ok(Reply::Done));
        let after = world.view.counters().unwrap();
        if self.losses.iter().any(|(known, _)| *known == incarnation) {
            assert_eq!(after, before, "it was accepted before");
            return;
        }
        // What a later life may have given out is far behind the next ids.
        for (before, after) in [
            (before.next_inode.0, after.next_inode.0),
            (before.next_block.0, after.next_block.0),
            (before.next_stamp.0, after.next_stamp.0),
        ] {
            assert!(after - before >= 1 << 32, "{before} {after}");
        }
        self.losses.push((incarnation, before.next_block.0));
    }

    /// Runs a command that must change no row but the counters' transaction.
    fn unchanged(&self, world: &mut World, command: &Command) -> Result<Reply, FsErrorKind> {
        let rows = |world: &World| {
            let inodes = tree(world);
            let totals: Vec<_> = inodes.iter().map(|inode| world.view.totals(inode.id)).collect();
            (inodes, totals)
        };
        let before = rows(world);
        let reply = world.run("hdfs", command).map_err(|error| error.kind());
        assert_eq!(rows(world), before, "{command:?} changed what was right");
        reply
    }

    fn compare(&self, world: &World) {
        let sessions: BTreeMap<SessionId, (String, String)> = world
            .view
            .lock_sessions(None, usize::MAX)
            .into_iter()
            .map(|(id, session)| (id, (session.user, session.client)))
            .collect();
        let expected =
            self.sessions.iter().map(|(id, (user, client))| (*id, ((*user).to_owned(), client.clone())));
        assert_eq!(sessions, expected.collect());
        let wishes: Vec<_> = self.wishes.iter().map(|(node, wish)| (*node, *wish)).collect();
        assert_eq!(world.view.node_wishes(), wishes);
        let losses: Vec<_> =
            world.view.losses().iter().map(|loss| (loss.incarnation, loss.blocks.0.0)).collect();
        assert_eq!(losses, self.losses);
    }
}
