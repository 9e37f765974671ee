//! Files through a cluster in one process.

use futures::TryStreamExt;
use steadfs_client::FsErrorKind;
use steadfs_tests::{BLOCK, TestCluster, content, verify, write};

/// Several blocks and a piece that fills no chunk.
const LONG: usize = 3 * BLOCK as usize + 12_345;

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_read_and_survive_a_clean_restart() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    client.mkdirs("/data/deep").await?;
    for (path, length) in
        [("/data/empty", 0), ("/data/one", 1), ("/data/block", BLOCK as usize), ("/data/deep/long", LONG)]
    {
        write(&client, path, length).await?;
        verify(&client, path, path, length).await?;
    }
    let part = client.open("/data/deep/long").await?.read_at(BLOCK - 3, 10).await?;
    assert_eq!(part, content("/data/deep/long", LONG).slice(BLOCK as usize - 3..BLOCK as usize + 7));

    let test = test.restart().await?;
    let client = test.client().await?;
    for (path, length) in
        [("/data/empty", 0), ("/data/one", 1), ("/data/block", BLOCK as usize), ("/data/deep/long", LONG)]
    {
        verify(&client, path, path, length).await?;
    }
    let summary = client.content_summary("/").await?;
    assert_eq!((summary.files, summary.directories, summary.length), (4, 3, 1 + BLOCK + LONG as u64));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_and_flushes_are_seen_by_readers() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let whole = content("log", 300_000);
    let mut writer = client.create("/log").await?;
    writer.write_all(whole.slice(..100_000)).await?;
    writer.hflush().await?;
    let seen = client.open("/log").await?.read_at(0, 100_000).await?;
    assert_eq!(seen, whole.slice(..100_000), "flushed bytes are readable while the file is written");
    writer.close().await?;
    let mut writer = client.append("/log").await?;
    writer.write_all(whole.slice(100_000..)).await?;
    writer.hsync().await?;
    writer.close().await?;
    verify(&client, "/log", "log", whole.len()).await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_namespace_is_as_asked_for() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    client.mkdirs("/a/b").await?;
    write(&client, "/a/file", 10).await?;
    client.rename("/a/file", "/a/b/moved").await?;
    verify(&client, "/a/b/moved", "/a/file", 10).await?;
    let kind = |error: steadfs_client::FsError| error.kind();
    assert_eq!(client.stat("/a/file").await.map_err(kind).err(), Some(FsErrorKind::NotFound));
    assert!(client.delete("/a", false).await.is_err(), "a folder that is not empty");
    assert!(client.delete("/a", true).await?);
    assert!(client.list("/").try_collect::<Vec<_>>().await?.is_empty());
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_at_once() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let writers: Vec<_> = (0..24_usize)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let (path, length) = (format!("/many/{number}"), number * 100_001);
                write(&client, &path, length).await?;
                verify(&client, &path, &path, length).await
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    assert_eq!(client.content_summary("/many").await?.files, 24);
    test.stop().await;
    Ok(())
}
