//! Children that do not outlive their parent.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Has the kernel kill this process when the thread that started it ends, even by SIGKILL.
/// `parent` is the process id of who should be the parent.
///
/// # Errors
/// The parent is gone already, or the kernel refuses.
pub fn die_with_parent(parent: u32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("asking to die with the parent process")?;
    // A parent that ended before the call above sends no signal any more.
    if getppid().map(Pid::as_raw_nonzero).map(|id| id.get() as u32) != Some(parent) {
        bail!("the parent process {parent} is gone");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_not_the_parent() {
        let error = die_with_parent(u32::MAX).unwrap_err().to_string();
        set_parent_process_death_signal(None).unwrap();
        assert!(error.contains("is gone"), "{error}");
    }
}
