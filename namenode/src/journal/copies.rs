//! The same bytes into every copy at once: one by the caller, each other by a thread of its own, so that a batch waits
//! for the slowest disk and not for their sum.
//!
//! A copy whose write or sync failed is left: nothing is written to its open segment ever again, because what the
//! disk has of it is not known. It comes back with a new segment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
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

/// A copy that failed, and how.
pub(super) type Failure = (usize, io::Error);

/// The open segment in every copy.
pub(super) struct Copies {
    /// None where the copy was left.
    files: Vec<Option<Arc<File>>>,
    /// For all but the first: whoever writes is the helper of the first that lives.
    helpers: Vec<Helper>,
}

impl Copies {
    pub(super) fn new(files: Vec<Option<File>>) -> io::Result<Self> {
        let helpers = (1..files.len()).map(Helper::start).collect::<io::Result<_>>()?;
        let mut copies = Self { files: Vec::new(), helpers };
        copies.switch(files);
        Ok(copies)
    }

    /// Goes on in other files, one a copy.
    pub(super) fn switch(&mut self, files: Vec<Option<File>>) {
        self.files = files.into_iter().map(|file| file.map(Arc::new)).collect();
    }

    /// Whether this copy is written.
    pub(super) fn is_live(&self, copy: usize) -> bool {
        self.files.get(copy).is_some_and(Option::is_some)
    }

    /// The copies that are written.
    pub(super) fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.files.len()).filter(|copy| self.is_live(*copy))
    }

    /// Writes to this copy no more.
    pub(super) fn leave(&mut self, copy: usize) {
        self.files[copy] = None;
    }

    /// Writes and syncs all copies, and waits for all of them. Those that failed are left, and told.
    pub(super) fn write(&mut self, offset: u64, bytes: Vec<u8>) -> Vec<Failure> {
        let bytes = Arc::new(bytes);
        let live: Vec<(usize, Arc<File>)> = self
            .files
            .iter()
            .enumerate()
            .filter_map(|(copy, file)| file.as_ref().map(|file| (copy, file.clone())))
            .collect();
        let write = |file: &Arc<File>| Write { file: file.clone(), offset, bytes: bytes.clone() };
        let Some(((own, own_file), others)) = live.split_first() else { return Vec::new() };
        let sent: Vec<(usize, bool)> = others
            .iter()
            .map(|(copy, file)| (*copy, self.helpers[*copy - 1].orders.send(write(file)).is_ok()))
            .collect();
        let mut outcomes = vec![(*own, write(own_file).run())];
        for (copy, sent) in sent {
            let result = if sent {
                self.helpers[copy - 1].results.recv().map_err(helper_gone)
            } else {
                Err(helper_gone(()))
            };
            outcomes.push((copy, result.flatten()));
        }
        let failed: Vec<Failure> = outcomes
            .into_iter()
            .filter_map(|(copy, result)| result.err().map(|error| (copy, error)))
            .collect();
        failed.iter().for_each(|(copy, _)| self.leave(*copy));
        failed
    }
}

/// Zeroed files for the next segment, made while the present one fills: by a thread for each folder, so that a disk
/// that is full or slow keeps no other waiting.
pub(super) struct Spares {
    makers: Vec<Maker>,
}

struct Maker {
    folder: PathBuf,
    ready: Receiver<io::Result<Spare>>,
    /// One that was made and not used yet.
    kept: Option<Spare>,
}

struct Spare {
    path: PathBuf,
    file: File,
}

fn make_spare(folder: &Path, number: u64, bytes: u64) -> io::Result<Spare> {
    let path = folder.join(format!("{number}.spare"));
    match segment::make_zeros(&path, bytes) {
        Ok(file) => Ok(Spare { file, path }),
        Err(error) => {
            // Half of one would take the room that others need.
            let _ = std::fs::remove_file(&path);
            Err(error)
        }
    }
}

impl Maker {
    fn start(folder: PathBuf, copy: usize, bytes: u64) -> io::Result<Self> {
        // The channel has no room, so at most one is made ahead.
        let (give, ready) = sync_channel(0);
        let asked = folder.clone();
        thread::Builder::new().name(format!("journal-spares-{copy}")).spawn(move || {
            let mut number = 0;
            while give.send(make_spare(&asked, number, bytes)).is_ok() {
                number += 1;
            }
        })?;
        Ok(Self { folder, ready, kept: None })
    }

    /// The next spare, of a folder that is written. What failed long ago may succeed now: it is another file.
    fn wait(&mut self) -> io::Result<Spare> {
        if let Some(spare) = self.kept.take() {
            return Ok(spare);
        }
        match self.ready.recv().map_err(helper_gone)? {
            Ok(spare) => Ok(spare),
            Err(_) => self.ready.recv().map_err(helper_gone).flatten(),
        }
    }

    /// Whether the folder takes files again: a spare was made there.
    fn is_ready(&mut self) -> bool {
        if self.kept.is_none() {
            match self.ready.try_recv() {
                Ok(Ok(spare)) => self.kept = Some(spare),
                // With the answer taken, the next attempt begins.
                Ok(Err(_)) | Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            }
        }
        self.kept.is_some()
    }

    fn begin(&self, spare: &Spare, head: &SegmentHead, usual_bytes: u64) -> io::Result<()> {
        if head.bytes > usual_bytes {
            segment::append_zeros(&spare.file, head.bytes - usual_bytes)?;
        }
        spare.file.write_all_at(&head.encode(), 0)?;
        spare.file.sync_all()?;
        std::fs::rename(&spare.path, self.folder.join(segment::file_name(head.first)))?;
        segment::sync_folder(&self.folder)
    }
}

impl Spares {
    pub(super) fn start(folders: &[PathBuf], bytes: u64) -> io::Result<Self> {
        let makers =
            folders.iter().enumerate().map(|(copy, folder)| Maker::start(folder.clone(), copy, bytes));
        Ok(Self { makers: makers.collect::<io::Result<_>>()? })
    }

    /// Whether a folder that was left takes files again.
    pub(super) fn is_ready(&mut self, copy: usize) -> bool {
        self.makers[copy].is_ready()
    }

    /// Makes spare files the segment that `head` describes, durably; longer ones if it needs them. In the folders that
    /// `is_live`, and in others that take files again.
    pub(super) fn begin(
        &mut self,
        head: &SegmentHead,
        usual_bytes: u64,
        is_live: impl Fn(usize) -> bool,
    ) -> Vec<io::Result<Option<File>>> {
        let begin = |(copy, maker): (usize, &mut Maker)| {
            if !is_live(copy) && !maker.is_ready() {
                return Ok(None);
            }
            let spare = maker.wait()?;
            match maker.begin(&spare, head, usual_bytes) {
                Ok(()) => Ok(Some(spare.file)),
                Err(error) => {
                    let _ = std::fs::remove_file(&spare.path);
                    Err(error)
                }
            }
        };
        self.makers.iter_mut().enumerate().map(begin).collect()
    }
}
