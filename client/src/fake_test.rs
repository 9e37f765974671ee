//! Whole reads and writes against the cluster in memory.

use bytes::Bytes;
use futures::TryStreamExt;
use proptest::prelude::*;
use steadfs_common::{ChecksumKind, ChecksumSpec, FsErrorKind};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::fake::{Fake, Faults};

fn bytes(len: usize) -> Bytes {
    (0..len).map(|index| (index * 31 % 251) as u8).collect()
}

async fn put(fake: &Fake, path: &str, content: &Bytes, piece: usize) -> crate::FsResult<()> {
    let mut writer = fake.client().await.create(path).await?;
    for start in (0..content.len()).step_by(piece) {
        writer.write_all(content.slice(start..(start + piece).min(content.len()))).await?;
    }
    writer.close().await
}

#[tokio::test]
async fn sizes_around_every_bound_come_back() {
    let fake = Fake::start(3).await;
    let client = fake.client().await;
    for len in [0, 1, 511, 512, 513, 1_023, 1_024, 1_025, 4_095, 4_096, 4_097, 8_192, 20_000, 100_000] {
        let (path, content) = (format!("/f{len}"), bytes(len));
        put(&fake, &path, &content, 70_000).await.unwrap();
        assert_eq!(fake.content(&path), content, "{len}");
        let reader = client.open(&path).await.unwrap();
        assert_eq!(reader.length(), len as u64);
        assert_eq!(reader.read_at(0, len + 10).await.unwrap(), content);
        for (start, end) in
            [(0, 1.min(len)), (len / 2, len), (len.saturating_sub(1), len), (len / 3, len / 2)]
        {
            assert_eq!(reader.read_at(start as u64, end - start).await.unwrap(), content.slice(start..end));
        }
        assert_eq!(reader.read_at(len as u64 + 5, 10).await.unwrap(), "");
    }
    // Reads that ended well left their connections to the next.
    assert!(fake.nodes[0].lock().reads > 0);
}

#[tokio::test]
async fn an_empty_file_gives_its_block_back() {
    let fake = Fake::start(3).await;
    put(&fake, "/e", &Bytes::new(), 1).await.unwrap();
    assert_eq!(fake.replicas_of("/e").len(), 0);
    let writer = fake.client().await.create("/e2").expect_empty().await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(fake.books.lock().abandoned, 1);
}

#[tokio::test]
async fn a_stream_reads_in_order_and_seeks() {
    let fake = Fake::start(3).await;
    let content = bytes(50_000);
    put(&fake, "/s", &content, 999).await.unwrap();
    let reader = fake.client().await.open("/s").await.unwrap();
    let mut all = Vec::new();
    let mut stream = reader.stream();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, content);
    for place in [0, 49_999, 10, 5_000, 5_001, 4_096] {
        stream.seek(std::io::SeekFrom::Start(place)).await.unwrap();
        let mut piece = [0; 1];
        stream.read_exact(&mut piece).await.unwrap();
        assert_eq!(piece[0], content[place as usize], "{place}");
        assert_eq!(stream.position(), place + 1);
    }
    stream.seek(std::io::SeekFrom::End(10)).await.unwrap();
    assert_eq!(stream.read(&mut [0; 4]).await.unwrap(), 0);
    assert!(stream.seek(std::io::SeekFrom::Current(-60_000)).await.is_err());
}

/// A cluster that sends large packets, with a file of five blocks on all of its three nodes.
async fn large(each: impl Fn(usize) -> Faults) -> (Fake, Bytes) {
    let fake = Fake::start(3).await;
    let content = bytes(4_500_001);
    let mut writer = fake.client().await.create("/l").block_size(1_000_448).await.unwrap();
    writer.write_all(content.clone()).await.unwrap();
    writer.close().await.unwrap();
    for node in 0..3 {
        fake.faults(node, Faults { large_packets: true, ..each(node) });
    }
    (fake, content)
}

#[tokio::test]
async fn large_packets_come_right_wherever_a_read_begins_and_whatever_breaks() {
    for corrupt in [false, true] {
        let (fake, content) = large(|node| Faults {
            break_read_after: (node == 0).then_some(5),
            corrupt: corrupt && node == 1,
            ..Faults::default()
        })
        .await;
        let reader = fake.client().await.open("/l").await.unwrap();
        for start in [0, 1, 65_536, 999_999, 1_000_448, 4_500_000] {
            let mut stream = reader.pull_from(start);
            let mut read = Vec::new();
            while let Some(bytes) = stream.next_chunk().await.unwrap() {
                read.extend_from_slice(&bytes);
                assert_eq!(stream.position(), start + read.len() as u64);
            }
            assert_eq!(read, content[start as usize..], "from {start}");
            let length = content.len() - start as usize;
            assert_eq!(reader.read_at(start, length).await.unwrap(), content[start as usize..]);
        }
    }
}

#[tokio::test]
async fn a_call_of_a_pulled_stream_may_be_dropped_half_way() {
    let (fake, content) =
        large(|node| Faults { stall_read_after: (node == 0).then_some(3), ..Faults::default() }).await;
    let reader = fake.client().await.open("/l").await.unwrap();
    let (mut stream, mut read, mut dropped) = (reader.pull_from(0), Vec::new(), 0);
    while read.len() < content.len() {
        // Shorter than another datanode is waited for.
        match tokio::time::timeout(std::time::Duration::from_millis(50), stream.next_chunk()).await {
            Ok(bytes) => read.extend_from_slice(&bytes.unwrap().unwrap()),
            Err(_) => {
                dropped += 1;
                fake.faults(0, Faults { large_packets: true, ..Faults::default() });
            }
        }
    }
    assert!(dropped > 0 && read == content);
    assert_eq!(stream.next_chunk().await.unwrap(), None);
}

#[tokio::test]
async fn replicas_that_break_are_read_around_and_damaged_ones_reported() {
    let fake = Fake::start(3).await;
    let content = bytes(30_000);
    put(&fake, "/r", &content, 30_000).await.unwrap();
    fake.faults(0, Faults { break_read_after: Some(1), ..Faults::default() });
    fake.faults(1, Faults { corrupt: true, ..Faults::default() });
    let reader = fake.client().await.open("/r").await.unwrap();
    assert_eq!(reader.read_at(0, 30_000).await.unwrap(), content);
    // Reported in the background.
    while fake.books.lock().reported_bad.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(fake.books.lock().reported_bad.iter().all(|storage| storage == "DS-1"));
}

#[tokio::test]
async fn a_reader_does_not_wait_for_a_datanode_that_stalls() {
    for after in [0, 1] {
        let fake = Fake::start(3).await;
        let content = bytes(30_000);
        put(&fake, "/r", &content, 30_000).await.unwrap();
        fake.faults(0, Faults { stall_read_after: Some(after), ..Faults::default() });
        fake.faults(1, Faults { corrupt: true, ..Faults::default() });
        let client = fake.client().await;
        let reader = client.open("/r").await.unwrap();
        // Far shorter than the time after which a silent datanode counts as failed.
        let read = tokio::time::timeout(std::time::Duration::from_secs(30), reader.read_at(0, 30_000));
        assert_eq!(read.await.expect("another replica is asked").unwrap(), content);
        // From now on the others come first.
        let asked = fake.nodes[0].lock().reads;
        assert_eq!(reader.read_at(0, 30_000).await.unwrap(), content);
        assert_eq!(fake.nodes[0].lock().reads, asked);
    }
}

#[tokio::test]
async fn when_every_replica_is_damaged_it_says_so() {
    let fake = Fake::start(2).await;
    put(&fake, "/r", &bytes(100), 100).await.unwrap();
    for node in 0..2 {
        fake.faults(node, Faults { corrupt: true, ..Faults::default() });
    }
    let reader = fake.client().await.open("/r").await.unwrap();
    let error = reader.read_at(0, 100).await.unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::Checksum);
    assert!(error.message().starts_with("/r: no replica of blk_"), "{error}");
    for node in 0..2 {
        fake.faults(node, Faults { refuse_reads: true, ..Faults::default() });
    }
    assert_eq!(reader.read_at(0, 100).await.unwrap_err().kind(), FsErrorKind::BlockMissing);
}

#[tokio::test]
async fn flushed_bytes_are_visible_while_the_file_is_open() {
    let fake = Fake::start(3).await;
    let client = fake.client().await;
    let mut writer = client.create("/h").await.unwrap();
    writer.write_all("hello ").await.unwrap();
    writer.hflush().await.unwrap();
    let reader = client.open("/h").await.unwrap();
    assert!(reader.under_construction());
    assert_eq!(reader.read_at(0, 100).await.unwrap(), "hello ");
    writer.write_all("world").await.unwrap();
    writer.hsync().await.unwrap();
    writer.hsync().await.unwrap();
    assert_eq!(reader.refresh().await.unwrap(), 11);
    assert_eq!(reader.read_at(6, 100).await.unwrap(), "world");
    writer.close().await.unwrap();
    assert_eq!(fake.content("/h"), b"hello world");
}

#[tokio::test]
async fn an_append_goes_on_inside_a_chunk() {
    let fake = Fake::start(3).await;
    let client = fake.client().await;
    let content = bytes(10_000);
    for (index, split) in [0, 1, 511, 512, 700, 4_095, 4_096, 4_097, 9_999].into_iter().enumerate() {
        let path = format!("/a{index}");
        put(&fake, &path, &content.slice(..split), 10_000).await.unwrap();
        let mut writer = client.append(&path).await.unwrap();
        assert_eq!(writer.position(), split as u64);
        writer.write_all(content.slice(split..)).await.unwrap();
        writer.close().await.unwrap();
        assert_eq!(fake.content(&path), content, "{split}");
    }
    // Nothing appended: the file is closed again as it was.
    client.append("/a4").await.unwrap().close().await.unwrap();
    assert_eq!(fake.content("/a4"), content);
}

#[tokio::test]
async fn a_datanode_that_cannot_be_reached_is_left_out() {
    let fake = Fake::start(4).await;
    fake.faults(0, Faults { refuse_setup: 1, ..Faults::default() });
    fake.faults(2, Faults { refuse_setup: 1, ..Faults::default() });
    let content = bytes(10_000);
    put(&fake, "/w", &content, 10_000).await.unwrap();
    assert_eq!(fake.content("/w"), content);
    assert!(fake.books.lock().abandoned >= 2);
    assert_eq!(fake.replicas_of("/w")[0], [1, 3]);
}

#[tokio::test]
async fn a_datanode_that_fails_in_the_middle_is_left_out_and_nothing_is_lost() {
    for bad in 0..3 {
        for packet in 0..4 {
            let fake = Fake::start(3).await;
            fake.faults(bad, Faults { fail_at_packet: Some(packet), ..Faults::default() });
            let content = bytes(10_000);
            put(&fake, "/w", &content, 10_000).await.unwrap();
            assert_eq!(fake.content("/w"), content);
            assert_eq!(fake.replicas_of("/w")[0].len(), 2, "{bad} {packet}");
        }
    }
}

#[tokio::test]
async fn two_that_fail_bring_a_third_in() {
    let fake = Fake::start(4).await;
    fake.faults(0, Faults { fail_at_packet: Some(1), ..Faults::default() });
    fake.faults(2, Faults { fail_at_packet: Some(2), ..Faults::default() });
    let content = bytes(4_000);
    put(&fake, "/w", &content, 4_000).await.unwrap();
    assert_eq!(fake.content("/w"), content);
    assert_eq!(fake.replicas_of("/w"), [[1, 3]]);
}

#[tokio::test]
async fn a_failure_at_the_end_of_a_block_is_mended() {
    let fake = Fake::start(3).await;
    fake.faults(1, Faults { fail_at_last: true, ..Faults::default() });
    let content = bytes(4_096);
    put(&fake, "/w", &content, 4_096).await.unwrap();
    assert_eq!(fake.content("/w"), content);
    assert_eq!(fake.replicas_of("/w"), [[0, 2]]);
}

#[tokio::test]
async fn an_append_whose_datanode_fails_is_mended() {
    let fake = Fake::start(4).await;
    let client = fake.client().await;
    put(&fake, "/a", &bytes(700), 700).await.unwrap();
    fake.faults(1, Faults { refuse_setup: 1, ..Faults::default() });
    let mut writer = client.append("/a").await.unwrap();
    fake.faults(0, Faults { fail_at_packet: Some(0), ..Faults::default() });
    writer.write_all(bytes(2_000).slice(700..)).await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(fake.content("/a"), bytes(2_000));
    assert!(!fake.replicas_of("/a")[0].contains(&1));
}

#[tokio::test]
async fn when_all_fail_every_later_call_says_so() {
    let fake = Fake::start(1).await;
    let client = fake.client().await;
    let mut writer = client.create("/w").replication(1).await.unwrap();
    writer.write_all("x").await.unwrap();
    writer.hflush().await.unwrap();
    fake.faults(0, Faults { fail_at_packet: Some(1), ..Faults::default() });
    writer.write_all("y").await.unwrap();
    let error = writer.hflush().await.unwrap_err();
    assert!(error.message().contains("All datanodes") && error.message().contains("/w"), "{error}");
    assert_eq!(writer.write_all("z").await.unwrap_err(), error);
    assert_eq!(writer.close().await.unwrap_err(), error);
    assert!(!fake.is_open("/w"));
}

#[tokio::test]
async fn a_writer_that_is_dropped_gives_up() {
    let fake = Fake::start(3).await;
    let client = fake.client().await;
    let mut writer = client.create("/w").await.unwrap();
    writer.write_all(bytes(3_000)).await.unwrap();
    drop(writer);
    while fake.is_open("/w") {
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.books.lock().abandoned, 1);
    assert_eq!(fake.content("/w"), b"");
    let mut writer = client.create("/v").await.unwrap();
    writer.write_all("kept").await.unwrap();
    writer.hflush().await.unwrap();
    writer.abort().await;
    assert!(!fake.is_open("/v"));
    // A real namenode has the datanodes finish the block.
    assert_eq!(fake.books.lock().abandoned, 1);
}

#[tokio::test]
async fn a_namenode_that_says_not_yet_is_asked_again() {
    let fake = Fake::start(3).await;
    fake.books.lock().not_yet = 3;
    let content = bytes(10_000);
    put(&fake, "/w", &content, 10_000).await.unwrap();
    assert_eq!(fake.content("/w"), content);
}

#[tokio::test]
async fn a_namenode_whose_datanodes_have_not_registered_yet_is_asked_again() {
    let fake = Fake::start(3).await;
    let content = bytes(10_000);
    fake.books.lock().nobody_yet = 4;
    put(&fake, "/w", &content, 10_000).await.unwrap();
    assert_eq!(fake.content("/w"), content);
    assert_eq!(fake.books.lock().nobody_yet, 0);
}

#[tokio::test]
async fn a_datanode_that_was_left_out_is_asked_again_when_there_is_no_other() {
    let fake = Fake::start(1).await;
    fake.faults(0, Faults { refuse_setup: 1, ..Faults::default() });
    put(&fake, "/w", &bytes(3_000), 3_000).await.unwrap();
    assert_eq!(fake.content("/w"), bytes(3_000));
}

#[tokio::test]
async fn the_lease_is_renewed_while_files_are_open_and_not_after() {
    let fake = Fake::start(3).await;
    let writer = fake.client().await.create("/w").await.unwrap();
    while fake.books.lock().renewals < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    writer.close().await.unwrap();
}

#[tokio::test]
async fn other_checksums_are_written_and_read() {
    let fake = Fake::start(3).await;
    let client = fake.client().await;
    for (path, kind, bytes_per_checksum) in [
        ("/n", ChecksumKind::Null, 512),
        ("/c", ChecksumKind::Crc32, 100),
        ("/b", ChecksumKind::Crc32c, 4_096),
    ] {
        let spec = ChecksumSpec { kind, bytes_per_checksum };
        let mut writer = client.create(path).checksum(spec).await.unwrap();
        writer.write_all(bytes(9_000)).await.unwrap();
        writer.close().await.unwrap();
        assert_eq!(fake.content(path), bytes(9_000));
        assert_eq!(client.read(path, 9_000).await.unwrap(), bytes(9_000));
    }
    assert_eq!(client.read("/n", 10).await.unwrap_err().kind(), FsErrorKind::InvalidArgument);
}

#[tokio::test]
async fn listings_page_and_trees_are_walked() {
    let fake = Fake::start(1).await;
    let client = fake.client().await;
    for index in 0..8 {
        client.write(&format!("/d/f{index}"), "x").await.unwrap();
    }
    client.write("/d/sub/deep/x", "x").await.unwrap();
    let names: Vec<_> =
        client.list_all("/d").await.unwrap().iter().map(|entry| entry.name().to_owned()).collect();
    assert_eq!(names, ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "sub"]);
    let walked: Vec<_> =
        client.walk("/d").map_ok(|entry| entry.path.to_string()).try_collect().await.unwrap();
    assert_eq!(walked.len(), 11);
    assert_eq!(walked[8..], ["/d/sub", "/d/sub/deep", "/d/sub/deep/x"]);
    assert!(client.list("relative").try_next_is_error().await);
    assert!(client.exists("/d/f0").await.unwrap());
    assert!(!client.exists("/d/none").await.unwrap());
}

trait NextIsError {
    async fn try_next_is_error(self) -> bool;
}

impl<S: futures::Stream<Item = crate::FsResult<crate::FileStatus>>> NextIsError for S {
    async fn try_next_is_error(self) -> bool {
        std::pin::pin!(self).try_next().await.is_err()
    }
}

#[tokio::test]
async fn a_files_checksum_is_put_together_by_the_datanodes() {
    let fake = Fake::start(3).await;
    put(&fake, "/w", &bytes(5_000), 5_000).await.unwrap();
    fake.nodes[0].lock().replicas.clear();
    let sum = fake.client().await.checksum("/w").await.unwrap();
    assert_eq!(sum.algorithm(), "MD5-of-2MD5-of-512CRC32C");
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Flush,
    Sync,
    Fail(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_usize..6_000).prop_map(Step::Write),
        2 => Just(Step::Flush),
        1 => Just(Step::Sync),
        1 => (0_usize..5, 0_usize..6).prop_map(|(node, packet)| Step::Fail(node, packet)),
    ];
    prop::collection::vec(step, 1..16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever is written, flushed and broken (never all replicas at once): the file holds what was written, and what
    /// was flushed can be read at once.
    #[test]
    fn nothing_written_is_lost_while_a_replica_is_left(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fake = Fake::start(5).await;
            let client = fake.client().await;
            let mut writer = client.create("/p").await.unwrap();
            let source = bytes(100_000);
            let (mut written, mut failures) = (0, 0);
            for step in steps {
                match step {
                    Step::Write(len) => {
                        writer.write_all(source.slice(written..written + len)).await.unwrap();
                        written += len;
                    }
                    Step::Flush | Step::Sync => {
                        match step {
                            Step::Flush => writer.hflush().await.unwrap(),
                            _ => writer.hsync().await.unwrap(),
                        }
                        let reader = client.open("/p").await.unwrap();
                        assert_eq!(reader.read_at(0, written).await.unwrap(), source.slice(..written));
                    }
                    // Two failures leave one of three replicas.
                    Step::Fail(node, packet) if failures < 2 => {
                        failures += 1;
                        fake.faults(node, Faults { fail_at_packet: Some(packet), ..Faults::default() });
                    }
                    Step::Fail(..) => {}
                }
            }
            writer.close().await.unwrap();
            assert_eq!(fake.content("/p"), source.slice(..written));
        });
    }
}
