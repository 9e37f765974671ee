//! The process that keeps a mount alive: it holds the kernel's descriptor and starts servers, and does nothing else.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::mount::{MountFlags, UnmountFlags};
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::handoff::{self, Memory};
use crate::kernel::READERS;
use crate::open::{claim, left_by_servers, sweep};
use crate::options::{MountArgs, Role};
use crate::table;

/// Longest first request of a kernel.
const MAX_FIRST: usize = 8 << 10;
/// Between two looks at a server.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// A server that answered for so long is followed by another at once.
pub(crate) const SETTLED: Duration = Duration::from_millis(200);
/// Waits between starts of servers that do not come so far: first and longest.
pub(crate) const WAITS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// So long the threads of a killed server that read requests are waited for, on a machine on which they come to run no
/// sooner: what they do then is to end. The others are not waited for as long, for one may be unable to end.
const LAST_READERS: Duration = Duration::from_secs(10);
const LAST_REQUESTS: Duration = Duration::from_secs(1);
/// A server that may take less than this gives back at once what it frees, at some cost in speed: what the allocator keeps
/// for later in each of its arenas took 35 MiB and more beside what is counted.
const MUCH_MEMORY: u64 = 192 << 20;
/// By this the allocator is told so; a build of it with a prefix would want another name (`Cargo.toml`).
const ALLOCATOR: &str = "MALLOC_CONF";
const SPARING: &str = "narenas:2,dirty_decay_ms:0,muzzy_decay_ms:0";
/// How far ahead the kernel reads.
const READ_AHEAD_KB: &str = "2048";

/// Mounts, and keeps the mount until it is unmounted. `ready` is called once requests are answered.
pub(crate) fn run(args: &MountArgs, ready: impl FnOnce()) -> anyhow::Result<()> {
    // Nothing the holder does may go through a mount, its own least of all.
    std::env::set_current_dir("/")?;
    if args.adopt {
        return adopt(&MountArgs { adopt: false, ..args.clone() });
    }
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .context("opening /dev/fuse: is the kernel module loaded (modprobe fuse), and the device passed to this container?")?;
    mount(args, &device)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kept = remember(&device).and_then(|memory| {
        // What servers stage stays theirs while none of them lives.
        let _claim = claim(&args.staging_of(memory.mount()?))
            .with_context(|| format!("{}: choose another place with --staging", args.staging.display()))?;
        runtime.block_on(keep(args, &device, &memory, Some(ready)))
    });
    let _ = sweep(&args.staging);
    if kept.is_err() {
        let _ = rustix::mount::unmount(&args.mountpoint, UnmountFlags::DETACH);
    }
    kept
}

/// Goes on where a holder was killed: the server that it left gives what it held, and ends.
fn adopt(args: &MountArgs) -> anyhow::Result<()> {
    let server = UnixDatagram::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (device, memory) = handoff::take(&server).context("taking the mount over from its server")?;
    let folder = args.staging_of(memory.mount()?);
    let _claim = claim(&folder).with_context(|| format!("staging in {}", args.staging.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Err(error) = handoff::say_taken(&server) {
        // It was killed in its turn: there is nobody but this process to go on.
        tracing::info!(%error, "the server that gave the mount has ended");
    }
    await_servers(&folder);
    let kept = runtime.block_on(keep(args, &device, &memory, None::<fn()>));
    let _ = sweep(&args.staging);
    kept
}

/// Waits until the servers of a mount are gone that another process started: a request that one of them took after its
/// successor had asked for what was not answered would be answered by nobody.
pub(crate) fn await_servers(folder: &Path) {
    if !matches!(left_by_servers(folder, LAST_REQUESTS), Ok(true)) {
        tracing::info!(folder = %folder.display(), "a former server of the mount has not ended");
    }
}

pub(crate) fn mount(args: &MountArgs, device: &File) -> anyhow::Result<()> {
    let mut data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    if args.allow_other {
        data.push_str(",allow_other");
    }
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if args.read_only {
        flags |= MountFlags::RDONLY;
    }
    let data = std::ffi::CString::new(data)?;
    rustix::mount::mount(args.url.as_str(), &args.mountpoint, table::KIND, flags, Some(&*data)).map_err(
        |error| match error {
            rustix::io::Errno::PERM => anyhow::anyhow!(
                "mounting wants CAP_SYS_ADMIN: run it as root (in a container: privileged, or with that capability)"
            ),
            error => anyhow::anyhow!("mounting on {}: {error}", args.mountpoint.display()),
        },
    )
}

/// Reads the kernel's first request, which is there as soon as it is mounted, and keeps it.
pub(crate) fn remember(device: &File) -> anyhow::Result<Memory> {
    let mut first = vec![0; MAX_FIRST];
    let length = (&mut &*device).read(&mut first).context("reading the kernel's first request")?;
    Ok(Memory::new(uuid::Uuid::new_v4().into_bytes(), &first[..length])?)
}

/// Memory is short when servers die: this process stays. What it has touched stays in memory, where that is allowed.
pub(crate) fn hold_on() {
    let locked = rustix::mm::mlockall(
        rustix::mm::MlockAllFlags::CURRENT
            | rustix::mm::MlockAllFlags::FUTURE
            | rustix::mm::MlockAllFlags::ONFAULT,
    );
    let spared = std::fs::write("/proc/self/oom_score_adj", "-1000");
    if locked.is_err() || spared.is_err() {
        tracing::info!("the holder is not spared when memory is short: it is not allowed to ask for it");
    }
}

/// `ready` is called once the first server answers; without that it is no mount. None: it is one already.
async fn keep(
    args: &MountArgs,
    device: &File,
    memory: &Memory,
    mut ready: Option<impl FnOnce()>,
) -> anyhow::Result<()> {
    hold_on();
    let mut stop =
        Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let mut wait = WAITS.0;
    loop {
        let mut serving = None;
        let ended = match start(args, device, memory) {
            Ok(started) => watch(args, started, &mut stop, &mut ready, &mut serving).await?,
            // Whatever hinders it, a mount that is used waits until it is over.
            Err(error) if ready.is_none() => format!("{error:#}"),
            Err(error) => return Err(error),
        };
        // A server ends by itself when its mount is gone.
        if is_gone(device) {
            return Ok(());
        }
        if ready.is_some() {
            bail!("the mount was not served ({ended})");
        }
        tracing::error!(%ended, "a server of the mount ended: another one takes over");
        if serving.is_none_or(|since: Instant| since.elapsed() < SETTLED) {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.asked() => unmount(args),
            }
            wait = (wait * 2).min(WAITS.1);
        } else {
            wait = WAITS.0;
        }
    }
}

/// One server, from its start to its end: why it ended. `serving`: since when it answers.
async fn watch(
    args: &MountArgs,
    (mut server, channel): (Child, tokio::net::UnixDatagram),
    stop: &mut Stop,
    ready: &mut Option<impl FnOnce()>,
    serving: &mut Option<Instant>,
) -> anyhow::Result<String> {
    let ended = loop {
        let mut said = [0; 16];
        tokio::select! {
            ended = server.wait() => break ended.context("waiting for a server")?.to_string(),
            () = tokio::time::sleep(LOOK) => if is_ending(&server) {
                break "it was killed".to_owned();
            },
            Ok(length) = channel.recv(&mut said) => {
                if handoff::is_serving(&said[..length]) {
                    *serving = Some(Instant::now());
                    if let Some(ready) = ready.take() {
                        set_read_ahead(&args.mountpoint);
                        ready();
                    }
                }
            }
            () = stop.asked() => unmount(args),
        }
    };
    end(&mut server).await;
    Ok(ended)
}

/// Kills a server and waits until it takes no more requests: one that it took after its successor had asked for what was
/// not answered would be answered by nobody. Its other threads are not waited for, as one may not be able to end before a
/// request is answered that only the successor can answer.
pub(crate) async fn end(server: &mut Child) {
    let Some(id) = server.id() else { return };
    let _ = server.start_kill();
    let since = Instant::now();
    while is_reading(id) && since.elapsed() < LAST_READERS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whether a thread lives that reads requests.
fn is_reading(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.into_iter().any(|name| name.starts_with(READERS))
}

/// Whether the first thread of a server has ended, which ends all others.
pub(crate) fn is_ending(server: &Child) -> bool {
    let status = server.id().map(|id| std::fs::read_to_string(format!("/proc/{id}/stat")));
    // The state stands behind the name, which may hold anything.
    matches!(status, Some(Ok(status)) if status.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// Whether the file system is unmounted.
pub(crate) fn is_gone(device: &File) -> bool {
    let mut polled = [rustix::event::PollFd::new(device, rustix::event::PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Takes the mount away. Programs that use it keep what they have open, and the mount lives until they close it.
fn unmount(args: &MountArgs) {
    if let Err(error) = rustix::mount::unmount(&args.mountpoint, UnmountFlags::DETACH) {
        tracing::error!(%error, "unmounting {}", args.mountpoint.display());
    }
}

pub(crate) fn start(
    args: &MountArgs,
    device: &File,
    memory: &Memory,
) -> anyhow::Result<(Child, tokio::net::UnixDatagram)> {
    let (ours, theirs) = UnixDatagram::pair()?;
    handoff::give(&ours, device, memory)?;
    let mut command = Command::new(program()?);
    command.args(args.for_role(Role::Server)).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
    // Signals of the terminal are for the holder.
    command.process_group(0);
    if args.memory < MUCH_MEMORY && std::env::var_os(ALLOCATOR).is_none() {
        command.env(ALLOCATOR, SPARING);
    }
    let server = tokio::process::Command::from(command).kill_on_drop(true).spawn();
    let server = server.context("starting a server of the mount")?;
    if let Some(id) = server.id() {
        // The holder is spared when memory is short; who may grow is not.
        let _ = std::fs::write(format!("/proc/{id}/oom_score_adj"), "0");
    }
    ours.set_nonblocking(true)?;
    Ok((server, tokio::net::UnixDatagram::from_std(ours)?))
}

/// This program's file: also after another version has taken its place.
pub(crate) fn program() -> anyhow::Result<std::path::PathBuf> {
    let program = std::env::current_exe()?;
    let text = program.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| program.clone(), std::path::PathBuf::from))
}

/// Without this the kernel reads no further ahead than 128 KiB.
pub(crate) fn set_read_ahead(mountpoint: &Path) {
    let device = table::find(mountpoint).ok().flatten().map(|row| row.device);
    let set = device.map(|device| {
        let mut file =
            OpenOptions::new().write(true).open(format!("/sys/class/bdi/{device}/read_ahead_kb"))?;
        file.write_all(READ_AHEAD_KB.as_bytes())
    });
    if !matches!(set, Some(Ok(()))) {
        tracing::info!("the kernel's read-ahead was not raised: reads in order are slower");
    }
}
