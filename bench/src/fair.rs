//! What one user's storm of calls does to another user's calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::runtime::Builder;

use crate::address;
use crate::calls::Op;
use crate::hadoop::Connection;
use crate::report::percentile;

/// Calls made before times are taken, so that everything is warm.
const WARM_CALLS: u64 = 200;

/// Who storms, how, and who calls meanwhile.
pub(crate) struct Fairness {
    pub(crate) fs: String,
    pub(crate) op: Op,
    pub(crate) connections: u64,
    pub(crate) seconds: u64,
    pub(crate) storming: String,
    pub(crate) calm: String,
}

/// Times the calm user alone, then beside the storm. The calm user calls from a thread of its own, so that the driver of
/// the storm does not delay it.
pub(crate) fn run(what: &Fairness) -> anyhow::Result<()> {
    ensure!(!matches!(what.op, Op::Rename | Op::Delete | Op::Mix), "one of stat, open, list, create, mkdirs");
    let server = address(&what.fs)?.to_owned();
    let folder = format!("/bench-fair-{}", std::process::id());
    Builder::new_current_thread().enable_all().build()?.block_on(prepare(&server, &folder, what))?;
    let alone = calm(&server, &folder, what)?;
    let (ended, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let storm = {
        let (server, folder, op, user) = (server.clone(), folder.clone(), what.op, what.storming.clone());
        let (ended, made, connections) = (Arc::clone(&ended), Arc::clone(&made), what.connections);
        thread::spawn(move || storm(&server, &folder, op, &user, connections, &ended, &made))
    };
    while made.load(Ordering::Relaxed) < WARM_CALLS && !storm.is_finished() {
        thread::sleep(Duration::from_millis(10));
    }
    let (begun, before) = (Instant::now(), made.load(Ordering::Relaxed));
    let beside = calm(&server, &folder, what)?;
    let rate = (made.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    ended.store(true, Ordering::Relaxed);
    storm.join().ok().context("the storm's thread panicked")??;
    println!("alone:  {}", described(&alone));
    println!(
        "beside: {}   while {} makes {rate:.0} calls/s on {} connections",
        described(&beside),
        what.storming,
        what.connections
    );
    let ratio = |percent| {
        percentile(&beside, percent).as_secs_f64() / percentile(&alone, percent).as_secs_f64().max(1e-9)
    };
    println!("ratio:  p50 {:.2}, p99 {:.2}", ratio(50), ratio(99));
    Ok(())
}

fn described(times: &[Duration]) -> String {
    format!("{} calls, p50 {:?}, p99 {:?}", times.len(), percentile(times, 50), percentile(times, 99))
}

async fn prepare(server: &str, folder: &str, what: &Fairness) -> anyhow::Result<()> {
    let mut first = Connection::open(server, &what.calm, 0).await?;
    for user in [&what.storming, &what.calm] {
        first.make_folder(&format!("{folder}/{user}"), 0o777).await?;
    }
    Ok(())
}

/// One call after the other on one connection, a moment apart, as a person or a driver of a job makes them.
fn calm(server: &str, folder: &str, what: &Fairness) -> anyhow::Result<Vec<Duration>> {
    const PAUSE: Duration = Duration::from_millis(2);
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let run = of_this_run();
        let mut connection = Connection::open(server, &what.calm, run).await?;
        let end = Instant::now() + Duration::from_secs(what.seconds);
        let mut times = Vec::new();
        let mut count = 0_u64;
        while Instant::now() < end {
            count += 1;
            let start = Instant::now();
            call(&mut connection, what.op, &format!("{folder}/{}", what.calm), &format!("{run}-{count}"))
                .await?;
            if count > WARM_CALLS {
                times.push(start.elapsed());
            }
            tokio::time::sleep(PAUSE).await;
        }
        times.sort_unstable();
        anyhow::Ok(times)
    })
}

/// Tells the names and the calls of one run from those of another.
fn of_this_run() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

async fn call(connection: &mut Connection, op: Op, folder: &str, name: &str) -> anyhow::Result<()> {
    match op {
        Op::Stat => connection.stat(folder).await,
        Op::Open => connection.open_file(folder).await,
        Op::List => connection.list(folder).await,
        Op::Create => connection.create(&format!("{folder}/c{name}")).await,
        Op::Mkdirs => connection.mkdirs(&format!("{folder}/d{name}")).await,
        Op::Rename | Op::Delete | Op::Mix => bail!("not in a storm"),
    }
}

fn storm(
    server: &str,
    folder: &str,
    op: Op,
    user: &str,
    connections: u64,
    ended: &Arc<AtomicBool>,
    made: &Arc<AtomicU64>,
) -> anyhow::Result<()> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let tasks = (1..=connections).map(|number| {
            let (server, user, folder) = (server.to_owned(), user.to_owned(), format!("{folder}/{user}"));
            let (ended, made) = (Arc::clone(ended), Arc::clone(made));
            tokio::spawn(async move {
                let mut connection = Connection::open(&server, &user, number).await?;
                let mut count = 0_u64;
                while !ended.load(Ordering::Relaxed) {
                    count += 1;
                    call(&mut connection, op, &folder, &format!("{number}-{count}")).await?;
                    made.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        Ok(())
    })
}
