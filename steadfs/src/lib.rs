//! The `steadfs` binary: its subcommands, and a whole cluster on one machine ([`dev`]).
//!
//! Owns the wiring and nothing else: what a subcommand does is in the crate of its part.

pub mod dev;
mod nodes;
mod offline;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

/// What `--version` tells: a program that is many times slower than it could be says so.
const VERSION: &str = if cfg!(debug_assertions) {
    concat!(env!("CARGO_PKG_VERSION"), " (debug build)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// A distributed file system with HDFS semantics.
#[derive(Parser, Debug)]
#[command(name = "steadfs", version = VERSION)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    #[command(flatten)]
    Threaded(Threaded),
    /// Mount a folder of a cluster on a folder of this machine
    Mount(steadfs_fuse::MountArgs),
    /// Look at a namenode's journal, which is not changed
    #[command(subcommand)]
    Journal(offline::JournalCommand),
    /// Look at a namenode's store or a backup, which is not changed
    #[command(subcommand)]
    Image(offline::ImageCommand),
    /// Take a mount away
    Umount(steadfs_fuse::UmountArgs),
    /// Keep descriptors for the processes that mount volumes
    MountKeeper(steadfs_fuse::keeper::KeeperArgs),
    /// Print a shell's completions for this command: `source <(steadfs completions bash)`
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What runs on the threads of one runtime.
#[derive(Subcommand, Debug)]
enum Threaded {
    /// Serve the namespace, or look after the folders of a namenode that does not run
    Namenode(offline::NamenodeArguments),
    /// Serve replicas
    Datanode(DatanodeArguments),
    /// Run a whole cluster on this machine
    Dev(dev::Arguments),
    /// Work with files and folders
    Fs(steadfs_cli::FsArgs),
    /// Look after a cluster
    Admin(offline::AdminArguments),
    /// Serve volumes to Kubernetes
    Csi(steadfs_csi_driver::CsiArgs),
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

/// Arguments of a datanode: where it runs, which one file for many of them cannot say.
#[derive(Args, Debug)]
struct DatanodeArguments {
    #[command(flatten)]
    node: NodeArguments,
    #[command(flatten)]
    place: Place,
}

/// What goes before the keys of a datanode's configuration. An empty value counts as none.
#[derive(Args, Clone, Debug, Default)]
struct Place {
    /// The Kubernetes node, in place of `node` of the configuration
    #[arg(long = "node", env = "STEADFS_NODE", value_name = "NAME")]
    node_name: Option<String>,
    /// The address that others dial, in place of `advertised_ip` of the configuration
    #[arg(long, env = "STEADFS_ADVERTISED_IP", value_name = "IP")]
    advertised_ip: Option<String>,
    /// The rack, in place of `rack` of the configuration
    #[arg(long, env = "STEADFS_RACK", value_name = "/RACK")]
    rack: Option<String>,
}

/// Tasks that a thread runs before it looks again who has sent something. Few, so that one who calls rarely is heard while
/// others keep all threads busy.
const TASKS_BETWEEN_EVENTS: u32 = 7;

/// Does what the command line says; `main` calls nothing else.
pub fn main() -> ExitCode {
    steadfs_daemon::descriptors::raise();
    let line: Vec<OsString> = std::env::args_os().collect();
    let arguments = Arguments::parse_from(steadfs_fuse::as_mount_helper(&line).unwrap_or(line));
    let command = match arguments.command {
        // The processes of a mount choose their own threads: the one that must not die has as few as can be.
        Command::Mount(arguments) => return steadfs_fuse::mount(arguments),
        Command::Umount(arguments) => return steadfs_fuse::umount(&arguments),
        Command::Journal(command) => return offline::journal(&command),
        Command::Image(command) => return offline::image(&command),
        Command::MountKeeper(arguments) => return steadfs_fuse::keep(&arguments),
        Command::Completions { shell } => return completions(shell),
        Command::Threaded(command) => command,
    };
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    match threads.enable_all().event_interval(TASKS_BETWEEN_EVENTS).build() {
        Ok(runtime) => runtime.block_on(run(command)),
        Err(error) => fail(&anyhow::Error::from(error).context("starting threads")),
    }
}

/// Whole in memory first: a reader that goes away early is no error.
fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "steadfs", &mut text);
    match std::io::stdout().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn run(command: Threaded) -> ExitCode {
    let done = match command {
        Threaded::Namenode(arguments) => match arguments.command {
            Some(command) => return offline::namenode(&command),
            None => match &arguments.node {
                Some(node) => nodes::namenode(node).await,
                None => Err(anyhow::anyhow!("name a configuration (--config FILE)")),
            },
        },
        Threaded::Datanode(arguments) => nodes::datanode(&arguments).await,
        Threaded::Dev(arguments) => dev::run(arguments).await,
        Threaded::Fs(arguments) => return steadfs_cli::run_fs(arguments).await,
        Threaded::Admin(arguments) => return offline::admin(arguments).await,
        Threaded::Csi(arguments) => {
            steadfs_daemon::logs::init("info");
            steadfs_csi_driver::run(arguments).await
        }
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
    fn a_datanode_is_told_where_it_runs() {
        let place = Place {
            node_name: Some("worker-1".into()),
            advertised_ip: Some("fd00::7".into()),
            rack: Some(String::new()),
        };
        let mut config =
            steadfs_datanode::Config { rack: "/r".into(), ..steadfs_datanode::Config::default() };
        place.settle(&mut config).unwrap();
        assert_eq!((config.node.as_str(), config.rack.as_str()), ("worker-1", "/r"));
        assert_eq!(config.advertised_ip, Some("fd00::7".parse().unwrap()));
        let wrong = Place { advertised_ip: Some("worker-1".into()), ..Place::default() };
        let error = format!("{:#}", wrong.settle(&mut config).unwrap_err());
        assert!(error.contains("advertised-ip") && error.contains("worker-1"), "{error}");
    }

    #[test]
    fn the_options_of_dev_are_read() {
        let line = "steadfs dev --dir d --datanodes 4 --port 0 --http-port 0 --block-size 4MiB --set dead_after_ms=9 --set a=b --processes";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let Command::Threaded(Threaded::Dev(dev)) = arguments.command else { panic!("{arguments:?}") };
        let options = dev::Options::try_from(dev).unwrap();
        assert_eq!(
            (options.datanodes, options.port, options.replication, options.block_size),
            (4, 0, 3, 4 << 20)
        );
        assert_eq!(options.settings, ["dead_after_ms=9", "a=b"].map(String::from));
        assert!(options.binary.is_some());
    }
}
