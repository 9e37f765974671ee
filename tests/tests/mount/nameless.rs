//! Files that lose their names while programs have them open, whoever takes the names away.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use anyhow::ensure;
use hdfs_native::{ClientBuilder, WriteOptions};
use steadfs_client::{Client, InodeId};
use steadfs_tests::{TestCluster, content, eventually};

use crate::mounted::Mounted;

/// Of three blocks, which are not read from local files: nothing but the cluster stands for it.
const LENGTH: usize = (5 << 20) / 2;
const BLOCKS: [&str; 4] = ["--block-size", "1MiB", "--local", "/nonexistent"];
/// Within this the datanodes are told to delete what nobody wants.
const DELETED: Duration = Duration::from_secs(4);

/// Whether a file that lost its name is still there.
async fn is_kept(client: &Client, inode: InodeId) -> anyhow::Result<bool> {
    match client.stat(&format!("/.reserved/.inodes/{inode}")).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == steadfs_client::FsErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn goes(client: &Client, inode: InodeId) -> anyhow::Result<()> {
    eventually("nothing is left of it", async || Ok(!is_kept(client, inode).await?)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_loses_its_name_anywhere_is_read_on_while_it_is_open() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let hadoop = ClientBuilder::new().with_url(test.cluster.url()).build()?;
    let one = Mounted::new(&test.cluster.url(), &BLOCKS).await?;
    let two = Mounted::new(&test.cluster.url(), &[]).await?;
    let names = ["d/unlinked", "renamed", "d/tree", "overwritten", "ours"];
    let files = one
        .with(move |at| {
            fs::create_dir(at.join("d"))?;
            fs::write(at.join("new"), "new")?;
            let open = |name: &str| {
                fs::write(at.join(name), content(name, LENGTH))?;
                File::open(at.join(name))
            };
            Ok(names.map(open).into_iter().collect::<Result<Vec<File>, _>>()?)
        })
        .await?;
    let mut inodes = Vec::new();
    for name in names {
        inodes.push(client.stat(&format!("/{name}")).await?.inode);
    }
    two.with(|at| {
        fs::remove_file(at.join("d/unlinked"))?;
        Ok(fs::rename(at.join("new"), at.join("renamed"))?)
    })
    .await?;
    ensure!(hadoop.delete("/d", true).await?);
    let mut writer = hadoop.create("/overwritten", WriteOptions::default().overwrite(true)).await?;
    writer.close().await?;
    ensure!(client.delete("/ours", false).await?);
    // Whatever was to be deleted would be by now.
    tokio::time::sleep(DELETED).await;
    one.kill_server()?;
    let inodes_too = inodes.clone();
    let files = one
        .with(move |_| {
            for ((name, file), inode) in names.iter().zip(&files).zip(inodes_too) {
                let mut bytes = vec![0; LENGTH];
                file.read_exact_at(&mut bytes, 0).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
                assert!(bytes == content(name, LENGTH), "{name}");
                let known = file.metadata()?;
                assert_eq!((known.ino(), known.len()), (inode.0, LENGTH as u64), "{name}");
            }
            Ok(files)
        })
        .await?;
    ensure!(client.list_all("/").await?.len() == 2, "nobody sees them");
    drop(files);
    for inode in inodes {
        goes(&client, inode).await?;
    }
    drop((one, two));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_a_file_that_loses_its_name_goes_on() -> anyhow::Result<()> {
    const PART: usize = 10 << 20;
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let one = Mounted::new(&test.cluster.url(), &[]).await?;
    let two = Mounted::new(&test.cluster.url(), &[]).await?;
    let cases = ["unlinked here", "replaced here", "unlinked there", "replaced there"];
    let open = one
        .with(move |at| {
            let mut open = Vec::new();
            for name in cases {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(at.join(name))?;
                // More than is staged before a pipeline is opened.
                file.write_all_at(&content(name, PART), 0)?;
                open.push(file);
            }
            Ok(open)
        })
        .await?;
    let mut inodes = Vec::new();
    for name in cases {
        inodes.push(client.stat(&format!("/{name}")).await?.inode);
    }
    let loses = |at: &std::path::Path, place: &str| {
        fs::remove_file(at.join(format!("unlinked {place}")))?;
        fs::write(at.join(format!("new {place}")), "new")?;
        fs::rename(at.join(format!("new {place}")), at.join(format!("replaced {place}")))
    };
    one.with(move |at| Ok(loses(at, "here")?)).await?;
    two.with(move |at| Ok(loses(at, "there")?)).await?;
    one.with(move |at| {
        for (name, file) in cases.iter().zip(open) {
            let more = content(&format!("more of {name}"), PART);
            let step = |what: &str, done: std::io::Result<()>| {
                done.map_err(|error| anyhow::anyhow!("{name}: {what}: {error}"))
            };
            step("write", file.write_all_at(&more, PART as u64))?;
            step("sync", file.sync_all())?;
            step("write anywhere", file.write_all_at(b"here", 1_000))?;
            step("sync again", file.sync_all())?;
            let mut bytes = vec![0; 2 * PART];
            step("read", file.read_exact_at(&mut bytes, 0))?;
            let mut expected = [content(name, PART), more].concat();
            expected[1_000..1_004].copy_from_slice(b"here");
            assert!(bytes == expected, "{name}");
            step("truncate", file.set_len(10))?;
            assert_eq!(file.metadata()?.len(), 10, "{name}");
            drop(file);
            if name.starts_with("replaced") {
                assert_eq!(fs::read_to_string(at.join(name))?, "new");
            }
        }
        Ok(())
    })
    .await?;
    for inode in inodes {
        goes(&client, inode).await?;
    }
    drop((one, two));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mount_had_open_that_died_whole_goes() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &BLOCKS).await?;
    let file = mounted
        .with(|at| {
            fs::write(at.join("f"), content("f", LENGTH))?;
            Ok(File::open(at.join("f"))?)
        })
        .await?;
    let inode = client.stat("/f").await?.inode;
    mounted.with(|at| Ok(fs::remove_file(at.join("f"))?)).await?;
    ensure!(is_kept(&client, inode).await?, "it is open");
    mounted.kill_whole()?;
    let started = std::time::Instant::now();
    goes(&client, inode).await?;
    ensure!(started.elapsed() > Duration::from_secs(10), "it may be a mount that the network keeps away");
    let close = move |_: &_| {
        drop(file);
        Ok(())
    };
    mounted.on_thread(close).await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_kept_over_a_restart_of_the_namenode() -> anyhow::Result<()> {
    let mut test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &BLOCKS).await?;
    let names = ["before", "after"];
    let files = mounted
        .with(move |at| {
            let open = |name: &str| {
                fs::write(at.join(name), content(name, LENGTH))?;
                File::open(at.join(name))
            };
            Ok(names.map(open).into_iter().collect::<Result<Vec<File>, _>>()?)
        })
        .await?;
    let (before, after) = (client.stat("/before").await?.inode, client.stat("/after").await?.inode);
    ensure!(client.delete("/before", false).await?);
    test.cluster.stop_namenode().await;
    test.cluster.start_namenode().await?;
    // At once: the mount has not said yet what it has open.
    let client = test.client().await?;
    eventually("it can be deleted", async || Ok(client.delete("/after", false).await?)).await?;
    tokio::time::sleep(DELETED).await;
    let files = mounted
        .with(move |_| {
            for (name, file) in names.iter().zip(&files) {
                let mut bytes = vec![0; LENGTH];
                file.read_exact_at(&mut bytes, 0).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
                assert!(bytes == content(name, LENGTH), "{name}");
            }
            Ok(files)
        })
        .await?;
    drop(files);
    goes(&client, before).await?;
    goes(&client, after).await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}
