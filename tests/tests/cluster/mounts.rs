//! What mounts need beyond files and folders: to hear of changes, to replace content whole, and locks.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use steadfs_client::{
    ChangeKind, Client, ClientOptions, FsErrorKind, FsResult, InodeId, LockResult, LockTarget, LockWish,
    WatchFilter, Watched, inode_path,
};
use steadfs_tests::{BLOCK, LIMIT, TestCluster, content, eventually, verify, write};
use tokio::time::timeout;

use crate::BINARY;

fn below(path: &str) -> WatchFilter {
    WatchFilter { below: Some(path.into()), inodes: Vec::new() }
}

/// What is heard of up to a mark, as (kind, path), heartbeats left out.
async fn heard_until(
    mut stream: impl Stream<Item = FsResult<Watched>> + Unpin,
    mark: &str,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut heard = Vec::new();
    loop {
        let next = timeout(LIMIT, stream.next()).await?;
        match next.ok_or_else(|| anyhow::anyhow!("the stream ended"))?? {
            Watched::Changed(change) => {
                let path = change.path.map_or_else(String::new, |path| path.to_string());
                if path == mark {
                    return Ok(heard);
                }
                let kind = match change.kind {
                    ChangeKind::Renamed { to: Some(to), .. } => format!("renamed to {to}"),
                    ChangeKind::Created { directory, .. } => format!("created, directory: {directory}"),
                    kind => format!("{kind:?}"),
                };
                heard.push((kind, path));
            }
            Watched::Lost(_) => heard.push(("lost".into(), String::new())),
            Watched::Disconnected => heard.push(("disconnected".into(), String::new())),
            Watched::Current(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_of_every_change_below_its_folder() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let (client, other) = (test.client().await?, test.client().await?);
    client.mkdirs("/watched").await?;
    let mut stream = pin!(other.watch(below("/watched"), None));
    assert!(matches!(stream.next().await, Some(Ok(Watched::Current(_)))), "it follows from here on");
    client.mkdirs("/elsewhere/deep").await?;
    write(&client, "/watched/f", 1_000).await?;
    client.rename("/watched/f", "/elsewhere/f").await?;
    client.rename("/elsewhere/f", "/watched/g").await?;
    client.set_permission("/watched/g", 0o600).await?;
    client.truncate("/watched/g", 0).await?;
    client.delete("/watched/g", false).await?;
    client.mkdirs("/watched/end").await?;
    let heard = heard_until(&mut stream, "/watched/end").await?;
    let expected = [
        ("created, directory: false", "/watched/f"),
        ("Closed { length: 1000 }", "/watched/f"),
        ("renamed to /elsewhere/f", "/watched/f"),
        ("renamed to /watched/g", "/elsewhere/f"),
        ("Metadata", "/watched/g"),
        ("Truncated { length: 0 }", "/watched/g"),
        ("Unlinked", "/watched/g"),
    ];
    assert_eq!(heard, expected.map(|(kind, path)| (kind.to_owned(), path.to_owned())));

    // One that came later reads what it missed; one that followed another namespace has lost everything.
    let after = client.stat("/watched").await?;
    let mut late = pin!(other.watch(below("/watched"), Some(1)));
    let all = heard_until(&mut late, "/watched/end").await?;
    assert_eq!(all.len(), heard.len() + 1, "{all:?} of inode {}", after.inode);
    let mut lost = pin!(other.watch(below("/watched"), Some(1 << 50)));
    assert!(matches!(lost.next().await, Some(Ok(Watched::Lost(_)))));

    // Who may not list it does not follow it.
    client.set_permission("/watched", 0o700).await?;
    let eve = Client::connect_with(&test.cluster.url(), ClientOptions::for_user("eve")).await?;
    let mut denied = pin!(eve.watch(below("/watched"), None));
    let error = denied.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::AccessDenied);
    assert!(denied.next().await.is_none());
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_goes_on_after_the_namenode_was_killed() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(1, BINARY).await?;
    let options = ClientOptions { call_timeout: LIMIT, ..ClientOptions::default() };
    let client = Client::connect_with(&test.cluster.url(), options).await?;
    let mut stream = pin!(client.watch(below("/"), None));
    assert!(matches!(stream.next().await, Some(Ok(Watched::Current(_)))));
    let mut expected = Vec::new();
    for round in 0..3 {
        client.mkdirs(&format!("/before-{round}")).await?;
        test.cluster.kill_namenode().await;
        test.cluster.start_namenode().await?;
        test.cluster.serving(LIMIT).await?;
        client.mkdirs(&format!("/after-{round}")).await?;
        client.mkdirs(&format!("/mark-{round}")).await?;
        let heard = heard_until(&mut stream, &format!("/mark-{round}")).await?;
        let mut paths: Vec<_> = heard.into_iter().map(|(kind, path)| format!("{kind} {path}")).collect();
        paths.retain(|path| !path.starts_with("disconnected"));
        expected.clear();
        for when in ["before", "after"] {
            expected.push(format!("created, directory: true /{when}-{round}"));
        }
        assert_eq!(paths, expected, "nothing is lost, and nothing told twice");
    }
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_files_content_is_replaced_whole_and_its_identity_stays() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let (client, other) = (test.client().await?, test.client().await?);
    let long = 3 * BLOCK as usize + 17;
    write(&client, "/f", long).await?;
    let told = client.set_permission_told("/f", 0o640).await?;
    assert_eq!(told.map(|status| status.mode), Some(0o640));
    let before = client.stat("/f").await?;
    let reader = other.open("/f").await?;

    let mut writer = client.replace(&inode_path(before.inode)).expected(before.content_version).await?;
    writer.write_all(content("new", 2 * BLOCK as usize)).await?;
    verify(&other, "/f", "/f", long).await?;
    let entries: Vec<_> = other.list("/").try_collect().await?;
    assert_eq!(entries.len(), 1, "what is being written is seen nowhere: {entries:?}");
    // A rename meanwhile does no harm.
    other.rename("/f", "/g").await?;
    writer.write_all(content("new", long).slice(2 * BLOCK as usize..long - 1)).await?;
    writer.close().await?;
    assert_eq!(client.read("/g", long).await?, content("new", long - 1));
    let after = client.stat("/g").await?;
    assert_eq!((after.inode, after.mode, &after.owner), (before.inode, 0o640, &before.owner));
    assert!(after.content_version > before.content_version && after.modified >= before.modified);
    assert_eq!(client.content_summary("/").await?.length, long as u64 - 1);
    drop(reader);

    // Who comes late is refused, and leaves nothing behind.
    let mut late = other.replace("/g").expected(before.content_version).await?;
    late.write_all("late").await?;
    assert_eq!(late.close().await.unwrap_err().kind(), FsErrorKind::ContentChanged);
    let mut given_up = other.replace("/g").await?;
    given_up.write_all("never").await?;
    given_up.abort().await;
    assert_eq!(client.read("/g", long).await?, content("new", long - 1));
    let emptied = client.replace("/g").await?;
    emptied.close().await?;
    assert_eq!(client.stat("/g").await?.length, 0);
    eventually("no block is left", async || Ok(client.report().await?.blocks == 0)).await?;
    test.stop().await;
    Ok(())
}

const fn wish(inode: InodeId, owner: u64, exclusive: bool) -> LockWish {
    LockWish { inode, owner, target: LockTarget::Whole, exclusive, pid: 7 }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_exclude_each_other_across_clients_and_survive_a_restart() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(1, BINARY).await?;
    let options = ClientOptions { call_timeout: LIMIT, ..ClientOptions::default() };
    let client = Client::connect_with(&test.cluster.url(), options.clone()).await?;
    let other = Client::connect_with(&test.cluster.url(), options).await?;
    write(&client, "/f", 10).await?;
    let file = client.stat("/f").await?.inode;
    let (one, two) = (client.lock_session().await?, other.lock_session().await?);
    assert_eq!(one.lock(wish(file, 1, true), false).await?, LockResult::Granted);
    let LockResult::Blocked(holder) = two.lock(wish(file, 1, false), false).await? else {
        panic!("it was not blocked")
    };
    assert_eq!((holder.exclusive, holder.pid, holder.session), (true, 7, one.id()));
    assert_eq!(two.test(wish(file, 1, false)).await?.map(|holder| holder.session), Some(one.id()));

    // Bytes know nothing of whole files.
    let bytes = |first, last, exclusive| LockWish {
        target: LockTarget::Bytes { first, last },
        ..wish(file, 2, exclusive)
    };
    assert_eq!(two.lock(bytes(0, 9, true), true).await?, LockResult::Granted);
    assert_eq!(one.lock(bytes(10, u64::MAX, true), true).await?, LockResult::Granted);
    let waits = tokio::spawn({
        let (one, wish) = (std::sync::Arc::new(one), bytes(5, 5, true));
        let waiting = one.clone();
        async move {
            // The other's probe below may come first: then it is this one that would close the circle.
            loop {
                match waiting.lock(wish, true).await {
                    Ok(LockResult::Deadlock) => tokio::time::sleep(Duration::from_millis(20)).await,
                    answer => return (answer, one),
                }
            }
        }
    });
    eventually("one waits for two", async || {
        let probe = two.lock(bytes(10, 10, true), true);
        Ok(matches!(timeout(Duration::from_secs(5), probe).await, Ok(Ok(LockResult::Deadlock))))
    })
    .await?;

    // The namenode dies: who held locks holds them still, and who waits goes on waiting.
    test.cluster.kill_namenode().await;
    test.cluster.start_namenode().await?;
    test.cluster.serving(LIMIT).await?;
    let third = Client::connect(&test.cluster.url()).await?.lock_session().await?;
    assert!(matches!(third.lock(wish(file, 1, true), false).await?, LockResult::Blocked(_)));
    assert!(matches!(third.lock(bytes(3, 3, true), false).await?, LockResult::Blocked(_)));
    two.unlock(file, 2, LockTarget::Bytes { first: 0, last: u64::MAX }).await?;
    let (granted, one) = timeout(LIMIT, waits).await??;
    assert_eq!(granted?, LockResult::Granted);
    assert_eq!((*one.losses().borrow(), *two.losses().borrow()), (0, 0));

    // A session that ends gives up its locks; a wish that is dropped is taken back.
    let dropped = timeout(Duration::from_millis(100), third.lock(wish(file, 1, true), true)).await;
    assert!(dropped.is_err());
    std::sync::Arc::into_inner(one).expect("nobody else has it").close().await?;
    assert_eq!(timeout(LIMIT, two.lock(wish(file, 9, true), true)).await??, LockResult::Granted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_goes_with_the_process_that_held_it() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let (client, other) = (test.client().await?, test.client().await?);
    write(&client, "/f", 10).await?;
    let file = client.stat("/f").await?.inode;
    let holder = client.lock_session().await?;
    assert_eq!(holder.lock(wish(file, 1, true), true).await?, LockResult::Granted);
    let waiter = other.lock_session().await?;
    let waits = tokio::spawn(async move { waiter.lock(wish(file, 1, true), true).await });
    drop(holder);
    assert_eq!(timeout(LIMIT, waits).await???, LockResult::Granted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_never_mixes_two_contents() -> anyhow::Result<()> {
    const LENGTH: usize = 3 * BLOCK as usize;
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let old = content("old", LENGTH);
    client.write("/f", old.clone()).await?;
    let reader = client.open("/f").await?;
    assert_eq!(reader.read_at(0, 10).await?, old[..10]);
    let mut writer = client.replace("/f").await?;
    writer.write_all(content("new", LENGTH)).await?;
    writer.close().await?;
    // Once the old blocks are gone, it is said instead of reading on in the new ones.
    let at = 2 * BLOCK;
    eventually("the old content is gone", async || match reader.read_at(at, 10).await {
        Ok(bytes) => {
            anyhow::ensure!(bytes == old[at as usize..at as usize + 10], "bytes of another content");
            Ok(false)
        }
        Err(error) => {
            anyhow::ensure!(error.kind() == FsErrorKind::ContentChanged, "{error}");
            Ok(true)
        }
    })
    .await?;
    assert_eq!(client.open("/f").await?.read_at(at, 10).await?, content("new", LENGTH)[at as usize..][..10]);
    test.stop().await;
    Ok(())
}
