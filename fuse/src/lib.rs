//! The mount: a folder of a cluster as a folder of Linux, through FUSE.
//!
//! A mount is two processes. The **holder** (`holder`) keeps the kernel's descriptor and does nothing else; a **server**
//! (`server`) answers the kernel's requests, and may be killed at any moment: the holder starts another, which goes on
//! where the first one was. If the holder is killed, the server starts another one of those (`succession`). The command that the
//! user starts ends once requests are answered.
//!
//! ```text
//!   kernel ── /dev/fuse ──┬── holder: descriptor, first request, memory that outlives servers
//!                         └── server: session → ops → client library → namenode, datanodes
//! ```
//!
//! Owns the translation between Linux's calls and the client library's, staging of what is not written in order, and what
//! must outlive a server. It holds no rule of the namespace, and repeats nothing of the client library.
//!
//! Invariants:
//! * The kernel's number of a file is its inode id: nothing about what was looked up is lost with a process.
//! * Bytes that `write` took are in the cluster when `close` or `fsync` returned without error, or the error was told.
//! * Memory is bounded by [`MountArgs`]; there is a task, and no thread, for a file.

mod budget;
mod coherence;
mod command;
mod device;
mod errno;
mod handles;
mod handoff;
mod holder;
mod hosted;
mod interrupt;
pub mod keeper;
mod kernel;
mod locks;
mod nodes;
mod notify;
mod open;
mod ops;
mod options;
mod pages;
mod server;
mod session;
mod succession;
pub mod table;
mod users;

use std::process::ExitCode;

pub use hosted::{Health, Mounts, MountsOptions};
use options::Role;
pub use options::{MountArgs, SERVER_TAKES, UmountArgs, as_mount_helper};

/// What `steadfs mount` does, in each of its processes. To be called before there are other threads.
#[must_use]
pub fn mount(args: MountArgs) -> ExitCode {
    let foreground = args.foreground;
    let done = match args.role {
        Role::Command => {
            if foreground {
                steadfs_daemon::logs::init("info");
            }
            command::mount(args)
        }
        Role::Holder => {
            steadfs_daemon::logs::init("info");
            let _ = rustix::process::setsid();
            let done = holder::run(&args, || println!("{}", command::READY));
            // Whoever started the mount waits for one line.
            if let Err(error) = &done {
                println!("{error:#}");
            }
            done
        }
        Role::Server => {
            steadfs_daemon::logs::init("info");
            server::run(&args)
        }
    };
    ended(&done)
}

/// The name that this machine has for a group, or its digits.
#[must_use]
pub fn group_name(number: u32) -> String {
    users::group_here(number)
}

/// What `steadfs mount-keeper` does.
#[must_use]
pub fn keep(args: &keeper::KeeperArgs) -> ExitCode {
    steadfs_daemon::logs::init("info");
    ended(&keeper::run(args))
}

/// What `steadfs umount` does.
#[must_use]
pub fn umount(args: &UmountArgs) -> ExitCode {
    ended(&command::unmount(args))
}

fn ended(done: &anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("steadfs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
