//! `steadfs-sim`: simulations of the whole cluster, seed by seed.

mod calls;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

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
    /// From one seed to the next.
    #[arg(long, default_value_t = 1, hide = true)]
    step: u64,
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
    let passed = if args.jobs > 1 { split(&args)? } else { run_all(&args)? };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each process takes every so manieth seed.
fn split(args: &Args) -> anyhow::Result<bool> {
    let program = std::env::current_exe()?;
    let mut children = Vec::new();
    for job in 0..args.jobs.min(args.seeds) {
        let count = (args.seeds - job).div_ceil(args.jobs);
        let mut command = Command::new(&program);
        command.args(["--seeds", &count.to_string(), "--seed", &(args.seed + job).to_string()]);
        command.args(["--step", &args.jobs.to_string(), "--folder"]).arg(&args.folder);
        command.args(args.all.then_some("--all"));
        children.push(command.spawn().context("another process")?);
    }
    let mut passed = true;
    for mut child in children {
        passed &= child.wait()?.success();
    }
    Ok(passed)
}

fn run_all(args: &Args) -> anyhow::Result<bool> {
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
    let (mut failures, mut ran) = (0, 0);
    for index in 0..args.seeds {
        let seed = args.seed + index * args.step;
        let outcome = run::run(seed, &args.folder, args.trace)?;
        ran += 1;
        println!(
            "seed {seed}: {} {:016x}, {} events in {} s, whole {} s after the last fault",
            if outcome.failure.is_some() { "FAILED" } else { "ok" },
            outcome.hash,
            outcome.events,
            outcome.seconds,
            outcome.healed_in
        );
        if let Some(why) = outcome.failure {
            println!("  {why}\n  again: scripts/chaos sim --seed {seed} --trace");
            failures += 1;
            if !args.all {
                break;
            }
        }
    }
    println!("{} passed, {failures} failed", ran - failures);
    Ok(failures == 0)
}
