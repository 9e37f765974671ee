use steadfs_common::{InodeId, Millis};
use steadfs_daemon::clock::ManualClock;
use steadfs_namenode_core::locks::LockMode;

use super::*;

const ONE: SessionId = SessionId(1);
const TWO: SessionId = SessionId(2);

fn flock(session: SessionId) -> LockRequest {
    LockRequest {
        inode: InodeId(7),
        kind: LockKind::Flock,
        owner: LockOwner { session, owner: 1 },
        mode: LockMode::Exclusive,
        range: ByteRange::WHOLE,
        pid: 1,
    }
}

fn done(step: FsResult<Step>) -> LockOutcome {
    match step.unwrap() {
        Step::Done(outcome) => outcome,
        Step::Wait(_) => LockOutcome::Waiting,
    }
}

fn stored(user: &str) -> LockSession {
    LockSession { user: user.into(), client: "m".into(), opened: Millis(1) }
}

fn unlock(locks: &Locks, session: SessionId) {
    let owner = LockOwner { session, owner: 1 };
    locks.unlock(None, InodeId(7), LockKind::Flock, owner, ByteRange::WHOLE).unwrap();
}

#[test]
fn a_request_is_asked_again_until_it_is_granted() {
    let locks = Locks::new(ManualClock::shared(Millis(1)), vec![]);
    locks.opened(ONE, "ann");
    locks.opened(TWO, "bob");
    assert_eq!(done(locks.ask(Some("ann"), flock(ONE), 5, false)), LockOutcome::Granted);
    assert!(matches!(done(locks.ask(Some("bob"), flock(TWO), 0, false)), LockOutcome::Blocked(_)));
    for _ in 0..2 {
        assert_eq!(done(locks.ask(Some("bob"), flock(TWO), 9, false)), LockOutcome::Waiting);
    }
    unlock(&locks, ONE);
    assert_eq!(done(locks.ask(Some("bob"), flock(TWO), 9, false)), LockOutcome::Granted);
    // Asked once more, as when an answer was lost, it is held already.
    assert_eq!(done(locks.ask(Some("bob"), flock(TWO), 9, false)), LockOutcome::Granted);
    assert_eq!(done(locks.ask(Some("ann"), flock(ONE), 6, false)), LockOutcome::Waiting);
    assert_eq!(locks.cancel(Some("ann"), ONE, 6).unwrap(), LockOutcome::Cancelled);
    assert_eq!(done(locks.ask(Some("ann"), flock(ONE), 7, false)), LockOutcome::Waiting);
    unlock(&locks, TWO);
    assert_eq!(locks.cancel(Some("ann"), ONE, 7).unwrap(), LockOutcome::Granted, "too late");
    let denied = locks.ask(Some("eve"), flock(ONE), 0, false).err().unwrap();
    assert_eq!(denied.kind(), FsErrorKind::AccessDenied);
}

#[test]
fn a_session_that_is_not_renewed_goes_with_its_locks() {
    let clock = ManualClock::shared(Millis(1));
    let locks = Locks::new(clock.clone(), vec![]);
    locks.opened(ONE, "ann");
    locks.opened(TWO, "bob");
    assert_eq!(done(locks.ask(None, flock(ONE), 1, false)), LockOutcome::Granted);
    assert_eq!(done(locks.ask(None, flock(TWO), 1, false)), LockOutcome::Waiting);
    clock.advance(LEASE);
    locks.renew(TWO, None, false).unwrap();
    assert_eq!(locks.expire(), []);
    clock.advance(Duration::from_secs(1));
    assert_eq!(locks.expire(), [ONE]);
    assert_eq!(done(locks.ask(None, flock(TWO), 1, false)), LockOutcome::Granted);
    assert_eq!(locks.renew(ONE, None, false).unwrap_err().kind(), FsErrorKind::LeaseExpired);
}

#[test]
fn after_a_start_those_who_held_locks_come_first() {
    let clock = ManualClock::shared(Millis(1));
    let locks = Locks::new(clock.clone(), vec![(ONE, stored("ann")), (TWO, stored("bob"))]);
    let three = SessionId(3);
    locks.opened(three, "eve");
    assert_eq!(done(locks.ask(None, flock(three), 1, false)), LockOutcome::Grace);
    assert_eq!(locks.test(None, &flock(three)).unwrap(), LockOutcome::Grace);
    assert_eq!(done(locks.ask(Some("ann"), flock(ONE), 1, true)), LockOutcome::Granted);
    locks.renew(ONE, Some("ann"), true).unwrap();
    assert_eq!(done(locks.ask(None, flock(three), 1, false)), LockOutcome::Grace, "one is missing");
    clock.advance(LEASE + Duration::from_secs(1));
    locks.renew(ONE, None, false).unwrap();
    locks.renew(three, None, false).unwrap();
    assert_eq!(locks.expire(), [TWO]);
    assert_eq!(done(locks.ask(None, flock(three), 1, false)), LockOutcome::Waiting);

    let locks = Locks::new(clock, vec![(ONE, stored("ann"))]);
    locks.renew(ONE, Some("ann"), true).unwrap();
    locks.opened(three, "eve");
    assert_eq!(done(locks.ask(None, flock(three), 1, false)), LockOutcome::Granted, "the grace ends early");
}

#[test]
fn one_who_never_takes_up_its_locks_does_not_keep_others_waiting_for_ever() {
    let clock = ManualClock::shared(Millis(1));
    let locks = Locks::new(clock.clone(), vec![(ONE, stored("ann"))]);
    locks.opened(TWO, "bob");
    for _ in 0..4 {
        assert_eq!(done(locks.ask(None, flock(TWO), 1, false)), LockOutcome::Grace);
        clock.advance(LEASE - Duration::from_secs(1));
        locks.renew(ONE, None, false).unwrap();
        locks.renew(TWO, None, false).unwrap();
        assert_eq!(locks.expire(), []);
    }
    assert_eq!(done(locks.ask(None, flock(TWO), 1, false)), LockOutcome::Granted);
}
