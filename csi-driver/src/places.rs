//! The machine's side of publishing: folders and binds. Everything here may block, but for no mount.

use std::path::Path;

use anyhow::Context;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_bind, mount_remount};
use steadfs_fuse::table::{self, Row};

use crate::volumes::{Failure, Outcome};

/// What is mounted at a place.
pub(crate) fn mounted(at: &Path) -> Outcome<Option<Row>> {
    Ok(table::find(at).context("reading the table of mounts")?)
}

/// Makes a folder to mount on.
pub(crate) fn make_folder(at: &Path) -> Outcome<()> {
    // A dead mount there is no hindrance, and cannot be looked at.
    if mounted(at)?.is_some() {
        return Ok(());
    }
    Ok(std::fs::create_dir_all(at).with_context(|| format!("making the folder {}", at.display()))?)
}

/// Removes a folder that nothing is mounted on any more, and that holds nothing. No error if it is not there.
pub(crate) fn remove_folder(at: &Path) -> Outcome<()> {
    match std::fs::remove_dir(at) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(anyhow::Error::from(error).context(format!("removing {}", at.display())).into()),
    }
}

/// Shows the staged mount at the target. With `single`, nowhere else beside.
pub(crate) fn bind(staged: &Path, target: &Path, read_only: bool, single: bool) -> Outcome<()> {
    let source = mounted(staged)?.filter(|row| row.kind == table::KIND).ok_or_else(|| {
        Failure::Precondition(format!("nothing of steadfs is staged on {}", staged.display()))
    })?;
    let others = table::all(&source.device).context("reading the table of mounts")?;
    if single && others.iter().any(|other| other != staged && other != target) {
        return Err(Failure::Precondition(
            "the volume is for one pod alone (ReadWriteOncePod), and another one on this node has it".into(),
        ));
    }
    make_folder(target)?;
    // Of an earlier try it may be there; of an earlier mount, which died, it is in the way.
    match mounted(target)? {
        Some(row) if row.device == source.device => {}
        Some(_) => {
            rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH)
                .with_context(|| format!("unmounting {}", target.display()))?;
            bind_once(staged, target)?;
        }
        None => bind_once(staged, target)?,
    }
    if read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        if let Err(error) = mount_remount(target, flags, "") {
            let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
            return Err(anyhow::Error::from(error)
                .context(format!("making {} read-only", target.display()))
                .into());
        }
    }
    Ok(())
}

fn bind_once(staged: &Path, target: &Path) -> Outcome<()> {
    mount_bind(staged, target).map_err(|error| match error {
        Errno::PERM => anyhow::anyhow!(
            "binding {} wants CAP_SYS_ADMIN: the driver's container must be privileged",
            target.display()
        ),
        error => anyhow::anyhow!("binding {} to {}: {error}", staged.display(), target.display()),
    })?;
    Ok(())
}
