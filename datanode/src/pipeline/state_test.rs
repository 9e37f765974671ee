use proptest::prelude::*;
use steadfs_wire::transfer::PacketHeader;

use super::*;

fn packet(seqno: i64, offset: u64, len: usize) -> Packet {
    Packet::build(PacketHeader { offset, seqno, last: false, data_len: 0, sync: false }, &[], &vec![0; len])
}

fn last(seqno: i64, offset: u64) -> Packet {
    Packet::build(PacketHeader { offset, seqno, last: true, data_len: 0, sync: false }, &[], &[])
}

fn heartbeat() -> Packet {
    Packet::build(PacketHeader::heartbeat(), &[], &[])
}

fn ack(seqno: i64, replies: &[Status]) -> PipelineAck {
    PipelineAck::new(seqno, replies.to_vec())
}

const OK: Status = Status::Success;

fn write_all(state: &mut PipelineState) -> usize {
    let batch = state.next_batch().unwrap();
    let bytes = batch.packets.iter().map(|packet| packet.frame().len()).sum();
    state.written(Written { packets: batch.packets.len(), failure: None }, bytes);
    batch.packets.len()
}

#[test]
fn the_last_node_acks_what_is_written() {
    let mut state = PipelineState::new(0);
    assert_eq!(state.receive(packet(0, 0, 700), Ok(())), Ok(false));
    assert_eq!(state.next_ack(), None);
    // What comes while a batch is being written goes with the next one.
    let batch = state.next_batch().unwrap();
    assert_eq!((batch.packets.len(), batch.sync, batch.last), (1, false, false));
    state.receive(packet(1, 512, 388), Ok(())).unwrap();
    state.receive(heartbeat(), Ok(())).unwrap();
    assert!(state.next_batch().is_none());
    state.written(Written { packets: 1, failure: None }, batch.packets[0].frame().len());
    assert_eq!(state.next_ack(), Some(ack(0, &[OK])));
    assert_eq!(state.acked(), 700);
    // A heartbeat is acked in its place, not before.
    assert_eq!(state.next_ack(), None);
    assert_eq!(write_all(&mut state), 1);
    assert_eq!(state.next_ack(), Some(ack(1, &[OK])));
    assert_eq!(state.next_ack(), Some(ack(-1, &[OK])));
    assert_eq!(state.acked(), 900);
    state.receive(last(7, 900), Ok(())).unwrap();
    assert!(!state.wants_more(0, usize::MAX), "nothing may follow the last packet");
    write_all(&mut state);
    assert_eq!(state.next_ack(), Some(ack(7, &[OK])));
    assert!(state.is_over() && state.is_complete());
}

#[test]
fn an_ack_waits_for_the_nodes_below() {
    let mut state = PipelineState::new(2);
    assert_eq!(state.receive(packet(3, 0, 10), Ok(())), Ok(true));
    assert_eq!(state.receive(heartbeat(), Ok(())), Ok(true));
    assert!(state.awaits_downstream());
    write_all(&mut state);
    assert_eq!((state.next_ack(), state.acked()), (None, 0));
    state.downstream_ack(ack(3, &[OK, OK])).unwrap();
    assert_eq!(state.next_ack(), Some(ack(3, &[OK, OK, OK])));
    assert_eq!(state.acked(), 10);
    state.downstream_ack(ack(-1, &[OK, OK])).unwrap();
    assert_eq!(state.next_ack(), Some(ack(-1, &[OK, OK, OK])));
    assert!(!state.awaits_downstream());
    // Downstream may be quicker than the own disk.
    state.receive(packet(4, 10, 10), Ok(())).unwrap();
    state.downstream_ack(ack(4, &[OK, OK])).unwrap();
    assert_eq!(state.next_ack(), None);
    write_all(&mut state);
    assert_eq!(state.next_ack(), Some(ack(4, &[OK, OK, OK])));
}

#[test]
fn when_downstream_is_gone_this_node_goes_on_and_says_so() {
    let mut state = PipelineState::new(2);
    state.receive(packet(0, 0, 10), Ok(())).unwrap();
    state.receive(packet(1, 10, 10), Ok(())).unwrap();
    write_all(&mut state);
    state.downstream_ack(ack(0, &[OK, OK])).unwrap();
    state.downstream_failed();
    assert_eq!(state.next_ack(), Some(ack(0, &[OK, OK, OK])));
    assert_eq!(state.next_ack(), Some(ack(1, &[OK, Status::Error])));
    assert_eq!(state.acked(), 10, "what not all have is not acked");
    assert_eq!(state.receive(packet(2, 20, 10), Ok(())), Ok(false));
    state.receive(last(3, 30), Ok(())).unwrap();
    write_all(&mut state);
    assert_eq!(state.next_ack(), Some(ack(2, &[OK, Status::Error])));
    assert_eq!(state.next_ack(), Some(ack(3, &[OK, Status::Error])));
    assert!(state.is_over() && state.is_complete());
}

#[test]
fn a_failure_below_is_passed_up() {
    let mut state = PipelineState::new(2);
    state.receive(packet(0, 0, 10), Ok(())).unwrap();
    write_all(&mut state);
    state.downstream_ack(ack(0, &[OK, Status::ErrorChecksum])).unwrap();
    assert_eq!(state.next_ack(), Some(ack(0, &[OK, OK, Status::ErrorChecksum])));
    assert_eq!(state.acked(), 0);
}

#[test]
fn a_bad_packet_is_blamed_on_this_node_alone_and_ends_the_block() {
    let mut state = PipelineState::new(1);
    state.receive(packet(0, 0, 10), Ok(())).unwrap();
    let mismatch = Err(ChecksumMismatch { offset: 10 });
    assert_eq!(state.receive(packet(1, 10, 10), mismatch), Ok(false), "it is not passed on");
    assert!(!state.wants_more(0, usize::MAX));
    assert_eq!(write_all(&mut state), 1, "what came before it is written");
    assert_eq!(state.next_ack(), None, "its ack has its turn");
    state.downstream_ack(ack(0, &[OK])).unwrap();
    assert_eq!(state.next_ack(), Some(ack(0, &[OK, OK])));
    assert_eq!(state.next_ack(), Some(ack(1, &[Status::ErrorChecksum])));
    assert!(state.is_over() && !state.is_complete());
    assert_eq!(state.acked(), 10);
}

#[test]
fn a_failed_write_ends_the_block_where_it_failed() {
    let mut state = PipelineState::new(0);
    for index in 0..4 {
        state.receive(packet(index, index as u64 * 10, 10), Ok(())).unwrap();
    }
    let batch = state.next_batch().unwrap();
    assert_eq!(batch.packets.len(), 4);
    state.receive(packet(4, 40, 10), Ok(())).unwrap();
    state.written(Written { packets: 2, failure: Some(Status::Error) }, 100);
    assert!(state.next_batch().is_none(), "nothing is written behind a hole");
    assert_eq!(state.next_ack(), Some(ack(0, &[OK])));
    assert_eq!(state.next_ack(), Some(ack(1, &[OK])));
    assert_eq!(state.next_ack(), Some(ack(2, &[Status::Error])));
    assert_eq!(state.next_ack(), None);
    assert!(state.is_over() && !state.is_complete());
    assert_eq!(state.acked(), 20);
}

#[test]
fn the_rules_of_the_protocol_are_kept() {
    let mut state = PipelineState::new(1);
    state.receive(packet(5, 0, 10), Ok(())).unwrap();
    assert!(state.receive(packet(5, 10, 10), Ok(())).is_err(), "a number twice");
    state.receive(packet(9, 10, 10), Ok(())).unwrap();
    assert!(state.downstream_ack(ack(9, &[OK])).is_err(), "out of order");
    assert!(state.downstream_ack(ack(5, &[])).is_err(), "nobody speaks");
    assert!(state.downstream_ack(ack(5, &[OK, OK])).is_err(), "more nodes than there are");
    state.downstream_ack(ack(5, &[OK])).unwrap();
    state.downstream_ack(ack(9, &[OK])).unwrap();
    assert!(state.downstream_ack(ack(10, &[OK])).is_err(), "never sent");
    state.receive(last(10, 20), Ok(())).unwrap();
    assert!(state.receive(packet(11, 20, 1), Ok(())).is_err(), "after the end");
}

#[test]
fn reading_stops_at_the_bounds() {
    let mut state = PipelineState::new(1);
    assert!(state.wants_more(0, 1));
    state.receive(packet(0, 0, 1_000), Ok(())).unwrap();
    assert!(!state.wants_more(0, 1_000));
    assert!(state.wants_more(0, 2_000));
    assert!(!state.wants_more(1_500, 2_000), "what is not yet forwarded counts too");
    write_all(&mut state);
    assert!(state.wants_more(0, 1_000), "what is written counts no more");
    for seqno in 1..MAX_UNACKED_PACKETS as i64 {
        state.receive(packet(seqno, 1_000, 0), Ok(())).unwrap();
    }
    assert!(!state.wants_more(0, usize::MAX));
}

#[derive(Debug, Clone)]
enum Step {
    Receive,
    Heartbeat,
    End,
    StartWriting,
    FinishWriting,
    DownstreamAcks,
    DownstreamGoes,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            6 => Just(Step::Receive),
            1 => Just(Step::Heartbeat),
            1 => Just(Step::End),
            4 => Just(Step::StartWriting),
            4 => Just(Step::FinishWriting),
            8 => Just(Step::DownstreamAcks),
            1 => Just(Step::DownstreamGoes),
        ],
        1..120,
    )
}

proptest! {
    /// Whatever the order of events: one ack a packet, in order, never before the packet is written here and acked below.
    #[test]
    fn acks_keep_their_promise(steps in steps(), depth in 0..3_usize) {
        let mut state = PipelineState::new(depth);
        let (mut sent, mut acked_below, mut acked) = (Vec::new(), 0_usize, 0_usize);
        let (mut writing, mut written, mut seqno, mut gone, mut ended) = (0, 0_usize, 0, false, false);
        let mut data_packets = 0;
        for step in steps {
            match step {
                Step::Receive | Step::Heartbeat | Step::End if ended => {}
                Step::Receive => {
                    state.receive(packet(seqno, data_packets * 10, 10), Ok(())).unwrap();
                    data_packets += 1;
                    sent.push((seqno, true));
                    seqno += 2;
                }
                Step::Heartbeat => {
                    state.receive(heartbeat(), Ok(())).unwrap();
                    sent.push((-1, false));
                }
                Step::End => {
                    state.receive(last(seqno, data_packets * 10), Ok(())).unwrap();
                    sent.push((seqno, true));
                    ended = true;
                }
                Step::StartWriting => {
                    if let Some(batch) = state.next_batch() {
                        prop_assert_eq!(writing, 0);
                        writing = batch.packets.len();
                    }
                }
                Step::FinishWriting if writing > 0 => {
                    state.written(Written { packets: writing, failure: None }, 0);
                    written += writing;
                    writing = 0;
                }
                Step::FinishWriting => {}
                Step::DownstreamAcks => {
                    if depth > 0 && !gone && acked_below < sent.len() {
                        state.downstream_ack(ack(sent[acked_below].0, &vec![OK; depth])).unwrap();
                        acked_below += 1;
                    }
                }
                Step::DownstreamGoes => {
                    gone |= depth > 0;
                    if gone { state.downstream_failed(); }
                }
            }
            while let Some(ack) = state.next_ack() {
                prop_assert_eq!(ack.seqno, sent[acked].0);
                acked += 1;
                let to_write = sent[..acked].iter().filter(|(_, writes)| *writes).count();
                prop_assert!(to_write <= written, "acked before it was written");
                if ack.is_success() {
                    prop_assert!(depth == 0 || acked <= acked_below);
                    prop_assert_eq!(ack.replies.len(), depth + 1);
                } else {
                    prop_assert!(gone);
                    prop_assert_eq!(ack.replies, vec![OK, Status::Error]);
                }
            }
            prop_assert!(state.acked() <= written as u64 * 10);
        }
    }
}

#[test]
fn what_is_to_be_on_disk_lets_all_that_is_under_way_take_longer() {
    let mut state = PipelineState::new(1);
    state.receive(packet(0, 0, 512), Ok(())).unwrap();
    assert_eq!(state.awaited(), None, "this node has not done it either");
    write_all(&mut state);
    let awaited = |oldest, newest, to_disk| Some(Awaited { oldest, newest, to_disk });
    assert_eq!(state.awaited(), awaited(0, 0, false));
    let header = PacketHeader { offset: 512, seqno: 1, last: false, data_len: 0, sync: true };
    state.receive(Packet::build(header, &[], &[]), Ok(())).unwrap();
    // The node below may have taken both at once.
    assert_eq!(state.awaited(), awaited(0, 0, true));
    write_all(&mut state);
    assert_eq!(state.awaited(), awaited(0, 1, true));
    for seqno in 0..2 {
        state.downstream_ack(ack(seqno, &[OK])).unwrap();
        assert_eq!(state.next_ack(), Some(ack(seqno, &[OK, OK])));
    }
    assert_eq!(state.awaited(), None);
}
