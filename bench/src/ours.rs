//! One stream through our own client.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use serde_json::Value;
use steadfs_client::Client;

use crate::report::{Calls, moved};

const PIECE: usize = 1 << 20;
const PAGE: usize = 4 << 10;

/// What is done.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub(crate) enum Work {
    /// Writes it, to its close
    Write,
    /// Reads it in order over TCP
    Read,
    /// Reads it in order through a descriptor that the datanode of this machine passes
    Local,
    /// Pages anywhere, over TCP, `--connections` at a time
    Pread,
    /// Pages anywhere through a descriptor
    PreadLocal,
}

/// Which file, and how it is made.
pub(crate) struct Plan {
    pub(crate) fs: String,
    pub(crate) path: String,
    pub(crate) work: Work,
    pub(crate) bytes: u64,
    pub(crate) block_size: u64,
    pub(crate) replication: u16,
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
    pub(crate) local: std::path::PathBuf,
}

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Value> {
    let client = Client::connect(&plan.fs).await?;
    match plan.work {
        Work::Write => write(&client, plan).await,
        Work::Read => read(&client, &plan.path).await,
        Work::Local => local(&client, &plan.path, &plan.local).await,
        Work::Pread => pread(&client, plan).await,
        Work::PreadLocal => pread_local(&client, plan).await,
    }
}

async fn write(client: &Client, plan: &Plan) -> anyhow::Result<Value> {
    let piece: Bytes = (0..PIECE).map(|index| (index * 31 % 251) as u8).collect::<Vec<_>>().into();
    let start = Instant::now();
    let mut writer = client
        .create(&plan.path)
        .overwrite(true)
        .replication(plan.replication)
        .block_size(plan.block_size)
        .await?;
    let mut left = plan.bytes as usize;
    while left > 0 {
        let size = left.min(PIECE);
        writer.write_all(piece.slice(..size)).await?;
        left -= size;
    }
    writer.close().await?;
    Ok(moved(plan.bytes, start.elapsed()))
}

async fn read(client: &Client, path: &str) -> anyhow::Result<Value> {
    let start = Instant::now();
    let reader = client.open(path).await?;
    let mut stream = reader.stream();
    let mut read = 0;
    while let Some(piece) = stream.next_chunk().await? {
        read += piece.len() as u64;
    }
    ensure!(read == reader.length(), "{read} bytes of {} came", reader.length());
    Ok(moved(read, start.elapsed()))
}

async fn local(client: &Client, path: &str, folder: &Path) -> anyhow::Result<Value> {
    let start = Instant::now();
    let reader = client.open(path).await?;
    let (block, file) =
        reader.local_file(folder).await?.with_context(|| format!("no descriptor of {path}"))?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < block.length {
        let size = (block.length - at).min(PIECE as u64) as usize;
        file.read_exact_at(&mut piece[..size], at)?;
        at += size as u64;
    }
    Ok(moved(at, start.elapsed()))
}

/// The next of a row of numbers that look as if drawn at random.
const fn scattered(state: u64) -> u64 {
    let state = state ^ (state << 13);
    let state = state ^ (state >> 7);
    state ^ (state << 17)
}

async fn pread(client: &Client, plan: &Plan) -> anyhow::Result<Value> {
    let limit = Duration::from_secs(plan.seconds);
    let tasks: Vec<_> = (1..=plan.connections as u64)
        .map(|number| {
            let (client, path) = (client.clone(), plan.path.clone());
            tokio::spawn(async move {
                let reader = client.open(&path).await?;
                let pages = (reader.length() / PAGE as u64).max(1);
                let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number);
                let (start, mut times) = (Instant::now(), Vec::new());
                while start.elapsed() < limit {
                    state = scattered(state);
                    let at = Instant::now();
                    let page = reader.read_at(state % pages * PAGE as u64, PAGE).await?;
                    times.push(at.elapsed());
                    ensure!(page.len() == PAGE, "a page of {} bytes", page.len());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(Calls::new(times, limit).json())
}

async fn pread_local(client: &Client, plan: &Plan) -> anyhow::Result<Value> {
    let reader = client.open(&plan.path).await?;
    let (block, file) =
        reader.local_file(&plan.local).await?.with_context(|| format!("no descriptor of {}", plan.path))?;
    let (limit, pages) = (Duration::from_secs(plan.seconds), (block.length / PAGE as u64).max(1));
    let (mut state, mut page) = (0x9e37_79b9_7f4a_7c15_u64, vec![0; PAGE]);
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < limit {
        state = scattered(state);
        let at = Instant::now();
        file.read_exact_at(&mut page, state % pages * PAGE as u64)?;
        times.push(at.elapsed());
    }
    Ok(Calls::new(times, start.elapsed()).json())
}
