//! Reads of finalized and of growing replicas.

use std::sync::atomic::Ordering;

use super::*;

/// What a client gets for a range, compared with the data that it comes from.
async fn check_range(connection: &mut Connection, data: &[u8], spec: ChecksumSpec, request: ReadBlock) {
    let (offset, length) = (request.offset, request.length);
    let kind = if request.checksums { spec.kind } else { ChecksumKind::Null };
    let read = read_on(connection, request).await.unwrap();
    assert_eq!(read.spec, ChecksumSpec { kind, ..spec });
    if length == 0 {
        assert!(read.data.is_empty());
        return;
    }
    let end = read.start + read.data.len() as u64;
    assert!(end >= offset + length && end <= data.len() as u64);
    assert!(end - (offset + length) < u64::from(spec.bytes_per_checksum), "no more than the chunk's rest");
    assert_eq!(read.range(offset, length), &data[offset as usize..(offset + length) as usize]);
    assert_eq!(read.data, &data[read.start as usize..end as usize]);
}

/// Numbers that look random and come out the same each time.
fn draws(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed | 1;
    move |bound| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound.max(1)
    }
}

#[tokio::test]
async fn any_range_of_a_finalized_replica_comes_as_it_was_written() {
    let kinds = [ChecksumKind::Crc32c, ChecksumKind::Crc32, ChecksumKind::Null];
    let mut draw = draws(7);
    for (kind, size, len) in kinds
        .iter()
        .flat_map(|kind| {
            [(*kind, 512, 300_001), (*kind, 1_000, 70_000), (*kind, 4, 999), (*kind, 512, 1_024)]
        })
        .chain([(ChecksumKind::Crc32c, 1 << 20, (2 << 20) + 3), (ChecksumKind::Crc32c, 100_000, 350_000)])
    {
        let node = TestNode::start().await;
        let spec = ChecksumSpec { kind, bytes_per_checksum: size };
        let data = pattern(len);
        node.put(&data, spec).await;
        let len = len as u64;
        // One connection serves them all.
        let mut connection = node.connect().await;
        let mut ranges = vec![(0, len), (0, 1), (len - 1, 1), (0, 0), (len, 0)];
        for _ in 0..25 {
            let offset = draw(len);
            ranges.push((offset, draw(len - offset + 1)));
        }
        for (offset, length) in ranges {
            let mut request = read_request(offset, length);
            request.checksums = draw(4) > 0;
            check_range(&mut connection, &data, spec, request).await;
        }
    }
}

#[tokio::test]
async fn a_long_range_goes_to_a_reader_that_takes_its_time() {
    let node = TestNode::start().await;
    let data = pattern(12_000_000);
    node.put(&data, SPEC).await;
    let mut connection = node.connect().await;
    connection.send(&Op::Read(Box::new(read_request(0, 12_000_000))).encode(), PATIENCE).await.unwrap();
    // Nothing is read until the server's socket is full and it waits.
    let before = node.node.disks.in_flight();
    while node.node.active_transfers.load(Ordering::SeqCst) == 0 || node.node.disks.in_flight() > before {
        tokio::task::yield_now().await;
    }
    let answer = connection.receive(deadline(), OpResponse::decode).await.unwrap();
    assert_eq!(answer.status, Status::Success);
    let mut got = Vec::new();
    loop {
        let packet = connection.receive(deadline(), decode_packet).await.unwrap();
        packet.verify(SPEC).unwrap();
        if packet.header().last {
            break;
        }
        got.extend_from_slice(packet.data());
    }
    assert!(got == data);
    connection.send(&client_read_status(Status::ChecksumOk), PATIENCE).await.unwrap();
    // The connection is still good.
    assert_eq!(read_on(&mut connection, read_request(5, 5)).await.unwrap().range(5, 5), &data[5..10]);
    assert_eq!(node.node.transfer_metrics.bytes_read.get(), 12_000_000 + 512);
}

#[tokio::test]
async fn a_growing_replica_is_read_as_far_as_it_is_acked() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let data = pattern(150_000);
    let mut writer = Writer::open(&[&nodes[0], &nodes[1]], |_| ()).await.unwrap();
    let mut sent = 0;
    for step in [700, 70_000, 70_100, 149_999, 150_000_u64] {
        // A client that has flushed sends the partial chunk again.
        let from = sent - sent % 512;
        for (index, piece) in data[from as usize..step as usize].chunks(64_512).enumerate() {
            writer.send_at(from + index as u64 * 64_512, piece, false).await;
            assert!(writer.ack().await.is_success());
        }
        sent = step;
        for node in &nodes {
            let mut connection = node.connect().await;
            for (offset, length) in [(0, sent), (sent - 1, 1), (sent / 2, sent / 2), (513.min(sent), 0)] {
                check_range(&mut connection, &data[..sent as usize], SPEC, read_request(offset, length))
                    .await;
            }
        }
    }
    // Being deleted or finalized meanwhile changes nothing for a connection.
    let mut connection = nodes[0].connect().await;
    assert!(writer.finish().await.is_success());
    check_range(&mut connection, &data, SPEC, read_request(100, 149_900)).await;
}

#[tokio::test]
async fn a_reader_that_is_ahead_of_an_ack_waits_for_it() {
    let node = TestNode::start().await;
    let data = pattern(1_000);
    let mut writer = Writer::open(&[&node], |_| ()).await.unwrap();
    writer.send_at(0, &data[..600], false).await;
    assert!(writer.ack().await.is_success());
    let address = node.address();
    let reading = tokio::spawn(async move {
        let mut connection = Connection::open(address, PATIENCE).await.unwrap();
        read_on(&mut connection, read_request(0, 1_000)).await.unwrap().data
    });
    while node.node.active_transfers.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    writer.send_at(512, &data[512..], false).await;
    assert!(writer.ack().await.is_success());
    assert_eq!(reading.await.unwrap(), data);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_a_sentence_and_the_connection_lives() {
    let node = TestNode::start().await;
    node.put(&pattern(1_000), SPEC).await;
    let mut connection = node.connect().await;
    for (offset, length) in
        [(0, 1_001), (1_001, 0), (1_000, 1), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (1 << 63, 1)]
    {
        let answer = read_on(&mut connection, read_request(offset, length)).await.err().unwrap();
        assert_eq!(answer.status, Status::Error);
    }
    let mut unknown = read_request(0, 1);
    unknown.block.id = BlockId(5);
    assert!(read_on(&mut connection, unknown).await.is_err());
    let mut newer = read_request(0, 1);
    newer.block.stamp = GenStamp(1_002);
    assert!(read_on(&mut connection, newer).await.is_err(), "a replica of an earlier life");
    assert_eq!(read_on(&mut connection, read_request(0, 1_000)).await.unwrap().data, pattern(1_000));
    assert!(node.heard.bad.lock().is_empty());
}

#[tokio::test]
async fn a_reader_that_leaves_early_is_no_trouble() {
    let node = TestNode::start().await;
    let data = pattern(8_000_000);
    node.put(&data, SPEC).await;
    for _ in 0..3 {
        let mut connection = node.connect().await;
        connection.send(&Op::Read(Box::new(read_request(0, 8_000_000))).encode(), PATIENCE).await.unwrap();
        connection.receive(deadline(), OpResponse::decode).await.unwrap();
        connection.receive(deadline(), decode_packet).await.unwrap();
    }
    while node.node.active_transfers.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(node.heard.bad.lock().is_empty(), "nobody blames the replica for it");
    assert_eq!(
        read_on(&mut node.connect().await, read_request(0, 10)).await.unwrap().range(0, 10),
        &data[..10]
    );
}

#[tokio::test]
async fn a_file_cut_short_is_reported_and_never_padded() {
    for len in [5_000_u64, 500_000] {
        let node = TestNode::start().await;
        node.put(&pattern(len as usize), SPEC).await;
        let reader = node.node.store.open_for_read(BLOCK, STAMP).unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(file_of(node.dir.path()))
            .unwrap()
            .set_len(len / 2)
            .unwrap();
        drop(reader);
        let mut connection = node.connect().await;
        connection.send(&Op::Read(Box::new(read_request(0, len))).encode(), PATIENCE).await.unwrap();
        match connection.receive(deadline(), OpResponse::decode).await {
            Ok(answer) => assert_ne!(answer.status, Status::Success),
            Err(error) => assert!(error.is_departure(), "{error}"),
        }
        assert_eq!(node.heard.bad.lock().first().map(|block| block.id), Some(BLOCK));
    }
}

/// The block file below a folder.
pub(super) fn file_of(dir: &std::path::Path) -> std::path::PathBuf {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name == BLOCK.to_string() {
                return path;
            }
        }
    }
    panic!("no block file");
}
