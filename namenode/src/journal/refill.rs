//! Copies that came back are given the segments they lack, beside the writer.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

use super::JournalError;
use super::segment::{self, Scan};

/// The first index that is still kept: raised before files are removed, so that none comes back.
pub(super) type Kept = Arc<AtomicU64>;

/// The thread that fills, if one does.
#[derive(Default)]
pub(super) struct Refill {
    running: Option<(Vec<usize>, Receiver<Result<(), JournalError>>)>,
}

impl Refill {
    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Begins to give these `copies` what others have, up to the segment that begins with `open`.
    pub(super) fn start(
        &mut self,
        (copies, folders): (Vec<usize>, Vec<PathBuf>),
        open: u64,
        kept: Kept,
    ) -> io::Result<()> {
        let (give, result) = sync_channel(1);
        thread::Builder::new().name("journal-refill".into()).spawn(move || {
            // Who asked may have gone.
            let _ = give.send(run(&folders, open, &kept));
        })?;
        self.running = Some((copies, result));
        Ok(())
    }

    /// What came of it, once: the copies that were being filled, and whether they are.
    pub(super) fn finished(&mut self) -> Option<(Vec<usize>, Result<(), JournalError>)> {
        let (_, results) = self.running.as_ref()?;
        let result = match results.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(JournalError::Io {
                path: PathBuf::new(),
                error: io::Error::other("the thread that fills copies ended"),
            }),
        };
        self.running.take().map(|(copies, _)| (copies, result))
    }
}

/// Gives every folder the closed segments that another has, up to the one that begins with `open`, and checks what the
/// disk then says.
fn run(folders: &[PathBuf], open: u64, kept: &Kept) -> Result<(), JournalError> {
    let mut firsts: Vec<u64> = Vec::new();
    for folder in folders {
        firsts
            .extend(segment::list(folder)?.into_iter().map(|(first, _)| first).filter(|first| *first < open));
    }
    firsts.sort_unstable();
    firsts.dedup();
    for (place, first) in firsts.iter().enumerate() {
        // The next one says where this one must end.
        let end = firsts.get(place + 1).copied().unwrap_or(open);
        if *first >= kept.load(Ordering::Acquire) {
            fill(folders, *first, end, kept)?;
        } else {
            give_up(folders, *first);
        }
    }
    Ok(())
}

/// Removes what the others gave up while a copy was away.
fn give_up(folders: &[PathBuf], first: u64) {
    for folder in folders {
        // What stays is found again by the next start.
        let _ = std::fs::remove_file(folder.join(segment::file_name(first)));
    }
}

/// Whether the file holds every entry from `first` to before `end`, and nothing else.
fn is_whole(scan: &Scan, first: u64, end: u64) -> bool {
    let mut entries = scan.entries.iter().map(|found| found.head.index);
    scan.intact && (first..end).all(|index| entries.next() == Some(index)) && entries.next().is_none()
}

fn fill(folders: &[PathBuf], first: u64, end: u64, kept: &Kept) -> Result<(), JournalError> {
    let path = |folder: &Path| folder.join(segment::file_name(first));
    let read = |folder: &Path| Scan::read(&path(folder), first).ok();
    let scans: Vec<Option<Scan>> = folders.iter().map(|folder| read(folder)).collect();
    let good = scans.iter().flatten().find(|scan| is_whole(scan, first, end));
    let Some((good, head)) = good.and_then(|good| Some((good, good.head?))) else {
        // Only a start puts one together from several.
        return Ok(());
    };
    let last = good.entries.last().map_or(segment::HEADER_BYTES, super::entry::Found::end);
    let entries = &good.bytes[segment::HEADER_BYTES..last];
    for (folder, scan) in folders.iter().zip(&scans) {
        let whole = scan.as_ref().is_some_and(|scan| is_whole(scan, first, end));
        if whole || first < kept.load(Ordering::Acquire) {
            continue;
        }
        segment::rewrite(folder, &head, entries).map_err(JournalError::io(path(folder)))?;
        forget_pages(&path(folder));
        if !read(folder).is_some_and(|scan| is_whole(&scan, first, end)) {
            let error = io::Error::other("what was written is not what is read");
            return Err(JournalError::Io { path: path(folder), error });
        }
        if first < kept.load(Ordering::Acquire) {
            give_up(std::slice::from_ref(folder), first);
        }
    }
    Ok(())
}

/// Has the next read come from the disk and not from memory, as far as the system lets us.
fn forget_pages(path: &Path) {
    if let Ok(file) = std::fs::File::open(path) {
        let _ = rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed);
    }
}
