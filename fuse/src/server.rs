//! The process that answers the kernel's requests. It may die at any moment: the holder starts another.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use anyhow::Context;
use fuser::{Config, Filesystem, InitFlags, KernelConfig, Request, SessionACL};
use steadfs_client::{Client, ClientOptions};

use crate::device::Device;
use crate::handoff::{self, Memory};
use crate::kernel::{MAX_IO, serve};
use crate::ops::Mount;
use crate::options::MountArgs;
use crate::session::Session;
use crate::succession;

/// Threads that read the kernel's requests. More gave nothing.
const READERS: usize = 2;
/// Requests that the kernel may have under way for itself (read-ahead, write-back).
const BACKGROUND: u16 = 64;
/// Threads of the runtime: one a processor, within these bounds. More only wake each other: with four on two processors an
/// untar made 143 calls to wake or to wait a file.
const WORKERS: (usize, usize) = (2, 4);
/// Longest answer to the kernel's first request.
const MAX_ANSWER: usize = 512;
/// A notification: send again what was read and not answered.
const RESEND: u8 = 7;

/// Serves until the file system is unmounted.
pub(crate) fn run(args: &MountArgs) -> anyhow::Result<()> {
    if let Some(parent) = args.parent {
        steadfs_daemon::parent::die_with_parent(parent)?;
    }
    // The holder is at the other end of the standard input.
    let holder = UnixDatagram::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (device, memory) = handoff::take(&holder).context("taking the mount over from its holder")?;
    // Before anything that takes its time: the holder may be killed meanwhile. A server that ends with the process that started
    // it is started again by whoever has the mount then.
    if args.parent.is_none()
        && let Err(error) = succession::prepare(args, &holder, &device, &memory)
    {
        tracing::info!(%error, "nobody takes over from the holder of the mount, should it be killed");
    }
    let processors = std::thread::available_parallelism().map_or(WORKERS.1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.clamp(WORKERS.0, WORKERS.1))
        .thread_name("mount")
        .enable_all()
        .build()
        .context("starting threads")?;
    let kernel = Device::new(&device)?;
    let mount = runtime.block_on(connect(args, memory.clone(), kernel.clone()))?;
    agree(&device, &memory)?;
    let session = Arc::new(Session::new(mount.clone(), runtime.handle().clone()));
    {
        let followed = mount.clone();
        runtime.spawn(async move { followed.follow().await });
    }
    resend(&kernel);
    if let Err(error) = handoff::say_serving(&holder) {
        // It was killed: the next one starts a server of its own.
        tracing::info!(%error, "the holder of the mount was not told that requests are answered");
    }
    let ended = serve(&kernel, &session, READERS);
    runtime.block_on(mount.close());
    // What is still on its way to the cluster has been answered or has nobody left to be told.
    drop(runtime);
    ended.context("answering the kernel")
}

async fn connect(args: &MountArgs, memory: Memory, device: Device) -> anyhow::Result<Arc<Mount>> {
    let mount = uuid::Uuid::from_bytes(memory.mount()?);
    let options = ClientOptions { name: Some(format!("steadfs-mount_{mount}")), ..args.client_options() };
    let url = args.source()?.0.to_string();
    let client = match memory.cluster()? {
        // Programs wait for a namenode that is away just now as if this process had been there all the time.
        Some((_, known)) => Client::reconnect(&url, options, &known)?,
        None => Client::connect_with(&url, options).await?,
    };
    Ok(Arc::new(Mount::new(memory, device, client, args.settings()?).await?))
}

/// fuser wants to see the kernel's first request, which only the holder has seen: it gets it through a pair of sockets. Its
/// answer goes to the kernel once, and must be the same ever after.
fn agree(device: &File, memory: &Memory) -> anyhow::Result<()> {
    let (ours, theirs) = UnixDatagram::pair()?;
    ours.send(&memory.first()?)?;
    let session =
        fuser::Session::from_fd(Agreement, OwnedFd::from(theirs), SessionACL::All, Config::default());
    drop(session.context("agreeing with the kernel")?);
    let mut answer = vec![0; MAX_ANSWER];
    let length = File::from(OwnedFd::from(ours)).read(&mut answer)?;
    answer.truncate(length);
    let flags = answered_flags(&answer).context("the answer to the kernel's first request is too short")?;
    match memory.agreed()? {
        None => {
            // Refused as unknown if a server before this one died just here, having answered.
            match (&mut &*device as &mut dyn std::io::Write).write(&answer) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("answering the kernel's first request"),
            }
            memory.set_agreed(flags)?;
        }
        Some(agreed) => anyhow::ensure!(
            agreed & !OF_THE_KERNEL == flags & !OF_THE_KERNEL,
            "this version of steadfs agrees on other things with the kernel ({flags:#x}) than the one that mounted \
             ({agreed:#x}): unmount and mount again"
        ),
    }
    Ok(())
}

/// What is asked of the kernel where it can be had.
///
/// With `HANDLE_KILLPRIV_V2` the kernel does not ask for the attribute `security.capability` before every write: no file
/// here has any, nor the bits that a write would have to clear.
///
/// Without `ATOMIC_O_TRUNC` the kernel opens first and truncates then, having looked whether the file is a program that
/// runs.
///
/// Without `READDIRPLUS_AUTO` every page of a listing comes with its attributes, which the namenode sends anyway: with it the
/// kernel asks for each name by itself behind the first page, if a program reads names first and looks at them then, as `find`
/// and `du` do.
const CAPABILITIES: [InitFlags; 10] = [
    InitFlags::FUSE_PASSTHROUGH,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_HAS_RESEND,
    InitFlags::FUSE_POSIX_LOCKS,
    InitFlags::FUSE_FLOCK_LOCKS,
];

/// What only the kernel minds: a server answers either way, and may take over a mount where it is otherwise.
const OF_THE_KERNEL: u64 = InitFlags::FUSE_READDIRPLUS_AUTO.bits();

/// What is agreed on with the kernel, in fuser's words.
struct Agreement;

impl Filesystem for Agreement {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            // What an old kernel does not have, it goes without.
            let _ = config.add_capabilities(capability);
        }
        // Files that are passed through lie on no file system that is itself made of others.
        let _ = config.set_max_stack_depth(1);
        let _ = config.set_max_write(MAX_IO);
        let _ = config.set_max_background(BACKGROUND);
        // The greatest that the kernel takes; more is set at the mount itself.
        if let Err(most) = config.set_max_readahead(MAX_IO) {
            let _ = config.set_max_readahead(most);
        }
        Ok(())
    }
}

/// The flags in a `fuse_init_out` behind its header.
fn answered_flags(answer: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u64::from(u32::from_le_bytes(answer.get(at..at + 4)?.try_into().ok()?)));
    Some(word(28)? | word(48)? << 32)
}

/// Asks for what a server before this one read and did not answer. Kernels before 6.9 do not know how.
fn resend(device: &Device) {
    if let Err(error) = device.notify(RESEND, &[]) {
        tracing::info!(%error, "the kernel does not send requests again: those of a server that died wait for ever");
    }
}
