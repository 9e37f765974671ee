//! `steadfs-sim`: simulations of the whole cluster, seed by seed.

mod calls;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use clap::Parser;
use steadfs_sim::{machine, run};

/// Simulates the whole cluster under faults. The same seed gives the same run.
#[derive(Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processes at the same time.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Goes on after a failure.
    #[arg(long)]
    all: bool,
    /// Tells what happens.
    #[arg(long)]
    trace: bool,
    /// Shows what the parts log, from this level on.
    #[arg(long)]
    log: Option<String>,
    /// Where files may be made: best in memory.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let passed = if args.seeds == 1 { run_one(&args)? } else { run_each(&args)? };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs each seed in a process of its own: nothing of one is left for the next.
fn run_each(args: &Args) -> anyhow::Result<bool> {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let failures = AtomicU64::new(0);
    let work = || -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= args.seeds {
                break;
            }
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--seed", &(args.seed + index).to_string(), "--folder"]).arg(&args.folder);
            command.args(args.trace.then_some("--trace"));
            let ran = command.stderr(Stdio::inherit()).output().context("a process for a seed")?;
            print!("{}", String::from_utf8_lossy(&ran.stdout));
            if !ran.status.success() {
                failures.fetch_add(1, Ordering::Relaxed);
                stop.fetch_or(!args.all, Ordering::Relaxed);
                if ran.stdout.is_empty() {
                    println!("seed {}: FAILED, it ended with {}\n", args.seed + index, ran.status);
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
    })?;
    let (ran, failed) = (next.into_inner().min(args.seeds), failures.into_inner());
    println!("{} passed, {failed} failed", ran - failed);
    Ok(failed == 0)
}

fn run_one(args: &Args) -> anyhow::Result<bool> {
    ensure!(
        machine::is_in_place(),
        "this program's own functions do not come before those of the C library: it would prove nothing"
    );
    if let Some(level) = &args.log {
        tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).without_time().init();
    }
    // The commit thread ends by a panic when the power fails below it.
    steadfs_namenode::fatal::set_hook(|sentence| panic!("{sentence}"));
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some("commit") {
            usual(panic);
        }
    }));
    let seed = args.seed;
    let outcome = run::run(seed, &args.folder, args.trace)?;
    println!(
        "seed {seed}: {} {:016x}, {} events in {} s, whole {} s after the last fault",
        if outcome.failure.is_some() { "FAILED" } else { "ok" },
        outcome.hash,
        outcome.events,
        outcome.seconds,
        outcome.healed_in
    );
    if let Some(why) = &outcome.failure {
        println!("  {why}\n  again: scripts/chaos sim --seed {seed} --trace");
    }
    Ok(outcome.failure.is_none())
}
