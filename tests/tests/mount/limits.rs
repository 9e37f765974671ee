//! What bounds a mount: quotas, room, memory, and a namenode that is away.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use steadfs_client::Bound;
use steadfs_tests::{TestCluster, content, eventually};

use crate::mounted::{Mounted, Program, errno};

const EDQUOT: i32 = 122;
const ENOSPC: i32 = 28;
const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn blocks_get_smaller_where_there_is_no_room_for_large_ones() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    client.mkdirs_with("/q", 0o777, true).await?;
    client.set_quota("/q", Bound::Keep, Bound::Set(40 << 20)).await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--block-size", "64MiB"]).await?;
    mounted
        .with(|at| {
            let at = at.join("q");
            fs::write(at.join("small"), "small")?;
            // Past what is staged before a pipeline is opened.
            fs::write(at.join("large"), content("large", 12 * MIB))?;
            fs::OpenOptions::new().append(true).open(at.join("small"))?.write_all(b" and more")?;
            // Not all of this fits: whoever writes or closes is told, and what was there stays.
            let mut file = File::create(at.join("too large"))?;
            let bytes = content("too large", MIB);
            let written = (0..40).try_for_each(|_| file.write_all(&bytes)).and_then(|()| file.sync_all());
            assert_eq!(errno(written), EDQUOT);
            drop(file);
            fs::remove_file(at.join("too large"))?;
            fs::write(at.join("again"), content("again", 9 * MIB))?;
            Ok(())
        })
        .await?;
    assert_eq!(client.read("/q/small", 100).await?, "small and more");
    assert!(client.read("/q/large", 64 << 20).await? == content("large", 12 * MIB));
    assert!(client.read("/q/again", 64 << 20).await? == content("again", 9 * MIB));
    let status = client.stat("/q/large").await?;
    assert!(status.block_size < 64 << 20, "{}", status.block_size);
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_staging_place_is_told_to_who_writes() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    client.write("/f", vec![0; 4_000_000]).await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--staging-bytes", "1MiB"]).await?;
    mounted
        .with(|at| {
            let file = fs::OpenOptions::new().read(true).write(true).open(at.join("f"))?;
            // From the back to the front, which must be staged.
            let bytes = content("f", 100_000);
            let mut kept = Vec::new();
            let full = (0..40_u64).rev().try_for_each(|number| {
                file.write_all_at(&bytes, number * 100_000)?;
                kept.push(number);
                std::io::Result::Ok(())
            });
            assert_eq!((errno(full), kept.len()), (ENOSPC, 10));
            file.sync_all()?;
            let mut seen = vec![0; bytes.len()];
            for number in &kept {
                file.read_exact_at(&mut seen, number * 100_000)?;
                ensure!(seen == bytes, "piece {number}");
            }
            // What is committed makes room again.
            file.write_all_at(&bytes, 0)?;
            Ok(())
        })
        .await?;
    assert_eq!(client.stat("/f").await?.length, 4_000_000);
    assert!(client.open("/f").await?.read_at(0, 100_000).await? == content("f", 100_000));
    drop(mounted);
    test.stop().await;
    Ok(())
}

/// A line of what the kernel tells of a process's memory, in bytes.
fn memory(process: u32, line: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let found = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let found = found.with_context(|| format!("no {line}"))?;
    Ok(found.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// The most that a process had at one time.
fn peak(process: u32) -> anyhow::Result<u64> {
    memory(process, "VmHWM")
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_whatever_is_open() -> anyhow::Result<()> {
    for bytes in [24 << 20, 128 << 20] {
        bounded(bytes).await?;
    }
    Ok(())
}

async fn bounded(bytes: u64) -> anyhow::Result<()> {
    const FILES: usize = 40;
    let test = TestCluster::in_process(1).await?;
    let given = bytes.to_string();
    let options = ["--memory", given.as_str(), "--block-size", "16MiB", "--local", "/nonexistent"];
    let mounted = Mounted::new(&test.cluster.url(), &options).await?;
    mounted.with(|at| Ok(fs::write(at.join("first"), content("first", 4 * MIB))?)).await?;
    mounted.with(|at| fs::read(at.join("first")).map(|_| ()).map_err(Into::into)).await?;
    let before = peak(mounted.server()?)?;
    // The program's file is the machine's to take back.
    let own = memory(mounted.server()?, "RssAnon")?;
    assert!(own < steadfs_fuse::SERVER_TAKES + bytes / 2, "a server takes {} MiB", own >> 20);
    // As many pipelines as can be, each past what is staged, then as many readers, and open files that nobody uses.
    let writers = (0..FILES).map(|number| {
        mounted.on_thread(move |at| {
            let mut file = File::create(at.join(format!("f{number}")))?;
            let bytes = content(&number.to_string(), MIB);
            (0..10).try_for_each(|_| file.write_all(&bytes))?;
            Ok(file.sync_all()?)
        })
    });
    futures::future::try_join_all(writers).await?;
    let idle = mounted.on_thread(|at| {
        (0..500)
            .map(|number| Ok(File::create(at.join(format!("idle{number}")))?))
            .collect::<anyhow::Result<Vec<_>>>()
    });
    let idle = idle.await?;
    let readers = (0..FILES).map(|number| {
        mounted.on_thread(move |at| {
            let mut seen = Vec::new();
            File::open(at.join(format!("f{number}")))?.read_to_end(&mut seen)?;
            let bytes = content(&number.to_string(), MIB);
            ensure!(seen.len() == 10 * MIB && seen.chunks(MIB).all(|part| part == bytes), "file {number}");
            Ok(())
        })
    });
    futures::future::try_join_all(readers).await?;
    let grown = peak(mounted.server()?)?.saturating_sub(before);
    drop(idle);
    assert!(grown < bytes, "of {} MiB it took {} MiB", bytes >> 20, grown >> 20);
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_while_the_namenode_is_away() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(1, crate::BINARY).await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--wait-seconds", "90"]).await?;
    mounted.with(|at| Ok(fs::write(at.join("f"), "old")?)).await?;
    // Not this process: one that has a file of a mount open waits for the mount whenever it starts another.
    let text = "import sys\nat = sys.argv[1]\ng = open(at + '/g', 'w'); print('open', flush=True)\n\
                sys.stdin.readline(); g.write('new'); g.close()\n\
                print(open(at + '/f').read() + open(at + '/g').read(), flush=True)\n";
    let mut program = mounted.on_thread(move |at| Program::start(text, at)).await?;
    program.hears("open")?;
    test.cluster.kill_namenode().await;
    let first = mounted.server()?;
    mounted.kill_server()?;
    program.say("go on")?;
    eventually("another server", async || Ok(mounted.server()? != first)).await?;
    assert!(program.is_silent(Duration::from_secs(2)), "answered without a namenode");
    test.cluster.start_namenode().await?;
    program.hears("oldnew")?;
    drop(program);
    drop(mounted);
    test.stop().await;
    Ok(())
}
