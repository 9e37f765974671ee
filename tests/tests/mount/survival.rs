//! Mounts outlive the processes that serve them.

use std::fs;
use std::time::{Duration, Instant};

use steadfs_tests::{TestCluster, content};

use crate::mounted::Mounted;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_followed_by_another() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    let first = mounted.server()?;
    mounted.with(|at| Ok(fs::write(at.join("f"), content("f", 3_000_000))?)).await?;
    mounted.kill_server()?;
    let took = mounted
        .with(|at| {
            let started = Instant::now();
            assert!(fs::read(at.join("f"))? == content("f", 3_000_000));
            Ok(started.elapsed())
        })
        .await?;
    assert_ne!(mounted.server()?, first);
    assert!(took < Duration::from_secs(20), "{took:?}");
    drop(mounted);
    test.stop().await;
    Ok(())
}
