use proptest::prelude::*;
use steadfs_common::ChecksumSpec;
use steadfs_wire::transfer::{Packet, decode_packet};

use super::*;

const DATA: usize = 64 << 10;

fn header(number: u64, data_len: usize) -> PacketHeader {
    PacketHeader {
        offset: number * DATA as u64,
        seqno: number as i64,
        last: false,
        data_len: data_len as u32,
        sync: false,
    }
}

/// A packet of this length, as it goes over the wire.
fn packet(number: u64, data_len: usize) -> Packet {
    let data: Vec<u8> = (0..data_len).map(|byte| (byte as u64 * 7 + number) as u8).collect();
    let mut sums = Vec::new();
    ChecksumSpec::DEFAULT.append_checksums(&data, &mut sums);
    Packet::build(header(number, data_len), &sums, &data)
}

fn expected(number: u64, count: u64) -> Expected {
    Expected { next: header(number, DATA), checksums: 4 * DATA / 512, count }
}

/// Lets `bytes` arrive as a socket would give them; how many there was room for.
fn arrive(landing: &mut Landing, bytes: &[u8]) -> usize {
    let mut done = 0;
    for mut room in landing.room() {
        let count = room.len().min(bytes.len() - done);
        room[..count].copy_from_slice(&bytes[done..done + count]);
        done += count;
    }
    landing.came(done);
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn packets_come_as_they_were_sent_however_they_arrive(
        count in 1_u64..20, before in 0_usize..80_000, pieces in prop::collection::vec(1_usize..400_000, 1..40),
        odd in prop::option::of(0_u64..20), short in 0_usize..4_000,
    ) {
        // One of them may be another than expected: shorter, or a heartbeat.
        let sent: Vec<Packet> = (0..count)
            .map(|number| match odd {
                Some(odd) if odd == number && short == 0 => Packet::build(PacketHeader::heartbeat(), &[], &[]),
                Some(odd) if odd == number => packet(number, short),
                _ => packet(number, DATA),
            })
            .collect();
        let wire: Vec<u8> = sent.iter().flat_map(|packet| packet.frame().to_vec()).collect();
        let mut arrived = before.min(wire.len());
        let mut buffer = BytesMut::from(&wire[..arrived]);
        let (mut landing, mut pieces) = (Landing::new(&Pages::default()), pieces.into_iter().cycle());
        for (number, packet) in sent.iter().enumerate() {
            let expected = expected(number as u64, count - number as u64);
            let landed = loop {
                if !landing.prepare(&expected, &mut buffer) {
                    break None;
                }
                match landing.take(&expected) {
                    Found::Packet(landed) => break Some(landed),
                    Found::Other(bytes) => {
                        buffer = bytes;
                        break None;
                    }
                    Found::Part => {}
                }
                let piece = pieces.next().unwrap_or(1).min(wire.len() - arrived);
                prop_assert!(piece > 0, "waits for more than was sent");
                arrived += arrive(&mut landing, &wire[arrived..arrived + piece]);
            };
            if let Some(landed) = landed {
                prop_assert_eq!(&landed.header, packet.header());
                prop_assert_eq!(&landed.checksums[..], packet.checksums());
                prop_assert_eq!(&landed.data[..], packet.data());
                prop_assert_eq!(landed.data.as_ptr().align_offset(PAGE), 0);
                continue;
            }
            let decoded = loop {
                if let Some(decoded) = decode_packet(&mut buffer).unwrap() {
                    break decoded;
                }
                let piece = pieces.next().unwrap_or(1).min(wire.len() - arrived);
                prop_assert!(piece > 0, "waits for more than was sent");
                buffer.extend_from_slice(&wire[arrived..arrived + piece]);
                arrived += piece;
            };
            prop_assert_eq!(decoded.frame(), packet.frame());
        }
        prop_assert!(landing.is_empty() && buffer.is_empty() && arrived == wire.len());
    }
}

#[test]
fn memory_comes_back_is_used_again_and_is_bounded() {
    let pages = Pages::default();
    let rooms: Vec<_> = (0..KEPT + 3).map(|_| pages.take(DATA)).collect();
    let last = rooms[KEPT - 1].bytes.as_ptr();
    drop(rooms);
    assert_eq!(pages.free.lock().len(), KEPT);
    // The one that came back last.
    assert_eq!(pages.take(MAX_DATA).bytes.as_ptr(), last);
}

#[test]
fn packets_that_are_short_or_long_are_left_to_others() {
    let mut landing = Landing::new(&Pages::default());
    for data_len in [512, MIN_DATA - 1, MAX_DATA + 1, 1 << 30] {
        let expected = Expected { next: header(0, data_len), checksums: 8, count: 5 };
        assert!(!landing.prepare(&expected, &mut BytesMut::new()));
    }
    let heads = Expected { next: header(0, DATA), checksums: MAX_HEAD, count: 5 };
    assert!(!landing.prepare(&heads, &mut BytesMut::new()));
    assert!(!landing.prepare(&expected(0, 0), &mut BytesMut::new()));
    assert!(landing.frames.is_empty());
}
