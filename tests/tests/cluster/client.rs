//! What the client library promises, against real datanodes.

use std::process::Command;

use futures::TryStreamExt;
use futures::future::try_join_all;
use steadfs_client::{ChecksumKind, ChecksumSpec, Client, ClientOptions, FsErrorKind};
use steadfs_tests::{BLOCK, TestCluster, content, eventually, verify, write};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::BINARY;

/// Two packets.
const SMALL_BLOCK: u64 = 256 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn sizes_around_chunks_packets_and_blocks_come_back() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    for length in [1, 511, 512, 513, 131_071, 131_072, 131_073, 262_143, 262_144, 262_145, 524_288, 700_001] {
        let path = format!("/size/{length}");
        let bytes = content(&path, length);
        let mut writer = client.create(&path).block_size(SMALL_BLOCK).await?;
        // Pieces that fit nothing.
        for start in (0..length).step_by(50_021) {
            writer.write_all(bytes.slice(start..(start + 50_021).min(length))).await?;
        }
        writer.close().await?;
        verify(&client, &path, &path, length).await?;
        let reader = client.open(&path).await?;
        let (third, half) = (length / 3, length / 2);
        for (start, end) in [(0, 1), (third, half), (third, length), (length - 1, length)] {
            let read = reader.read_at(start as u64, end - start).await?;
            assert_eq!(read, bytes.slice(start..end), "{path} {start}..{end}");
        }
        let mut streamed = Vec::new();
        reader.stream().read_to_end(&mut streamed).await?;
        assert_eq!(streamed, bytes, "{path}");
    }
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_read_one_file_at_once() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let length = 5 * BLOCK as usize + 99;
    write(&client, "/file", length).await?;
    let (bytes, reader) = (content("/file", length), client.open("/file").await?);
    let readers = (0..32_usize).map(|number| {
        let (bytes, reader) = (bytes.clone(), reader.clone());
        tokio::spawn(async move {
            let start = number * 161_803 % length;
            let end = (start + 1 + number * 70_001).min(length);
            assert_eq!(
                reader.read_at(start as u64, end - start).await?,
                bytes.slice(start..end),
                "{start}..{end}"
            );
            let mut stream = reader.stream_from(end as u64);
            stream.seek(std::io::SeekFrom::Start(start as u64)).await?;
            let mut piece = vec![0; (end - start).min(100_000)];
            stream.read_exact(&mut piece).await?;
            assert_eq!(piece, bytes[start..start + piece.len()], "{start}");
            anyhow::Ok(())
        })
    });
    for reader in try_join_all(readers).await? {
        reader?;
    }
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_goes_on_wherever_the_file_ended() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let bytes = content("append", 600_000);
    for split in [0, 1, 511, 512, 700, 131_072, 262_143, 262_144, 262_145, 599_999] {
        let path = format!("/append/{split}");
        let mut writer = client.create(&path).block_size(SMALL_BLOCK).await?;
        writer.write_all(bytes.slice(..split)).await?;
        writer.close().await?;
        let mut writer = client.append(&path).await?;
        assert_eq!(writer.position(), split as u64);
        // A flush inside the chunk that the append began in.
        let more = (split + 5).min(bytes.len());
        writer.write_all(bytes.slice(split..more)).await?;
        writer.hflush().await?;
        assert_eq!(client.read(&path, 700_000).await?, bytes.slice(..more), "{split}");
        writer.write_all(bytes.slice(more..)).await?;
        writer.close().await?;
        verify(&client, &path, "append", bytes.len()).await?;
    }
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flush_is_visible_at_once() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let (client, other) = (test.client().await?, test.client().await?);
    let bytes = content("log", 400_000);
    let mut writer = client.create("/log").block_size(SMALL_BLOCK).await?;
    let reader = other.open("/log").await?;
    let mut written = 0;
    for (round, more) in [1, 510, 1, 1, 100_000, 161_631, 1, 300, 100_000].into_iter().enumerate() {
        writer.write_all(bytes.slice(written..written + more)).await?;
        written += more;
        if round % 2 == 0 {
            writer.hflush().await?
        } else {
            writer.hsync().await?
        }
        assert_eq!(reader.refresh().await?, written as u64, "round {round}");
        assert_eq!(reader.read_at(0, written).await?, bytes.slice(..written), "round {round}");
    }
    writer.close().await?;
    verify(&other, "/log", "log", written).await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_when_its_datanode_is_killed() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(3, BINARY).await?;
    let client = Client::connect_with(
        &test.cluster.url(),
        ClientOptions { read_ahead: 1, ..ClientOptions::default() },
    )
    .await?;
    let length = 6 * BLOCK as usize;
    write(&client, "/file", length).await?;
    let bytes = content("/file", length);
    let reader = client.open("/file").await?;
    let mut stream = reader.stream();
    let mut read = stream.next_chunk().await?.expect("the file is not empty").to_vec();
    let victim = reader.blocks(0..1).await?[0].replicas[0].datanode.clone();
    let nodes = test.cluster.endpoints().datanodes;
    let victim = nodes.iter().position(|node| node.uuid == victim).expect("a datanode of this cluster");
    test.cluster.kill_datanode(victim).await;
    while let Some(chunk) = stream.next_chunk().await? {
        read.extend_from_slice(&chunk);
    }
    assert_eq!(read, bytes);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_goes_on_while_two_of_four_datanodes_are_killed() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(4, BINARY).await?;
    let client = test.client().await?;
    let bytes = content("/file", 6 * BLOCK as usize + 321);
    let mut writer = client.create("/file").await?;
    for (index, start) in (0..bytes.len()).step_by(200_000).enumerate() {
        writer.write_all(bytes.slice(start..(start + 200_000).min(bytes.len()))).await?;
        match index {
            8 => test.cluster.kill_datanode(0).await,
            16 => {
                writer.hflush().await?;
                test.cluster.kill_datanode(1).await;
            }
            _ => {}
        }
    }
    writer.close().await?;
    verify(&client, "/file", "/file", bytes.len()).await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_dropped_lets_the_file_go() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let (client, other) = (test.client().await?, test.client().await?);
    let mut writer = client.create("/file").await?;
    writer.write_all(content("/file", 100_000)).await?;
    writer.hflush().await?;
    writer.write_all("not flushed").await?;
    drop(writer);
    eventually("the file is closed", async || Ok(!other.stat("/file").await?.under_construction)).await?;
    let found = other.read("/file", 200_000).await?;
    assert!(found.starts_with(&content("/file", 100_000)), "{} bytes", found.len());
    other.write("/file", "new").await?;
    assert_eq!(client.read("/file", 10).await?, "new");
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_exclude_each_other_and_a_rename_does_not_disturb() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let (client, other) = (test.client().await?, test.client().await?);
    let mut writer = client.create("/file").await?;
    writer.write_all("one ").await?;
    writer.hflush().await?;
    let kind = |error: steadfs_client::FsError| error.kind();
    assert_eq!(other.append("/file").await.map_err(kind).err(), Some(FsErrorKind::AlreadyBeingCreated));
    client.rename("/file", "/renamed").await?;
    writer.write_all("two").await?;
    writer.close().await?;
    assert_eq!(other.read("/renamed", 10).await?, "one two");
    assert_eq!(other.create("/renamed").await.map_err(kind).err(), Some(FsErrorKind::AlreadyExists));
    assert_eq!(other.open("/").await.map_err(kind).err(), Some(FsErrorKind::IsADirectory));
    test.stop().await;
    Ok(())
}

/// Who lost the file while it stood still writes and closes nothing any more, whatever datanodes it still holds on to.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_comes_back_late_is_fenced() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let (client, other) = (test.client().await?, test.client().await?);
    let mut late = client.create("/file").await?;
    late.write_all("synced ").await?;
    late.hsync().await?;
    let mut closing = client.create("/closing").await?;
    closing.write_all("synced").await?;
    closing.hsync().await?;
    for path in ["/file", "/closing"] {
        eventually("it is taken over", async || Ok(other.recover_lease(path).await?)).await?;
    }
    let mut next = other.append("/file").await?;
    next.write_all("next").await?;
    next.close().await?;
    let written = async move {
        late.write_all("late").await?;
        late.hsync().await?;
        late.close().await
    };
    assert!(written.await.is_err(), "it was told that its bytes are safe");
    let closed = closing.close().await;
    assert_eq!(other.read("/file", 100).await?, "synced next");
    assert_eq!(other.read("/closing", 100).await?, "synced", "closed: {closed:?}");
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_depend_on_the_content_and_how_it_was_written() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let bytes = content("same", 700_000);
    for path in ["/a", "/b"] {
        let mut writer = client.create(path).block_size(SMALL_BLOCK).await?;
        writer.write_all(bytes.clone()).await?;
        writer.close().await?;
    }
    client.write("/one-block", bytes.clone()).await?;
    let sum = client.checksum("/a").await?;
    assert_eq!(sum, client.checksum("/b").await?);
    assert_eq!(sum.algorithm(), "MD5-of-512MD5-of-512CRC32C");
    assert_ne!(sum.md5, client.checksum("/one-block").await?.md5);
    for (path, kind) in [("/zip", ChecksumKind::Crc32), ("/none", ChecksumKind::Null)] {
        let spec = ChecksumSpec { kind, bytes_per_checksum: 512 };
        let mut writer = client.create(path).checksum(spec).await?;
        writer.write_all(bytes.clone()).await?;
        writer.close().await?;
        verify(&client, path, "same", bytes.len()).await?;
    }
    assert_eq!(client.checksum("/zip").await?.algorithm(), "MD5-of-0MD5-of-512CRC32");
    assert_eq!(
        client.checksum("/none").await.err().map(|error| error.kind()),
        Some(FsErrorKind::Unsupported)
    );
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn long_listings_come_page_by_page() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let made = (0..2_345).map(|number| {
        let client = client.clone();
        async move { client.mkdirs(&format!("/many/d{number:05}")).await }
    });
    futures::stream::iter(made.map(Ok::<_, steadfs_client::FsError>))
        .try_for_each_concurrent(64, |made| made)
        .await?;
    let names: Vec<_> = client.list("/many").map_ok(|entry| entry.name().to_owned()).try_collect().await?;
    assert_eq!(names, (0..2_345).map(|number| format!("d{number:05}")).collect::<Vec<_>>());
    assert_eq!(client.walk("/").try_fold(0, |count, _| async move { Ok(count + 1) }).await?, 2_346);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_documentation_run() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--quiet", "--locked", "--doc", "-p", "steadfs-client"]);
    let output =
        tokio::process::Command::from(command).env("STEADFS_URL", test.cluster.url()).output().await?;
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    // They did not only compile.
    assert_eq!(test.client().await?.read("/data/log", 100).await?, "first\nsecond\n");
    test.stop().await;
    Ok(())
}
