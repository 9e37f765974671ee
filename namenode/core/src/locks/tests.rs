use proptest::prelude::*;

use super::*;

const FILES: u64 = 2;
const BYTES: u64 = 6;

fn owner(session: u64, owner: u64) -> LockOwner {
    LockOwner { session: SessionId(session), owner }
}

fn range(first: u64, last: u64) -> ByteRange {
    ByteRange::new(first, last).unwrap()
}

fn request(inode: u64, who: LockOwner, mode: LockMode, bytes: ByteRange) -> LockRequest {
    LockRequest { inode: InodeId(inode), kind: LockKind::Range, owner: who, mode, range: bytes, pid: 7 }
}

fn flock(inode: u64, who: LockOwner, mode: LockMode) -> LockRequest {
    LockRequest { kind: LockKind::Flock, ..request(inode, who, mode, ByteRange::WHOLE) }
}

/// What each owner holds of each byte, and who waits: the rules said in the simplest way.
#[derive(Default)]
struct Naive {
    /// By file, kind, byte and owner. The last byte stands for all that follow.
    held: BTreeMap<(u64, LockKind, u64, LockOwner), LockMode>,
    queue: Vec<(Ticket, LockRequest)>,
}

impl Naive {
    fn bytes(range: ByteRange) -> impl Iterator<Item = u64> {
        range.first.min(BYTES)..=range.last.min(BYTES)
    }

    fn blocked(&self, request: &LockRequest) -> bool {
        self.held.iter().any(|((file, kind, byte, owner), mode)| {
            (*file, *kind) == (request.inode.0, request.kind)
                && *owner != request.owner
                && Self::bytes(request.range).any(|wanted| wanted == *byte)
                && (*mode == LockMode::Exclusive || request.mode == LockMode::Exclusive)
        })
    }

    fn hold(&mut self, request: &LockRequest) {
        for byte in Self::bytes(request.range) {
            self.held.insert((request.inode.0, request.kind, byte, request.owner), request.mode);
        }
    }

    fn unlock(&mut self, inode: u64, kind: LockKind, who: LockOwner, bytes: ByteRange) {
        for byte in Self::bytes(bytes) {
            self.held.remove(&(inode, kind, byte, who));
        }
    }

    /// Who waits for whom, as pairs of owners, with one more request.
    fn circle(&self, request: &LockRequest) -> bool {
        let mut waits: Vec<LockRequest> = self.queue.iter().map(|(_, request)| *request).collect();
        waits.retain(|waiting| waiting.kind == LockKind::Range);
        waits.push(*request);
        let blockers = |waiting: &LockRequest| -> BTreeSet<LockOwner> {
            let holds = |(file, kind, byte, owner): &(u64, LockKind, u64, LockOwner), mode: &LockMode| {
                (*file, *kind) == (waiting.inode.0, waiting.kind)
                    && *owner != waiting.owner
                    && Self::bytes(waiting.range).any(|wanted| wanted == *byte)
                    && (*mode == LockMode::Exclusive || waiting.mode == LockMode::Exclusive)
            };
            self.held.iter().filter(|(key, mode)| holds(key, mode)).map(|(key, _)| key.3).collect()
        };
        let mut reached: BTreeSet<LockOwner> = blockers(request);
        loop {
            let more: BTreeSet<LockOwner> = waits
                .iter()
                .filter(|waiting| reached.contains(&waiting.owner) && waiting.owner != request.owner)
                .flat_map(blockers)
                .collect();
            let before = reached.len();
            reached.extend(more);
            if reached.len() == before {
                return reached.contains(&request.owner);
            }
        }
    }

    fn grant(&mut self) -> Vec<Ticket> {
        let mut granted = Vec::new();
        while let Some(place) = (0..self.queue.len()).find(|place| !self.blocked(&self.queue[*place].1)) {
            let (ticket, request) = self.queue.remove(place);
            self.hold(&request);
            granted.push(ticket);
        }
        granted
    }
}

#[derive(Clone, Debug)]
enum Step {
    Lock(LockRequest, bool),
    Unlock(LockRequest),
    Cancel(usize),
    End(u64),
}

fn any_request() -> impl Strategy<Value = LockRequest> {
    (0..FILES, 0..3_u64, 0..2_u64, any::<bool>(), any::<bool>(), 0..BYTES, 0..BYTES, any::<bool>()).prop_map(
        |(inode, session, who, exclusive, whole, first, length, endless)| {
            let mode = if exclusive { LockMode::Exclusive } else { LockMode::Shared };
            if whole {
                return flock(inode, owner(session, who), mode);
            }
            let last = if endless { u64::MAX } else { (first + length).min(BYTES - 1) };
            request(inode, owner(session, who), mode, range(first, last))
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any_request(), any::<bool>()).prop_map(|(request, wait)| Step::Lock(request, wait)),
        4 => any_request().prop_map(Step::Unlock),
        1 => (0..8_usize).prop_map(Step::Cancel),
        1 => (0..3_u64).prop_map(Step::End),
    ]
}

/// What the table holds, byte by byte.
fn by_byte(table: &LockTable) -> BTreeMap<(u64, LockKind, u64, LockOwner), LockMode> {
    let mut found = BTreeMap::new();
    for (inode, file) in &table.files {
        for (kind, held) in [(LockKind::Flock, &file.flocks), (LockKind::Range, &file.ranges)] {
            for lock in held {
                for byte in Naive::bytes(lock.range) {
                    let twice = found.insert((inode.0, kind, byte, lock.owner), lock.mode);
                    assert_eq!(twice, None, "an owner holds a byte twice");
                }
            }
        }
    }
    found
}

fn check_counts(table: &LockTable) {
    for (id, session) in &table.sessions {
        let of = |held: &[Held]| held.iter().filter(|held| held.owner.session == *id).count();
        let locks: usize = table.files.values().map(|file| of(&file.flocks) + of(&file.ranges)).sum();
        let waits =
            |file: &FileLocks| file.queue.iter().filter(|(_, request)| request.owner.session == *id).count();
        let waiting: usize = table.files.values().map(waits).sum();
        assert_eq!((session.locks, session.waiting), (locks, waiting));
        let involved = |file: &FileLocks| of(&file.flocks) + of(&file.ranges) + waits(file) > 0;
        let files: BTreeSet<InodeId> =
            table.files.iter().filter(|(_, file)| involved(file)).map(|(inode, _)| *inode).collect();
        assert_eq!(session.files, files);
    }
    assert!(table.files.values().all(|file| !file.is_empty()));
    assert_eq!(table.waiting.len(), table.files.values().map(|file| file.queue.len()).sum::<usize>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4_000 }))]
    #[test]
    fn the_table_does_as_the_model(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut table, mut naive) = (LockTable::new(), Naive::default());
        for step in steps {
            match step {
                Step::Lock(request, wait) => {
                    let answer = table.lock(request, wait);
                    let expected = if !naive.blocked(&request) {
                        naive.hold(&request);
                        "granted"
                    } else if !wait {
                        "blocked"
                    } else if request.kind == LockKind::Range && naive.circle(&request) {
                        "deadlock"
                    } else {
                        "waits"
                    };
                    match answer {
                        LockAnswer::Granted => prop_assert_eq!(expected, "granted"),
                        LockAnswer::Blocked(blocker) => {
                            prop_assert_eq!(expected, "blocked");
                            prop_assert!(blocker.range.meets(request.range));
                        }
                        LockAnswer::Deadlock => prop_assert_eq!(expected, "deadlock"),
                        LockAnswer::Waits(ticket) => {
                            prop_assert_eq!(expected, "waits");
                            naive.queue.push((ticket, request));
                            if request.kind == LockKind::Flock {
                                naive.unlock(request.inode.0, request.kind, request.owner, ByteRange::WHOLE);
                            }
                        }
                        LockAnswer::TooMany => prop_assert!(false, "nothing is full"),
                    }
                }
                Step::Unlock(request) => {
                    table.unlock(request.inode, request.kind, request.owner, request.range);
                    naive.unlock(request.inode.0, request.kind, request.owner, request.range);
                }
                Step::Cancel(place) => {
                    if let Some(ticket) = naive.queue.get(place).map(|(ticket, _)| *ticket) {
                        prop_assert!(table.cancel(ticket));
                        naive.queue.remove(place);
                        prop_assert!(!table.cancel(ticket));
                    }
                }
                Step::End(session) => {
                    let of = |who: &LockOwner| who.session.0 == session;
                    let waited: BTreeSet<Ticket> =
                        naive.queue.iter().filter(|(_, request)| of(&request.owner)).map(|(ticket, _)| *ticket).collect();
                    let ended: BTreeSet<Ticket> = table.end_session(SessionId(session)).into_iter().collect();
                    prop_assert_eq!(ended, waited);
                    naive.queue.retain(|(_, request)| !of(&request.owner));
                    naive.held.retain(|(_, _, _, who), _| !of(who));
                }
            }
            let granted: BTreeSet<Ticket> = table.take_granted().into_iter().collect();
            let expected: BTreeSet<Ticket> = naive.grant().into_iter().collect();
            prop_assert_eq!(granted, expected);
            prop_assert_eq!(by_byte(&table), naive.held.clone());
            check_counts(&table);
        }
    }
}

#[test]
fn a_range_is_cut_and_joined() {
    let mut table = LockTable::new();
    let me = owner(1, 1);
    assert_eq!(table.lock(request(1, me, LockMode::Exclusive, range(0, 99)), false), LockAnswer::Granted);
    table.unlock(InodeId(1), LockKind::Range, me, range(40, 59));
    let other = |first, last| request(1, owner(2, 1), LockMode::Shared, range(first, last));
    assert_eq!(table.blocker(&other(40, 59)), None);
    let blocker = table.blocker(&other(59, 60)).unwrap();
    assert_eq!((blocker.range, blocker.pid, blocker.mode), (range(60, 99), 7, LockMode::Exclusive));
    table.lock(request(1, me, LockMode::Exclusive, range(40, 59)), false);
    assert_eq!(table.blocker(&other(0, 0)).unwrap().range, range(0, 99));
    assert_eq!(table.counts(), (1, 0));
}

#[test]
fn the_longest_waiting_comes_first_and_many_readers_at_once() {
    let mut table = LockTable::new();
    let exclusive = |who| flock(1, owner(who, 0), LockMode::Exclusive);
    let shared = |who| flock(1, owner(who, 0), LockMode::Shared);
    assert_eq!(table.lock(exclusive(1), false), LockAnswer::Granted);
    let tickets: Vec<_> = [shared(2), shared(3), exclusive(4), exclusive(5)]
        .map(|request| match table.lock(request, true) {
            LockAnswer::Waits(ticket) => ticket,
            other => panic!("{other:?}"),
        })
        .into();
    let release = |table: &mut LockTable, who| {
        table.unlock(InodeId(1), LockKind::Flock, owner(who, 0), ByteRange::WHOLE);
        table.take_granted()
    };
    assert_eq!(release(&mut table, 1), tickets[..2]);
    assert_eq!(release(&mut table, 2), []);
    assert_eq!(release(&mut table, 3), tickets[2..3]);
    assert_eq!(release(&mut table, 4), tickets[3..]);
}

#[test]
fn a_circle_of_three_is_found_and_a_chain_is_none() {
    let mut table = LockTable::new();
    let lock = |file, who| request(file, owner(who, 0), LockMode::Exclusive, range(0, 0));
    for who in 0..3 {
        assert_eq!(table.lock(lock(who, who), false), LockAnswer::Granted);
    }
    assert!(matches!(table.lock(lock(1, 0), true), LockAnswer::Waits(_)));
    assert!(matches!(table.lock(lock(2, 1), true), LockAnswer::Waits(_)));
    assert_eq!(table.lock(lock(0, 2), true), LockAnswer::Deadlock);
    assert!(matches!(table.lock(lock(0, 2), false), LockAnswer::Blocked(_)), "who does not wait closes none");
}

#[test]
fn locks_and_waiters_are_bounded() {
    let mut table = LockTable::new();
    let many = MAX_LOCKS_PER_FILE as u64;
    let byte = |at: u64| request(1, owner(1, 0), LockMode::Shared, range(2 * at, 2 * at));
    let full = (0..many).find(|at| table.lock(byte(*at), false) == LockAnswer::TooMany);
    assert_eq!(full, Some(many - 1));
    assert_eq!(table.lock(flock(2, owner(1, 0), LockMode::Exclusive), false), LockAnswer::Granted);
    let waits = |who| flock(2, owner(2, who), LockMode::Exclusive);
    let full = (0..many).find(|who| table.lock(waits(*who), true) == LockAnswer::TooMany);
    assert_eq!(full, Some(MAX_WAITERS_PER_FILE as u64));
    assert_eq!(table.end_session(SessionId(2)).len(), MAX_WAITERS_PER_FILE);
    table.end_session(SessionId(1));
    assert_eq!(table.counts(), (0, 0));
    assert!(table.files.is_empty() && table.sessions.is_empty() && table.owners.is_empty());
}
