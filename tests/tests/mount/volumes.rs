//! Volumes: what pods have open outlives the processes that serve it, and what is taken away leaves nothing.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use steadfs_proto::csi;
use steadfs_proto::csi::volume_capability::access_mode::Mode;
use steadfs_tests::{LIMIT, TestCluster, content};
use tonic::Code;

use crate::driver::{Driver, Wish, capability, of_group, refused};
use crate::mounted::on_thread;

/// Work on a mount, on a thread of its own and for a limited time.
async fn with<T: Send + 'static>(
    driver: &Driver,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let done = tokio::time::timeout(LIMIT * 2, on_thread(work)).await;
    done.map_err(|_| anyhow::anyhow!("nothing came back"))
        .and_then(|done| done?)
        .with_context(|| driver.log())
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_writers_go_on_when_the_driver_is_killed() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let mut driver = Driver::start(&test.cluster.url()).await?;
    let volume = driver.create("pvc-a", &[]).await?;
    let at = driver.publish(&volume.volume_id, Wish::new("pod/mount")).await?;
    let bytes = content("w", 30_000_000);
    let (written, place) = (bytes.clone(), at.clone());
    let writer = tokio::spawn(on_thread(move || -> anyhow::Result<()> {
        let mut file = File::create(place.join("w"))?;
        for piece in written.chunks(200_003) {
            file.write_all(piece)?;
            std::thread::sleep(Duration::from_millis(20));
        }
        file.sync_all()?;
        Ok(())
    }));
    let (read, place, stop) = (bytes.clone(), at.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let reader = tokio::spawn(on_thread(move || -> anyhow::Result<usize> {
        fs::write(place.join("r"), &read)?;
        let file = File::open(place.join("r"))?;
        let mut rounds = 0;
        loop {
            let start = rounds * 104_729 % (read.len() - 70_000);
            let mut seen = vec![0; 70_000];
            file.read_exact_at(&mut seen, start as u64)?;
            ensure!(seen == read[start..start + 70_000], "round {rounds}");
            rounds += 1;
            if stopped.load(Ordering::Relaxed) {
                return Ok(rounds);
            }
        }
    }));
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        driver.kill_driver()?;
        driver.start_driver().await?;
    }
    tokio::time::timeout(LIMIT * 2, writer).await????;
    stop.store(true, Ordering::Relaxed);
    ensure!(tokio::time::timeout(LIMIT * 2, reader).await???? > 0, "nothing was read");
    let place = at.clone();
    ensure!(with(&driver, move || Ok(fs::read(place.join("w"))?)).await? == bytes, "bytes are lost or wrong");
    let stats = driver.stats(&volume.volume_id, "pod/mount").await?;
    ensure!(!stats.volume_condition.context("no condition")?.abnormal);
    ensure!(stats.usage[0].total == 1 << 30 && stats.usage[0].used >= 60_000_000, "{:?}", stats.usage);
    driver.unpublish(&volume.volume_id, "pod/mount").await?;
    ensure!(!at.exists());
    driver.unstage(&volume.volume_id).await?;
    driver.nothing_left().await?;
    driver.delete(&volume.volume_id).await?;
    ensure!(!test.client().await?.exists("/volumes/pvc-a").await?);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keepers_follow_each_other() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let mut driver = Driver::start(&test.cluster.url()).await?;
    let volume = driver.create("pvc-a", &[]).await?;
    let at = driver.publish(&volume.volume_id, Wish::new("pod/mount")).await?;
    let mut file = with(&driver, move || Ok(File::create(at.join("f"))?)).await?;
    driver.until("the keeper has the mount", || driver.kept() == 1).await?;
    // By overlap, as a DaemonSet with a surge does it; then the driver goes, and finds all in the new one.
    driver.start_keeper().await?;
    driver.until("the keeper still has the mount", || driver.kept() == 1).await?;
    driver.kill_keeper()?;
    driver.kill_driver()?;
    driver.start_driver().await?;
    file = with(&driver, move || {
        file.write_all(b"one ")?;
        Ok(file)
    })
    .await?;
    // Without overlap: everything is left with the next one.
    driver.kill_keeper()?;
    driver.start_keeper().await?;
    driver.until("the next keeper has the mount", || driver.kept() == 1).await?;
    driver.kill_driver()?;
    driver.start_driver().await?;
    with(&driver, move || {
        file.write_all(b"two")?;
        Ok(file.sync_all()?)
    })
    .await?;
    ensure!(test.client().await?.read("/volumes/pvc-a/f", 100).await? == "one two");
    driver.unpublish(&volume.volume_id, "pod/mount").await?;
    driver.unstage(&volume.volume_id).await?;
    driver.nothing_left().await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_dead_mount_is_cleared() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let mut driver = Driver::start(&test.cluster.url()).await?;
    let volume = driver.create("pvc-a", &[]).await?;
    driver.publish(&volume.volume_id, Wish::new("one/mount")).await?;
    driver.kill_keeper()?;
    driver.kill_driver()?;
    driver.start_keeper().await?;
    driver.start_driver().await?;
    let condition = driver.stats(&volume.volume_id, "one/mount").await?.volume_condition;
    let condition = condition.context("no condition")?;
    ensure!(condition.abnormal && condition.message.contains("dead"), "{condition:?}");
    // The next pod has a mount that lives, beside the dead one of the first.
    let at = driver.publish(&volume.volume_id, Wish::new("two/mount")).await?;
    with(&driver, move || Ok(fs::write(at.join("f"), b"x")?)).await?;
    driver.unpublish(&volume.volume_id, "one/mount").await?;
    driver.unpublish(&volume.volume_id, "two/mount").await?;
    driver.unstage(&volume.volume_id).await?;
    driver.nothing_left().await?;
    // Also when the cluster is away, and for what was never there.
    let volume = driver.create("pvc-b", &[]).await?;
    driver.publish(&volume.volume_id, Wish::new("one/mount")).await?;
    test.stop().await;
    driver.unpublish(&volume.volume_id, "one/mount").await?;
    driver.unpublish(&volume.volume_id, "one/mount").await?;
    driver.unstage(&volume.volume_id).await?;
    driver.unstage(&volume.volume_id).await?;
    driver.nothing_left().await
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_of_volumes_are_what_they_say() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let driver = Driver::start(&test.cluster.url()).await?;
    let client = test.client().await?;
    let volume = driver.create("pvc-a", &[("mode", "0750"), ("blockSize", "2Mi")]).await?;
    // A group of a pod has the volume, and what is made in it.
    let wish = Wish { capability: of_group("4711"), ..Wish::new("one/mount") };
    let at = driver.publish(&volume.volume_id, wish).await?;
    let place = at.clone();
    with(&driver, move || {
        let made = Command::new("setpriv")
            .args(["--reuid", "1234", "--regid", "1234", "--clear-groups", "touch"])
            .arg(place.join("f"))
            .output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made = fs::metadata(place.join("f"))?;
        ensure!((made.uid(), made.gid()) == (1234, 4711), "{} {}", made.uid(), made.gid());
        Ok(())
    })
    .await?;
    let made = client.stat("/volumes/pvc-a/f").await?;
    ensure!((made.replication, made.block_size) == (1, 2 << 20), "{made:?}");
    // Read only for one pod, and not for the other.
    let wish = Wish { read_only: true, ..Wish::new("two/mount") };
    let read_only = driver.publish(&volume.volume_id, wish).await?;
    with(&driver, move || {
        let error = fs::write(read_only.join("g"), b"x").unwrap_err();
        ensure!(error.kind() == std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
        Ok(fs::write(at.join("g"), b"x")?)
    })
    .await?;
    // One pod alone is refused while others have it.
    let wish = Wish { capability: capability(Mode::SingleNodeSingleWriter), ..Wish::new("three/mount") };
    let status = refused(driver.publish(&volume.volume_id, wish).await)?;
    ensure!(
        status.code() == Code::FailedPrecondition && status.message().contains("one pod alone"),
        "{status:?}"
    );
    for target in ["one/mount", "two/mount"] {
        driver.unpublish(&volume.volume_id, target).await?;
    }
    driver.unstage(&volume.volume_id).await?;
    driver.nothing_left().await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_others_making_are_checked() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let driver = Driver::start(&test.cluster.url()).await?;
    let client = test.client().await?;
    client.mkdirs("/data/shared").await?;
    // A static volume is a folder that an administrator names.
    let context = [("folder", "/data/shared")];
    let at = driver.publish("shared", Wish { context: &context, ..Wish::new("one/mount") }).await?;
    with(&driver, move || Ok(fs::write(at.join("f"), b"x")?)).await?;
    ensure!(client.exists("/data/shared/f").await?);
    driver.unpublish("shared", "one/mount").await?;
    driver.unstage("shared").await?;
    for (folder, code) in [
        ("/data/none", Code::NotFound),
        ("/data/../etc", Code::InvalidArgument),
        ("data", Code::InvalidArgument),
        ("/", Code::InvalidArgument),
        ("/.steadfs/csi/volumes", Code::InvalidArgument),
        ("/.reserved/.inodes/16385", Code::InvalidArgument),
    ] {
        let context = [("folder", folder)];
        let status =
            refused(driver.publish("x", Wish { context: &context, ..Wish::new("one/mount") }).await)?;
        ensure!(status.code() == code, "{folder}: {status:?}");
    }
    // Nor do made up handles find anything.
    let volume = driver.create("pvc-a", &[]).await?;
    let mut parts: Vec<&str> = volume.volume_id.split(':').collect();
    let token = "0".repeat(32);
    parts[3] = &token;
    let status = refused(driver.publish(&parts.join(":"), Wish::new("one/mount")).await)?;
    ensure!(status.code() == Code::NotFound, "{status:?}");
    // A pod's own volume is made with it and goes with it, wherever its author would like it to be.
    let id = format!("csi-{}", "ab".repeat(32));
    let inline = |context| Wish { ephemeral: true, context, ..Wish::new("one/mount") };
    let wrong = [("csi.storage.k8s.io/ephemeral", "true"), ("folder", "/data")];
    let status = refused(driver.publish(&id, inline(&wrong)).await)?;
    ensure!(status.code() == Code::InvalidArgument && status.message().contains("folder"), "{status:?}");
    let context = [("csi.storage.k8s.io/ephemeral", "true"), ("size", "100Mi")];
    let at = driver.publish(&id, inline(&context)).await?;
    with(&driver, move || Ok(fs::write(at.join("f"), b"x")?)).await?;
    let folder = format!("/volumes/.inline/node-1/{id}");
    ensure!(client.content_summary(&folder).await?.space_quota == Some(100 << 20));
    driver.unpublish(&id, "one/mount").await?;
    ensure!(!client.exists(&folder).await?);
    driver.nothing_left().await?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_grows_while_it_is_used() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let driver = Driver::start(&test.cluster.url()).await?;
    let volume = driver.create("pvc-a", &[("blockSize", "1Mi")]).await?;
    let at = driver.publish(&volume.volume_id, Wish::new("pod/mount")).await?;
    let request = csi::ControllerExpandVolumeRequest {
        volume_id: volume.volume_id.clone(),
        capacity_range: Some(csi::CapacityRange { required_bytes: 2 << 30, limit_bytes: 0 }),
        ..Default::default()
    };
    let answer = driver.controller().await?.controller_expand_volume(request).await?.into_inner();
    ensure!((answer.capacity_bytes, answer.node_expansion_required) == (2 << 30, false));
    let stats = driver.stats(&volume.volume_id, "pod/mount").await?;
    ensure!(stats.usage[0].total == 2 << 30);
    with(&driver, move || Ok(fs::write(at.join("f"), b"x")?)).await?;
    driver.unpublish(&volume.volume_id, "pod/mount").await?;
    driver.unstage(&volume.volume_id).await?;
    driver.nothing_left().await?;
    test.stop().await;
    Ok(())
}
