//! The same bytes into every copy at once: the first by the caller, each other by a thread of its own, so that a batch
//! waits for the slowest disk and not for their sum.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::segment::{self, SegmentHead};

struct Write {
    file: Arc<File>,
    offset: u64,
    bytes: Arc<Vec<u8>>,
}

impl Write {
    fn run(&self) -> io::Result<()> {
        self.file.write_all_at(&self.bytes, self.offset)?;
        self.file.sync_data()
    }
}

struct Helper {
    orders: SyncSender<Write>,
    results: Receiver<io::Result<()>>,
}

impl Helper {
    fn start(copy: usize) -> io::Result<Self> {
        let (orders, take) = sync_channel::<Write>(1);
        let (give, results) = sync_channel(1);
        thread::Builder::new().name(format!("journal-copy-{copy}")).spawn(move || {
            while let Ok(write) = take.recv() {
                if give.send(write.run()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, results })
    }
}

fn helper_gone<T>(_: T) -> io::Error {
    io::Error::other("the thread that writes a copy of the journal ended")
}

/// The open segment in every copy.
pub(super) struct Copies {
    files: Vec<Arc<File>>,
    helpers: Vec<Helper>,
}

impl Copies {
    pub(super) fn new(files: Vec<File>) -> io::Result<Self> {
        let helpers = (1..files.len()).map(Helper::start).collect::<io::Result<_>>()?;
        Ok(Self { files: files.into_iter().map(Arc::new).collect(), helpers })
    }

    /// Goes on in other files, one a copy.
    pub(super) fn switch(&mut self, files: Vec<File>) {
        self.files = files.into_iter().map(Arc::new).collect();
    }

    /// Writes and syncs all copies. Waits for all of them, also where one fails.
    pub(super) fn write(&self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        let bytes = Arc::new(bytes);
        let write = |file: &Arc<File>| Write { file: file.clone(), offset, bytes: bytes.clone() };
        let (first, others) = self.files.split_first().ok_or_else(|| helper_gone(()))?;
        let mut outcome = Ok(());
        for (helper, file) in self.helpers.iter().zip(others) {
            outcome = outcome.and(helper.orders.send(write(file)).map_err(helper_gone));
        }
        outcome = outcome.and(write(first).run());
        for helper in &self.helpers {
            outcome = outcome.and(helper.results.recv().map_err(helper_gone).flatten());
        }
        outcome
    }
}

/// Zeroed files for the next segment, made while the present one fills.
pub(super) struct Spares {
    folders: Vec<PathBuf>,
    ready: Receiver<io::Result<Vec<Spare>>>,
}

struct Spare {
    path: PathBuf,
    file: File,
}

fn make_spares(folders: &[PathBuf], number: u64, bytes: u64) -> io::Result<Vec<Spare>> {
    let one = |folder: &PathBuf| {
        let path = folder.join(format!("{number}.spare"));
        Ok(Spare { file: segment::make_zeros(&path, bytes)?, path })
    };
    folders.iter().map(one).collect()
}

impl Spares {
    pub(super) fn start(folders: Vec<PathBuf>, bytes: u64) -> io::Result<Self> {
        let (give, ready) = sync_channel(0);
        let asked = folders.clone();
        thread::Builder::new().name("journal-spares".into()).spawn(move || {
            // The channel has no room, so at most one set is made ahead.
            let mut number = 0;
            while give.send(make_spares(&asked, number, bytes)).is_ok() {
                number += 1;
            }
        })?;
        Ok(Self { folders, ready })
    }

    /// Makes spare files the segment that `head` describes, durably; longer ones if it needs them.
    pub(super) fn begin(&self, head: &SegmentHead, usual_bytes: u64) -> io::Result<Vec<File>> {
        let spares = self.ready.recv().map_err(helper_gone).flatten()?;
        let mut files = Vec::new();
        for (folder, spare) in self.folders.iter().zip(spares) {
            if head.bytes > usual_bytes {
                segment::append_zeros(&spare.file, head.bytes - usual_bytes)?;
            }
            spare.file.write_all_at(&head.encode(), 0)?;
            spare.file.sync_all()?;
            std::fs::rename(&spare.path, folder.join(segment::file_name(head.first)))?;
            segment::sync_folder(folder)?;
            files.push(spare.file);
        }
        Ok(files)
    }
}
