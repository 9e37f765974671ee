//! The same bytes into every copy at once: one by the caller, each other by a thread of its own, so that a batch waits
//! for the slowest disk and not for their sum.
//!
//! A copy whose write or sync failed is left: nothing is written to its open segment ever again, because what the
//! disk has of it is not known. It comes back with a new segment. So is one whose disk does not answer for long after
//! enough others to go on with have what all were given. What it still does of that late are bytes that the others have, too,
//! in a segment that it has left; it is asked for nothing more until it has answered. Before enough have answered all are
//! waited for: a slow disk is no failed one. The caller waits for the copy that it writes itself, the first that lives, as long
//! as it takes: beside it lies the store, without which nothing goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::segment::{self, SegmentHead};

/// How long a copy may take after enough others have answered. HDFS gives its journal nodes as long
/// (`dfs.qjournal.write-txns.timeout.ms`).
const PATIENCE: Duration = Duration::from_secs(20);

/// What a copy's thread is to do.
pub(super) type Order = Box<dyn FnOnce() -> io::Result<()> + Send>;

fn write_to(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, offset)?;
    file.sync_data()
}

/// A thread for each copy but the first: the caller writes the first that lives.
struct Helpers {
    orders: Vec<SyncSender<(u64, Order)>>,
    results: Receiver<Answer>,
    /// Counts what is asked of all of them at one time.
    round: u64,
    /// Copies whose answer was not waited for, and in which round.
    owing: BTreeMap<usize, u64>,
    patience: Duration,
}

/// What a copy answers to what it was asked in a round.
struct Answer {
    copy: usize,
    round: u64,
    result: io::Result<()>,
}

impl Helpers {
    fn start(copies: usize) -> io::Result<Self> {
        // Each copy has one order at most: nobody waits to give an answer.
        let (give, results) = sync_channel(copies);
        let start = |copy: usize| {
            let (orders, take) = sync_channel::<(u64, Order)>(1);
            let give = give.clone();
            thread::Builder::new().name(format!("journal-copy-{copy}")).spawn(move || {
                while let Ok((round, order)) = take.recv() {
                    if give.send(Answer { copy, round, result: order() }).is_err() {
                        return;
                    }
                }
            })?;
            Ok(orders)
        };
        let orders = (1..copies).map(start).collect::<io::Result<_>>()?;
        Ok(Self { orders, results, round: 0, owing: BTreeMap::new(), patience: PATIENCE })
    }

    fn order(&self, copy: usize, order: Order) -> Result<(), Failure> {
        self.orders[copy - 1].send((self.round, order)).map_err(|_| (copy, helper_gone()))
    }

    /// Whether a copy has answered all that it was asked.
    fn has_answered(&mut self, copy: usize) -> bool {
        while let Ok(late) = self.results.try_recv() {
            self.note_late(&late);
        }
        !self.owing.contains_key(&copy)
    }

    fn note_late(&mut self, late: &Answer) {
        if self.owing.get(&late.copy) == Some(&late.round) {
            self.owing.remove(&late.copy);
        }
    }

    /// Waits for what these copies answer in this round, for all of them as long as they may take: without end until `enough`
    /// is said of those that have the bytes, among them `written`.
    fn answers(
        &mut self,
        mut of: BTreeSet<usize>,
        mut written: Vec<usize>,
        enough: impl Fn(&[usize]) -> bool,
    ) -> Vec<Failure> {
        let mut failed = Vec::new();
        let mut until = None;
        while !of.is_empty() {
            if until.is_none() && enough(&written) {
                until = Some(Instant::now() + self.patience);
            }
            let answer = match until {
                None => self.results.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => self.results.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            match answer {
                Ok(answer) if answer.round != self.round => self.note_late(&answer),
                Ok(answer) => {
                    of.remove(&answer.copy);
                    match answer.result {
                        Ok(()) => written.push(answer.copy),
                        Err(error) => failed.push((answer.copy, error)),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let silent = std::mem::take(&mut of);
                    failed.extend(silent.iter().map(|copy| (*copy, silent_for(self.patience))));
                    self.owing.extend(silent.into_iter().map(|copy| (copy, self.round)));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    failed.extend(std::mem::take(&mut of).into_iter().map(|copy| (copy, helper_gone())));
                }
            }
        }
        failed
    }
}

fn silent_for(time: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("its disk has not answered for {} s", time.as_secs()))
}

fn helper_gone() -> io::Error {
    io::Error::other("the thread that writes a copy of the journal ended")
}

/// A copy that failed, and how.
pub(super) type Failure = (usize, io::Error);

/// The open segment in every copy.
pub(super) struct Copies {
    /// None where the copy was left.
    files: Vec<Option<Arc<File>>>,
    helpers: Helpers,
}

impl Copies {
    pub(super) fn new(files: Vec<Option<File>>) -> io::Result<Self> {
        let mut copies = Self { files: Vec::new(), helpers: Helpers::start(files.len())? };
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

    /// Where a copy stands.
    pub(super) fn place(&mut self, copy: usize) -> Place {
        if self.is_live(copy) {
            Place::Live
        } else if self.helpers.has_answered(copy) {
            Place::Left
        } else {
            Place::Silent
        }
    }

    /// The copies that are written.
    pub(super) fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.files.len()).filter(|copy| self.is_live(*copy))
    }

    /// Writes to this copy no more.
    pub(super) fn leave(&mut self, copy: usize) {
        self.files[copy] = None;
    }

    /// Writes and syncs all copies, and waits for all of them as long as they may take. Those that failed are left, and told.
    /// `enough`: whether with these copies it can go on.
    pub(super) fn write(
        &mut self,
        offset: u64,
        bytes: Vec<u8>,
        enough: impl Fn(&[usize]) -> bool,
    ) -> Vec<Failure> {
        let bytes = Arc::new(bytes);
        let live: Vec<(usize, Arc<File>)> = self
            .files
            .iter()
            .enumerate()
            .filter_map(|(copy, file)| file.as_ref().map(|file| (copy, file.clone())))
            .collect();
        let Some(((own, own_file), others)) = live.split_first() else { return Vec::new() };
        self.helpers.round += 1;
        let (mut asked, mut failed) = (BTreeSet::new(), Vec::new());
        for (copy, file) in others {
            let (file, bytes) = (file.clone(), bytes.clone());
            match self.helpers.order(*copy, Box::new(move || write_to(&file, offset, &bytes))) {
                Ok(()) => drop(asked.insert(*copy)),
                Err(failure) => failed.push(failure),
            }
        }
        let written = write_to(own_file, offset, &bytes);
        let has = if written.is_ok() { vec![*own] } else { Vec::new() };
        failed.extend(self.helpers.answers(asked, has, enough));
        failed.extend(written.err().map(|error| (*own, error)));
        // In the order of the folders, whoever answered first.
        failed.sort_by_key(|(copy, _)| *copy);
        failed.iter().for_each(|(copy, _)| self.leave(*copy));
        failed
    }

    /// The thread of a copy does this first, and has so long for what comes then.
    #[cfg(test)]
    pub(super) fn hold_up(&mut self, copy: usize, patience: Duration, order: Order) {
        self.helpers.patience = patience;
        self.helpers.order(copy, order).expect("the thread is there");
    }

    /// As long as ever, after [`Self::hold_up`].
    #[cfg(test)]
    pub(super) const fn be_patient(&mut self) {
        self.helpers.patience = PATIENCE;
    }
}

/// Zeroed files for the next segment, made while the present one fills: by a thread for each folder, so that a disk
/// that is full or slow keeps no other waiting.
pub(super) struct Spares {
    makers: Vec<Maker>,
}

/// What a folder is for the segment that begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is written.
    Live,
    /// It was left, and comes back if it takes files.
    Left,
    /// It was left, and has still to answer.
    Silent,
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
        match self.ready.recv().map_err(|_| helper_gone())? {
            Ok(spare) => Ok(spare),
            Err(_) => self.ready.recv().map_err(|_| helper_gone()).flatten(),
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

    /// What was made in this folder so far says nothing about its disk any more.
    pub(super) fn distrust(&mut self, copy: usize) {
        let maker = &mut self.makers[copy];
        maker.kept = None;
        // One that is ready was made before; one that is being made is ready once the disk has answered.
        drop(maker.ready.try_recv());
    }

    /// Whether a folder that was left takes files again.
    pub(super) fn is_ready(&mut self, copy: usize) -> bool {
        self.makers[copy].is_ready()
    }

    /// Makes spare files the segment that `head` describes, durably; longer ones if it needs them. In the folders that
    /// are written according to `place`, and in those that may be again and take files again.
    pub(super) fn begin(
        &mut self,
        head: &SegmentHead,
        usual_bytes: u64,
        mut place: impl FnMut(usize) -> Place,
    ) -> Vec<io::Result<Option<File>>> {
        let begin = |(copy, maker): (usize, &mut Maker)| {
            match place(copy) {
                Place::Live => {}
                Place::Left if maker.is_ready() => {}
                Place::Left | Place::Silent => return Ok(None),
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
