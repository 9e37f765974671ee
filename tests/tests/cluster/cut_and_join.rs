//! Truncate, concat, and files named by their ids, through a whole cluster.

use steadfs_client::{Client, FsErrorKind};
use steadfs_tests::{BLOCK, TestCluster, content, eventually, fsck, verify, write};

/// Three blocks and a piece that fills no chunk.
const LONG: usize = 3 * BLOCK as usize + 12_345;

/// Waits until nobody writes or truncates the file.
async fn closed(client: &Client, path: &str) -> anyhow::Result<()> {
    eventually("the file is closed", async || Ok(!client.stat(path).await?.under_construction)).await
}

/// Truncates to the end; whether the last block had to be cut.
async fn truncate(client: &Client, path: &str, length: usize) -> anyhow::Result<bool> {
    let at_once = client.truncate(path, length as u64).await?;
    closed(client, path).await?;
    Ok(!at_once)
}

/// Checks that the file holds the first `length` bytes of `LONG` of its name.
async fn holds(client: &Client, path: &str, name: &str, length: usize) -> anyhow::Result<()> {
    assert_eq!(client.stat(path).await?.length, length as u64);
    let bytes = client.read(path, LONG + 1).await?;
    assert_eq!(bytes.len(), length);
    assert!(bytes == content(name, LONG).slice(..length), "{path} holds other bytes than were written");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_cut_wherever_it_is_asked_for() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let block = BLOCK as usize;
    write(&client, "/f", LONG).await?;
    let before = client.open("/f").await?;
    // Within the last block, within a chunk, at a chunk's end, at a block's end, back in the block before, to nothing.
    for (length, cut) in [
        (LONG - 1, true),
        (3 * block + 512, true),
        (3 * block, false),
        (2 * block + 1, true),
        (2 * block + 1, false),
        (block + 700_001, true),
        (block, false),
        (block - 1, true),
        (1, true),
        (0, false),
    ] {
        assert_eq!(truncate(&client, "/f", length).await?, cut, "to {length}");
        holds(&client, "/f", "/f", length).await?;
    }
    assert_eq!(client.content_summary("/").await?.length, 0);
    drop(before);
    let kind = client.truncate("/f", 1).await.map_err(|error| error.kind());
    assert_eq!(kind, Err(FsErrorKind::InvalidArgument), "a file does not grow by that");
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_cut_is_written_on_and_survives_a_restart() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    write(&client, "/f", LONG).await?;
    let length = BLOCK as usize + 1_000;
    assert!(truncate(&client, "/f", length).await?);
    let whole = content("/f", LONG);
    let mut writer = client.append("/f").await?;
    writer.write_all(whole.slice(length..)).await?;
    writer.close().await?;
    verify(&client, "/f", "/f", LONG).await?;
    assert!(truncate(&client, "/f", length).await?);

    let test = test.restart().await?;
    let client = test.client().await?;
    holds(&client, "/f", "/f", length).await?;
    test.healed().await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_ends_after_a_restart_in_its_middle() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    for number in 0..8 {
        write(&client, &format!("/{number}"), LONG).await?;
    }
    for number in 0..8 {
        assert!(!client.truncate(&format!("/{number}"), BLOCK + 10 + number).await?);
    }
    let test = test.restart().await?;
    let client = test.client().await?;
    for number in 0..8 {
        let path = format!("/{number}");
        closed(&client, &path).await?;
        holds(&client, &path, &path, BLOCK as usize + 10 + number).await?;
    }
    test.healed().await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_missed_a_truncation_is_replaced() -> anyhow::Result<()> {
    let mut test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    write(&client, "/f", LONG).await?;
    test.healed().await?;
    test.cluster.stop_datanode(0).await;
    test.live_datanodes(2).await?;
    let length = BLOCK as usize + 77;
    assert!(truncate(&client, "/f", length).await?);
    holds(&client, "/f", "/f", length).await?;
    test.cluster.start_datanode(0).await?;
    test.live_datanodes(3).await?;
    test.healed().await?;
    assert_eq!(fsck(&client).await?.corrupt, 0);
    for _ in 0..6 {
        holds(&client, "/f", "/f", length).await?;
    }
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_joined_without_moving_a_byte() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let lengths = [BLOCK as usize + 3, 100, 2 * BLOCK as usize, 70_001];
    for (number, length) in lengths.iter().enumerate() {
        write(&client, &format!("/parts/{number}"), *length).await?;
    }
    test.healed().await?;
    let blocks = fsck(&client).await?.blocks;
    client.concat("/parts/0", &["/parts/1", "/parts/2", "/parts/3"]).await?;
    let parts = lengths.iter().enumerate();
    let whole =
        parts.flat_map(|(number, length)| content(&format!("/parts/{number}"), *length)).collect::<Vec<_>>();
    let read = async |client: &Client| client.read("/parts/0", whole.len() + 1).await;
    assert!(read(&client).await? == whole);
    let middle = client.open("/parts/0").await?.read_at(BLOCK, 200).await?;
    assert_eq!(middle, whole[BLOCK as usize..BLOCK as usize + 200]);
    assert_eq!(client.list_all("/parts").await?.len(), 1);
    assert_eq!(fsck(&client).await?.blocks, blocks);

    let mut writer = client.append("/parts/0").await?;
    writer.write_all("more").await?;
    writer.close().await?;
    assert!(truncate(&client, "/parts/0", whole.len()).await?);
    let test = test.restart().await?;
    let client = test.client().await?;
    assert!(read(&client).await? == whole);
    test.healed().await?;
    let kind = client.concat("/parts/0", &["/parts/1"]).await.map_err(|error| error.kind());
    assert_eq!(kind, Err(FsErrorKind::NotFound));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_and_written_by_its_id() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    write(&client, "/a/f", LONG).await?;
    let by_id = format!("/.reserved/.inodes/{}", client.stat("/a/f").await?.inode);
    client.rename("/a/f", "/a/g").await?;
    verify(&client, &by_id, "/a/f", LONG).await?;
    let folder = format!("/.reserved/.inodes/{}", client.stat("/a").await?.inode);
    write(&client, &format!("{folder}/new"), 1_000).await?;
    verify(&client, "/a/new", &format!("{folder}/new"), 1_000).await?;
    let mut writer = client.append(&by_id).await?;
    writer.write_all("more").await?;
    writer.close().await?;
    assert_eq!(client.stat("/a/g").await?.length, LONG as u64 + 4);
    client.delete("/a/g", false).await?;
    let kind = client.stat(&by_id).await.map(|_| ()).map_err(|error| error.kind());
    assert_eq!(kind, Err(FsErrorKind::NotFound));
    test.stop().await;
    Ok(())
}
