//! A datanode: its real store on a simulated disk, and tasks that carry its messages.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{FutureExt as _, select_all};
use steadfs_common::{BlockId, FsError, FsErrorKind, FsResult, GenStamp};
use steadfs_datanode::inline::{InlineDatanode, InlineRecovery};
use steadfs_datanode_store::{Faults, ReplicaState, StoreOptions, VolumeConfig};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::command::Command;
use steadfs_proto::steadfs::datanode_link_server::DatanodeLink as _;
use tonic::Request;

use crate::disk::{Disk, Trouble};
use crate::exec::Life;
use crate::net::Place;
use crate::pipeline;
use crate::verdict;
use crate::world::{Shared, plain};

/// Bytes that a datanode says it has room for.
const CAPACITY: u64 = 1 << 40;
/// How often the tasks look whether there is something to tell.
const LOOK: Duration = Duration::from_millis(40);
const HEARTBEAT: Duration = Duration::from_secs(3);
const REPORT: Duration = Duration::from_secs(40);
/// Waits between tries.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// How long another datanode may take to answer in a recovery.
const PEER_LIMIT: Duration = Duration::from_secs(10);
/// All replicas are read and checked this often.
pub const SCAN: Duration = Duration::from_secs(30);

/// What a running datanode's tasks share.
pub struct Running {
    /// Which it is.
    pub number: usize,
    /// Its life.
    pub life: Life,
    /// What it decides by.
    pub core: RefCell<InlineDatanode>,
    /// Its disk.
    pub disk: Arc<Disk>,
    /// Whether all its replicas were checked since all goes well.
    pub checked: Cell<bool>,
    report_wanted: Cell<bool>,
    busy: RefCell<BTreeSet<(BlockId, u64)>>,
}

/// The machine of a datanode.
#[derive(Default)]
pub struct Slot {
    /// Where its files are; none before its first start.
    root: Option<PathBuf>,
    /// Its disk as a killed process left it.
    carried: Option<Disk>,
    /// A copy of its files from an earlier time.
    pub earlier: Option<PathBuf>,
    /// The process.
    pub running: Option<Rc<Running>>,
}

/// How a datanode's machine stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The process is killed.
    Kill,
    /// The power fails.
    Power,
}

fn address(number: usize) -> pb::DatanodeAddress {
    pb::DatanodeAddress {
        uuid: String::new(),
        ip: format!("10.0.0.{}", number + 1),
        host_name: format!("node-{number}"),
        data_port: 9866,
        ipc_port: 9867,
        http_port: 0,
    }
}

/// Which datanode an address is.
#[must_use]
pub fn number_of(ip: &str) -> Option<usize> {
    ip.rsplit('.').next()?.parse::<usize>().ok()?.checked_sub(1)
}

/// Starts a datanode. Fails the simulation if its files cannot be opened.
pub fn start(world: &Shared, number: usize) {
    let (root, disk) = {
        let mut slot = world.datanodes[number].borrow_mut();
        if slot.running.is_some() {
            return;
        }
        let disk = match slot.carried.take() {
            Some(disk) => Ok(disk),
            None => {
                let root = slot.root.clone().unwrap_or_else(|| world.new_folder(&format!("dn{number}")));
                std::fs::create_dir_all(&root).and_then(|()| Disk::new(&root))
            }
        };
        match disk {
            Ok(disk) => {
                slot.root = Some(disk.root().to_owned());
                (disk.root().to_owned(), Arc::new(disk))
            }
            Err(error) => {
                drop(slot);
                return world.fail(format!("the simulation's disk: {error}"));
            }
        }
    };
    let volume =
        VolumeConfig { path: root.join("volume"), kind: steadfs_common::StorageType::Disk, reserved: 0 };
    let faults: Option<Arc<dyn Faults>> = Some(disk.clone());
    // Bytes rot within its two minutes.
    let options = StoreOptions { faults, verified_for: Duration::ZERO, ..StoreOptions::new(vec![volume]) };
    let core = match InlineDatanode::open(options, address(number), world.random.draw()) {
        Ok(core) => core,
        Err(error) => return world.fail(format!("dn{number} does not start: {error}")),
    };
    let life = world.new_life();
    world.note(|| format!("dn{number} starts"));
    let running = Rc::new(Running {
        number,
        life,
        core: RefCell::new(core),
        disk,
        checked: Cell::new(false),
        report_wanted: Cell::new(false),
        busy: RefCell::default(),
    });
    world.datanodes[number].borrow_mut().running = Some(running.clone());
    world.net.serve(Place::Datanode(number), Some(life));
    world.exec.spawn(life, link(world.clone(), running.clone()));
    world.exec.spawn(life, scan(world.clone(), running));
}

/// Stops a datanode where it is. Its files are then what the disk kept.
///
/// What a disk lied about goes with the power only where each block has a good copy elsewhere: more is not promised.
pub fn stop(world: &Shared, number: usize, how: Stop) {
    let disk = world.datanodes[number].borrow().running.as_ref().map(|running| running.disk.clone());
    if let Some(disk) = disk.filter(|disk| disk.has_lied() && (how == Stop::Power || disk.is_off())) {
        if verdict::is_spare(world, number) {
            world.note(|| format!("dn{number} keeps little of what its disk lied about"));
        } else {
            disk.make_good();
        }
    }
    let Some(running) = world.datanodes[number].borrow_mut().running.take() else { return };
    world.note(|| format!("dn{number} stops: {how:?}"));
    world.net.serve(Place::Datanode(number), None);
    running.core.borrow().store().settle();
    let how = if running.disk.is_off() { Stop::Power } else { how };
    let next = world.new_folder(&format!("dn{number}"));
    let carried = match how {
        Stop::Kill => running.disk.carry_over(&next).map(Some),
        Stop::Power => std::fs::create_dir_all(&next)
            .and_then(|()| running.disk.rebuild(&next, world.random.draw()))
            .map(|()| None),
    };
    running.disk.switch_off();
    world.exec.kill(running.life);
    let old = {
        let mut slot = world.datanodes[number].borrow_mut();
        match carried {
            Ok(carried) => slot.carried = carried,
            Err(error) => {
                drop(slot);
                return world.fail(format!("the simulation's disk: {error}"));
            }
        }
        slot.root.replace(next)
    };
    drop(running);
    if let Some(old) = old {
        // Only memory is lost if it stays.
        let _ = std::fs::remove_dir_all(old);
    }
}

/// Gives a stopped datanode an empty disk.
pub fn wipe(world: &Shared, number: usize) {
    world.note(|| format!("dn{number} gets an empty disk"));
    let mut slot = world.datanodes[number].borrow_mut();
    (slot.root, slot.carried) = (None, None);
}

/// Keeps a copy of a stopped datanode's files.
pub fn keep_copy(world: &Shared, number: usize) {
    let mut slot = world.datanodes[number].borrow_mut();
    let Some(root) = slot.root.clone() else { return };
    let copy = world.new_folder(&format!("dn{number}-copy"));
    if crate::machine::copy_all(&root, &copy).is_ok() {
        slot.earlier = Some(copy);
    }
}

/// Puts the copy in place of a stopped datanode's files; false if there is none.
pub fn put_back(world: &Shared, number: usize) -> bool {
    let mut slot = world.datanodes[number].borrow_mut();
    let Some(copy) = slot.earlier.take() else { return false };
    world.note(|| format!("dn{number} comes back with an earlier copy of its disk"));
    (slot.root, slot.carried) = (Some(copy), None);
    true
}

impl Running {
    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::Datanode(self.number)
    }
}

/// As the process sees that its power has gone: at its next step. True if it has ended.
pub fn ends(world: &Shared, running: &Running) -> bool {
    if running.disk.is_off() && world.net.life(running.place()) == Some(running.life) {
        stop(world, running.number, Stop::Power);
        let (again, number) = (world.clone(), running.number);
        world.exec.after(LAST_RETRY, move || start(&again, number));
    }
    running.disk.is_off()
}

fn roomy(volumes: &mut [pb::StorageReport]) {
    for volume in volumes {
        (volume.capacity, volume.remaining) = (CAPACITY, CAPACITY - volume.used);
    }
}

enum End {
    RegisterAgain,
    Superseded,
}

async fn link(world: Shared, me: Rc<Running>) {
    loop {
        if !register(&world, &me).await {
            return;
        }
        let parts = [
            heartbeats(&world, &me).boxed_local(),
            send_changes(&world, &me).boxed_local(),
            send_reports(&world, &me).boxed_local(),
        ];
        let (end, _, _) = select_all(parts).await;
        match end {
            End::RegisterAgain => {}
            End::Superseded => return end_by_itself(&world, &me),
        }
    }
}

/// A late message of its earlier life was taken for a newer one: it ends, and who watches over it starts it again.
fn end_by_itself(world: &Shared, me: &Rc<Running>) {
    world.note(|| format!("dn{} is superseded and ends", me.number));
    stop(world, me.number, Stop::Kill);
    let (again, number) = (world.clone(), me.number);
    world.exec.after(LAST_RETRY, move || start(&again, number));
}

async fn register(world: &Shared, me: &Rc<Running>) -> bool {
    let mut wait = FIRST_RETRY;
    loop {
        let mut request = me.core.borrow().registration();
        roomy(&mut request.storages);
        let answer = world
            .call(me.place(), "register", async move |namenode| {
                plain(namenode.link().register(Request::new(request)).await)
            })
            .await;
        match answer {
            Ok(Ok(answer)) => {
                let taken = me.core.borrow_mut().registered(answer);
                match taken {
                    Ok(()) => return true,
                    Err(_) if ends(world, me) => return false,
                    Err(error) if error.kind() == FsErrorKind::Io => {}
                    Err(error) => {
                        world.fail(format!("dn{} does not obey the namenode: {error}", me.number));
                        return false;
                    }
                }
            }
            Ok(Err(error)) if error.kind() == FsErrorKind::NotRegistered => {
                end_by_itself(world, me);
                return false;
            }
            Ok(Err(error)) if error.kind() == FsErrorKind::Standby => {
                world.fail(format!("dn{} knows of a later state than the namenode: {error}", me.number));
                return false;
            }
            Ok(Err(_)) | Err(_) => {}
        }
        world.exec.sleep(wait).await;
        wait = (wait * 2).min(LAST_RETRY);
    }
}

async fn heartbeats(world: &Shared, me: &Rc<Running>) -> End {
    loop {
        let mut request = me.core.borrow().heartbeat();
        roomy(&mut request.storages);
        let answer = world
            .call(me.place(), "heartbeat", async move |namenode| {
                plain(namenode.link().heartbeat(Request::new(request)).await)
            })
            .await;
        match answer {
            Ok(Ok(answer)) => {
                let orders = me.core.borrow_mut().heard(answer);
                let orders = match orders {
                    Ok(orders) => orders,
                    Err(error) => {
                        world.fail(format!("dn{} does not obey the namenode: {error}", me.number));
                        Vec::new()
                    }
                };
                for order in orders {
                    if matches!(order, Command::Register(_)) {
                        return End::RegisterAgain;
                    }
                    follow(world, me, order);
                }
            }
            Ok(Err(error)) if error.kind() == FsErrorKind::NotRegistered => return End::Superseded,
            Ok(Err(_)) | Err(_) => {}
        }
        world.exec.sleep(HEARTBEAT).await;
    }
}

fn follow(world: &Shared, me: &Rc<Running>, order: Command) {
    match order {
        Command::Register(_) | Command::Bandwidth(_) => {}
        Command::Report(_) => me.report_wanted.set(true),
        Command::Invalidate(order) => {
            world.note(|| {
                let ids: Vec<_> = order.blocks.iter().map(|block| (block.id, block.stamp)).collect();
                format!("dn{} deletes {ids:?}", me.number)
            });
            // What fails is ordered again.
            let _ = me.core.borrow().invalidate(order);
        }
        Command::Transfer(order) => {
            let block = order.block.unwrap_or_default();
            let key = (BlockId(block.id), 0);
            if me.busy.borrow_mut().insert(key) {
                let (world, me) = (world.clone(), me.clone());
                world.clone().exec.spawn(me.life, async move {
                    let good = pipeline::replicate(&world, &me, &order).await;
                    me.busy.borrow_mut().remove(&key);
                    if !good {
                        copy_failed(&world, &me, order).await;
                    }
                });
            }
        }
        Command::Check(order) => check(me, &order),
        Command::Recover(order) => {
            let block = order.block.unwrap_or_default();
            let key = (BlockId(block.id), order.new_stamp);
            if me.busy.borrow_mut().insert(key) {
                let (world, me) = (world.clone(), me.clone());
                world.clone().exec.spawn(me.life, async move {
                    let result = recover(&world, &me, order).await;
                    world.note(|| format!("dn{} recovery of {block:?}: {result:?}", me.number));
                    me.busy.borrow_mut().remove(&key);
                });
            }
        }
    }
}

/// Tells the namenode, once: it finds out by itself later.
async fn copy_failed(world: &Shared, me: &Rc<Running>, order: pb::Transfer) {
    let (uuid, session) = (me.core.borrow().uuid().to_string(), me.core.borrow().heartbeat().session);
    let storage_ids = order.targets.into_iter().map(|target| target.storage_id).collect();
    let request = pb::CopyFailedRequest { uuid, session, block: order.block, storage_ids };
    let told = world.call(me.place(), "copy failed", async move |namenode| {
        plain(namenode.link().copy_failed(Request::new(request)).await)
    });
    let _ = told.await;
}

/// Reads replicas, and tells which are not bad.
fn check(me: &Rc<Running>, order: &pb::Check) {
    let core = me.core.borrow();
    for block in &order.blocks {
        if let Ok(reader) = core.store().open_for_read(BlockId(block.id), GenStamp(block.stamp))
            && reader.is_finalized()
            && !reader.suspect()
        {
            reader.vouch();
        }
    }
}

async fn send_changes(world: &Shared, me: &Rc<Running>) -> End {
    loop {
        world.exec.sleep(LOOK).await;
        if ends(world, me) {
            // The task is gone with its life.
            std::future::pending::<()>().await;
        }
        let pending = me.core.borrow().changes();
        if let Some((request, end)) = pending {
            let answer = world
                .call(me.place(), "changed", async move |namenode| {
                    plain(namenode.link().blocks_changed(Request::new(request)).await)
                })
                .await;
            match answer {
                Ok(Ok(_)) => me.core.borrow().told(end),
                Ok(Err(error)) if !InlineDatanode::is_sent_again(&error) => {
                    me.report_wanted.set(true);
                    me.core.borrow().told(end);
                }
                Ok(Err(_)) | Err(_) => world.exec.sleep(FIRST_RETRY).await,
            }
        }
        let bad = me.core.borrow().bad();
        if let Some((request, which)) = bad {
            let answer = world
                .call(me.place(), "report bad", async move |namenode| {
                    plain(namenode.link().report_bad(Request::new(request)).await)
                })
                .await;
            if matches!(answer, Ok(Ok(_))) {
                me.core.borrow().bad_told(which);
            }
        }
    }
}

async fn send_reports(world: &Shared, me: &Rc<Running>) -> End {
    let mut due = world.exec.now();
    loop {
        if !me.report_wanted.get() && world.exec.now() < due {
            world.exec.sleep(LOOK).await;
            continue;
        }
        // So that no change from before the report reaches the namenode after it.
        while me.core.borrow().changes().is_some() {
            world.exec.sleep(LOOK).await;
        }
        me.report_wanted.set(false);
        due = world.exec.now() + REPORT;
        let slices = me.core.borrow().report();
        for slice in slices {
            let answer =
                world.call(me.place(), "report", async move |namenode| namenode.report(slice).await).await;
            if !matches!(answer, Ok(Ok(()))) {
                me.report_wanted.set(true);
                world.exec.sleep(FIRST_RETRY * 5).await;
                break;
            }
        }
    }
}

/// Reads and checks what is finalized, over and over.
async fn scan(world: Shared, me: Rc<Running>) {
    loop {
        world.exec.sleep(SCAN).await;
        let core = me.core.borrow();
        let store = core.store();
        for storage in store.volumes_in_service() {
            for replica in store.report_page(storage, None, usize::MAX) {
                if replica.state == ReplicaState::Finalized
                    && let Ok(reader) = store.open_for_read(replica.block.id, replica.block.stamp)
                    && reader.suspect()
                {
                    world.note(|| format!("dn{} finds {:?} bad", me.number, replica.block));
                }
            }
        }
        me.checked.set(world.quiet.get());
    }
}

/// Leads a block's recovery.
async fn recover(world: &Shared, me: &Rc<Running>, order: pb::Recover) -> FsResult<()> {
    let mut recovery = InlineRecovery::begin(&order)?;
    let (block, stamp) = (recovery.block, recovery.recovery);
    let mut peers = Vec::new();
    for location in &order.locations {
        let ip = location.datanode.as_ref().map(|address| address.ip.clone()).unwrap_or_default();
        peers.push(number_of(&ip).filter(|number| *number < world.datanodes.len()));
    }
    let unheard = || FsError::new(FsErrorKind::Timeout, "no answer");
    let asked = peers.iter().map(|peer| async {
        let Some(peer) = *peer else { return Err(unheard()) };
        on_datanode(world, me.place(), peer, move |core| core.init_recovery(block, stamp)).await
    });
    for (index, answer) in futures::future::join_all(asked).await.into_iter().enumerate() {
        recovery.take(index, answer)?;
    }
    let update = recovery.decide()?;
    if let Some((_, short)) = update.who.iter().find(|(_, replica)| replica.len < update.len) {
        world.fail(format!("a recovery of {block:?} keeps {} bytes, but counts on {short:?}", update.len));
    }
    let updates = update.who.iter().map(|(index, replica)| {
        let (peer, replica, len) = (peers[*index], *replica, update.len);
        async move {
            let Some(peer) = peer else { return Err(unheard()) };
            on_datanode(world, me.place(), peer, move |core| {
                Ok(core.store().update_replica(replica, stamp, len)?)
            })
            .await
        }
    });
    let updated: Vec<_> =
        futures::future::join_all(updates).await.into_iter().filter_map(Result::ok).collect();
    if updated.is_empty() && !update.delete {
        return Err(FsError::new(FsErrorKind::Retriable, "no replica could be recovered"));
    }
    let request = recovery.result(&update, &updated);
    world.note(|| format!("dn{} recovered {request:?}", me.number));
    let answer = world
        .call(me.place(), "synchronize", async move |namenode| {
            plain(namenode.link().commit_block_synchronization(Request::new(request)).await)
        })
        .await;
    answer.map_err(|_| unheard())?.map(|_| ())
}

/// Calls a datanode from a place.
///
/// # Errors
/// Timeout: no answer; its own.
pub async fn on_datanode<T: 'static>(
    world: &Shared,
    from: Place,
    number: usize,
    ask: impl FnOnce(&InlineDatanode) -> FsResult<T> + 'static,
) -> FsResult<T> {
    let there = world.clone();
    let serve = move || {
        let running = there.datanodes[number].borrow().running.clone()?;
        let result = ask(&running.core.borrow());
        (!ends(&there, &running)).then_some(result)
    };
    let answer = world.net.call(from, Place::Datanode(number), PEER_LIMIT, serve).await;
    answer.unwrap_or_else(|_| Err(FsError::new(FsErrorKind::Timeout, format!("dn{number} does not answer"))))
}

/// What a datanode holds and may be read.
pub struct ReadBlock {
    /// Bytes from the block's beginning on.
    pub data: Vec<u8>,
    /// Their checksums, as stored.
    pub sums: Vec<u8>,
    /// What these are.
    pub spec: steadfs_common::ChecksumSpec,
    /// Whether it is finalized.
    pub finalized: bool,
    /// The readable length: the data may go on to the end of a chunk.
    pub length: u64,
    /// The stamp that it has.
    pub stamp: GenStamp,
}

/// Reads a replica.
///
/// # Errors
/// As the store.
pub fn read_block(core: &InlineDatanode, id: BlockId, stamp: GenStamp) -> FsResult<ReadBlock> {
    let reader = core.store().open_for_read(id, stamp)?;
    let length = reader.block().len;
    let end = reader.covered_end(length);
    let (mut data, mut sums) = (vec![0; end as usize], Vec::new());
    reader.read_data(0, &mut data)?;
    reader.read_checksums(0, end, &mut sums)?;
    Ok(ReadBlock {
        data,
        sums,
        spec: reader.spec(),
        finalized: reader.is_finalized(),
        length,
        stamp: reader.block().stamp,
    })
}

/// Lets a running datanode's disk fail so.
pub fn trouble(world: &Shared, number: usize, trouble: Trouble) {
    if let Some(running) = &world.datanodes[number].borrow().running {
        world.note(|| format!("dn{number} disk: {trouble:?}"));
        running.disk.trouble(trouble);
    }
}
