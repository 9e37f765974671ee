//! `steadfs namenode restore|accept-loss`, `steadfs journal` and `steadfs image`: for a namenode that does not run.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use steadfs_namenode::{Config, offline};

use crate::NodeArguments;

/// Who makes up a tree is told after so many files each.
const TELL_AFTER_FILES: u64 = 1_000_000;

/// Arguments of the namenode.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NamenodeArguments {
    #[command(flatten)]
    pub(crate) node: Option<NodeArguments>,
    #[command(subcommand)]
    pub(crate) command: Option<NamenodeCommand>,
}

/// What is done to the folders of a namenode that does not run.
#[derive(Subcommand, Debug)]
pub(crate) enum NamenodeCommand {
    /// Put a backup into the empty `data_dirs` of a configuration
    Restore {
        /// The configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The folder that `steadfs admin backup` made
        backup: PathBuf,
    },
    /// Let datanodes follow this namenode although they have heard of a later state: what came after it is lost
    ///
    /// For when a backup was restored, or an old copy of `data_dirs` put back, and nothing newer is left. Ids that may have
    /// been given out since are passed over; replicas made since are kept until `steadfs admin kept --delete`.
    AcceptLoss {
        /// The configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check everything in the folders of a namenode that does not run, and change nothing
    ///
    /// Each copy of the journal, the store row by row, its second copy, and whether they fit each other. Exit code 0: sound;
    /// 1: damaged, and a start or the order that is named puts it right; 2: the namenode would not start, or something is
    /// lost: each sentence says what to do.
    Check {
        /// All of `data_dirs`, in their order
        #[arg(required = true)]
        folders: Vec<PathBuf>,
    },
    /// Compare a backup with what was noted when it was taken, to the last byte
    VerifyBackup {
        /// The folder that `steadfs admin backup` made
        backup: PathBuf,
    },
}

/// What can be seen of a journal.
#[derive(Subcommand, Debug)]
pub(crate) enum JournalCommand {
    /// Print every entry as a line of JSON
    Dump {
        /// One of `data_dirs`, or the folder `journal` in it
        folder: PathBuf,
    },
    /// Check every entry of each copy, and compare the copies; exit code 1 if anything is wrong
    Verify {
        /// All of `data_dirs`
        #[arg(required = true)]
        folders: Vec<PathBuf>,
    },
}

/// What can be seen of a store.
#[derive(Subcommand, Debug)]
pub(crate) enum ImageCommand {
    /// Print every row as a line of JSON
    Dump {
        /// The first of `data_dirs`, the folder `store` in it, or a backup
        folder: PathBuf,
    },
}

/// What `steadfs admin` does to a running cluster, and what is for tests alone.
#[derive(Args, Debug)]
pub(crate) struct AdminArguments {
    #[command(flatten)]
    connection: steadfs_cli::Connection,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Subcommand, Debug)]
enum AdminCommand {
    #[command(flatten)]
    Running(steadfs_cli::AdminCommand),
    /// TEST TOOL: make up a tree of any size in the folders of a namenode that does not run
    ///
    /// For measuring. The files look written and closed; no datanode has their blocks. Never in a namespace that is to be
    /// used. What was made is told as one line of JSON.
    Synth(SynthArguments),
}

/// What is made up.
#[derive(Args, Debug)]
struct SynthArguments {
    /// The namenode's configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How many files
    #[arg(long, value_name = "N")]
    files: u64,
    /// The new folder in the root that holds them
    #[arg(long, default_value = "synthetic")]
    name: String,
    /// Files in a folder
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    per_folder: u64,
    /// Blocks of each file
    #[arg(long, value_name = "N", default_value_t = 1)]
    blocks: u32,
    /// Bytes of each block
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    block_bytes: u64,
    /// Replicas that each block should have
    #[arg(long, value_name = "N", default_value_t = 3)]
    replication: u16,
    /// Also in a namespace that holds files, which is of no use afterwards
    #[arg(long)]
    beside_others: bool,
}

/// Does what `steadfs admin` asks.
pub(crate) async fn admin(arguments: AdminArguments) -> ExitCode {
    let AdminArguments { connection, json, command } = arguments;
    match command {
        AdminCommand::Running(command) => {
            steadfs_cli::run_admin(steadfs_cli::AdminArgs { connection, json, command }).await
        }
        AdminCommand::Synth(arguments) => end(synthesize(&arguments).map(|()| true)),
    }
}

fn synthesize(arguments: &SynthArguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let wanted = offline::Synthetic {
        name: steadfs_common::Name::new(&arguments.name).context("--name")?,
        files: arguments.files,
        files_per_folder: arguments.per_folder,
        blocks_per_file: arguments.blocks,
        block_bytes: arguments.block_bytes,
        replication: arguments.replication,
        beside_others: arguments.beside_others,
    };
    let mut told = 0;
    let made = offline::synthesize(&config, &wanted, &mut |files| {
        if files - told >= TELL_AFTER_FILES {
            told = files;
            eprintln!("{files} files");
        }
    })?;
    let offline::Synthesized { first_block, end_block, stamp, files } = made;
    writeln!(
        io::stdout().lock(),
        r#"{{"files":{files},"first_block":{first_block},"end_block":{end_block},"stamp":{stamp}}}"#
    )
    .context("writing to standard output")
}

/// Does what is done to folders.
pub(crate) fn namenode(command: &NamenodeCommand) -> ExitCode {
    let text = match command {
        NamenodeCommand::Restore { config, backup } => restore(config, backup),
        NamenodeCommand::AcceptLoss { config } => accept_loss(config),
        NamenodeCommand::Check { folders } => return check(folders),
        NamenodeCommand::VerifyBackup { backup } => verify_backup(backup),
    };
    end(text.and_then(|text| {
        writeln!(io::stdout().lock(), "{text}").context("writing to standard output")?;
        Ok(true)
    }))
}

fn restore(config: &Path, backup: &Path) -> anyhow::Result<String> {
    let manifest = offline::restore(&Config::load(config)?, backup)?;
    Ok(format!(
        "restored: cluster {} as of transaction {} (journal entry {})",
        manifest.cluster_id, manifest.last_tx, manifest.position.index
    ))
}

fn accept_loss(config: &Path) -> anyhow::Result<String> {
    let incarnation = offline::accept_loss(&Config::load(config)?)?;
    Ok(format!(
        "accepted (incarnation {incarnation}): start the namenode; datanodes follow it, and keep what was made since until \
         `steadfs admin kept --delete`"
    ))
}

fn verify_backup(backup: &Path) -> anyhow::Result<String> {
    let manifest = steadfs_namenode::backup::verify(backup)?;
    Ok(format!(
        "whole: cluster {} as of transaction {}, {} files",
        manifest.cluster_id,
        manifest.last_tx,
        manifest.files.len()
    ))
}

/// Checks the folders of a namenode that does not run.
pub(crate) fn check(folders: &[PathBuf]) -> ExitCode {
    let checked = offline::check(folders).and_then(|sound| {
        let mut out = io::stdout().lock();
        for fact in &sound.facts {
            writeln!(out, "{fact}")?;
        }
        for (gravity, text) in &sound.findings {
            let gravity = match gravity {
                offline::Gravity::Mends => "damaged",
                offline::Gravity::Repair => "wrong",
                offline::Gravity::Lost => "LOST",
            };
            writeln!(out, "{gravity}: {text}")?;
        }
        let (verdict, code) = match sound.worst() {
            None => ("sound", 0),
            Some(offline::Gravity::Mends) => {
                ("damaged, and nothing is lost: a start of the namenode puts it right", 1)
            }
            Some(offline::Gravity::Repair) => ("wrong, and can be put right as said above", 1),
            Some(offline::Gravity::Lost) => {
                ("NOT SOUND: do what is said above before the namenode is started", 2)
            }
        };
        writeln!(out, "{verdict}")?;
        Ok(code)
    });
    checked.map_or_else(
        |error| {
            eprintln!("steadfs: {error:#}");
            ExitCode::from(2)
        },
        ExitCode::from,
    )
}

/// Shows a journal.
pub(crate) fn journal(command: &JournalCommand) -> ExitCode {
    let done = match command {
        JournalCommand::Dump { folder } => print(|out| offline::dump_journal(folder, out)),
        JournalCommand::Verify { folders } => return end(verify(folders)),
    };
    end(done.map(|()| true))
}

/// Shows a store.
pub(crate) fn image(command: &ImageCommand) -> ExitCode {
    let ImageCommand::Dump { folder } = command;
    end(print(|out| offline::dump_image(folder, out)).map(|()| true))
}

fn print(write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out)?;
    Ok(out.flush()?)
}

fn verify(folders: &[PathBuf]) -> anyhow::Result<bool> {
    let verified = offline::verify_journal(folders)?;
    let mut out = io::stdout().lock();
    match verified.range {
        Some((first, last)) => writeln!(out, "entries {first} to {last}")?,
        None => writeln!(out, "no entries")?,
    }
    for text in &verified.damaged {
        writeln!(out, "damaged: {text}")?;
    }
    for index in &verified.lost {
        writeln!(out, "LOST: entry {index} is good in no copy")?;
    }
    let verdict = match (verified.damaged.is_empty(), verified.lost.is_empty()) {
        (true, true) => "whole",
        (false, true) => "damaged, and nothing is lost: a start of the namenode repairs it",
        (_, false) => "LOST entries: put back an intact copy of the journal folder",
    };
    writeln!(out, "{verdict}")?;
    Ok(verified.damaged.is_empty() && verified.lost.is_empty())
}

/// Nobody reading any more is no error.
fn end(done: anyhow::Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let pipe = error.chain().any(|cause| {
                cause
                    .downcast_ref::<io::Error>()
                    .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
            });
            if pipe {
                return ExitCode::SUCCESS;
            }
            eprintln!("steadfs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
