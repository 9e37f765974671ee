//! What the user's own process does: it looks for what is wrong, starts the holder, and waits until the mount is there.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use rustix::mount::UnmountFlags;
use steadfs_client::Client;

use crate::options::{MountArgs, Role, UmountArgs};
use crate::{holder, table};

/// Where logs of mounts go that have no place of their own.
const RUN: &str = "/run/steadfs";
/// What a holder writes to its standard output when the mount is there.
pub(crate) const READY: &str = "ready";

/// Mounts.
pub(crate) fn mount(mut args: MountArgs) -> anyhow::Result<()> {
    args.mountpoint = free_folder(&args.mountpoint)?;
    ensure!(
        Path::new("/dev/fuse").exists(),
        "there is no /dev/fuse: load the kernel module (modprobe fuse), or pass the device to this container"
    );
    ensure!(
        rustix::process::geteuid().is_root(),
        "mounting wants root: the kernel lets nobody else mount, nor pass reads through to local files"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(look(&args))?;
    drop(runtime);
    // Nobody's any more; what cannot be taken away is in nobody's way either.
    let _ = crate::open::sweep(&args.staging);
    if args.foreground {
        return holder::run(&args, || eprintln!("mounted on {}", args.mountpoint.display()));
    }
    start_holder(&args)
}

/// The folder by its real name, if something can be mounted there.
fn free_folder(mountpoint: &Path) -> anyhow::Result<PathBuf> {
    // Asked of the table first: a mount that does not answer would not let us look at it.
    let absolute = std::path::absolute(mountpoint)?;
    if let Some(row) = table::find(&absolute)?
        && row.kind == table::KIND
    {
        bail!("something is mounted on {} already: `steadfs umount` takes it away", absolute.display());
    }
    let real = mountpoint
        .canonicalize()
        .with_context(|| format!("{}: make the folder first (mkdir -p {0})", mountpoint.display()))?;
    ensure!(real.is_dir(), "{} is not a folder: only on a folder can be mounted", real.display());
    ensure!(
        table::find(&real)?.is_none_or(|row| row.kind != table::KIND),
        "something is mounted on {} already: `steadfs umount` takes it away",
        real.display()
    );
    Ok(real)
}

/// Looks whether the cluster answers and has the folder, while there is somebody who reads what is wrong.
async fn look(args: &MountArgs) -> anyhow::Result<()> {
    let (url, folder) = args.source()?;
    let client = Client::connect_with(&url.to_string(), args.client_options()).await?;
    let status = client.stat(&folder.to_string()).await?;
    ensure!(status.directory, "{folder} is a file: only folders are mounted");
    Ok(())
}

fn start_holder(args: &MountArgs) -> anyhow::Result<()> {
    let mut args = args.clone();
    if args.log.is_none() {
        std::fs::create_dir_all(RUN).with_context(|| format!("{RUN}: name a file with --log"))?;
        let name = args.mountpoint.to_string_lossy().trim_matches('/').replace('/', "-");
        args.log = Some(Path::new(RUN).join(format!("mount-{name}.log")));
    }
    let path = args.log.clone().expect("just set");
    let log = File::options().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("the log {}", path.display()))?;
    let mut holder = Command::new(std::env::current_exe()?)
        .args(args.for_role(Role::Holder))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log))
        .spawn()
        .context("starting the holder of the mount")?;
    let mut said = String::new();
    if let Some(out) = holder.stdout.take() {
        BufReader::new(out).read_line(&mut said)?;
    }
    if said.trim_end() == READY {
        return Ok(());
    }
    let _ = holder.wait();
    bail!(
        "{} (the log is {})",
        if said.is_empty() { "the mount did not start" } else { said.trim_end() },
        path.display()
    )
}

/// Unmounts.
pub(crate) fn unmount(args: &UmountArgs) -> anyhow::Result<()> {
    let at = std::path::absolute(&args.mountpoint)?;
    // Not asked of the folder itself: a mount that hangs would hang this.
    let row = table::find(&at)?;
    let kind = row.map(|row| row.kind);
    ensure!(kind.as_deref() == Some(table::KIND), "nothing of steadfs is mounted on {}", at.display());
    let flags = if args.lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(&at, flags).map_err(|error| match error {
        rustix::io::Errno::BUSY => anyhow::anyhow!(
            "{} is in use (`fuser -vm {0}` tells by whom): end those programs, or unmount with --lazy",
            at.display()
        ),
        rustix::io::Errno::PERM => anyhow::anyhow!("unmounting wants root"),
        error => anyhow::anyhow!("unmounting {}: {error}", at.display()),
    })
}
