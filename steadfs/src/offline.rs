//! `steadfs namenode restore|accept-loss`, `steadfs journal` and `steadfs image`: for a namenode that does not run.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use steadfs_namenode::{Config, offline};

use crate::NodeArguments;

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

/// Does what is done to folders.
pub(crate) fn namenode(command: &NamenodeCommand) -> anyhow::Result<()> {
    let text = match command {
        NamenodeCommand::Restore { config, backup } => {
            let manifest = offline::restore(&Config::load(config)?, backup)?;
            format!(
                "restored: cluster {} as of transaction {} (journal entry {})",
                manifest.cluster_id, manifest.last_tx, manifest.position.index
            )
        }
        NamenodeCommand::AcceptLoss { config } => {
            let incarnation = offline::accept_loss(&Config::load(config)?)?;
            format!(
                "accepted (incarnation {incarnation}): start the namenode; datanodes follow it, and keep what was made since \
                 until `steadfs admin kept --delete`"
            )
        }
        NamenodeCommand::VerifyBackup { backup } => {
            let manifest = steadfs_namenode::backup::verify(backup)?;
            format!(
                "whole: cluster {} as of transaction {}, {} files",
                manifest.cluster_id,
                manifest.last_tx,
                manifest.files.len()
            )
        }
    };
    writeln!(io::stdout().lock(), "{text}").context("writing to standard output")
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
