//! Datanodes that stop without ending, that share a folder, and whose bytes are the only ones left.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use steadfs_client::{Client, ClientOptions};
use steadfs_tests::{BLOCK, LIMIT, TestCluster, content, eventually, verify, write};

use crate::BINARY;

/// Far more than [`LIMIT`]: what waits for it never ends in time.
const NEVER: Duration = Duration::from_secs(3_600);

fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "{name} to {pid}");
}

/// Lets a stopped process go on when a test ends, however it does.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Self {
        signal(pid, "STOP");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

/// A client that only gives up who stalls, never who is merely silent.
async fn patient(test: &TestCluster) -> anyhow::Result<Client> {
    let options = ClientOptions { data_timeout: NEVER, ..ClientOptions::default() };
    Ok(Client::connect_with(&test.cluster.url(), options).await?)
}

/// Which datanodes have the last block of an open file, in the order of its pipeline.
async fn pipeline(test: &TestCluster, client: &Client, path: &str) -> anyhow::Result<Vec<usize>> {
    let blocks = client.open(path).await?.blocks(0..u64::MAX / 2).await?;
    let nodes = test.cluster.endpoints().datanodes;
    let last = blocks.last().map(|block| block.replicas.clone()).unwrap_or_default();
    Ok(last.iter().filter_map(|held| nodes.iter().position(|node| node.uuid == held.datanode)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datanode_that_stops_without_ending_costs_writers_and_readers_moments() -> anyhow::Result<()> {
    let test = TestCluster::by_processes(4, BINARY).await?;
    let client = patient(&test).await?;
    // The first of a pipeline is watched by the writer, the others by the one before them.
    for position in 0..2 {
        let path = format!("/file-{position}");
        let bytes = content(&path, BLOCK as usize);
        let mut writer = client.create(&path).await?;
        writer.write_all(bytes.slice(..300_000)).await?;
        writer.hflush().await?;
        let nodes = pipeline(&test, &client, &path).await?;
        let victim = test.cluster.endpoints().datanodes[nodes[position]].clone();
        let stopped = Stopped::new(victim.pid);
        let goes_on = async {
            writer.write_all(bytes.slice(300_000..)).await?;
            writer.hflush().await?;
            verify(&patient(&test).await?, &path, &path, bytes.len()).await?;
            writer.close().await?;
            verify(&patient(&test).await?, &path, &path, bytes.len()).await
        };
        tokio::time::timeout(LIMIT, goes_on).await??;
        drop(stopped);
        test.live_datanodes(4).await?;
        test.healed().await?;
    }
    test.stop().await;
    Ok(())
}

/// Starts a datanode from a configuration; gives what it says when it ends.
async fn ends(config: &Path) -> anyhow::Result<String> {
    let mut command = tokio::process::Command::new(BINARY);
    command.arg("datanode").arg("--config").arg(config).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await??;
    assert!(!output.status.success());
    Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_datanodes_folder_is_refused_and_the_datanode_left_alone() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(2, BINARY).await?;
    let client = test.client().await?;
    write(&client, "/file", 3_000).await?;
    let copy = test.folder().join("copy");
    let volume = test.cluster.volume(0, 0);
    let copied = std::process::Command::new("cp").arg("-a").arg(&volume).arg(&copy).status()?;
    assert!(copied.success());
    // Where it listens is any free port; all else is as the datanode's own.
    let own = std::fs::read_to_string(test.cluster.config(Some(0)))?;
    let volume = volume.to_str().expect("a path in UTF-8");
    assert!(own.contains(volume), "{own}");
    let config = test.folder().join("copy.toml");
    std::fs::write(&config, own.replace(volume, copy.to_str().expect("a path in UTF-8")))?;
    // An orchestrator starts it again and again.
    for _ in 0..2 {
        let said = ends(&config).await?;
        assert!(said.contains("has a copy of its folders: give it empty ones"), "{said}");
    }
    let ended = tokio::time::timeout(Duration::from_millis(1), test.cluster.next_end()).await;
    assert!(ended.is_err(), "the datanode was left alone");
    test.live_datanodes(2).await?;
    verify(&client, "/file", "/file", 3_000).await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_whose_datanodes_are_all_away_waits_for_them() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(3, BINARY).await?;
    let client = test.client().await?;
    let bytes = content("/open", 500_000);
    let mut writer = client.create("/open").await?;
    writer.write_all(bytes.slice(..200_000)).await?;
    writer.hflush().await?;
    // One falls out of the pipeline: what it has is of an older stamp from now on.
    let older = pipeline(&test, &client, "/open").await?[1];
    test.cluster.kill_datanode(older).await;
    writer.write_all(bytes.slice(200_000..)).await?;
    writer.hsync().await?;
    let others: Vec<usize> = (0..3).filter(|index| *index != older).collect();
    for index in &others {
        test.cluster.kill_datanode(*index).await;
    }
    drop(writer);
    test.live_datanodes(0).await?;
    test.cluster.start_datanode(older).await?;
    test.live_datanodes(1).await?;
    // Recoveries are asked for again and again, and none of them ends.
    for _ in 0..20 {
        assert!(
            !client.recover_lease("/open").await?,
            "only those that are away can tell what was acknowledged"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for index in others {
        test.cluster.start_datanode(index).await?;
    }
    test.live_datanodes(3).await?;
    eventually("the file is closed", async || Ok(client.recover_lease("/open").await?)).await?;
    verify(&client, "/open", "/open", bytes.len()).await?;
    test.healed().await?;
    test.stop().await;
    Ok(())
}
