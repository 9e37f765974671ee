//! Mounts of a process that may be replaced: each has a server of its own, and a keeper holds what must outlive us.
//!
//! As a holder does for a mount of the machine's own, [`Mounts`] mounts, starts servers, and starts others when they end.
//! Beyond that it leaves copies of each mount's descriptors with a keeper ([`crate::keeper`]). A process that starts where
//! another ended takes them from there, starts a server for each, and the kernel sends again what was not answered. If the
//! keeper ends, everything is left with the next one as soon as it answers. Only if both end at the same time are mounts
//! lost; [`Mounts::unmount`] clears what is left of them.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use rustix::mount::UnmountFlags;
use steadfs_daemon::pool::DiskPool;
use tokio::net::UnixDatagram;
use tokio::process::Child;
use tokio::runtime;
use tokio::sync::{Notify, oneshot, watch};

use crate::handoff::{self, Memory};
use crate::holder::{self, LOOK, SETTLED, WAITS};
use crate::keeper::{Keeper, Kept};
use crate::open::{claim, sweep};
use crate::options::{MountArgs, SERVER_MAY_TAKE};
use crate::table;

/// Between two looks at the keeper.
const KEEPER_LOOK: Duration = Duration::from_millis(500);
/// How long a keeper that is there may take to tell what it keeps: it may be handing over to another.
const KEEPER_TELLS: Duration = Duration::from_secs(30);
/// Between two tries to become the only one.
const LOCK_LOOK: Duration = Duration::from_millis(100);
/// How long a new mount may take to be served.
const SERVED_WITHIN: Duration = Duration::from_secs(45);
/// Looks at a server between two looks at its memory.
const MEMORY_EVERY: u32 = 20;
/// Mounts at one place, one over the other, that an unmount takes away.
const MAX_STACKED: usize = 16;
/// The version of what is left with a keeper.
const BLOB: &[u8] = b"1";

/// Where hosted mounts have what they need.
#[derive(Clone, Debug)]
pub struct MountsOptions {
    /// The keeper's socket.
    pub keeper: PathBuf,
    /// A folder on a real disk for staged bytes. It belongs to one process at a time.
    pub state: PathBuf,
}

/// How a mount is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is served.
    Serving,
    /// Nobody serves it at the moment, for this reason; another server is being started.
    Waiting(String),
    /// It is not there, or it is there and nobody has its descriptor any more.
    Gone,
}

impl Health {
    fn starting() -> Self {
        Self::Waiting("its server is starting".into())
    }
}

/// The mounts of this process.
#[derive(Clone)]
pub struct Mounts {
    shared: Arc<Shared>,
}

struct Shared {
    staging: PathBuf,
    volumes: Mutex<Vec<Arc<Volume>>>,
    /// Lives on a thread of its own: servers end with the thread that started them.
    runtime: runtime::Handle,
    keeper: Arc<Depositor>,
    /// One thread: what is left with the keeper and what is taken back happen in order.
    keeping: DiskPool,
    mounting: DiskPool,
    /// Ends the thread.
    _stop: oneshot::Sender<()>,
    _lock: File,
}

/// One mount.
struct Volume {
    name: String,
    /// `major:minor` of the file system.
    number: String,
    args: Mutex<MountArgs>,
    device: File,
    memory: Memory,
    /// Its mountpoint was taken away; programs may still use it.
    detached: Mutex<bool>,
    /// The server shall be followed by another.
    renew: Notify,
    health: watch::Sender<Health>,
}

impl Mounts {
    /// Becomes the only process with these mounts, and takes over those that a keeper has.
    ///
    /// # Errors
    /// The folder cannot be used, or a keeper is there and does not tell what it keeps: its mounts would have no server.
    /// That nobody keeps is no error: it is tried again.
    pub async fn start(options: MountsOptions) -> anyhow::Result<Self> {
        let lock = become_the_only_one(&options.state).await?;
        let staging = options.state.join("staging");
        std::fs::create_dir_all(&staging).with_context(|| format!("the folder {}", staging.display()))?;
        let (stop, runtime) = start_thread()?;
        let shared = Arc::new(Shared {
            staging,
            volumes: Mutex::default(),
            runtime,
            keeper: Arc::new(Depositor { path: options.keeper, connection: Mutex::new(None) }),
            keeping: DiskPool::new("keeping", 1, 64)?,
            mounting: DiskPool::new("mounting", 4, 64)?,
            _stop: stop,
            _lock: lock,
        });
        let mounts = Self { shared };
        mounts.take_over().await?;
        mounts.shared.runtime.spawn(keep_kept(Arc::downgrade(&mounts.shared)));
        Ok(mounts)
    }

    async fn take_over(&self) -> anyhow::Result<()> {
        let shared = &self.shared;
        let mut all_ours = true;
        for kept in self.left().await? {
            let name = kept.name.clone();
            let adopted = match Volume::of(kept) {
                Ok(volume) if !holder::is_gone(&volume.device) => self.adopt_left(volume).await,
                Ok(_) => {
                    self.forget(name.clone()).await;
                    Ok(())
                }
                // Perhaps of a newer version, which comes back.
                Err(error) => Err(error),
            };
            if let Err(error) = adopted {
                tracing::error!(
                    error = format!("{error:#}"),
                    name,
                    "a mount is not served, and left as it is"
                );
                all_ours = false;
            }
        }
        if !all_ours {
            // Staged bytes of a mount that is left as it is look like those of a former one.
            return Ok(());
        }
        let staging = shared.staging.clone();
        if let Err(error) = shared.mounting.run(move || sweep(&staging)).await {
            tracing::warn!(%error, "staged bytes of former mounts were not cleared away");
        }
        Ok(())
    }

    /// What a former process left with the keeper; nothing if there is no keeper.
    async fn left(&self) -> anyhow::Result<Vec<Kept>> {
        let until = Instant::now() + KEEPER_TELLS;
        loop {
            let keeper = self.shared.keeper.clone();
            match self.shared.keeping.run(move || keeper.all()).await {
                Ok(left) => return Ok(left),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    tracing::warn!(%error, "no keeper answers: mounts do not outlive this process until one does");
                    return Ok(Vec::new());
                }
                Err(error) if Instant::now() >= until => {
                    return Err(error).context("the keeper is there and does not tell what it keeps");
                }
                Err(error) => tracing::info!(%error, "the keeper does not tell what it keeps: trying on"),
            }
            tokio::time::sleep(KEEPER_LOOK).await;
        }
    }

    /// Starts to serve a mount of a former process, once the server that this had is gone.
    async fn adopt_left(&self, volume: Volume) -> anyhow::Result<()> {
        let folder = volume.args.lock().staging_of(volume.memory.mount()?);
        self.shared.mounting.run(move || holder::await_servers(&folder)).await;
        self.adopt(Arc::new(volume))
    }

    /// Starts to serve a mount.
    fn adopt(&self, volume: Arc<Volume>) -> anyhow::Result<()> {
        let args = volume.args.lock().clone();
        let claimed = claim(&args.staging_of(volume.memory.mount()?))
            .with_context(|| format!("staging in {}", args.staging.display()))?;
        tracing::info!(mount = %args.mountpoint.display(), source = args.url, "serving");
        self.shared.volumes.lock().push(volume.clone());
        let mounts = self.clone();
        self.shared.runtime.spawn(async move {
            let _claimed = claimed;
            volume.keep().await;
            mounts.shared.volumes.lock().retain(|other| !Arc::ptr_eq(other, &volume));
            volume.health.send_replace(Health::Gone);
            mounts.forget(volume.name.clone()).await;
            tracing::info!(mount = %volume.args.lock().mountpoint.display(), "the mount is gone");
        });
        Ok(())
    }

    async fn forget(&self, name: String) {
        let keeper = self.shared.keeper.clone();
        self.shared.keeping.run(move || keeper.forget(&name)).await;
    }

    /// Mounts, or, where that is mounted already, sees to it that it is served with these arguments.
    /// The folder for staged bytes is ours to say.
    ///
    /// # Errors
    /// It cannot be mounted, or nobody could serve it within a time.
    pub async fn mount(&self, mut args: MountArgs) -> anyhow::Result<()> {
        args.staging.clone_from(&self.shared.staging);
        args.parent = None;
        if let Some(volume) = self.at(&args.mountpoint) {
            volume.adjust(args);
            self.deposit(&volume).await;
            return volume.served().await;
        }
        let wanted = args.clone();
        let volume = self.shared.mounting.run(move || Volume::mount(wanted)).await?;
        let volume = Arc::new(volume);
        // Before anybody can begin to rely on it.
        self.deposit(&volume).await;
        let served = match self.adopt(volume.clone()) {
            Ok(()) => volume.served().await,
            Err(error) => {
                self.forget(volume.name.clone()).await;
                Err(error)
            }
        };
        if served.is_err() {
            let _ = self.unmount(&args.mountpoint).await;
        }
        served
    }

    async fn deposit(&self, volume: &Arc<Volume>) {
        let (keeper, volume) = (self.shared.keeper.clone(), volume.clone());
        if let Err(error) = self.shared.keeping.run(move || keeper.put(&volume)).await {
            tracing::warn!(%error, "a mount is not kept yet: no keeper answers");
        }
    }

    /// Takes away whatever is mounted there. Programs that still use it keep what they have open, and are served until they
    /// close it. It is no error if nothing is mounted there; what is mounted need not be one of ours, nor be alive.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn unmount(&self, mountpoint: &Path) -> anyhow::Result<()> {
        let at = mountpoint.to_owned();
        self.shared.mounting.run(move || unmount(&at)).await?;
        for volume in self.shared.volumes.lock().iter() {
            if volume.args.lock().mountpoint == mountpoint {
                *volume.detached.lock() = true;
            }
        }
        Ok(())
    }

    /// The arguments of the mount at a place.
    #[must_use]
    pub fn arguments(&self, mountpoint: &Path) -> Option<MountArgs> {
        self.at(mountpoint).map(|volume| volume.args.lock().clone())
    }

    /// How the mount with this number (`major:minor`) is.
    #[must_use]
    pub fn health_of(&self, number: &str) -> Health {
        self.numbered(number).map_or(Health::Gone, |volume| volume.health.borrow().clone())
    }

    /// The arguments of the mount with this number.
    #[must_use]
    pub fn arguments_of(&self, number: &str) -> Option<MountArgs> {
        self.numbered(number).map(|volume| volume.args.lock().clone())
    }

    fn numbered(&self, number: &str) -> Option<Arc<Volume>> {
        self.shared.volumes.lock().iter().find(|volume| volume.number == number).cloned()
    }

    /// Mounts that are served, those included whose mountpoints were taken away.
    #[must_use]
    pub fn served(&self) -> usize {
        self.shared.volumes.lock().len()
    }

    fn at(&self, mountpoint: &Path) -> Option<Arc<Volume>> {
        let volumes = self.shared.volumes.lock();
        volumes.iter().find(|v| !*v.detached.lock() && v.args.lock().mountpoint == mountpoint).cloned()
    }
}

impl Volume {
    /// Mounts.
    fn mount(args: MountArgs) -> anyhow::Result<Self> {
        // What lies there is not ours, or we would have been asked otherwise: the rest of a mount that died.
        unmount(&args.mountpoint)?;
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").context(
            "opening /dev/fuse: is the kernel module loaded on this node (modprobe fuse), and is the container privileged?",
        )?;
        holder::mount(&args, &device)?;
        let kept = holder::remember(&device).and_then(|memory| {
            let row = table::find(&args.mountpoint)?.context("the mount is not in the machine's table")?;
            Self::new(args.clone(), row.device, device, memory)
        });
        if kept.is_err() {
            let _ = rustix::mount::unmount(&args.mountpoint, UnmountFlags::DETACH);
        }
        kept
    }

    fn new(args: MountArgs, number: String, device: File, memory: Memory) -> anyhow::Result<Self> {
        Ok(Self {
            name: uuid::Uuid::from_bytes(memory.mount()?).to_string(),
            number,
            args: Mutex::new(args),
            device,
            memory,
            detached: Mutex::new(false),
            renew: Notify::new(),
            health: watch::Sender::new(Health::starting()),
        })
    }

    /// One that another process left.
    fn of(kept: Kept) -> anyhow::Result<Self> {
        let mut descriptors = kept.descriptors.into_iter();
        let (Some(device), Some(memory)) = (descriptors.next(), descriptors.next()) else {
            bail!("descriptors are missing");
        };
        let mut parts = kept.blob.split(|byte| *byte == 0).map(|part| OsString::from_vec(part.to_vec()));
        ensure!(parts.next().is_some_and(|version| version.as_bytes() == BLOB), "it is of another version");
        let number =
            parts.next().and_then(|number| number.into_string().ok()).context("a number is missing")?;
        let args = MountArgs::from_line(parts)?;
        let volume = Self::new(args, number, File::from(device), Memory::open(memory)?)?;
        ensure!(volume.name == kept.name, "it was kept under another name");
        let row = table::find(&volume.args.lock().mountpoint)?;
        *volume.detached.lock() = row.is_none_or(|row| row.device != volume.number);
        Ok(volume)
    }

    /// What the next process must know.
    fn blob(&self) -> Vec<u8> {
        let line = self.args.lock().line();
        let parts = [OsStr::from_bytes(BLOB), OsStr::new(&self.number)];
        let parts = parts.into_iter().chain(line.iter().map(OsString::as_os_str));
        parts.map(OsStr::as_bytes).collect::<Vec<_>>().join(&0)
    }

    /// Another server with other arguments, if they are others.
    fn adjust(&self, args: MountArgs) {
        let mut known = self.args.lock();
        if known.line() != args.line() {
            *known = args;
            self.begins_anew();
            self.renew.notify_one();
        }
    }

    /// What the last server said is not true of the next one.
    fn begins_anew(&self) {
        self.health.send_if_modified(|health| {
            let served = *health == Health::Serving;
            if served {
                *health = Health::starting();
            }
            served
        });
    }

    async fn served(&self) -> anyhow::Result<()> {
        let mut health = self.health.subscribe();
        let served = health.wait_for(|health| *health != Health::starting());
        let state = match tokio::time::timeout(SERVED_WITHIN, served).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) | Err(_) => bail!("nobody served the mount within {} s", SERVED_WITHIN.as_secs()),
        };
        match state {
            Health::Serving => Ok(()),
            Health::Waiting(why) => {
                bail!("the mount is not served ({why}): see the log of the driver on this node")
            }
            Health::Gone => bail!("the mount went away"),
        }
    }

    /// Starts servers until the file system is unmounted everywhere.
    async fn keep(&self) {
        let mut wait = WAITS.0;
        loop {
            let started = Instant::now();
            let ended = match self.serve().await {
                Ok(ended) => ended,
                Err(error) => format!("{error:#}"),
            };
            if holder::is_gone(&self.device) {
                return;
            }
            tracing::error!(mount = %self.args.lock().mountpoint.display(), ended, "a server ended: another one takes over");
            if started.elapsed() < SETTLED || *self.health.borrow() != Health::Serving {
                self.health.send_replace(Health::Waiting(ended));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(WAITS.1);
            } else {
                wait = WAITS.0;
            }
        }
    }

    /// One server, from its start to its end: why it ended.
    async fn serve(&self) -> anyhow::Result<String> {
        self.begins_anew();
        let args = MountArgs { parent: Some(std::process::id()), ..self.args.lock().clone() };
        let (mut server, channel) = holder::start(&args, &self.device, &self.memory)?;
        let ended = self.watch(&args, &mut server, &channel).await;
        holder::end(&mut server).await;
        ended
    }

    /// Why a server ended, or has to.
    async fn watch(
        &self,
        args: &MountArgs,
        server: &mut Child,
        channel: &UnixDatagram,
    ) -> anyhow::Result<String> {
        let id = server.id();
        let mut looks = 0_u32;
        loop {
            let mut said = [0; 16];
            tokio::select! {
                ended = server.wait() => return Ok(ended.context("waiting for a server")?.to_string()),
                () = tokio::time::sleep(LOOK) => {
                    if holder::is_ending(server) {
                        return Ok("it was killed".to_owned());
                    }
                    looks += 1;
                    if looks.is_multiple_of(MEMORY_EVERY)
                        && let Some(taken) = id.and_then(resident)
                        && taken > args.memory.saturating_add(SERVER_MAY_TAKE)
                    {
                        return Ok(format!("it took {} MiB of memory, more than its share", taken >> 20));
                    }
                }
                Ok(length) = channel.recv(&mut said) => {
                    if handoff::is_serving(&said[..length]) {
                        holder::set_read_ahead(&args.mountpoint);
                        self.health.send_replace(Health::Serving);
                    }
                }
                () = self.renew.notified() => return Ok("its arguments changed".to_owned()),
            }
        }
    }
}

/// The memory of a process, in bytes.
fn resident(id: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
    let mut pages = statm.split(' ').skip(1).map(str::parse::<u64>);
    // Resident pages, without those of files, which are the machine's to take back.
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

/// The connection to the keeper, made anew when it was lost.
struct Depositor {
    path: PathBuf,
    connection: Mutex<Option<Keeper>>,
}

impl Depositor {
    fn with<T>(&self, work: impl FnOnce(&Keeper) -> std::io::Result<T>) -> std::io::Result<T> {
        let mut connection = self.connection.lock();
        let keeper = match connection.take().filter(|keeper| !keeper.is_gone()) {
            Some(keeper) => keeper,
            None => Keeper::connect(&self.path)?,
        };
        let done = work(&keeper)?;
        *connection = Some(keeper);
        Ok(done)
    }

    fn all(&self) -> std::io::Result<Vec<Kept>> {
        self.with(Keeper::all)
    }

    fn put(&self, volume: &Volume) -> std::io::Result<()> {
        let descriptors = [volume.device.as_fd(), volume.memory.descriptor()];
        self.with(|keeper| keeper.put(&volume.name, &volume.blob(), &descriptors))
    }

    fn forget(&self, name: &str) {
        // If it is not heard, whoever takes it over sees that it is gone.
        let _ = self.with(|keeper| keeper.drop_name(name));
    }

    /// Whether the keeper that we know is there no more. One that is just being asked is not lost: who looks does not wait
    /// for its answer.
    fn is_lost(&self) -> bool {
        let connection = self.connection.try_lock();
        connection.is_some_and(|connection| connection.as_ref().is_none_or(Keeper::is_gone))
    }
}

/// Leaves everything with the next keeper once one has ended.
async fn keep_kept(shared: std::sync::Weak<Shared>) {
    loop {
        tokio::time::sleep(KEEPER_LOOK).await;
        let Some(shared) = shared.upgrade() else { return };
        if !shared.keeper.is_lost() {
            continue;
        }
        let volumes = shared.volumes.lock().clone();
        let keeper = shared.keeper.clone();
        let count = volumes.len();
        let left = shared.keeping.run(move || {
            keeper.with(|_| Ok(()))?;
            volumes.iter().try_for_each(|volume| keeper.put(volume))
        });
        if left.await.is_ok() {
            tracing::info!(mounts = count, "a keeper answers, and has all mounts");
        }
    }
}

/// Takes away all that is mounted at a place.
fn unmount(mountpoint: &Path) -> anyhow::Result<()> {
    for _ in 0..MAX_STACKED {
        // Asked of the table: a mount that is dead would not let us look at it.
        if table::find(mountpoint)?.is_none() {
            return Ok(());
        }
        rustix::mount::unmount(mountpoint, UnmountFlags::DETACH)
            .with_context(|| format!("unmounting {}", mountpoint.display()))?;
    }
    bail!("{}: too many mounts lie over each other", mountpoint.display())
}

/// Waits until no other process has the folder.
async fn become_the_only_one(state: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(state).with_context(|| format!("the folder {}", state.display()))?;
    let path = state.join("lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let lock = lock.with_context(|| format!("the lock {}", path.display()))?;
    let mut told = false;
    loop {
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error).with_context(|| format!("the lock {}", path.display())),
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!(path = %path.display(), "another process has the mounts of this node: waiting for its end");
        }
        tokio::time::sleep(LOCK_LOOK).await;
    }
}

/// A thread with a runtime, until the sender is dropped.
fn start_thread() -> anyhow::Result<(oneshot::Sender<()>, runtime::Handle)> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("starting a thread")?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("mounts".into())
        .spawn(move || runtime.block_on(async { drop(stopped.await) }))
        .context("starting a thread")?;
    Ok((stop, handle))
}
