//! Processes killed by SIGKILL, volumes lost: nothing acknowledged is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use steadfs_client::{Client, ClientOptions};
use steadfs_tests::{BLOCK, LIMIT, TestCluster, content, eventually, fsck, verify, write};

use crate::BINARY;

const LONG: usize = 2 * BLOCK as usize + 777;

/// Writes small files one after the other until told to stop; gives those whose close was acknowledged.
async fn write_until_told(client: Client, name: usize, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let path = format!("/acknowledged/{name}/{number}");
        if write(&client, &path, 5_000).await.is_ok() {
            acknowledged.push(path);
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namenode_killed_while_files_are_written_loses_nothing_acknowledged() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(3, BINARY).await?;
    let options = ClientOptions { call_timeout: LIMIT, ..ClientOptions::default() };
    let client = Client::connect_with(&test.cluster.url(), options).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..4).map(|name| tokio::spawn(write_until_told(client.clone(), name, stop.clone()))).collect();
    for round in 0..3 {
        let before = client.content_summary("/").await?.files;
        eventually("files are written", async || Ok(client.content_summary("/").await?.files > before + 8))
            .await?;
        test.cluster.kill_namenode().await;
        test.cluster.start_namenode().await?;
        test.cluster.serving(LIMIT).await.map_err(|error| error.context(format!("round {round}")))?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut files = Vec::new();
    for writer in writers {
        files.extend(writer.await?);
    }
    assert!(files.len() > 24, "{} files were acknowledged", files.len());
    for path in &files {
        verify(&client, path, path, 5_000).await?;
    }
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_killed_at_once_keeps_what_was_synced() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(3, BINARY).await?;
    let client = test.client().await?;
    write(&client, "/closed", LONG).await?;
    let mut writer = client.create("/open").await?;
    let bytes = content("/open", 400_000);
    writer.write_all(bytes.slice(..300_000)).await?;
    writer.hsync().await?;
    test.cluster.kill_namenode().await;
    for index in 0..3 {
        test.cluster.kill_datanode(index).await;
    }
    drop(writer);
    test.cluster.start_namenode().await?;
    for index in 0..3 {
        test.cluster.start_datanode(index).await?;
    }
    test.cluster.serving(LIMIT).await?;
    let client = test.client().await?;
    verify(&client, "/closed", "/closed", LONG).await?;
    eventually("the dead writer's file is closed", async || Ok(client.recover_lease("/open").await?)).await?;
    let found = client.read("/open", 400_000).await?;
    assert!(found.len() >= 300_000 && found == bytes.slice(..found.len()), "{} bytes", found.len());
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replicas_of_a_killed_datanode_are_made_again() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(4, BINARY).await?;
    let client = test.client().await?;
    for number in 0..6 {
        write(&client, &format!("/files/{number}"), LONG).await?;
    }
    test.cluster.kill_datanode(2).await;
    test.live_datanodes(3).await?;
    test.healed().await?;
    for number in 0..6 {
        let path = format!("/files/{number}");
        verify(&client, &path, &path, LONG).await?;
    }
    // It comes back with all it had: what is now too much goes again.
    test.cluster.start_datanode(2).await?;
    test.live_datanodes(4).await?;
    eventually("replicas too many are removed", async || Ok(fsck(&client).await?.over_replicated == 0))
        .await?;
    test.healed().await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_goes_on_when_a_datanode_of_its_pipeline_is_killed() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(4, BINARY).await?;
    let client = test.client().await?;
    let bytes = content("/file", 4 * BLOCK as usize);
    let mut writer = client.create("/file").await?;
    writer.write_all(bytes.slice(..1_300_000)).await?;
    writer.hflush().await?;
    let blocks = client.open("/file").await?.blocks(0..1_300_000).await?;
    let victim =
        blocks.last().and_then(|block| block.replicas.first()).expect("the block being written has replicas");
    let uuids = test.cluster.endpoints().datanodes;
    let victim =
        uuids.iter().position(|node| node.uuid == victim.datanode).expect("a datanode of this cluster");
    test.cluster.kill_datanode(victim).await;
    writer.write_all(bytes.slice(1_300_000..)).await?;
    writer.close().await?;
    verify(&client, "/file", "/file", bytes.len()).await?;
    test.live_datanodes(3).await?;
    test.healed().await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datanode_that_lost_its_volume_gets_other_replicas() -> anyhow::Result<()> {
    let mut test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    write(&client, "/file", LONG).await?;
    test.healed().await?;
    let volume = test.cluster.volume(0, 0);
    test.cluster.stop_datanode(0).await;
    std::fs::remove_dir_all(&volume)?;
    test.cluster.start_datanode(0).await?;
    test.healed().await?;
    verify(&client, "/file", "/file", LONG).await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_fails_is_dropped_and_the_others_serve_on() -> anyhow::Result<()> {
    let test = TestCluster::start(3, |options| options.volumes = 2).await?;
    let client = test.client().await?;
    for number in 0..4 {
        write(&client, &format!("/before/{number}"), LONG).await?;
    }
    test.healed().await?;
    std::fs::remove_dir_all(test.cluster.volume(0, 0))?;
    for number in 0..4 {
        write(&client, &format!("/after/{number}"), LONG).await?;
    }
    eventually("the volume is known to have failed", async || {
        let report = client.report().await?;
        let failed = report.datanodes.iter().flat_map(|node| &node.storages).filter(|storage| storage.failed);
        Ok(failed.count() == 1 && report.datanodes.iter().all(|node| node.live))
    })
    .await?;
    test.healed().await?;
    for number in 0..4 {
        for path in [format!("/before/{number}"), format!("/after/{number}")] {
            verify(&client, &path, &path, LONG).await?;
        }
    }
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_takes_another_replica_when_one_is_rotten() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    write(&client, "/file", LONG).await?;
    test.healed().await?;
    let damaged = damage_blocks(&test.cluster.volume(1, 0))?;
    assert!(damaged > 0, "a replica was found on the volume");
    for _ in 0..3 {
        verify(&client, "/file", "/file", LONG).await?;
    }
    test.stop().await;
    Ok(())
}

/// Flips a bit in the middle of every block file below `folder`.
fn damage_blocks(folder: &std::path::Path) -> std::io::Result<usize> {
    let mut damaged = 0;
    for entry in std::fs::read_dir(folder)? {
        let (path, kind) =
            (entry.as_ref().map(|entry| entry.path()), entry.as_ref().map(std::fs::DirEntry::file_type));
        let (Ok(path), Ok(kind)) = (path, kind) else { continue };
        if kind?.is_dir() {
            damaged += damage_blocks(&path)?;
        } else if path.extension().is_none()
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("blk_"))
        {
            let mut bytes = std::fs::read(&path)?;
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
                std::fs::write(&path, bytes)?;
                damaged += 1;
            }
        }
    }
    Ok(damaged)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_was_killed_is_told_of_and_not_started_again() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(2, BINARY).await?;
    let pid = test.cluster.endpoints().datanodes[1].pid;
    let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
    assert!(status.success());
    let ended = tokio::time::timeout(Duration::from_secs(20), test.cluster.next_end()).await?;
    assert_eq!((ended.datanode, ended.pid, ended.how.as_str()), (Some(1), pid, "was killed by signal 9"));
    test.stop().await;
    Ok(())
}
