//! What goes beyond one program on one mount: local replicas, changes by others, users, attributes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use steadfs_client::AclChange;
use steadfs_tests::{TestCluster, content, eventually};

use crate::mounted::{Mounted, on_thread, python, signal};

/// Whether the first byte of a file can be read while its mount's server stands still.
pub(crate) async fn is_read_without(mounted: &Mounted, file: &Arc<File>) -> anyhow::Result<bool> {
    let (server, file) = (mounted.server()?, file.clone());
    // Nor from what the kernel kept of an attempt before.
    rustix::fs::fadvise(&*file, 0, None, rustix::fs::Advice::DontNeed)?;
    signal(Signal::STOP, &[server])?;
    let mut read = std::pin::pin!(on_thread(move || file.read_exact_at(&mut [0], 0)));
    let without = tokio::time::timeout(Duration::from_secs(1), &mut read).await;
    signal(Signal::CONT, &[server])?;
    match without {
        Ok(read) => read?.map(|()| true).context("the first byte"),
        Err(_) => read.await?.map(|()| false).context("the first byte"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_replica_is_read_on_when_the_cluster_is_gone() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--wait-seconds", "1"]).await?;
    mounted.with(|at| Ok(fs::write(at.join("f"), content("local", 2_000_000))?)).await?;
    let mut kept = None;
    eventually("the file is opened so that the kernel reads it by itself", async || {
        // What is open already decides how it reads another.
        kept = None;
        let file = Arc::new(mounted.with(|at| Ok(File::open(at.join("f"))?)).await?);
        let by_itself = is_read_without(&mounted, &file).await?;
        kept = Some(file);
        Ok(by_itself)
    })
    .await?;
    let file = kept.context("it was opened")?;
    test.stop().await;
    // Everything that was not read before comes from the disk itself.
    let read = on_thread(move || -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; 2_000_000];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    });
    assert!(read.await?? == content("local", 2_000_000));
    // What needs the cluster fails after the stated time.
    let refused =
        mounted.with(|at| Ok(fs::read(at.join("other")).err().and_then(|error| error.raw_os_error())));
    const EIO: i32 = 5;
    assert_eq!(refused.await?, Some(EIO));
    Ok(())
}

/// Files of blocks that a process has open.
fn blocks_open(process: u32) -> anyhow::Result<usize> {
    let open = fs::read_dir(format!("/proc/{process}/fd"))?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(open.filter(|file| file.to_string_lossy().contains("/blk_")).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_on_this_machine_are_read_from_their_files() -> anyhow::Result<()> {
    const LENGTH: usize = (5 << 20) + 1_000;
    let mut test = TestCluster::in_process(1).await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--block-size", "1MiB"]).await?;
    let file = mounted.with(|at| {
        fs::write(at.join("f"), content("f", LENGTH))?;
        Ok(Arc::new(File::open(at.join("f"))?))
    });
    let file = file.await?;
    let read = async || {
        let file = file.clone();
        let read = on_thread(move || -> anyhow::Result<Vec<u8>> {
            // What the kernel keeps is given back, so that the server is asked.
            rustix::fs::fadvise(&*file, 0, None, rustix::fs::Advice::DontNeed)?;
            let mut bytes = vec![0; LENGTH];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        });
        anyhow::ensure!(read.await?? == content("f", LENGTH), "other bytes");
        anyhow::Ok(())
    };
    let server = mounted.server()?;
    eventually("every block is read from its file", async || {
        read().await?;
        Ok(blocks_open(server)? == LENGTH.div_ceil(1 << 20))
    })
    .await?;
    // Nobody else could give them.
    test.cluster.stop_datanode(0).await;
    read().await?;
    drop(file);
    eventually("its blocks are closed with it", async || Ok(blocks_open(server)? == 0)).await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_is_read_again_from_memory_until_it_changes() -> anyhow::Result<()> {
    const LENGTH: usize = (3 << 20) + 1_000;
    let mut test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--wait-seconds", "1"]).await?;
    // Of several blocks, so that the kernel reads through the mount.
    client.write("/f", content("f", LENGTH)).await?;
    let read = async || mounted.with(|at| Ok(fs::read(at.join("f")).ok())).await;
    ensure!(read().await? == Some(content("f", LENGTH).to_vec()));
    test.cluster.stop_datanode(0).await;
    for _ in 0..3 {
        ensure!(read().await? == Some(content("f", LENGTH).to_vec()), "from memory");
    }
    // Another server does not know what its predecessor did.
    mounted.kill_server()?;
    ensure!(read().await?.is_none(), "there is nobody to read it from");
    test.cluster.start_datanode(0).await?;
    eventually("it is read again", async || Ok(read().await? == Some(content("f", LENGTH).to_vec()))).await?;
    for round in 0..10_u8 {
        client.write("/f", content(&format!("round {round}"), LENGTH)).await?;
        for _ in 0..2 {
            ensure!(
                read().await? == Some(content(&format!("round {round}"), LENGTH).to_vec()),
                "round {round}"
            );
        }
        let mut writer = client.replace("/f").await?;
        writer.write_all(content(&format!("in place {round}"), LENGTH)).await?;
        writer.close().await?;
        for _ in 0..2 {
            ensure!(
                read().await? == Some(content(&format!("in place {round}"), LENGTH).to_vec()),
                "in place {round}"
            );
        }
    }
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_is_seen_whatever_the_kernel_remembers() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    // So long that only being told can help.
    let mounted = Mounted::new(&test.cluster.url(), &["--cache-ttl-ms", "600000"]).await?;
    client.write("/f", "one").await?;
    let length =
        || mounted.with(|at| Ok(fs::metadata(at.join("f")).map(|known| known.len()).unwrap_or(u64::MAX)));
    eventually("the file is seen", async || Ok(length().await? == 3)).await?;
    client.write("/g", "the other").await?;
    client.rename_over("/g", "/f").await?;
    eventually("its replacement is seen", async || Ok(length().await? == 9)).await?;
    let mut writer = client.append("/f").await?;
    writer.write_all("!").await?;
    writer.close().await?;
    eventually("it is seen to grow", async || Ok(length().await? == 10)).await?;
    client.delete("/f", false).await?;
    eventually("it is seen to go", async || Ok(length().await? == u64::MAX)).await?;
    client.write("/f", "new").await?;
    eventually("a name that was not there is seen", async || Ok(length().await? == 3)).await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_and_access_lists_go_through_the_mount() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted
        .with(|at| {
            fs::write(at.join("f"), "x")?;
            python(
                "import os, sys, errno, struct\n\
                 p = sys.argv[1] + '/f'\n\
                 os.setxattr(p, 'user.a', b'value')\n\
                 assert os.getxattr(p, 'user.a') == b'value'\n\
                 assert os.listxattr(p) == ['user.a'], os.listxattr(p)\n\
                 try: os.setxattr(p, 'user.a', b'', os.XATTR_CREATE); assert 0\n\
                 except OSError as e: assert e.errno == errno.EEXIST, e\n\
                 os.removexattr(p, 'user.a')\n\
                 try: os.getxattr(p, 'user.a'); assert 0\n\
                 except OSError as e: assert e.errno == errno.ENODATA, e\n\
                 row = lambda tag, bits, who=0xffffffff: struct.pack('<HHI', tag, bits, who)\n\
                 acl = struct.pack('<I', 2) + row(1, 6) + row(2, 4, 1) + row(4, 4) + row(16, 4) + row(32, 0)\n\
                 os.setxattr(p, 'system.posix_acl_access', acl)\n\
                 assert os.getxattr(p, 'system.posix_acl_access') == acl\n\
                 assert 'system.posix_acl_access' in os.listxattr(p)\n",
                at,
            )?;
            Ok(())
        })
        .await?;
    let acl = client.acl("/f").await?;
    let named = acl.entries.iter().filter(|entry| entry.entry.name.is_some()).count();
    assert_eq!((named, acl.mode), (1, 0o640), "{acl:?}");
    client.change_acl("/f", &AclChange::Remove).await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_namenode_decides_who_may_what() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    client.mkdirs_with("/private", 0o700, true).await?;
    client.write("/private/f", "secret").await?;
    client.mkdirs_with("/public", 0o777, true).await?;
    client.set_permission("/public", 0o777).await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--allow-other"]).await?;
    mounted
        .with(|at| {
            // Root first, so that the kernel remembers the way.
            assert_eq!(fs::read(at.join("private/f"))?, b"secret");
            python(
                "import os, sys, errno\n\
                 os.setgid(1); os.setgroups([]); os.setuid(1)\n\
                 d = sys.argv[1]\n\
                 try: open(d + '/private/f').read(); assert 0\n\
                 except PermissionError: pass\n\
                 assert not os.access(d + '/private', os.R_OK)\n\
                 open(d + '/public/mine', 'w').write('x')\n\
                 assert os.stat(d + '/public/mine').st_uid == 1\n\
                 try: os.chown(d + '/public/mine', 0, -1); assert 0\n\
                 except PermissionError as e: assert e.errno == errno.EPERM\n",
                at,
            )?;
            Ok(())
        })
        .await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_with_its_remedy() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    client.write("/file", "x").await?;
    let url = test.cluster.url();
    let refused = |url: String, options: &'static [&'static str]| async move {
        Mounted::new(&url, options).await.err().map(|error| format!("{error:#}")).unwrap_or_default()
    };
    let nobody = refused("hdfs://127.0.0.1:1".into(), &["--wait-seconds", "1"]).await;
    assert!(nobody.contains("cannot reach the namenode"), "{nobody}");
    assert!(refused(format!("{url}/none"), &[]).await.contains("does not exist"));
    assert!(refused(format!("{url}/file"), &[]).await.contains("only folders are mounted"));
    assert!(refused("http://x".into(), &[]).await.contains("hdfs://"));
    let mounted = Mounted::new(&url, &[]).await?;
    let again = mounted.mount_again(&url).await?;
    assert!(again.contains("something is mounted on") && again.contains("steadfs umount"), "{again}");
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_reads_can_be_written_and_replaced() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    let first = content("first", 100_000);
    let written = first.clone();
    let reader = mounted
        .with(move |at| {
            fs::write(at.join("f"), written)?;
            // From now on a local replica is verified, and passed through.
            fs::read(at.join("f"))?;
            let reader = File::open(at.join("f"))?;
            reader.read_exact_at(&mut [0], 0)?;
            // Beside it, in every way.
            let both = fs::OpenOptions::new().read(true).write(true).open(at.join("f"))?;
            both.write_all_at(b"other", 7)?;
            let mut seen = [0; 5];
            both.read_exact_at(&mut seen, 7)?;
            assert_eq!(&seen, b"other");
            drop(both);
            assert_eq!(&fs::read(at.join("f"))?[7..12], b"other");
            Ok(reader)
        })
        .await?;
    for round in 0..20_u8 {
        client.write("/g", vec![round; 50_000]).await?;
        client.rename_over("/g", "/f").await?;
        mounted
            .with(move |at| {
                let reader = File::open(at.join("f"))?;
                let mut seen = [0];
                reader.read_exact_at(&mut seen, 49_999)?;
                fs::OpenOptions::new().append(true).open(at.join("f"))?.write_all(&[round])?;
                assert_eq!(fs::metadata(at.join("f"))?.len(), 50_001);
                assert_eq!(fs::read(at.join("f"))?, vec![round; 50_001]);
                assert_eq!(seen, [round]);
                Ok(())
            })
            .await?;
    }
    // Who had it open reads what it was.
    let read = on_thread(move || -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; 100_000];
        reader.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    });
    assert!(read.await?? == first);
    drop(mounted);
    test.stop().await;
    Ok(())
}
