//! What a server does when its holder is killed: it makes another one.
//!
//! The new holder gets the kernel's descriptor and the memory of what is open, and says so. Then the server ends as if it had
//! been killed, and the new holder starts another, which goes on as ever. So a mount dies only if both are killed at the
//! same moment.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, getppid, kill_process, pidfd_open};

use crate::handoff::{self, Memory};
use crate::holder;
use crate::options::{MountArgs, Role};

/// How long a new holder may take until it has what it needs, and how long is waited before another try.
const TAKES_WITHIN: Duration = Duration::from_secs(10);
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Waits on a thread of its own for the end of the holder, who is at the other end of `channel`.
///
/// # Errors
/// The kernel cannot tell (Linux before 5.3), or there is no thread to be had.
pub(crate) fn prepare(
    args: &MountArgs,
    channel: &UnixDatagram,
    device: &File,
    memory: &Memory,
) -> anyhow::Result<()> {
    let holder = rustix::net::sockopt::socket_peercred(channel).context("asking who holds the mount")?.pid;
    let watched = pidfd_open(holder, PidfdFlags::empty());
    // Of that number there is another process by now, or none, if it is not our parent.
    let watched =
        if getppid() == Some(holder) { Some(watched.context("watching the holder")?) } else { None };
    let (args, device, memory) = (args.clone(), device.try_clone()?, memory.clone());
    let work = move || {
        if let Some(watched) = watched {
            wait_for_end(&watched);
        }
        succeed(&args, holder, &device, &memory);
    };
    std::thread::Builder::new().name("succession".into()).spawn(work).context("starting a thread")?;
    Ok(())
}

fn wait_for_end(process: &OwnedFd) {
    loop {
        let mut polled = [PollFd::new(process, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(count) if count > 0 => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // What cannot be waited for is looked at now and then.
            Err(_) => std::thread::sleep(TRY_AGAIN),
        }
    }
}

/// Makes another holder, and ends this process.
fn succeed(args: &MountArgs, holder: Pid, device: &File, memory: &Memory) {
    // A mount that is gone needs none; its server ends by itself.
    while !holder::is_gone(device) {
        match start(args, device, memory) {
            Ok(next) => {
                tracing::error!(
                    holder = holder.as_raw_nonzero(),
                    next,
                    "the holder of the mount was killed: another one takes over"
                );
                // What this process has not answered is asked of the next server.
                let _ = kill_process(getpid(), Signal::KILL);
                return;
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "the holder of the mount was killed, and there is no other yet: trying on"
                );
                std::thread::sleep(TRY_AGAIN);
            }
        }
    }
}

/// A holder that has what it needs: its process id.
fn start(args: &MountArgs, device: &File, memory: &Memory) -> anyhow::Result<u32> {
    let (ours, theirs) = UnixDatagram::pair()?;
    handoff::give(&ours, device, memory)?;
    let next = MountArgs { adopt: true, ..args.clone() };
    let mut holder = Command::new(holder::program()?)
        .args(next.for_role(Role::Holder))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .context("starting a holder")?;
    let taken = await_taken(&ours);
    if taken.is_err() {
        end(&mut holder);
    }
    taken.map(|()| holder.id())
}

fn await_taken(channel: &UnixDatagram) -> anyhow::Result<()> {
    channel.set_read_timeout(Some(TAKES_WITHIN))?;
    let mut said = [0; 16];
    let length = channel.recv(&mut said).context("the new holder says nothing")?;
    ensure!(handoff::is_taken(&said[..length]), "the new holder says something else");
    Ok(())
}

fn end(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}
