//! Calls over Hadoop RPC, one outstanding a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::address;
use crate::hadoop::Connection;
use crate::report::Calls;

/// Files that are read: f0 to f99 of the folder.
const FILES: u64 = 100;
/// Entries that a connection makes before it deletes them one by one, for each second of a run.
const DELETES_PER_SECOND: u64 = 6_000;

/// What is called.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub(crate) enum Op {
    /// getFileInfo
    Stat,
    /// getBlockLocations, as an open asks
    Open,
    /// getListing of a folder of 100 files
    List,
    /// create of an empty file
    Create,
    /// mkdirs
    Mkdirs,
    /// rename within a folder
    Rename,
    /// delete of an empty folder
    Delete,
    /// What a large installation published of its calls: of 100, 47 list, 42 open, 3 create, 3 make a folder, 2 rename, 1
    /// deletes; 2 stat here, which the source leaves open
    Mix,
}

/// What a run does.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) fs: String,
    pub(crate) op: Op,
    pub(crate) connections: u64,
    pub(crate) seconds: u64,
    pub(crate) user: String,
    /// Files f0 to f99 are there; without it empty ones are made.
    pub(crate) folder: Option<String>,
}

/// Where the calls go: the folder named, or a new one with empty files in it.
async fn place(server: &str, user: &str, folder: Option<String>) -> anyhow::Result<String> {
    if let Some(folder) = folder {
        return Ok(folder);
    }
    let folder = format!("/bench-calls-{}", std::process::id());
    let mut first = Connection::open(server, user, 0).await?;
    first.mkdirs(&folder).await?;
    for index in 0..FILES {
        let path = format!("{folder}/f{index}");
        first.create(&path).await?;
        first.complete(&path).await?;
    }
    Ok(folder)
}

/// Makes the calls.
pub(crate) async fn run(plan: Plan) -> anyhow::Result<Calls> {
    let server = address(&plan.fs)?.to_owned();
    let folder = place(&server, &plan.user, plan.folder.clone()).await?;
    if plan.op == Op::Delete {
        return deletes(&server, &folder, &plan).await;
    }
    // What is changed lies beside what is listed, so that a listing is as long in the end as in the beginning.
    let changed = format!("{folder}-changed-{}", std::process::id());
    if matches!(plan.op, Op::Create | Op::Mkdirs | Op::Rename | Op::Mix) {
        Connection::open(&server, &plan.user, 0).await?.mkdirs(&changed).await?;
    }
    let begun = Arc::new(tokio::sync::Barrier::new(plan.connections as usize));
    let limit = Duration::from_secs(plan.seconds);
    let tasks: Vec<_> = (1..=plan.connections)
        .map(|number| {
            let (server, folder, changed) = (server.clone(), folder.clone(), changed.clone());
            let (user, begun, op) = (plan.user.clone(), Arc::clone(&begun), plan.op);
            tokio::spawn(async move {
                let mut caller = Caller::open(&server, &user, number, folder, changed).await?;
                if matches!(op, Op::Rename | Op::Mix) {
                    caller.connection.mkdirs(&format!("{}/r{number}", caller.changed)).await?;
                }
                begun.wait().await;
                let (start, mut times) = (Instant::now(), Vec::new());
                while start.elapsed() < limit {
                    let at = Instant::now();
                    caller.call(op).await?;
                    times.push(at.elapsed());
                }
                anyhow::Ok((times, start.elapsed()))
            })
        })
        .collect();
    let (mut times, mut took) = (Vec::new(), limit);
    for task in tasks {
        let (of_one, until) = task.await??;
        times.extend(of_one);
        took = took.max(until);
    }
    if matches!(plan.op, Op::Create | Op::Mkdirs | Op::Rename | Op::Mix) {
        Connection::open(&server, &plan.user, 0).await?.delete(&changed).await?;
    }
    Ok(Calls::new(times, took))
}

/// Folders are made, and then all of them deleted: the same number on either side.
async fn deletes(server: &str, folder: &str, plan: &Plan) -> anyhow::Result<Calls> {
    let doomed = format!("{folder}-doomed-{}", std::process::id());
    Connection::open(server, &plan.user, 0).await?.mkdirs(&doomed).await?;
    let each = (plan.seconds * DELETES_PER_SECOND / plan.connections).max(1);
    let made = Arc::new(tokio::sync::Barrier::new(plan.connections as usize));
    let tasks: Vec<_> = (1..=plan.connections)
        .map(|number| {
            let (server, user, doomed) = (server.to_owned(), plan.user.clone(), doomed.clone());
            let made = Arc::clone(&made);
            tokio::spawn(async move {
                let mut connection = Connection::open(&server, &user, number).await?;
                for index in 0..each {
                    connection.mkdirs(&format!("{doomed}/d{number}-{index}")).await?;
                }
                made.wait().await;
                let (start, mut times) = (Instant::now(), Vec::new());
                for index in 0..each {
                    let at = Instant::now();
                    connection.delete(&format!("{doomed}/d{number}-{index}")).await?;
                    times.push(at.elapsed());
                }
                anyhow::Ok((times, start.elapsed()))
            })
        })
        .collect();
    let (mut times, mut took) = (Vec::new(), Duration::ZERO);
    for task in tasks {
        let (of_one, until) = task.await??;
        times.extend(of_one);
        took = took.max(until);
    }
    Ok(Calls::new(times, took))
}

/// One connection and what it does next.
struct Caller {
    connection: Connection,
    folder: String,
    changed: String,
    number: u64,
    count: u64,
    /// Folders of this one that are there and may be deleted.
    spare: u64,
    renames: u64,
}

impl Caller {
    async fn open(
        server: &str,
        user: &str,
        number: u64,
        folder: String,
        changed: String,
    ) -> anyhow::Result<Self> {
        let connection = Connection::open(server, user, number).await?;
        Ok(Self { connection, folder, changed, number, count: 0, spare: 0, renames: 0 })
    }

    async fn call(&mut self, op: Op) -> anyhow::Result<()> {
        self.count += 1;
        let op = if op == Op::Mix { self.of_the_mix() } else { op };
        let (number, count) = (self.number, self.count);
        match op {
            Op::Stat => self.connection.stat(&format!("{}/f{}", self.folder, count % FILES)).await,
            Op::Open => self.connection.open_file(&format!("{}/f{}", self.folder, count % FILES)).await,
            Op::List => self.connection.list(&self.folder).await,
            Op::Create => self.connection.create(&format!("{}/c{number}-{count}", self.changed)).await,
            Op::Mkdirs => {
                self.spare += 1;
                self.connection.mkdirs(&format!("{}/d{number}-{}", self.changed, self.spare)).await
            }
            Op::Delete if self.spare > 0 => {
                self.spare -= 1;
                self.connection.delete(&format!("{}/d{number}-{}", self.changed, self.spare + 1)).await
            }
            Op::Delete => self.connection.delete(&format!("{}/nothing-{number}", self.changed)).await,
            // There and back.
            Op::Rename | Op::Mix => {
                self.renames += 1;
                let ends = [format!("{}/r{number}", self.changed), format!("{}/s{number}", self.changed)];
                let (from, to) = if self.renames % 2 == 1 { (0, 1) } else { (1, 0) };
                self.connection.rename(&ends[from], &ends[to]).await
            }
        }
    }

    /// The calls of the mix, spread evenly: 37 has no factor in common with 100.
    const fn of_the_mix(&self) -> Op {
        match (self.count * 37 + self.number * 11) % 100 {
            0..47 => Op::List,
            47..89 => Op::Open,
            89..92 => Op::Create,
            92..95 => Op::Mkdirs,
            95..97 => Op::Rename,
            97 => Op::Delete,
            _ => Op::Stat,
        }
    }
}

/// Makes empty files, 1,000 a folder, below /bench-files.
pub(crate) async fn files(fs: &str, count: u64, connections: u64, user: &str) -> anyhow::Result<Duration> {
    const PER_FOLDER: u64 = 1_000;
    let server = address(fs)?.to_owned();
    let start = Instant::now();
    let tasks = (0..connections).map(|number| {
        let (server, user) = (server.clone(), user.to_owned());
        tokio::spawn(async move {
            let mut connection = Connection::open(&server, &user, number + 1).await?;
            let mut folder = None;
            for index in (number * PER_FOLDER..count)
                .step_by((connections * PER_FOLDER) as usize)
                .flat_map(|first| first..(first + PER_FOLDER).min(count))
            {
                let place = format!("/bench-files/{}", index / PER_FOLDER);
                if folder.as_ref() != Some(&place) {
                    connection.mkdirs(&place).await?;
                    folder = Some(place.clone());
                }
                let path = format!("{place}/file-{index}");
                connection.create(&path).await?;
                connection.complete(&path).await?;
            }
            anyhow::Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(start.elapsed())
}
