use proptest::prelude::*;

use super::*;

fn header(offset: u64, seqno: i64, last: bool, sync: bool) -> PacketHeader {
    PacketHeader { offset, seqno, last, data_len: 0, sync }
}

fn packet(spec: ChecksumSpec, offset: u64, seqno: i64, data: &[u8]) -> Packet {
    let chunk = u64::from(spec.bytes_per_checksum);
    let first =
        if offset.is_multiple_of(chunk) { 0 } else { ((chunk - offset % chunk) as usize).min(data.len()) };
    let mut sums = Vec::new();
    spec.append_checksums(&data[..first], &mut sums);
    spec.append_checksums(&data[first..], &mut sums);
    Packet::build(header(offset, seqno, false, false), &sums, data)
}

#[test]
fn golden_bytes_of_the_first_write_packet() {
    let data = [7_u8; 1000];
    let mut sums = Vec::new();
    ChecksumSpec::DEFAULT.append_checksums(&data, &mut sums);
    let packet = Packet::build(header(0, 0, false, false), &sums, &data);
    let mut expected = vec![0x00, 0x00, 0x03, 0xf4, 0x00, 0x19];
    expected.extend([0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0x18, 0]);
    expected.extend([0x25, 0xe8, 0x03, 0, 0]);
    assert_eq!(&packet.frame()[..31], &expected[..]);
    assert_eq!(packet.frame().len(), 6 + 25 + 8 + 1000);
    assert_eq!(&packet.frame()[31..39], &sums[..]);
}

#[test]
fn golden_bytes_of_the_last_packet() {
    let packet = Packet::build(header(1000, 1, true, false), &[], &[]);
    let mut expected = vec![0x00, 0x00, 0x00, 0x04, 0x00, 0x19];
    expected.extend([0x09, 0xe8, 0x03, 0, 0, 0, 0, 0, 0, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x18, 1]);
    expected.extend([0x25, 0, 0, 0, 0]);
    assert_eq!(&packet.frame()[..], &expected[..]);
    let synced = Packet::build(header(1000, 1, true, true), &[], &[]);
    assert_eq!(synced.frame().len(), 6 + 27);
    assert_eq!(&synced.frame()[31..], [0x28, 1]);
}

#[test]
fn a_heartbeat_has_seqno_minus_one() {
    let mut buffer = BytesMut::from(&Packet::build(PacketHeader::heartbeat(), &[], &[]).frame()[..]);
    let packet = decode_packet(&mut buffer).unwrap().unwrap();
    assert!(packet.header().is_heartbeat());
    assert_eq!(packet.header().end(), 0);
}

fn frame(payload: i32, header_len: u16, header: &[u8], body: usize) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(payload);
    out.put_u16(header_len);
    out.extend_from_slice(header);
    out.resize(out.len() + body, 0);
    out
}

fn raw_header(offset: i64, seqno: i64, last: u8, data_len: i32) -> Vec<u8> {
    let mut out = vec![0x09];
    out.put_i64_le(offset);
    out.put_u8(0x11);
    out.put_i64_le(seqno);
    out.extend([0x18, last, 0x25]);
    out.put_i32_le(data_len);
    out
}

#[test]
fn lengths_that_lie_are_refused_as_soon_as_they_are_seen() {
    let good = raw_header(0, 0, 0, 10);
    let cases: [(&str, BytesMut); 11] = [
        ("negative payload", frame(-1, 25, &[], 0)),
        ("payload below its own length", frame(3, 25, &[], 0)),
        ("a packet of 2 GiB", frame(i32::MAX, 25, &[], 0)),
        ("a packet past 16 MiB", frame(MAX_PACKET_BYTES as i32 + 4, 25, &[], 0)),
        ("a header of 64 KiB", frame(4, u16::MAX, &[], 0)),
        ("more data than payload", frame(13, 25, &good, 0)),
        ("more checksums than data can have", frame(4 + 41 + 10, 25, &good, 0)),
        ("negative data", frame(4, 25, &raw_header(0, 0, 0, -1), 0)),
        ("negative offset", frame(4, 25, &raw_header(-1, 0, 0, 0), 0)),
        ("an offset at the end of numbers", frame(4, 25, &raw_header(i64::MAX, 0, 0, 0), 0)),
        ("a last packet with data", frame(14, 25, &raw_header(0, 0, 1, 10), 0)),
    ];
    for (what, mut bytes) in cases {
        assert!(decode_packet(&mut bytes).is_err(), "{what}");
    }
    for header in [&good[..9], &good[9..], &[0x0b], &[0xff; 12]] {
        assert!(decode_packet(&mut frame(4, header.len() as u16, header, 0)).is_err(), "{header:?}");
    }
}

#[test]
fn fields_that_are_new_are_skipped() {
    let mut header = raw_header(512, 3, 0, 0);
    header.extend([0x30, 1, 0x3a, 2, 9, 9]);
    let mut bytes = frame(4, header.len() as u16, &header, 0);
    let packet = decode_packet(&mut bytes).unwrap().unwrap();
    assert_eq!((packet.header().offset, packet.header().seqno), (512, 3));
}

#[test]
fn the_first_packet_of_an_append_has_its_own_checksum() {
    let spec = ChecksumSpec::DEFAULT;
    let filling = packet(spec, 700, 0, &[1; 324]);
    assert_eq!(filling.checksums().len(), 4);
    assert_eq!(filling.verify(spec), Ok(()));
    let across = packet(spec, 700, 0, &[1; 900]);
    assert_eq!(across.checksums().len(), 4 + 2 * 4);
    assert_eq!(across.verify(spec), Ok(()));
    let mut bytes = across.frame().to_vec();
    let at = bytes.len() - 1;
    bytes[at] ^= 4;
    let bad = decode_packet(&mut BytesMut::from(&bytes[..])).unwrap().unwrap();
    assert_eq!(bad.verify(spec), Err(ChecksumMismatch { offset: 1_536 }));
    assert_eq!(packet(spec, 700, 0, &[1; 100]).verify(spec), Ok(()));
}

#[test]
fn a_wrong_number_of_checksums_is_a_mismatch() {
    let spec = ChecksumSpec::DEFAULT;
    for (offset, sums) in [(0, 0), (0, 4), (0, 12), (1, 0), (1, 4), (1, 12)] {
        let packet = Packet::build(header(offset, 0, false, false), &vec![0; sums], &[0; 600]);
        assert!(packet.verify(spec).is_err(), "{offset} {sums}");
    }
    let null = ChecksumSpec { kind: ChecksumKind::Null, ..spec };
    assert_eq!(Packet::build(header(3, 0, false, false), &[], &[0; 600]).verify(null), Ok(()));
    assert!(Packet::build(header(3, 0, false, false), &[0; 4], &[0; 600]).verify(null).is_err());
}

fn any_packet() -> impl Strategy<Value = Packet> {
    (0..1_u64 << 40, 0..1_i64 << 40, prop::collection::vec(any::<u8>(), 0..3_000), any::<bool>(), 0..3_i32)
        .prop_map(|(offset, seqno, data, sync, kind)| {
            let spec = ChecksumSpec::new(kind, 512).unwrap();
            let plain = packet(spec, offset, seqno, &data);
            assert_eq!(plain.verify(spec), Ok(()));
            Packet::build(PacketHeader { sync, ..*plain.header() }, plain.checksums(), &data)
        })
}

proptest! {
    #[test]
    fn any_split_of_the_stream_decodes_the_same(
        packets in prop::collection::vec(any_packet(), 1..5),
        cuts in prop::collection::vec(1..2_000_usize, 1..40),
    ) {
        let stream: Vec<u8> = packets.iter().flat_map(|packet| packet.frame().to_vec()).collect();
        let (mut buffer, mut rest, mut decoded) = (BytesMut::new(), &stream[..], Vec::new());
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            buffer.extend_from_slice(now);
            rest = later;
            while let Some(packet) = decode_packet(&mut buffer).unwrap() {
                decoded.push(packet);
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(&decoded, &packets);
        for (one, other) in decoded.iter().zip(&packets) {
            prop_assert_eq!(one.data(), other.data());
            prop_assert_eq!(one.checksums(), other.checksums());
            prop_assert_eq!(&one.data_bytes()[..], other.data());
            prop_assert_eq!(&one.checksum_bytes()[..], other.checksums());
        }
    }

    #[test]
    fn garbage_is_an_error_or_unfinished(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        let before = buffer.capacity();
        while let Ok(Some(_)) = decode_packet(&mut buffer) {}
        prop_assert!(buffer.capacity() <= before);
    }

    #[test]
    fn a_flipped_bit_of_a_packet_is_seen_or_harmless(packet in any_packet(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = packet.frame().to_vec();
        let index = at.index(bytes.len());
        bytes[index] ^= 1_u8 << bit;
        if let Ok(Some(flipped)) = decode_packet(&mut BytesMut::from(&bytes[..])) {
            let _ = flipped.verify(ChecksumSpec::DEFAULT);
        }
    }
}
