//! A mounted file system beside the local disk and beside our client, round by round in turns.
//!
//! What is compared runs right after the other, and what is told is the median of the rounds and the ratio of the medians: a
//! machine that does other things at the same time slows both.

#![expect(unsafe_code, reason = "a file is mapped, as programs do")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use rustix::fs::Advice;
use rustix::mm::{MapFlags, ProtFlags};
use steadfs_client::Client;

const PIECE: usize = 1 << 20;
const PAGE: usize = 4 << 10;
/// Reads of a round of small reads, files of a round of stats.
const SMALL_READS: u64 = 50_000;
const STATS: usize = 50_000;
const FILES: usize = 100;
/// Blocks of the file that has several.
const BLOCK: u64 = 16 << 20;

/// What is measured, where.
pub(crate) struct Plan {
    pub(crate) fs: String,
    /// The cluster's root is mounted here, and reads what lies on this machine by itself.
    pub(crate) mount: PathBuf,
    /// It is mounted here as well, and everything comes from the datanodes.
    pub(crate) remote: PathBuf,
    /// A folder of the local disk.
    pub(crate) beside: PathBuf,
    pub(crate) mebibytes: usize,
    pub(crate) rounds: usize,
}

fn content(mebibytes: usize) -> Bytes {
    (0..mebibytes * PIECE).map(|index| (index / 7 * 31 % 251) as u8).collect::<Vec<_>>().into()
}

/// Runs both sides in turns; prints medians and ratio. What they give is larger for the better.
async fn compare(
    what: &str,
    unit: &str,
    rounds: usize,
    mut ours: impl AsyncFnMut() -> anyhow::Result<f64>,
    mut theirs: impl AsyncFnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    let (mut our, mut their) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let pair = (ours().await.context(what.to_owned())?, theirs().await.context(what.to_owned())?);
        // The first warms up.
        if round > 0 {
            our.push(pair.0);
            their.push(pair.1);
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (our, their) = (median(&mut our), median(&mut their));
    println!("{what}: {our:.2} beside {their:.2} {unit}, ratio {:.2}", our / their);
    Ok(())
}

fn speed(bytes: usize, since: Instant) -> f64 {
    bytes as f64 / since.elapsed().as_secs_f64() / 1e9
}

fn read_in_order(path: &Path, length: usize) -> anyhow::Result<f64> {
    let file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let since = Instant::now();
    for at in (0..length).step_by(PIECE) {
        file.read_exact_at(&mut piece, at as u64)?;
    }
    Ok(speed(length, since))
}

fn read_anywhere(path: &Path, length: usize) -> anyhow::Result<f64> {
    let file = File::open(path)?;
    let mut page = vec![0; PAGE];
    let (mut state, since) = (0x9e37_79b9_7f4a_7c15_u64, Instant::now());
    for _ in 0..SMALL_READS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.read_exact_at(&mut page, state % (length / PAGE) as u64 * PAGE as u64)?;
    }
    Ok(SMALL_READS as f64 / since.elapsed().as_secs_f64() / 1e6)
}

fn read_mapped(path: &Path, length: usize) -> anyhow::Result<f64> {
    let file = File::open(path)?;
    let mut piece = vec![0_u8; PIECE];
    let since = Instant::now();
    // SAFETY: a new mapping at a place that the kernel chooses.
    let map = unsafe {
        rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &file, 0)?
    };
    for at in (0..length).step_by(PIECE) {
        // SAFETY: within the mapping; the file is as long and nobody makes it shorter.
        unsafe { std::ptr::copy_nonoverlapping(map.cast::<u8>().add(at), piece.as_mut_ptr(), PIECE) };
        std::hint::black_box(&piece);
    }
    let took = speed(length, since);
    // SAFETY: mapped above, and not used any more.
    unsafe { rustix::mm::munmap(map, length)? };
    Ok(took)
}

/// Reads what the kernel has not kept.
fn read_afresh(path: &Path, length: usize) -> anyhow::Result<f64> {
    rustix::fs::fadvise(&File::open(path)?, 0, None, Advice::DontNeed)?;
    read_in_order(path, length)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<f64> {
    let since = Instant::now();
    let mut file = File::create(path)?;
    for piece in bytes.chunks(PIECE) {
        file.write_all(piece)?;
    }
    // Makes it durable.
    drop(file);
    let took = speed(bytes.len(), since);
    ensure!(fs::metadata(path)?.len() == bytes.len() as u64, "{} was not written", path.display());
    Ok(took)
}

fn stat_all(folder: &Path) -> anyhow::Result<f64> {
    let names: Vec<_> = (0..FILES).map(|number| folder.join(format!("f{number}"))).collect();
    let since = Instant::now();
    for index in 0..STATS {
        fs::metadata(&names[index % FILES])?;
    }
    Ok(STATS as f64 / since.elapsed().as_secs_f64() / 1e6)
}

async fn by_client_write(client: &Client, path: &str, bytes: &Bytes, block: u64) -> anyhow::Result<f64> {
    let since = Instant::now();
    let mut writer = client.create(path).overwrite(true).block_size(block).await?;
    for at in (0..bytes.len()).step_by(PIECE) {
        writer.write_all(bytes.slice(at..at + PIECE)).await?;
    }
    writer.close().await?;
    Ok(speed(bytes.len(), since))
}

async fn by_client_read(client: &Client, path: &str, length: usize) -> anyhow::Result<f64> {
    let since = Instant::now();
    let mut stream = client.open(path).await?.stream();
    let mut read = 0;
    while let Some(part) = stream.next_chunk().await? {
        read += part.len();
    }
    ensure!(read == length, "read {read} bytes of {length}");
    Ok(speed(length, since))
}

/// Blocking work beside the client's.
#[expect(clippy::disallowed_methods, reason = "one at a time, and nothing is served here")]
async fn apart(work: impl FnOnce() -> anyhow::Result<f64> + Send + 'static) -> anyhow::Result<f64> {
    tokio::task::spawn_blocking(work).await?
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<()> {
    ensure!(!cfg!(debug_assertions), "measure with a release build: cargo build --release");
    let client = Client::connect(&plan.fs).await?;
    let bytes = content(plan.mebibytes);
    let (length, rounds) = (bytes.len(), plan.rounds);
    let folder = plan.mount.join("bench-mount");
    fs::create_dir_all(&folder)?;
    fs::create_dir_all(&plan.beside)?;
    let (one, local) = (folder.join("one"), plan.beside.join("one"));
    write(&one, &bytes)?;
    write(&local, &bytes)?;
    type Read = fn(&Path, usize) -> anyhow::Result<f64>;
    let reads: [(&str, &str, Read); 3] = [
        ("one block, local, in order beside the disk", "GB/s", read_in_order),
        ("one block, local, 4 KiB anywhere beside the disk", "M/s", read_anywhere),
        ("one block, local, mapped beside the disk", "GB/s", read_mapped),
    ];
    for (what, unit, read) in reads {
        let side = |path: PathBuf| {
            async move || {
                let path = path.clone();
                apart(move || read(&path, length)).await
            }
        };
        compare(what, unit, rounds, side(one.clone()), side(local.clone())).await?;
    }
    let afresh = |path: PathBuf| {
        async move || {
            let path = path.clone();
            apart(move || read_afresh(&path, length)).await
        }
    };
    by_client_write(&client, "/bench-mount/many", &bytes, BLOCK).await?;
    let client_reads = |path: &'static str| {
        let client = client.clone();
        async move || by_client_read(&client, path, length).await
    };
    compare(
        "several blocks beside our client",
        "GB/s",
        rounds,
        afresh(folder.join("many")),
        client_reads("/bench-mount/many"),
    )
    .await?;
    let remote = plan.remote.join("bench-mount");
    compare(
        "one block, not local, beside our client",
        "GB/s",
        rounds,
        afresh(remote.join("one")),
        client_reads("/bench-mount/one"),
    )
    .await?;
    let written = |path: PathBuf| {
        let bytes = bytes.clone();
        async move || {
            let (path, bytes) = (path.clone(), bytes.clone());
            apart(move || write(&path, &bytes)).await
        }
    };
    compare("written in order beside our client", "GB/s", rounds, written(folder.join("new")), async || {
        by_client_write(&client, "/bench-mount/new-by-client", &bytes, 1 << 30).await
    })
    .await?;
    for at in [&folder, &plan.beside] {
        (0..FILES).try_for_each(|number| fs::write(at.join(format!("f{number}")), "x"))?;
    }
    let stats = |at: PathBuf| {
        async move || {
            let at = at.clone();
            apart(move || stat_all(&at)).await
        }
    };
    compare("cached stat beside the disk", "M/s", rounds, stats(folder.clone()), stats(plan.beside.clone()))
        .await?;
    fs::remove_dir_all(&folder)?;
    fs::remove_dir_all(&plan.beside)?;
    Ok(())
}
