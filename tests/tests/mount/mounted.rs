//! A mount that goes with the test.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use steadfs_tests::LIMIT;
use tempfile::TempDir;

use crate::BINARY;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A mounted folder. Dropping it takes the mount away, whoever uses it.
pub(crate) struct Mounted {
    folder: TempDir,
}

impl Mounted {
    /// Mounts `url` with these further options.
    pub(crate) async fn new(url: &str, options: &[&str]) -> anyhow::Result<Self> {
        let mounted = Self { folder: tempfile::Builder::new().prefix("steadfs-mount-").tempdir()? };
        std::fs::create_dir(mounted.path(""))?;
        let line = mounted.line(url, options);
        let output = on_thread(move || limited(&line)).await??;
        ensure!(output.success, "mounting: {} {}", output.out, output.error);
        Ok(mounted)
    }

    /// Tries to mount on the same folder once more; gives what is said to it.
    pub(crate) async fn mount_again(&self, url: &str) -> anyhow::Result<String> {
        let line = self.line(url, &[]);
        let output = on_thread(move || limited(&line)).await??;
        ensure!(!output.success, "mounted twice");
        Ok(output.error)
    }

    fn line(&self, url: &str, options: &[&str]) -> Vec<String> {
        let at = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let mut line = vec![BINARY.to_owned(), "mount".into(), url.into(), at("mnt")];
        line.extend(["--staging".into(), at("staging"), "--log".into(), at("log")]);
        line.extend(options.iter().map(|option| (*option).to_owned()));
        line
    }

    /// A path in the mount.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("mnt").join(name)
    }

    /// The process that answers for the mount now.
    pub(crate) fn server(&self) -> anyhow::Result<u32> {
        self.process("server")
    }

    /// The process that holds the mount.
    pub(crate) fn holder(&self) -> anyhow::Result<u32> {
        self.process("holder")
    }

    fn process(&self, role: &str) -> anyhow::Result<u32> {
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            if let Some(id) = self.processes(role)?.first() {
                return Ok(*id);
            }
            std::thread::sleep(LOOK);
        }
        bail!("the mount has no {role}")
    }

    /// The mount's processes of this role.
    pub(crate) fn processes(&self, role: &str) -> anyhow::Result<Vec<u32>> {
        let wanted = self.path("");
        let wanted = wanted.to_string_lossy();
        let wanted = wanted.trim_end_matches('/');
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Of one that has ended and was not waited for there is none.
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let line: Vec<_> = line.split(|byte| *byte == 0).collect();
            let has = |text: &str| line.contains(&text.as_bytes());
            if has(wanted) && has(role) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Kills the server, with no chance to say a word.
    pub(crate) fn kill_server(&self) -> anyhow::Result<()> {
        loop {
            match signal(Signal::KILL, &[self.server()?]) {
                // What was found had been killed before, and is gone now: its successor is meant.
                Err(error) if error.downcast_ref() == Some(&Errno::SRCH) => {}
                killed => return killed,
            }
        }
    }

    /// Kills the holder alike.
    pub(crate) fn kill_holder(&self) -> anyhow::Result<()> {
        signal(Signal::KILL, &[self.holder()?])
    }

    /// Waits for a process of this role that is none of `known`: it has only just begun.
    pub(crate) fn next(&self, role: &str, known: &[u32]) -> anyhow::Result<u32> {
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            if let Some(id) = self.processes(role)?.into_iter().find(|id| !known.contains(id)) {
                return Ok(id);
            }
        }
        bail!("the mount has no other {role}")
    }

    /// Kills both processes of the mount, as the end of a machine does.
    pub(crate) fn kill_whole(&self) -> anyhow::Result<()> {
        let both = [self.holder()?, self.server()?];
        // Neither may see the other one's end.
        signal(Signal::STOP, &both)?;
        signal(Signal::KILL, &both)
    }

    /// What the mount has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Takes the mount away, which fails if something uses it.
    pub(crate) fn unmount(&self) -> anyhow::Result<()> {
        let at = self.path("").to_string_lossy().trim_end_matches('/').to_owned();
        let output = limited(&[BINARY.into(), "umount".into(), at])?;
        ensure!(output.success, "{}", output.error);
        Ok(())
    }

    /// As [`Mounted::with`], however long it takes, and without a borrow of the mount.
    pub(crate) fn on_thread<T: Send + 'static, W: FnOnce(&Path) -> anyhow::Result<T> + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = anyhow::Result<T>> + use<T, W> {
        let path = self.path("");
        let done = on_thread(move || work(&path));
        async { done.await? }
    }

    /// Works on the mount on a thread of its own, as programs do.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let path = self.path("");
        let done = tokio::time::timeout(LIMIT * 2, on_thread(move || work(&path))).await;
        match done {
            Ok(done) => done?.with_context(|| format!("the mount's log:\n{}", self.log())),
            Err(_) => bail!("nothing came back; the mount's log:\n{}", self.log()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.path("").to_string_lossy().trim_end_matches('/').to_owned();
        let _ = limited(&[BINARY.into(), "umount".into(), "--lazy".into(), at]);
    }
}

/// Runs a Python program with a folder as its argument; gives what it says.
pub(crate) fn python(program: &str, at: &Path) -> anyhow::Result<String> {
    let line = ["python3", "-c", program, &at.to_string_lossy()].map(String::from);
    let output = limited(&line)?;
    ensure!(output.success, "{program}: {}", output.error);
    Ok(output.out)
}

/// A Python program that runs beside the test, and is killed with it.
pub(crate) struct Program {
    child: Child,
    to: ChildStdin,
    said: mpsc::Receiver<String>,
}

impl Program {
    pub(crate) fn start(text: &str, at: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new("python3")
            .args(["-c", text, &at.to_string_lossy()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (to, out) =
            (child.stdin.take().context("its input")?, child.stdout.take().context("its output")?);
        let (told, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, to, said })
    }

    /// Writes a line to its input.
    pub(crate) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.to, "{line}")?)
    }

    /// Waits for its next line, which is this one.
    pub(crate) fn hears(&mut self, line: &str) -> anyhow::Result<()> {
        let said = self.said.recv_timeout(LIMIT).with_context(|| format!("waiting for `{line}`"))?;
        ensure!(said == line, "`{said}` instead of `{line}`");
        Ok(())
    }

    /// Whether it says nothing for so long.
    pub(crate) fn is_silent(&self, time: Duration) -> bool {
        self.said.recv_timeout(time).is_err()
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to processes.
/// By no other process: one that this one starts closes what this one has open on the mount, and waits for those that are stopped.
pub(crate) fn signal(signal: Signal, processes: &[u32]) -> anyhow::Result<()> {
    for id in processes {
        let process = i32::try_from(*id).ok().and_then(Pid::from_raw).context("no number of a process")?;
        rustix::process::kill_process(process, signal).with_context(|| format!("a signal for {id}"))?;
    }
    Ok(())
}

/// The number of an error; 0 for none.
pub(crate) fn errno(result: std::io::Result<impl Sized>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

/// What a program said.
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) error: String,
}

/// Runs a program for a limited time.
pub(crate) fn limited(line: &[String]) -> anyhow::Result<Output> {
    let seconds = LIMIT.as_secs().to_string();
    let output = Command::new("timeout")
        .args(["-k", "1", &seconds])
        .args(line)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{line:?}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Output { success: output.status.success(), out: text(output.stdout), error: text(output.stderr) })
}

/// Blocking work beside the cluster that lives in this process.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let (send, received) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || drop(send.send(work())));
    received.await.context("the test's thread ended")
}
