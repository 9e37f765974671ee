//! Datanodes that leave by order, and replicas that are put where they belong.

use std::process::Stdio;

use serde_json::Value;
use steadfs_client::{Client, NodeState};
use steadfs_tests::{BLOCK, LIMIT, TestCluster, eventually, fsck, verify, write};

use crate::BINARY;

const LONG: usize = 3 * BLOCK as usize + 99;

/// What `steadfs admin` answers: its exit code and what it prints.
async fn admin(url: &str, words: &[&str]) -> anyhow::Result<(i32, String)> {
    let mut command = tokio::process::Command::new(BINARY);
    command.arg("admin").args(words).env("STEADFS_URL", url).env_remove("HADOOP_USER_NAME");
    let output = command
        .env("STEADFS_CONNECT_TIMEOUT", "60s")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8(text)?))
}

async fn state_of(client: &Client, uuid: &str) -> anyhow::Result<Option<NodeState>> {
    let report = client.report().await?;
    Ok(report.datanodes.iter().find(|node| node.uuid == uuid).map(|node| node.state))
}

#[tokio::test(flavor = "multi_thread")]
async fn datanodes_leave_by_order_and_are_stopped_when_that_is_safe() -> anyhow::Result<()> {
    let mut test = TestCluster::start(4, |options| {
        options.binary = Some(BINARY.into());
        options.settings.extend((1..=4).map(|number| format!("datanode-{number}.node=worker-{number}")));
    })
    .await?;
    let (url, client) = (test.cluster.url(), test.client().await?);
    let uuids: Vec<String> = test.cluster.endpoints().datanodes.into_iter().map(|node| node.uuid).collect();
    write(&client, "/three", LONG).await?;
    write(&client, "/one", LONG).await?;
    client.set_replication("/one", 1).await?;
    test.healed().await?;

    // Of three replicas one is enough meanwhile; of all four datanodes nothing would be left.
    let all: Vec<&str> = uuids.iter().map(String::as_str).collect();
    let (code, text) = admin(&url, &[&["safe-to-stop", "--json"], &all[..]].concat()).await?;
    let answer: Value = serde_json::from_str(&text)?;
    assert_eq!((code, &answer["safe"]), (1, &Value::Bool(false)), "{text}");
    assert_eq!(answer["datanodes"].as_array().map(Vec::len), Some(4), "{text}");
    let (code, text) = admin(&url, &["safe-to-stop", "--node", "worker-9"]).await?;
    assert!(code == 1 && text.contains("no known datanode runs on node `worker-9`"), "{text}");

    // Maintenance, named by the Kubernetes node: what only it holds goes elsewhere, then it may be down.
    let order = ["maintenance", "--node", "worker-1", "--for", "1h", "--wait", "--timeout", "60s"];
    let (code, text) = admin(&url, &order).await?;
    assert_eq!(code, 0, "{text}");
    let (code, text) = admin(&url, &["safe-to-stop", "--json", "--node", "worker-1"]).await?;
    let answer: Value = serde_json::from_str(&text)?;
    assert_eq!(
        (code, &answer["safe"], &answer["datanodes"][0]["uuid"]),
        (0, &Value::Bool(true), &Value::from(all[0]))
    );
    test.cluster.stop_datanode(0).await;
    for path in ["/three", "/one"] {
        verify(&client, path, path, LONG).await?;
    }
    // The order is kept over a restart of the namenode.
    test.cluster.kill_namenode().await;
    test.cluster.start_namenode().await?;
    test.cluster.start_datanode(0).await?;
    test.cluster.serving(LIMIT).await?;
    let client = test.client().await?;
    eventually("it is in maintenance again", async || {
        Ok(state_of(&client, all[0]).await? == Some(NodeState::InMaintenance))
    })
    .await?;
    let (code, text) = admin(&url, &["recommission", all[0]]).await?;
    assert_eq!(code, 0, "{text}");
    assert_eq!(state_of(&client, all[0]).await?, Some(NodeState::Normal));

    // Decommission, for good.
    let (code, text) = admin(&url, &["decommission", "--wait", "--timeout", "60s", all[1]]).await?;
    assert_eq!(code, 0, "{text}");
    test.cluster.kill_datanode(1).await;
    let summary = fsck(&client).await?;
    assert!(summary.healthy && summary.under_replicated == 0, "{summary:?}");
    for path in ["/three", "/one"] {
        verify(&client, path, path, LONG).await?;
    }
    // With three datanodes left and three replicas wanted the next cannot leave: it says how far it is and gives up.
    let (code, text) = admin(&url, &["decommission", "--wait", "--timeout", "2s", all[2]]).await?;
    assert!(code == 1 && text.contains("it takes longer than was given"), "{text}");
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_lie_in_one_rack_are_spread_once_there_is_another() -> anyhow::Result<()> {
    let mut test = TestCluster::start(3, |options| {
        options.binary = Some(BINARY.into());
        options.replication = 2;
        let racks = ["datanode-1.rack=/a", "datanode-2.rack=/a", "datanode-3.rack=/b"];
        options.settings.extend(racks.map(String::from));
    })
    .await?;
    test.cluster.kill_datanode(2).await;
    test.live_datanodes(2).await?;
    let client = test.client().await?;
    for number in 0..4 {
        write(&client, &format!("/files/{number}"), LONG).await?;
    }
    assert_eq!(client.report().await?.misplaced, 0, "there is one rack alone");
    test.cluster.start_datanode(2).await?;
    test.live_datanodes(3).await?;
    eventually("every block lies in two racks", async || {
        let report = client.report().await?;
        let other = report.datanodes.iter().find(|node| node.rack == "/b");
        let held: u64 = other.iter().flat_map(|node| &node.storages).map(|storage| storage.blocks).sum();
        Ok(held == 16 && report.misplaced == 0 && fsck(&client).await?.over_replicated == 0)
    })
    .await?;
    test.healed().await?;
    for number in 0..4 {
        let path = format!("/files/{number}");
        verify(&client, &path, &path, LONG).await?;
    }
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn balance_is_ordered_watched_and_taken_back() -> anyhow::Result<()> {
    let test = TestCluster::start(2, |options| options.binary = Some(BINARY.into())).await?;
    let (url, client) = (test.cluster.url(), test.client().await?);
    assert!(client.balance_status().await?.background, "by default");
    let (code, text) = admin(&url, &["balance", "--threshold", "5"]).await?;
    assert!(code == 0 && text.contains("balanced"), "{text}");
    let (code, text) = admin(&url, &["balance", "--threshold", "0.01"]).await?;
    assert!(code == 2 && text.contains("0.1 to 100"), "{text}");
    let (code, text) = admin(&url, &["balance", "--no-wait"]).await?;
    assert_eq!(code, 0, "{text}");
    let status = client.stop_balance().await?;
    assert!(!status.ordered && status.moved_blocks == 0, "{status:?}");
    test.stop().await;
    Ok(())
}
