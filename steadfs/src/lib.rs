//! The `steadfs` binary: its subcommands, and a whole cluster on one machine ([`dev`]).
//!
//! Owns the wiring and nothing else: what a subcommand does is in the crate of its part.

pub mod dev;
mod nodes;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// A distributed file system with HDFS semantics.
#[derive(Parser, Debug)]
#[command(name = "steadfs", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve the namespace
    Namenode(NodeArguments),
    /// Serve replicas
    Datanode(NodeArguments),
    /// Run a whole cluster on this machine
    Dev(dev::Arguments),
    /// Work with files and folders
    Fs(steadfs_cli::FsArgs),
    /// Look after a cluster
    Admin(steadfs_cli::AdminArgs),
}

/// Arguments of a single node.
#[derive(Args, Debug)]
struct NodeArguments {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The process that started this one: end with it, and tell it the doors as one line of JSON
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<u32>,
}

/// Does what the command line says; `main` calls nothing else.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(arguments.command)),
        Err(error) => fail(&anyhow::Error::from(error).context("starting threads")),
    }
}

async fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Namenode(arguments) => nodes::namenode(&arguments).await,
        Command::Datanode(arguments) => nodes::datanode(&arguments).await,
        Command::Dev(arguments) => dev::run(arguments).await,
        Command::Fs(arguments) => return steadfs_cli::run_fs(arguments).await,
        Command::Admin(arguments) => return steadfs_cli::run_admin(arguments).await,
    };
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

/// One line for the operator.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("steadfs: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_options_of_dev_are_read() {
        let line = "steadfs dev --dir d --datanodes 4 --port 0 --http-port 0 --block-size 4MiB --set dead_after_ms=9 --set a=b --processes";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let Command::Dev(dev) = arguments.command else { panic!("{arguments:?}") };
        let options = dev::Options::try_from(dev).unwrap();
        assert_eq!(
            (options.datanodes, options.port, options.replication, options.block_size),
            (4, 0, 3, 4 << 20)
        );
        assert_eq!(options.settings, ["dead_after_ms=9", "a=b"].map(String::from));
        assert!(options.binary.is_some());
    }
}
