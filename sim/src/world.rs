//! The cluster: who runs, on which disks, and how they are reached.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use steadfs_common::{FsError, FsErrorKind, FsResult, Millis};
use steadfs_daemon::clock::Clock;
use steadfs_namenode::NamenodeConfig;
use steadfs_namenode::inline::InlineNamenode;
use steadfs_namenode_core::Caller;
use steadfs_namenode_core::command::Origin;
use tonic::Request;

use crate::datanode::Slot;
use crate::exec::{Exec, Life};
use crate::machine;
use crate::net::{Net, Place, Unanswered};
use crate::oracle::Tree;
use crate::random::{Random, mix};

/// The time of day when a simulation begins, in milliseconds since 1970.
const DAY: u64 = 1_700_000_000_000;
/// How long a call to the namenode waits for its answer.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Who asks, as far as the namenode is told.
const USER: &str = "sim";

/// The namenode's clock: the world's, and a time of day that may be set.
pub struct SimClock {
    micros: AtomicU64,
    /// By how much the time of day is off; wraps for less.
    off_ms: AtomicU64,
    told: AtomicU64,
}

impl Clock for SimClock {
    fn now(&self) -> Millis {
        let passed = self.micros.load(Ordering::Relaxed) / 1_000;
        let read = (DAY + passed).wrapping_add(self.off_ms.load(Ordering::Relaxed));
        // It never goes back while the process lives.
        Millis(self.told.fetch_max(read, Ordering::Relaxed).max(read))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

/// The namenode's place.
#[derive(Default)]
pub struct NamenodeSlot {
    /// Where its folders are now.
    pub root: PathBuf,
    /// The life that serves.
    pub life: Option<(Life, InlineNamenode, Arc<SimClock>)>,
    /// By how much its clock is off.
    pub off_ms: u64,
    /// Lives so far.
    pub lives: u64,
}

/// Everything. Shared by all tasks.
pub struct World {
    /// Time and tasks.
    pub exec: Exec,
    /// The network.
    pub net: Net,
    /// The seed.
    pub seed: u64,
    /// What the faults are drawn from.
    pub random: Random,
    /// Where the files are.
    pub folder: PathBuf,
    /// The namenode.
    pub namenode: RefCell<NamenodeSlot>,
    /// The datanodes.
    pub datanodes: Vec<RefCell<Slot>>,
    /// What each client may expect.
    pub trees: Vec<RefCell<Tree>>,
    /// What went wrong first.
    pub failure: RefCell<Option<String>>,
    /// No more faults.
    pub quiet: Cell<bool>,
    /// Clients that have come to their end.
    pub ended: Cell<usize>,
    /// For what the namenode's code waits for.
    runtime: tokio::runtime::Runtime,
    next_life: Cell<u64>,
    next_folder: Cell<u64>,
}

/// Where the namenode and its clients meet.
pub type Shared = Rc<World>;

/// The configuration of the namenode in these folders.
#[must_use]
pub fn config(root: &Path) -> NamenodeConfig {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = NamenodeConfig {
        listen: any,
        http_listen: any,
        data_dirs: vec![root.join("a"), root.join("b")],
        ..NamenodeConfig::default()
    };
    config.insecure.simple = true;
    config.namespace.permissions = false;
    config.namespace.min_block_size_bytes = 512;
    config.namespace.complete_wait_ms = 0;
    config.namespace.lease_soft_limit_ms = 20_000;
    config.namespace.lease_hard_limit_ms = 45_000;
    config.namespace.access_time_precision_ms = 0;
    config.datanodes.stale_after_ms = 9_000;
    config.datanodes.dead_after_ms = 25_000;
    config.datanodes.block_report_interval_ms = 40_000;
    config.datanodes.transfer_timeout_ms = 15_000;
    config.datanodes.flushed_wait_ms = 60_000;
    config.safe_mode.extension_ms = 1_000;
    config.journal.segment_bytes = 64 << 10;
    config.journal.kept_bytes = 0;
    config.store.block_cache_bytes = 1 << 20;
    config.store.write_buffer_bytes = 4 << 20;
    config.store.read_threads = 1;
    config
}

/// Who calls.
#[must_use]
pub fn user() -> Caller {
    Caller {
        user: USER.to_owned(),
        groups: Vec::new(),
        superuser: false,
        address: None,
        origin: Origin::default(),
    }
}

/// A request as a client sends it.
pub fn by_user<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("steadfs-user", USER.parse().expect("it is plain text"));
    request
}

/// What became of an answer of a door.
///
/// # Errors
/// That of the answer.
pub fn plain<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> FsResult<T> {
    answer.map(tonic::Response::into_inner).map_err(|status| steadfs_proto::from_status(&status))
}

impl World {
    /// A world of stopped machines.
    ///
    /// # Errors
    /// The operating system.
    pub fn new(
        seed: u64,
        folder: PathBuf,
        datanodes: usize,
        clients: usize,
        lines: bool,
    ) -> anyhow::Result<Shared> {
        let exec = Exec::new(lines);
        exec.hide(folder.display().to_string());
        let net = Net::new(exec.clone(), Random::new(mix(seed ^ 1)));
        Ok(Rc::new(Self {
            exec,
            net,
            seed,
            random: Random::new(mix(seed ^ 2)),
            folder,
            namenode: RefCell::default(),
            datanodes: (0..datanodes).map(|_| RefCell::<Slot>::default()).collect(),
            trees: (0..clients).map(|_| RefCell::default()).collect(),
            failure: RefCell::default(),
            quiet: Cell::new(false),
            ended: Cell::new(0),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            next_life: Cell::new(1),
            next_folder: Cell::new(0),
        }))
    }

    /// Notes that something happened.
    pub fn note(&self, text: impl FnOnce() -> String) {
        self.exec.note(text);
    }

    /// Something that must never happen has.
    pub fn fail(&self, why: impl Into<String>) {
        let why = why.into();
        self.note(|| format!("FAILED {why}"));
        self.failure.borrow_mut().get_or_insert(why);
    }

    /// A life for a process.
    pub fn new_life(&self) -> Life {
        let life = self.next_life.get();
        self.next_life.set(life + 1);
        Life(life)
    }

    /// A folder that was not there.
    pub fn new_folder(&self, name: &str) -> PathBuf {
        let number = self.next_folder.get();
        self.next_folder.set(number + 1);
        self.folder.join(format!("{name}-{number}"))
    }

    /// Starts the namenode. Fails the simulation if it does not start.
    pub fn start_namenode(self: &Rc<Self>) {
        let mut slot = self.namenode.borrow_mut();
        if slot.life.is_some() {
            return;
        }
        if slot.root.as_os_str().is_empty() {
            slot.root = self.new_folder("nn");
            if let Err(error) = std::fs::create_dir_all(&slot.root) {
                drop(slot);
                return self.fail(format!("the simulation's folder: {error}"));
            }
        }
        slot.lives += 1;
        let clock = Arc::new(SimClock {
            micros: AtomicU64::new(0),
            off_ms: AtomicU64::new(slot.off_ms),
            told: AtomicU64::new(0),
        });
        clock.micros.store(self.exec.now().as_micros() as u64, Ordering::Relaxed);
        let opened = machine::start(&slot.root)
            .map_err(anyhow::Error::from)
            .and_then(|()| self.runtime.block_on(InlineNamenode::open(&config(&slot.root), clock.clone())));
        match opened {
            Ok(namenode) => {
                let life = self.new_life();
                self.note(|| format!("nn starts, life {}", slot.lives));
                slot.life = Some((life, namenode, clock));
                drop(slot);
                self.net.serve(Place::Namenode, Some(life));
                self.keep_house(life);
            }
            Err(error) => {
                drop(slot);
                self.fail(format!("the namenode does not start: {error:#}"));
            }
        }
    }

    /// What the namenode does by itself.
    fn keep_house(self: &Rc<Self>, life: Life) {
        let every = |span: Duration, work: fn(&Rc<Self>)| {
            let world = self.clone();
            self.exec.spawn(life, async move {
                loop {
                    world.exec.sleep(span).await;
                    work(&world);
                }
            });
        };
        every(Duration::from_secs(1), |world| {
            world.with_namenode(|namenode, runtime| {
                runtime.block_on(namenode.round());
                Ok(())
            });
        });
        every(Duration::from_secs(5), |world| {
            world.with_namenode(|namenode, runtime| {
                runtime.block_on(async {
                    namenode.expire_leases().await?;
                    namenode.clean().await
                })
            });
        });
        every(Duration::from_secs(13), |world| {
            let (roll, flush) = (world.random.chance(30), world.random.chance(40));
            world.with_namenode(|namenode, runtime| {
                if flush {
                    namenode.flush();
                }
                if roll { runtime.block_on(namenode.roll()) } else { Ok(()) }
            });
        });
    }

    /// Does something in the namenode. None if it is not there, or ended meanwhile.
    fn with_namenode<T>(
        self: &Rc<Self>,
        work: impl FnOnce(&mut InlineNamenode, &tokio::runtime::Runtime) -> FsResult<T>,
    ) -> Option<FsResult<T>> {
        let result = {
            let mut slot = self.namenode.borrow_mut();
            let (_, namenode, clock) = slot.life.as_mut()?;
            clock.micros.store(self.exec.now().as_micros() as u64, Ordering::Relaxed);
            work(namenode, &self.runtime)
        };
        if matches!(&result, Err(error) if error.kind() == FsErrorKind::Stopping) {
            self.note(|| "nn: the power failed while it wrote".into());
            self.stop_namenode(true);
            return None;
        }
        Some(result)
    }

    /// Asks the namenode something without a network: for who looks on.
    ///
    /// # Errors
    /// It is not there; its own.
    pub fn look<T>(self: &Rc<Self>, ask: impl AsyncFnOnce(&InlineNamenode) -> FsResult<T>) -> FsResult<T> {
        self.with_namenode(|namenode, runtime| runtime.block_on(ask(namenode)))
            .unwrap_or_else(|| Err(FsError::new(FsErrorKind::Stopping, "the namenode is not there")))
    }

    /// Calls the namenode from a place.
    ///
    /// # Errors
    /// No answer in time: it may have been carried out, or be yet.
    pub async fn call<T: 'static>(
        self: &Rc<Self>,
        from: Place,
        name: &'static str,
        ask: impl AsyncFnOnce(&InlineNamenode) -> FsResult<T> + 'static,
    ) -> Result<FsResult<T>, Unanswered> {
        let world = self.clone();
        let serve = move || {
            let result = world.with_namenode(|namenode, runtime| runtime.block_on(ask(namenode)));
            world.note(|| {
                let outcome = match &result {
                    None => "ended".to_owned(),
                    Some(Ok(_)) => "ok".to_owned(),
                    Some(Err(error)) => format!("{:?}", error.kind()),
                };
                format!("{from} {name} {outcome}")
            });
            result
        };
        self.net.call(from, Place::Namenode, CALL_LIMIT, serve).await
    }

    /// The namenode stops where it is: killed, or by a power cut.
    pub fn stop_namenode(self: &Rc<Self>, power: bool) {
        let (life, namenode, old) = {
            let mut slot = self.namenode.borrow_mut();
            let Some((life, namenode, _)) = slot.life.take() else { return };
            let next = self.new_folder("nn");
            let old = std::mem::replace(&mut slot.root, next.clone());
            let luck = power.then(|| self.random.draw());
            if let Err(error) = machine::stop(&next, luck) {
                drop(slot);
                self.fail(format!("the simulation's disk: {error}"));
                return;
            }
            (life, namenode, old)
        };
        self.note(|| format!("nn stops, {}", if power { "by a power cut" } else { "killed" }));
        self.net.serve(Place::Namenode, None);
        self.exec.kill(life);
        namenode.end();
        // Only memory is lost if it stays.
        let _ = std::fs::remove_dir_all(old);
    }

    /// Whether the namenode serves.
    #[must_use]
    pub fn namenode_is_up(&self) -> bool {
        self.namenode.borrow().life.is_some()
    }

    /// Sets the namenode's time of day off by this from now on.
    pub fn set_clock(&self, off_ms: u64) {
        let mut slot = self.namenode.borrow_mut();
        slot.off_ms = off_ms;
        if let Some((_, _, clock)) = &slot.life {
            clock.off_ms.store(off_ms, Ordering::Relaxed);
        }
    }
}
