//! Two mounts and a client on the same files.

use std::fs;

use steadfs_tests::{TestCluster, content};

use crate::mounted::Mounted;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_close_here_an_open_there_sees_it() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let one = Mounted::new(&test.cluster.url(), &[]).await?;
    let two = Mounted::new(&test.cluster.url(), &[]).await?;
    for round in 0..8_usize {
        let bytes = content(&format!("round {round}"), 1_000 + round * 300_000 % 1_000_001);
        let written = bytes.clone();
        one.with(move |at| Ok(fs::write(at.join("f"), written)?)).await?;
        let expected = bytes.clone();
        two.with(move |at| {
            assert!(fs::read(at.join("f"))? == expected, "round {round}");
            Ok(())
        })
        .await?;
        assert!(client.read("/f", 4 << 20).await? == bytes);
    }
    drop((one, two));
    test.stop().await;
    Ok(())
}
