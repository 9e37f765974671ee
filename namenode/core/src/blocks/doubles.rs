//! Two processes that claim to be one datanode: a folder was copied, or the datanode was started again and is reached
//! elsewhere.
//!
//! Who listens where the known one does is the same, started again: no two processes have one port. Who comes from elsewhere
//! is taken in once the known one has said that it ends, or has been silent for some heartbeats. If that is heard long after
//! the other first asked, both run, and the one that came later is refused, however often it is started again. The one that
//! serves is left alone.

use std::collections::VecDeque;
use std::time::Duration;

use steadfs_common::{FsError, FsErrorKind, FsResult, Millis};

use super::nodes::{Address, Datanode, Registration};

/// Silent for so many heartbeats, the known one may be replaced from elsewhere.
const SILENT_BEATS: u32 = 3;
/// Sessions that are remembered of each datanode.
const MAX_ASKED: usize = 8;

/// Sessions that asked to take a datanode's place from elsewhere while it was heard, and when each first did.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubles(VecDeque<(u64, Millis)>);

impl Doubles {
    /// When a session first asked.
    fn first_asked(&mut self, session: u64, now: Millis) -> Millis {
        if let Some((_, since)) = self.0.iter().find(|(asked, _)| *asked == session) {
            return *since;
        }
        self.0.push_back((session, now));
        let extra = self.0.len().saturating_sub(MAX_ASKED);
        self.0.drain(..extra);
        now
    }
}

fn place(address: &Address) -> String {
    format!("{}:{}", address.ip, address.data_port)
}

impl Datanode {
    /// Checks that `asking` may take this one's place.
    ///
    /// # Errors
    /// [`FsErrorKind::Retriable`] while it is not known whether this one still runs; [`FsErrorKind::NotRegistered`] if it does.
    pub(super) fn may_be(&mut self, asking: &Registration, now: Millis, heartbeat: Duration) -> FsResult<()> {
        let here = |address: &Address| (address.ip, address.data_port);
        let heard = self.last_heartbeat;
        if !self.live
            || self.ended
            || self.session == asking.session
            || here(&self.address) == here(&asking.address)
            || now.since(heard) >= heartbeat * SILENT_BEATS
        {
            return Ok(());
        }
        let asked = self.doubles.first_asked(asking.session, now);
        let (uuid, there, elsewhere) = (self.uuid, place(&self.address), place(&asking.address));
        // Later than anything that was on its way when it ended.
        if heard > asked.plus(heartbeat) {
            return Err(FsError::new(
                FsErrorKind::NotRegistered,
                format!(
                    "datanode {uuid} serves at {there} and goes on being heard, so the one at {elsewhere} has a copy of its \
                     folders: give it empty ones; two datanodes must not share a copy of a folder"
                ),
            ));
        }
        Err(FsError::new(
            FsErrorKind::Retriable,
            format!(
                "datanode {uuid} was heard at {there} {} ms ago: the one at {elsewhere} takes its place when it is silent",
                now.since(heard).as_millis()
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::map_test::{World, heartbeat, registration, settings, uuid};
    use super::super::nodes::Heartbeat;
    use super::*;

    fn elsewhere(session: u64) -> Registration {
        let mut asking = registration(0, session);
        asking.address.data_port += 1;
        asking
    }

    fn kind(result: FsResult<()>) -> Option<FsErrorKind> {
        result.err().map(|error| error.kind())
    }

    fn pass(world: &mut World, span: Duration) {
        world.now = world.now.plus(span);
    }

    #[test]
    fn of_two_that_share_a_copy_of_a_folder_the_later_one_is_refused_for_good() {
        let mut world = World::running(1);
        let beat = settings().heartbeat;
        // Started again and again, as an orchestrator does.
        for life in 2..5 {
            assert_eq!(kind(world.map.register(elsewhere(life), world.now)), Some(FsErrorKind::Retriable));
            for _ in 0..2 {
                pass(&mut world, beat);
                world.map.heartbeat(heartbeat(0, 1), world.now).unwrap();
            }
            let refused = world.map.register(elsewhere(life), world.now).unwrap_err();
            assert_eq!(refused.kind(), FsErrorKind::NotRegistered);
            assert!(refused.to_string().contains("copy of its folders"), "{refused}");
        }
        world.map.heartbeat(heartbeat(0, 1), world.now).unwrap();
        // Once the first is silent, the other one is as good as any.
        pass(&mut world, beat * SILENT_BEATS);
        world.map.register(elsewhere(9), world.now).unwrap();
        assert_eq!(
            kind(world.map.heartbeat(heartbeat(0, 1), world.now).map(drop)),
            Some(FsErrorKind::NotRegistered)
        );
        // And the first, started again, is the later one now.
        assert_eq!(kind(world.map.register(registration(0, 10), world.now)), Some(FsErrorKind::Retriable));
    }

    #[test]
    fn one_that_was_started_again_is_taken_in() {
        let mut world = World::running(1);
        let beat = settings().heartbeat;
        // At its old address at once.
        world.map.register(registration(0, 2), world.now).unwrap();
        // Elsewhere when it has been silent, be it that its last words came after the new one had asked.
        assert_eq!(kind(world.map.register(elsewhere(3), world.now)), Some(FsErrorKind::Retriable));
        world.map.heartbeat(heartbeat(0, 2), world.now).unwrap();
        for _ in 0..2 {
            pass(&mut world, beat);
            assert_eq!(kind(world.map.register(elsewhere(3), world.now)), Some(FsErrorKind::Retriable));
        }
        pass(&mut world, beat);
        world.map.register(elsewhere(3), world.now).unwrap();
        // Asking again for itself changes nothing.
        world.map.register(elsewhere(3), world.now).unwrap();
    }

    #[test]
    fn after_one_that_said_that_it_ends_the_next_is_taken_in_at_once() {
        let mut world = World::running(3);
        world.map.heartbeat(Heartbeat { ending: true, ..heartbeat(0, 1) }, world.now).unwrap();
        let after = settings().stale_after;
        let away = |world: &World| {
            let node = world.map.datanodes().iter().find(|(node, _)| node.uuid == uuid(0)).unwrap().0;
            (node.live, node.is_stale(world.now, after))
        };
        assert_eq!(away(&world), (true, true));
        // One that was on its way does not bring it back, and gets no work.
        assert_eq!(world.map.heartbeat(heartbeat(0, 1), world.now).unwrap(), []);
        assert_eq!(away(&world), (true, true));
        world.map.register(elsewhere(2), world.now).unwrap();
        assert_eq!(away(&world), (true, false));
        assert_eq!(
            kind(world.map.heartbeat(heartbeat(0, 1), world.now).map(drop)),
            Some(FsErrorKind::NotRegistered)
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut doubles = Doubles::default();
        for session in 0..100 {
            doubles.first_asked(session, Millis(session));
        }
        assert_eq!(doubles.0.len(), MAX_ASKED);
        assert_eq!(doubles.first_asked(99, Millis(500)), Millis(99));
    }
}
