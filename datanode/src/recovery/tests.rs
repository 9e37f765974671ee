//! Decisions over the answers, one by one.

use steadfs_common::BlockId;
use uuid::Uuid;

use super::*;

use ReplicaState::{Finalized, Rbw, Rwr};

const OLD: GenStamp = GenStamp(1);
const NEW: GenStamp = GenStamp(7);
const NOTHING_KNOWN: Bounds =
    Bounds { acknowledged: 0, synced: 0, waited: false, unsure: false, truncate_to: None };

fn stamped(list: &[(GenStamp, ReplicaState, u64)]) -> Vec<(usize, RecoveryReplica)> {
    let replica = |(index, (stamp, state, len)): (usize, &(GenStamp, ReplicaState, u64))| {
        let block = Block { id: BlockId(1), stamp: *stamp, len: *len };
        (index, RecoveryReplica { block, state: *state, storage: StorageId(Uuid::nil()), bad: false })
    };
    list.iter().enumerate().map(replica).collect()
}

fn replicas(list: &[(ReplicaState, u64)]) -> Vec<(usize, RecoveryReplica)> {
    stamped(&list.iter().map(|(state, len)| (OLD, *state, *len)).collect::<Vec<_>>())
}

fn decide(
    replicas: &[(usize, RecoveryReplica)],
    unheard: usize,
    truncate_to: Option<u64>,
) -> Result<Decision, String> {
    let answers = Answers { replicas: replicas.to_vec(), silent: unheard, ..Answers::default() };
    super::decide(&answers, NEW, Bounds { truncate_to, ..NOTHING_KNOWN })
}

fn keep(len: u64, who: &[usize]) -> Result<Decision, String> {
    Ok(Decision::Keep { len, who: who.to_vec() })
}

#[test]
fn the_shortest_being_written_counts() {
    assert_eq!(decide(&replicas(&[(Rbw, 900), (Rbw, 700), (Rwr, 100)]), 0, None), keep(700, &[0, 1]));
    assert_eq!(decide(&replicas(&[(Rwr, 900), (Rwr, 700)]), 1, None), keep(700, &[0, 1]));
}

#[test]
fn a_finalized_length_counts_before_all_others() {
    let answers = [(Rbw, 900), (Finalized, 800), (Rbw, 800), (Rwr, 800), (Finalized, 800)];
    assert_eq!(decide(&replicas(&answers), 0, None), keep(800, &[1, 2, 4]));
    assert!(decide(&replicas(&[(Finalized, 1), (Finalized, 2)]), 0, None).is_err());
}

#[test]
fn a_block_goes_only_when_everybody_says_that_there_is_nothing() {
    assert_eq!(decide(&[], 0, None), Ok(Decision::Delete));
    assert!(decide(&[], 1, None).is_err());
    let untouched = |replicas: Vec<_>| {
        let answers = Answers { replicas, silent: 1, untouched: true, ..Answers::default() };
        super::decide(&answers, NEW, NOTHING_KNOWN)
    };
    assert_eq!(untouched(Vec::new()), Ok(Decision::Delete), "nothing of it was ever acknowledged");
    assert_eq!(untouched(replicas(&[(Rbw, 5)])), keep(5, &[0]), "what there is, is kept");
}

#[test]
fn a_replica_that_lost_acknowledged_bytes_decides_nothing() {
    let decide = |list: &[_]| {
        let bounds = Bounds { acknowledged: 700, synced: 700, ..NOTHING_KNOWN };
        super::decide(&Answers { replicas: replicas(list), ..Answers::default() }, NEW, bounds)
    };
    assert_eq!(decide(&[(Rwr, 900), (Rwr, 512), (Rwr, 700)]), keep(700, &[0, 2]));
    assert_eq!(decide(&[(Rbw, 600), (Rwr, 700)]), keep(700, &[1]));
    assert_eq!(decide(&[(Finalized, 600), (Finalized, 700)]), keep(700, &[1]));
    assert!(decide(&[(Rwr, 512), (Rbw, 699)]).is_err(), "another may come back with them");
    assert!(decide(&[]).is_err(), "what was acknowledged is never taken for empty");
}

#[test]
fn what_was_only_flushed_binds_as_long_as_somebody_may_have_it() {
    let decide = |list: &[_], unheard, waited| {
        let bounds = Bounds { acknowledged: 700, synced: 300, waited, ..NOTHING_KNOWN };
        let answers = Answers { replicas: stamped(list), left_out: unheard, ..Answers::default() };
        super::decide(&answers, NEW, bounds)
    };
    let rwr = |len| (OLD, Rwr, len);
    let lost = [rwr(512), rwr(0), rwr(600)];
    assert_eq!(decide(&[rwr(512), rwr(700), rwr(900)], 0, true), keep(700, &[1, 2]), "nothing was lost");
    assert!(decide(&lost, 1, false).is_err(), "another may come back with it");
    assert_eq!(decide(&lost, 0, false), keep(600, &[2]), "everybody was heard");
    assert_eq!(decide(&lost, 1, true), keep(600, &[2]), "it was waited for");
    assert_eq!(decide(&[rwr(600), rwr(600), rwr(512)], 0, false), keep(600, &[0, 1]));
    assert!(decide(&[rwr(299)], 0, true).is_err(), "what was synced binds for ever");
    assert!(decide(&[], 0, true).is_err());
    let again = [rwr(640), (NEW, Finalized, 600), rwr(600)];
    assert_eq!(
        decide(&again, 0, false),
        keep(600, &[1, 2]),
        "a recovery that ended unheard keeps its length"
    );
}

#[test]
fn a_block_of_which_only_flushed_bytes_were_known_may_go() {
    let decide = |unheard, waited, synced| {
        let bounds = Bounds { acknowledged: 700, synced, waited, ..NOTHING_KNOWN };
        let answers = Answers { left_out: unheard, untouched: true, ..Answers::default() };
        super::decide(&answers, NEW, bounds)
    };
    assert_eq!(decide(0, false, 0), Ok(Decision::Delete), "all were asked and none has a byte");
    assert!(decide(1, false, 0).is_err(), "another may come back with it");
    assert_eq!(decide(1, true, 0), Ok(Decision::Delete), "it was waited for");
    assert!(decide(0, true, 1).is_err());
}

#[test]
fn a_block_that_nobody_ever_wrote_to_goes_when_the_lost_storage_was_waited_for() {
    let decide = |list: &[_], left_out, silent, bounds| {
        let answers = Answers { replicas: replicas(list), left_out, silent, ..Answers::default() };
        super::decide(&answers, NEW, bounds)
    };
    let waited = Bounds { waited: true, ..NOTHING_KNOWN };
    assert!(decide(&[], 1, 0, NOTHING_KNOWN).is_err(), "it may come back in a moment");
    assert_eq!(decide(&[], 1, 0, waited), Ok(Decision::Delete));
    assert_eq!(decide(&[], 3, 0, waited), Ok(Decision::Delete), "all of them were lost");
    assert!(decide(&[], 1, 1, waited).is_err(), "one that is there must answer");
    assert_eq!(decide(&[(Rwr, 5)], 1, 0, waited), keep(5, &[0]), "what there is, is kept");
    let synced = Bounds { acknowledged: 1, synced: 1, ..waited };
    assert!(decide(&[], 1, 0, synced).is_err(), "a byte of it was synced");
    let cut = Bounds { truncate_to: Some(0), ..waited };
    assert!(decide(&[], 1, 0, cut).is_err());
}

#[test]
fn what_may_be_synced_is_not_where_one_of_the_pipeline_does_not_have_it() {
    let decide = |list: &[_], silent, waited| {
        let bounds = Bounds { acknowledged: 700, waited, unsure: true, ..NOTHING_KNOWN };
        let answers = Answers { replicas: replicas(list), left_out: 1, silent, ..Answers::default() };
        super::decide(&answers, NEW, bounds)
    };
    assert!(decide(&[(Rwr, 600)], 0, false).is_err(), "the other may come back with it");
    assert_eq!(decide(&[(Rwr, 600)], 0, true), keep(600, &[0]), "700 were not synced: it would have them");
    assert_eq!(decide(&[], 0, true), Ok(Decision::Delete));
    assert!(decide(&[(Rwr, 600)], 1, true).is_err(), "who is asked must tell");
    assert!(decide(&[], 1, true).is_err());
}

#[test]
fn an_order_that_does_not_tell_what_is_synced_means_all() {
    let old = Block { id: BlockId(1), stamp: OLD, len: 700 };
    let bounds = Bounds::of(&pb::Recover::default(), old);
    assert_eq!((bounds.acknowledged, bounds.synced, bounds.waited), (700, 700, false));
    let order = pb::Recover { truncate_to: Some(5), synced: Some(700), ..Default::default() };
    let bounds = Bounds::of(&order, old);
    assert_eq!((bounds.acknowledged, bounds.synced), (0, 0));
}

#[test]
fn a_truncation_says_the_length() {
    assert_eq!(decide(&replicas(&[(Finalized, 800), (Finalized, 800)]), 0, Some(5)), keep(5, &[0, 1]));
    assert!(decide(&replicas(&[(Rbw, 4)]), 0, Some(5)).is_err());
    assert!(decide(&[], 0, Some(5)).is_err(), "what is truncated is never taken for empty");
}

#[test]
fn a_truncation_that_ended_in_part_is_brought_to_its_end() {
    let first = stamped(&[(GenStamp(5), Finalized, 5), (OLD, Finalized, 800), (OLD, Finalized, 3)]);
    assert_eq!(decide(&first, 0, Some(5)), keep(5, &[0, 1]), "an earlier try cut one of them");
    let same = stamped(&[(NEW, Finalized, 5), (OLD, Rbw, 800), (NEW, Finalized, 5)]);
    assert_eq!(decide(&same, 0, Some(5)), keep(5, &[0, 1, 2]));
}

#[test]
fn a_recovery_that_ended_unheard_keeps_its_length() {
    let all = stamped(&[(NEW, Finalized, 700), (NEW, Finalized, 700)]);
    assert_eq!(decide(&all, 0, None), keep(700, &[0, 1]));
    let some = stamped(&[(OLD, Rbw, 900), (NEW, Finalized, 700), (OLD, Rwr, 700), (OLD, Finalized, 900)]);
    assert_eq!(decide(&some, 0, None), keep(700, &[0, 1]));
}

#[test]
fn a_recovery_that_broke_off_decides_nothing_yet() {
    // They got its stamp and were not brought to their end: they may have lost bytes since.
    let alone = stamped(&[(NEW, Rwr, 600)]);
    assert_eq!(decide(&alone, 0, None), keep(600, &[0]));
    let with_one_that_ended = stamped(&[(NEW, Rwr, 600), (NEW, Finalized, 700), (OLD, Rbw, 600)]);
    assert_eq!(decide(&with_one_that_ended, 0, None), keep(700, &[1]));
    let with_a_better = stamped(&[(NEW, Rwr, 600), (OLD, Rbw, 900)]);
    assert_eq!(decide(&with_a_better, 0, None), keep(900, &[1]));
    let cut = stamped(&[(NEW, Rwr, 5), (OLD, Rwr, 800)]);
    assert_eq!(decide(&cut, 0, Some(5)), keep(5, &[0, 1]));
}

#[test]
fn damaged_replicas_count_only_if_there_is_no_other_and_everybody_was_asked() {
    let damaged = |number: usize| {
        let (_, replica) = replicas(&[(Finalized, 900)])[0];
        Ok(Some(RecoveryReplica {
            bad: true,
            storage: StorageId(Uuid::from_u128(number as u128)),
            ..replica
        }))
    };
    let whole = |len| Ok(Some(replicas(&[(Rwr, len)])[0].1));
    let old = Block { id: BlockId(1), stamp: OLD, len: 700 };
    let of = |left_out, answers: Vec<FsResult<Option<RecoveryReplica>>>| {
        let mut heard = Answers::with_left_out(left_out);
        for (index, answer) in answers.into_iter().enumerate() {
            heard.take(index, answer, old).unwrap();
        }
        super::decide(&heard, NEW, Bounds { acknowledged: 700, synced: 700, ..NOTHING_KNOWN })
    };
    assert_eq!(of(0, vec![damaged(0), whole(800), whole(700)]), keep(700, &[1, 2]));
    assert_eq!(of(2, vec![damaged(0), whole(800)]), keep(800, &[1]));
    assert_eq!(of(0, vec![damaged(0), Ok(None), damaged(2)]), keep(900, &[0, 2]), "nothing better will come");
    let silent = || Err(FsError::new(FsErrorKind::Timeout, "it is away"));
    for answer in [of(1, vec![damaged(0)]), of(0, vec![damaged(0), silent()])] {
        assert!(answer.unwrap_err().starts_with("only damaged replicas were found"));
    }
}
