//! Threads for the store: each volume has its own, and its own bound of connections, so that a disk that hangs keeps nobody
//! from the others.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use steadfs_common::StorageId;
use steadfs_daemon::pool::DiskPool;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

/// Jobs that may wait for the threads of one volume.
const QUEUE: usize = 4_096;

/// The pools of a datanode.
pub struct Disks {
    shared: DiskPool,
    threads: usize,
    /// Connections that one volume may keep busy.
    connections: usize,
    volumes: RwLock<BTreeMap<StorageId, Arc<Desk>>>,
    /// Desks of earlier lives of volumes, until what was begun there has ended.
    earlier: Mutex<Vec<Arc<Desk>>>,
}

/// What belongs to one volume.
struct Desk {
    pool: DiskPool,
    room: Arc<Semaphore>,
    /// True once the volume is out of service: who waits for it waits in vain.
    closed: watch::Sender<bool>,
}

impl Disks {
    /// The threads that are there before the volumes are known. Each volume will have `threads` of its own, and at most
    /// `connections` of all data-transfer connections.
    ///
    /// # Errors
    /// The operating system has no room for the threads.
    pub fn new(threads: usize, connections: usize) -> io::Result<Self> {
        let shared = DiskPool::new("disk", threads, QUEUE)?;
        Ok(Self {
            shared,
            threads,
            connections: connections.max(1),
            volumes: RwLock::default(),
            earlier: Mutex::default(),
        })
    }

    /// Gives each volume its threads; one that has some already, from an earlier life, gets new ones.
    ///
    /// # Errors
    /// The operating system has no room for the threads.
    pub fn add(&self, volumes: impl IntoIterator<Item = StorageId>) -> io::Result<()> {
        for storage in volumes {
            // The kernel shows 15 bytes of a thread's name.
            let name = format!("disk{}", self.volumes.read().len());
            let desk = Desk {
                pool: DiskPool::new(&name, self.threads, QUEUE)?,
                room: Arc::new(Semaphore::new(self.connections)),
                closed: watch::Sender::new(false),
            };
            let earlier = self.volumes.write().insert(storage, Arc::new(desk));
            if let Some(desk) = &earlier {
                desk.closed.send_replace(true);
            }
            self.earlier.lock().extend(earlier);
        }
        Ok(())
    }

    /// Ends the threads of volumes that are out of service, where nothing is under way or can come any more.
    pub fn tidy(&self) {
        let idle = |desk: &Arc<Desk>| {
            *desk.closed.borrow() && desk.pool.in_flight() == 0 && Arc::strong_count(desk) == 1
        };
        self.volumes.write().retain(|_, desk| !idle(desk));
        self.earlier.lock().retain(|desk| !idle(desk));
    }

    /// A volume is out of service: connections that wait for it end.
    pub fn close(&self, storage: StorageId) {
        if let Some(desk) = self.volumes.read().get(&storage) {
            desk.closed.send_replace(true);
        }
    }

    /// For what is not about a replica on a certain volume.
    #[must_use]
    pub fn shared(&self) -> &DiskPool {
        &self.shared
    }

    /// For replicas on a volume; the shared threads, if it is none of ours.
    #[must_use]
    pub fn of(&self, storage: StorageId) -> DiskPool {
        self.volumes.read().get(&storage).map_or_else(|| self.shared.clone(), |desk| desk.pool.clone())
    }

    /// Waits until everything queued before has ended, on a volume that is closed too: a caller that went away leaves its
    /// job behind.
    pub async fn drain(&self) {
        let mut pools: Vec<_> = self.volumes.read().values().map(|desk| desk.pool.clone()).collect();
        pools.extend(self.earlier.lock().iter().map(|desk| desk.pool.clone()));
        for pool in pools.iter().chain([&self.shared]) {
            pool.drain().await;
        }
    }

    /// Volumes that have threads, earlier lives included.
    #[cfg(test)]
    fn desks(&self) -> usize {
        self.volumes.read().len() + self.earlier.lock().len()
    }

    /// Jobs queued or running at this moment.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.volumes.read().values().map(|desk| desk.pool.in_flight()).sum::<usize>()
            + self.shared.in_flight()
    }

    /// Ends once a volume is out of service; never for a storage that is none of ours.
    pub(crate) async fn gone(&self, storage: StorageId) {
        let closed = self.desk(storage).map(|desk| desk.closed.subscribe());
        match closed {
            // An error says that its desk was cleared away, since it was closed.
            Some(mut closed) => drop(closed.wait_for(|closed| *closed).await),
            None => std::future::pending().await,
        }
    }

    fn desk(&self, storage: StorageId) -> Option<Arc<Desk>> {
        self.volumes.read().get(&storage).cloned()
    }
}

/// Which volume a data-transfer connection is busy with: it holds one of that volume's places, and ends when the volume is
/// given up.
#[derive(Default)]
pub(crate) struct Seat {
    taken: Mutex<Option<Taken>>,
    moved: Notify,
}

struct Taken {
    storage: StorageId,
    desk: Arc<Desk>,
    _place: OwnedSemaphorePermit,
}

impl Seat {
    /// Takes a place at a volume, instead of the one that it had. False if all are taken.
    pub(crate) fn take(&self, disks: &Disks, storage: StorageId) -> bool {
        if self.taken.lock().as_ref().is_some_and(|taken| taken.storage == storage) {
            return true;
        }
        self.leave();
        // A storage that is none of ours is refused by the store, with its reasons.
        let Some(desk) = disks.desk(storage).filter(|desk| !*desk.closed.borrow()) else { return true };
        let Ok(place) = desk.room.clone().try_acquire_owned() else { return false };
        *self.taken.lock() = Some(Taken { storage, desk, _place: place });
        self.moved.notify_one();
        true
    }

    /// Gives the place back.
    pub(crate) fn leave(&self) {
        if self.taken.lock().take().is_some() {
            self.moved.notify_one();
        }
    }

    /// Ends when the volume at which this is seated is given up, with its id.
    pub(crate) async fn given_up(&self) -> StorageId {
        loop {
            let moved = self.moved.notified();
            let watched =
                self.taken.lock().as_ref().map(|taken| (taken.storage, taken.desk.closed.subscribe()));
            let Some((storage, mut closed)) = watched else {
                moved.await;
                continue;
            };
            tokio::select! {
                // First: who has moved is not ended by the volume that was left.
                biased;
                () = moved => {}
                // The sender lives in the desk, which `taken` holds; if it is gone, so is the seat.
                outcome = closed.wait_for(|closed| *closed) => if outcome.is_ok() { return storage },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    fn storages() -> [StorageId; 3] {
        [1, 2, 3].map(|number| StorageId(Uuid::from_u128(number)))
    }

    #[tokio::test]
    async fn a_volume_that_hangs_keeps_nobody_from_the_others() {
        let [first, second, foreign] = storages();
        let disks = Disks::new(1, 8).unwrap();
        disks.add([first, second]).unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let hanging = disks.of(first);
        let hung = tokio::spawn(async move { hanging.run(move || gate.recv()).await });
        while disks.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(disks.of(second).run(|| 2).await, 2);
        assert_eq!(disks.of(foreign).run(|| 3).await, 3);
        release.send(()).unwrap();
        hung.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn each_volume_has_its_own_places() {
        let [first, second, foreign] = storages();
        let disks = Disks::new(1, 2).unwrap();
        disks.add([first, second]).unwrap();
        let seats: [Seat; 3] = Default::default();
        assert!(seats[0].take(&disks, first) && seats[0].take(&disks, first) && seats[1].take(&disks, first));
        assert!(!seats[2].take(&disks, first), "all are taken");
        assert!(seats[2].take(&disks, second) && seats[2].take(&disks, foreign));
        seats[0].leave();
        assert!(seats[2].take(&disks, first));
    }

    #[tokio::test]
    async fn threads_of_a_volume_that_is_gone_end_with_what_is_under_way() {
        let [first, second, foreign] = storages();
        let disks = Disks::new(1, 2).unwrap();
        disks.add([first, second]).unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let hanging = disks.of(first);
        let hung = tokio::spawn(async move { hanging.run(move || gate.recv()).await });
        while disks.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        disks.close(first);
        // Added again while a job of its earlier life hangs.
        disks.add([first]).unwrap();
        disks.tidy();
        assert_eq!(disks.desks(), 3);
        assert!(disks.drain().now_or_never().is_none(), "what hangs is waited for");
        release.send(()).unwrap();
        hung.await.unwrap().unwrap();
        disks.drain().await;
        disks.tidy();
        assert_eq!(disks.desks(), 2);
        let seat = Seat::default();
        assert!(seat.take(&disks, second));
        disks.close(second);
        disks.tidy();
        assert_eq!(disks.desks(), 2, "somebody sits there");
        seat.leave();
        let (mut left, mut serving) = (Box::pin(disks.gone(second)), Box::pin(disks.gone(first)));
        assert!(futures::poll!(&mut left).is_ready() && futures::poll!(&mut serving).is_pending());
        drop(left);
        disks.tidy();
        assert_eq!(disks.desks(), 1);
        disks.close(first);
        serving.await;
        assert!(disks.gone(foreign).now_or_never().is_none(), "nothing is known of it");
    }

    #[tokio::test]
    async fn who_waits_for_a_volume_that_is_given_up_ends() {
        let [first, second, _] = storages();
        let disks = Disks::new(1, 2).unwrap();
        disks.add([first, second]).unwrap();
        let seat = Seat::default();
        let mut waiting = Box::pin(seat.given_up());
        assert!(futures::poll!(&mut waiting).is_pending());
        assert!(seat.take(&disks, first));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert!(seat.take(&disks, second));
        disks.close(first);
        assert!(futures::poll!(&mut waiting).is_pending());
        disks.close(second);
        assert_eq!(waiting.await, second);
        // Who comes later is not seated there, and is told by the store what there is.
        assert!(seat.take(&disks, first) && seat.given_up().now_or_never().is_none());
        // Added again, it is a volume like any other.
        disks.add([second]).unwrap();
        assert!(seat.take(&disks, second));
        assert!(seat.given_up().now_or_never().is_none());
    }
}
