use proptest::prelude::*;
use steadfs_common::{BlockId, BlockPoolId, ChecksumSpec, GenStamp};

use super::*;
use crate::transfer::{
    BlockChecksumKind, BlockChecksumReply, BlockRef, CopyBlock, OpResponse, Peer, ReadChecksum, ReplaceBlock,
    Stage, Status, Token, client_read_status, decode_client_read_status, decode_message, room,
};

fn block() -> BlockRef {
    BlockRef {
        pool: BlockPoolId("BP-1".into()),
        id: BlockId(1_073_741_825),
        stamp: GenStamp(1_001),
        length: 128,
    }
}

fn peer(port: u16) -> Peer {
    Peer {
        uuid: format!("uuid-{port}"),
        ip: "127.0.0.1".into(),
        host_name: "localhost".into(),
        data_port: port,
        ipc_port: 2,
        http_port: 3,
        rack: "/default-rack".into(),
    }
}

fn write() -> WriteBlock {
    WriteBlock {
        block: block(),
        token: Token::default(),
        client: "DFSClient_x".into(),
        targets: vec![peer(10), peer(11)],
        source: None,
        stage: Stage::SetupCreate,
        pipeline_size: 3,
        min_bytes: 0,
        max_bytes: 0,
        latest_stamp: GenStamp(0),
        checksum: ChecksumSpec::DEFAULT,
        storage_id: Some("DS-0".into()),
        storage_type: 1,
        target_storage_ids: vec!["DS-1".into(), "DS-2".into()],
        target_storage_types: vec![1, 2],
    }
}

fn ops() -> Vec<Op> {
    let (token, client) = (Token::default(), String::from("c"));
    let read = ReadBlock {
        block: block(),
        token: token.clone(),
        client: client.clone(),
        offset: 5,
        length: 9,
        checksums: false,
    };
    let transfer = TransferBlock {
        block: block(),
        token: token.clone(),
        client,
        targets: vec![peer(9)],
        target_storage_ids: vec!["DS-1".into()],
        target_storage_types: vec![1],
    };
    let checksum =
        BlockChecksum { block: block(), token: token.clone(), kind: BlockChecksumKind::CompositeCrc };
    vec![
        Op::Write(Box::new(write())),
        Op::Read(Box::new(read)),
        Op::Transfer(Box::new(transfer)),
        Op::Checksum(Box::new(checksum)),
        Op::Copy(Box::new(CopyBlock { block: block(), token: token.clone() })),
        Op::Replace(Box::new(ReplaceBlock {
            block: block(),
            token: token.clone(),
            instead_of: "a-uuid".into(),
            source: peer(7),
            storage_type: 1,
            storage_id: Some("DS-1".into()),
        })),
        Op::Other(OpCode::RequestShortCircuitShm, Bytes::from_static(&[0x0a, 1, b'c'])),
    ]
}

#[test]
fn operations_come_back_whatever_the_split() {
    for op in ops() {
        let frame = op.encode();
        assert_eq!(frame[..3], [0x00, 0x1c, op.code() as u8]);
        for cut in 0..frame.len() {
            let mut buffer = BytesMut::from(&frame[..cut]);
            assert_eq!(decode_op(&mut buffer), Ok(None));
            assert_eq!(buffer.len(), cut, "nothing is taken");
            buffer.extend_from_slice(&frame[cut..]);
            buffer.extend_from_slice(b"next");
            assert_eq!(decode_op(&mut buffer).unwrap().as_ref(), Some(&op));
            assert_eq!(&buffer[..], b"next");
        }
    }
}

#[test]
fn the_next_node_is_told_what_concerns_it() {
    let (first, request) = write().for_next().unwrap();
    assert_eq!(first.name(), "127.0.0.1:10");
    assert_eq!(request.storage_id.as_deref(), Some("DS-1"));
    assert_eq!((request.storage_type, request.pipeline_size), (1, 3));
    let (second, request) = request.for_next().unwrap();
    assert_eq!(
        (second.data_port, request.storage_id.as_deref(), request.storage_type),
        (11, Some("DS-2"), 2)
    );
    assert!(request.target_storage_ids.is_empty() && request.target_storage_types.is_empty());
    assert!(request.for_next().is_none());
}

#[test]
fn other_protocols_are_told_apart_at_their_first_bytes() {
    let error = |bytes: &[u8]| decode_op(&mut BytesMut::from(bytes)).unwrap_err();
    assert_eq!(error(&[0xde, 0xad]), TransferError::SaslHandshake);
    assert_eq!(error(b"GET / HTTP/1.1"), TransferError::Version(0x4745));
    assert_eq!(error(&[0, 28, 79]), TransferError::UnknownOp(79));
    assert!(matches!(error(&[0, 28, 81, 0xff, 0xff, 0xff, 0x7f]), TransferError::TooLong { .. }));
    assert_eq!(error(&[0, 28, 81, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), TransferError::BadVarint);
    assert!(matches!(error(&[0, 28, 81, 0]), TransferError::Malformed { .. }), "required fields are missing");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut WriteBlock)| {
        let mut request = write();
        change(&mut request);
        decode_op(&mut BytesMut::from(&Op::Write(Box::new(request)).encode()[..])).unwrap_err()
    };
    refused(|request| request.checksum.bytes_per_checksum = 0);
    refused(|request| request.checksum.bytes_per_checksum = 1 << 31);
    refused(|request| (request.min_bytes, request.max_bytes) = (2, 1));
    refused(|request| request.max_bytes = u64::MAX);
    refused(|request| request.block.length = u64::MAX);
    refused(|request| request.targets = vec![peer(1); 600]);
}

#[test]
fn answers_come_back() {
    let mut read = OpResponse::new(Status::Success);
    read.read_checksum = Some(ReadChecksum { spec: ChecksumSpec::DEFAULT, chunk_offset: 1_024 });
    let mut checksum = OpResponse::new(Status::Success);
    checksum.block_checksum = Some(BlockChecksumReply {
        spec: ChecksumSpec::DEFAULT,
        crc_per_block: 4,
        checksum: Bytes::from_static(&[9; 16]),
        kind: BlockChecksumKind::Md5Crc,
    });
    let bad = OpResponse::connect_ack(Status::Error, "10.0.0.1:9866");
    for answer in [read, checksum, bad, OpResponse::failure(Status::ErrorInvalid, "no")] {
        let mut buffer = BytesMut::from(&answer.to_bytes()[..]);
        assert_eq!(OpResponse::decode(&mut buffer).unwrap(), Some(answer));
    }
    let long = OpResponse::failure(Status::Error, "ü".repeat(100_000));
    assert!(long.to_bytes().len() < 5_000);
}

#[test]
fn golden_bytes_of_small_answers() {
    assert_eq!(OpResponse::connect_ack(Status::Success, "").to_bytes()[..], [4, 0x08, 0, 0x12, 0]);
    assert_eq!(client_read_status(Status::ChecksumOk)[..], [2, 0x08, 6]);
    let mut buffer = BytesMut::from(&[2, 0x08, 6][..]);
    assert_eq!(decode_client_read_status(&mut buffer).unwrap(), Some(Status::ChecksumOk));
}

#[test]
fn room_grows_with_what_came() {
    assert_eq!(room(0), 256 << 10);
    assert_eq!(room(1 << 20), 1 << 20);
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), code in 80..92_u8) {
        let _ = decode_op(&mut BytesMut::from(&bytes[..]));
        let mut framed = BytesMut::from(&[0, 28, code][..]);
        prost::encoding::encode_varint(bytes.len() as u64, &mut framed);
        framed.extend_from_slice(&bytes);
        let _ = decode_op(&mut framed);
        let _ = OpResponse::decode(&mut BytesMut::from(&bytes[..]));
        let _ = super::super::PipelineAck::decode(&mut BytesMut::from(&bytes[..]));
        let _ = decode_message::<steadfs_proto::hadoop::ClientReadStatusProto>(
            &mut BytesMut::from(&bytes[..]), "x", 100);
    }

    #[test]
    fn a_flipped_bit_of_an_operation_never_panics(which in 0..5_usize, at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = BytesMut::from(&ops()[which].encode()[..]);
        let index = at.index(bytes.len());
        bytes[index] ^= 1_u8 << bit;
        let _ = decode_op(&mut bytes);
    }
}
