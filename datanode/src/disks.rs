//! Threads for the store: each volume has its own, so that a disk that hangs keeps nobody from the others.

use std::collections::BTreeMap;
use std::io;

use steadfs_common::StorageId;
use steadfs_daemon::pool::DiskPool;

/// Jobs that may wait for the threads of one volume.
const QUEUE: usize = 4_096;

/// The pools of a datanode.
pub struct Disks {
    shared: DiskPool,
    volumes: BTreeMap<StorageId, DiskPool>,
}

impl Disks {
    /// The threads that are there before the volumes are known.
    ///
    /// # Errors
    /// The operating system has no room for the threads.
    pub fn new(threads: usize) -> io::Result<Self> {
        Ok(Self { shared: DiskPool::new("disk", threads, QUEUE)?, volumes: BTreeMap::new() })
    }

    /// Gives each volume `threads` of its own.
    ///
    /// # Errors
    /// The operating system has no room for the threads.
    pub fn add(&mut self, volumes: impl IntoIterator<Item = StorageId>, threads: usize) -> io::Result<()> {
        for storage in volumes {
            // The kernel shows 15 bytes of a thread's name.
            let name = format!("disk{}", self.volumes.len());
            self.volumes.insert(storage, DiskPool::new(&name, threads, QUEUE)?);
        }
        Ok(())
    }

    /// For what is not about a replica on a certain volume.
    #[must_use]
    pub fn shared(&self) -> &DiskPool {
        &self.shared
    }

    /// For replicas on a volume; the shared threads, if it is none of ours.
    #[must_use]
    pub fn of(&self, storage: StorageId) -> &DiskPool {
        self.volumes.get(&storage).unwrap_or(&self.shared)
    }

    /// Jobs queued or running at this moment.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.volumes.values().map(DiskPool::in_flight).sum::<usize>() + self.shared.in_flight()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_volume_that_hangs_keeps_nobody_from_the_others() {
        let [first, second, foreign] = [1, 2, 3].map(|number| StorageId(Uuid::from_u128(number)));
        let mut disks = Disks::new(1).unwrap();
        disks.add([first, second], 1).unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let hanging = disks.of(first).clone();
        let hung = tokio::spawn(async move { hanging.run(move || gate.recv()).await });
        while disks.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(disks.of(second).run(|| 2).await, 2);
        assert_eq!(disks.of(foreign).run(|| 3).await, 3);
        release.send(()).unwrap();
        hung.await.unwrap().unwrap();
    }
}
