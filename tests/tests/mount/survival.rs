//! Mounts outlive the processes that serve them.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use steadfs_client::Bound;
use steadfs_tests::{TestCluster, content, eventually};

use crate::mounted::{Mounted, errno, signal};

const ESTALE: i32 = 116;
const EDQUOT: i32 = 122;

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

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_writers_go_on_when_servers_are_killed() -> anyhow::Result<()> {
    const KILLS: usize = 20;
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--block-size", "16MiB"]).await?;
    let bytes = content("/w", 40_000_000);
    let (written, read) = (bytes.clone(), bytes.clone());
    let writer = mounted.with(move |at| {
        // Past the staged beginning, through several kills, in writes that fit nothing.
        let mut file = File::create(at.join("w"))?;
        for piece in written.chunks(300_007) {
            file.write_all(piece)?;
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(file);
        let mut scattered = OpenOptions::new().write(true).open(at.join("w"))?;
        scattered.seek(SeekFrom::Start(7))?;
        scattered.write_all(b"scattered")?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    });
    let reader = mounted.with(move |at| {
        fs::write(at.join("r"), &read)?;
        let file = File::open(at.join("r"))?;
        for round in 0..200_usize {
            let start = round * 104_729 % (read.len() - 70_000);
            let mut seen = vec![0; 70_000];
            file.read_exact_at(&mut seen, start as u64)?;
            anyhow::ensure!(seen == read[start..start + 70_000], "round {round}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    let tree = mounted.with(|at| {
        for round in 0..30_usize {
            let folder = at.join(format!("d{round}"));
            fs::create_dir(&folder)?;
            OpenOptions::new().write(true).create_new(true).open(folder.join("a"))?.write_all(b"a")?;
            fs::rename(folder.join("a"), folder.join("b"))?;
            fs::remove_file(folder.join("b"))?;
            fs::remove_dir(&folder)?;
        }
        Ok(())
    });
    let killer = async {
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(300)).await;
            mounted.kill_server()?;
        }
        anyhow::Ok(())
    };
    let (writer, reader, tree, killer) = futures::join!(writer, reader, tree, killer);
    for done in [writer, reader, tree, killer] {
        done?;
    }
    let mut expected = bytes.to_vec();
    expected[7..16].copy_from_slice(b"scattered");
    assert!(client.read("/w", 50 << 20).await? == expected, "bytes are lost or wrong");
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_over_what_had_arrived_outlives_another_kill() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    // Long enough to be streamed: the first successor finds it in the cluster.
    let streamed = content("w", 12_000_000);
    let mut bytes = streamed.to_vec();
    let file = mounted
        .with(move |at| {
            let file = File::options().read(true).write(true).create_new(true).open(at.join("w"))?;
            file.write_all_at(&streamed, 0)?;
            // One descriptor for all: closing another would commit.
            Ok(Arc::new(file))
        })
        .await?;
    mounted.kill_server()?;
    for (at, text) in [(0_usize, "over"), (11_000_000, "there"), (12_000_000, "behind")] {
        let end = (at + text.len()).max(bytes.len());
        bytes.resize(end, 0);
        bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
        let to = file.clone();
        mounted.with(move |_| Ok(to.write_all_at(text.as_bytes(), at as u64)?)).await?;
        mounted.kill_server()?;
        let mut seen = vec![0; bytes.len()];
        let from = file.clone();
        let seen = mounted.with(move |_| Ok(from.read_exact_at(&mut seen, 0).map(|()| seen)?)).await?;
        assert!(seen == bytes, "after {text}");
    }
    let closed_and_read = move |at: &Path| {
        drop(file);
        Ok(fs::read(at.join("w"))?)
    };
    let seen = mounted.with(closed_and_read).await?;
    assert!(seen == bytes);
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_holder_is_followed_by_another() -> anyhow::Result<()> {
    const LENGTH: usize = 3_000_000;
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--block-size", "1MiB"]).await?;
    let (reader, mut writer) = mounted
        .with(|at| {
            fs::write(at.join("r"), content("r", LENGTH))?;
            let mut writer = File::create(at.join("w"))?;
            writer.write_all(b"before")?;
            Ok((File::open(at.join("r"))?, writer))
        })
        .await?;
    for round in 0..3 {
        let (holder, server) = (mounted.holder()?, mounted.server()?);
        mounted.kill_holder()?;
        eventually("another holder and its server", async || {
            let is_gone = |role: &str, id: u32| anyhow::Ok(!mounted.processes(role)?.contains(&id));
            Ok(is_gone("holder", holder)? && is_gone("server", server)?)
        })
        .await?;
        let seen = mounted.with(move |at| Ok((fs::read(at.join("r"))?, fs::write(at.join("n"), [round])?)));
        assert!(seen.await?.0 == content("r", LENGTH), "round {round}");
        // The new holder does for its server what the first one did.
        mounted.kill_server()?;
        let seen = mounted.with(|at| Ok(fs::read(at.join("n"))?)).await?;
        assert_eq!(seen, [round]);
        eventually("one of each", async || {
            Ok(mounted.processes("holder")?.len() == 1 && mounted.processes("server")?.len() == 1)
        })
        .await?;
    }
    let done = mounted.with(move |_| {
        let mut seen = vec![0; LENGTH];
        reader.read_exact_at(&mut seen, 0)?;
        writer.write_all(b" and after")?;
        drop((reader, writer));
        Ok(seen)
    });
    assert!(done.await? == content("r", LENGTH));
    assert_eq!(client.read("/w", 100).await?, "before and after");
    mounted.unmount()?;
    eventually("no process is left", async || {
        Ok(mounted.processes("holder")?.is_empty() && mounted.processes("server")?.is_empty())
    })
    .await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_appended_is_not_taken_for_what_a_killed_server_sent() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    // Behind the end, in the middle, and both.
    for (name, writes) in [("a", &[10][..]), ("b", &[3]), ("c", &[3, 10])] {
        let path = format!("/{name}");
        client.write(&path, "0123456789").await?;
        let file = mounted
            .with(move |at| {
                let file = File::options().read(true).write(true).open(at.join(name))?;
                writes.iter().try_for_each(|at| file.write_all_at(b"mine", *at))?;
                Ok(Arc::new(file))
            })
            .await?;
        let mut writer = client.append(&path).await?;
        writer.write_all("theirs").await?;
        writer.close().await?;
        mounted.kill_server()?;
        let told = mounted.with(move |_| Ok(errno(file.sync_all()))).await?;
        assert_eq!(told, ESTALE, "{name}");
        assert_eq!(client.read(&path, 100).await?, "0123456789theirs", "{name}");
        // Whoever opens it anew goes on with what is there; at once, the kernel may not have told yet that the old handle is gone.
        let append = move |at: &Path| Ok(File::options().append(true).open(at.join(name))?.write_all(b"!"));
        eventually("it is written again", async || match mounted.with(append).await? {
            Err(error) if error.raw_os_error() == Some(ESTALE) => Ok(false),
            written => written.map(|()| true).map_err(Into::into),
        })
        .await?;
        assert_eq!(client.read(&path, 100).await?, "0123456789theirs!", "{name}");
    }
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_taken_over_and_meets_a_quota_says_so_or_loses_nothing() -> anyhow::Result<()> {
    const MIB: usize = 1 << 20;
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    client.mkdirs_with("/q", 0o777, true).await?;
    client.set_quota("/q", Bound::Keep, Bound::Set(72 << 20)).await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--block-size", "32MiB"]).await?;
    let bytes = content("w", 67 * MIB);
    let (pieces, server) = (bytes.clone(), mounted.server()?);
    let write = |file: &File, pieces: &[u8], from: u64| {
        let pieces = pieces.chunks(MIB).zip(from..);
        pieces.into_iter().try_for_each(|(piece, number)| file.write_all_at(piece, number * MIB as u64))
    };
    // Long enough that a ring has taken the place of what was staged. Not all of it has arrived when the server dies, and its
    // successor streams on with the ring it finds.
    let file = mounted
        .with(move |at| {
            let file = File::create(at.join("q/w"))?;
            write(&file, &pieces[..20 * MIB], 0)?;
            signal(Signal::KILL, &[server])?;
            file.sync_all()?;
            Ok(Arc::new(file))
        })
        .await?;
    // The third block finds no room, and later there is.
    let (pieces, to) = (bytes.clone(), file.clone());
    let written = mounted.with(move |_| Ok(errno(write(&to, &pieces[20 * MIB..], 20)))).await?;
    client.set_quota("/q", Bound::Keep, Bound::Set(300 << 20)).await?;
    let synced = mounted.with(move |_| Ok(errno(file.sync_all()))).await?;
    let said = if written == 0 { synced } else { written };
    let there = client.read("/q/w", 100 << 20).await?;
    assert!(said == EDQUOT || there == bytes, "{said}: {} bytes", there.len());
    assert!(there == bytes[..there.len()], "bytes that nobody wrote");
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_opened_for_a_request_that_was_not_answered_is_not_left_open() -> anyhow::Result<()> {
    const PROGRAMS: usize = 4;
    const FILES: usize = 40;
    const KILLS: usize = 15;
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    let programs = (0..PROGRAMS).map(|program| {
        mounted.on_thread(move |at| {
            for number in 0..FILES {
                let path = at.join(format!("{program}-{number}"));
                fs::write(&path, content("w", 100))?;
                fs::read(&path)?;
                fs::read_dir(at)?.next();
                fs::remove_file(&path)?;
            }
            Ok(())
        })
    });
    let programs = futures::future::try_join_all(programs);
    let killer = async {
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(200)).await;
            mounted.kill_server()?;
        }
        anyhow::Ok(())
    };
    let (programs, killer) = futures::join!(programs, killer);
    programs?;
    killer?;
    // A file that were still open would be kept.
    eventually("no file is open any more", async || Ok(client.content_summary("/").await?.files == 0))
        .await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_killed_while_a_server_starts_is_followed_by_another() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    let file = mounted.with(|at| Ok(Arc::new(File::create(at.join("w"))?))).await?;
    for round in 0..3_u8 {
        let (holder, server) = (mounted.holder()?, mounted.server()?);
        mounted.kill_server()?;
        let next = mounted.next("server", &[server])?;
        signal(Signal::KILL, &[holder])?;
        let to = file.clone();
        mounted.with(move |_| Ok(to.write_all_at(&[round], u64::from(round))?)).await?;
        let is_gone = |role: &str, id: u32| anyhow::Ok(!mounted.processes(role)?.contains(&id));
        eventually("others", async || Ok(is_gone("holder", holder)? && is_gone("server", next)?)).await?;
    }
    let seen = mounted.with(move |at| {
        drop(file);
        Ok(fs::read(at.join("w"))?)
    });
    assert_eq!(seen.await?, [0, 1, 2]);
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_the_next_holder_starts_leaves_it_the_mount() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    let file = mounted.with(|at| Ok(Arc::new(File::create(at.join("w"))?))).await?;
    for round in 0..3_u8 {
        let (holder, server) = (mounted.holder()?, mounted.server()?);
        mounted.kill_holder()?;
        let next = mounted.next("holder", &[holder])?;
        // Gone already if the next one was quicker than this.
        let _ = signal(Signal::KILL, &[server]);
        let to = file.clone();
        mounted.with(move |_| Ok(to.write_all_at(&[round], u64::from(round))?)).await?;
        assert_eq!(mounted.processes("holder")?, [next]);
    }
    let seen = mounted.with(move |at| {
        drop(file);
        Ok(fs::read(at.join("w"))?)
    });
    assert_eq!(seen.await?, [0, 1, 2]);
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_was_replacing_is_given_back() -> anyhow::Result<()> {
    const LENGTH: usize = 24 << 20;
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted.with(|at| Ok(fs::write(at.join("f"), content("f", LENGTH))?)).await?;
    let mut expected = content("f", LENGTH).to_vec();
    for round in 0..6_u8 {
        // In the middle, so that the whole file is written anew; the server dies somewhere in that.
        expected[1_000] = round;
        let written = mounted.on_thread(move |at| {
            let file = fs::OpenOptions::new().write(true).open(at.join("f"))?;
            file.write_all_at(&[round], 1_000)?;
            Ok(file.sync_all()?)
        });
        let written = tokio::spawn(written);
        tokio::time::sleep(Duration::from_millis(100 + 40 * u64::from(round))).await;
        mounted.kill_server()?;
        written.await??;
    }
    let read = mounted.with(|at| Ok(fs::read(at.join("f"))?)).await?;
    assert!(read == expected);
    drop(read);
    eventually("only the content takes room", async || {
        Ok(client.fs_stats().await?.used < LENGTH as u64 * 3 / 2)
    })
    .await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}
