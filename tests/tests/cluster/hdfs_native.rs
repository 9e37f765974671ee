//! `hdfs-native`, an independent client in Rust: what it writes we read, what we write it reads.

use bytes::Bytes;
use futures::StreamExt;
use hdfs_native::{ClientBuilder, WriteOptions};
use steadfs_tests::{BLOCK, TestCluster, content, verify, write};

const LONG: usize = 2 * BLOCK as usize + 99;

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_client_reads_and_writes() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let ours = test.client().await?;
    let theirs = ClientBuilder::new().with_url(test.cluster.url()).build()?;

    theirs.mkdirs("/dir/inner", 0o755, true).await?;
    let mut writer = theirs.create("/dir/theirs", WriteOptions::default()).await?;
    writer.write_bytes(content("/dir/theirs", LONG)).await?;
    writer.close().await?;
    verify(&ours, "/dir/theirs", "/dir/theirs", LONG).await?;

    let mut writer = theirs.append("/dir/theirs").await?;
    writer.write_bytes(Bytes::from_static(b"more")).await?;
    writer.close().await?;
    assert_eq!(ours.stat("/dir/theirs").await?.length, LONG as u64 + 4);

    write(&ours, "/dir/ours", LONG).await?;
    let reader = theirs.read("/dir/ours").await?;
    assert_eq!(reader.file_length(), LONG);
    assert_eq!(reader.read_range(0, LONG).await?, content("/dir/ours", LONG));
    let part: Vec<Bytes> =
        reader.read_range_stream(BLOCK as usize - 5, 10).map(Result::unwrap).collect().await;
    assert_eq!(part.concat(), content("/dir/ours", LONG).slice(BLOCK as usize - 5..BLOCK as usize + 5));

    theirs.rename("/dir/ours", "/dir/renamed", false).await?;
    let mut names: Vec<String> =
        theirs.list_status("/dir", false).await?.into_iter().map(|status| status.path).collect();
    names.sort();
    assert_eq!(names, ["/dir/inner", "/dir/renamed", "/dir/theirs"]);
    assert!(theirs.get_file_info("/dir/ours").await.is_err());
    theirs.set_permission("/dir/renamed", 0o600).await?;
    assert_eq!(ours.stat("/dir/renamed").await?.mode, 0o600);
    assert_eq!(theirs.get_content_summary("/dir").await?.file_count, 2);
    assert!(theirs.delete("/dir", true).await?);
    assert!(!ours.exists("/dir").await?);
    test.stop().await;
    Ok(())
}
