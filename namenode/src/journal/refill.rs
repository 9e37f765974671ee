//! Copies that came back are given the segments they lack, beside the writer.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

use super::health::JournalHealth;
use super::segment::{self, Scan, SegmentHead};
use super::{JournalError, entry};

/// The first index that is still kept: raised before files are removed, so that none comes back.
pub(super) type Kept = Arc<AtomicU64>;

/// What comes of a filling.
type Outcome = Result<(), JournalError>;

/// The thread that fills, if one does: which copies, and where it says what came of it.
#[derive(Default)]
pub(super) struct Refill {
    running: Option<(Vec<usize>, Receiver<Outcome>)>,
}

impl Refill {
    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// This copy failed again: it is not complete when the filling ends.
    pub(super) fn forget(&mut self, copy: usize) {
        if let Some((copies, _)) = &mut self.running {
            copies.retain(|filling| *filling != copy);
        }
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
    let firsts = closed(folders, open)?;
    let mut lost = None;
    for (place, first) in firsts.iter().enumerate() {
        // The next one says where this one must end.
        let end = firsts.get(place + 1).copied().unwrap_or(open);
        if *first < kept.load(Ordering::Acquire) {
            give_up(folders, *first);
        } else if fill(folders, *first, end, kept)?.lost && *first >= kept.load(Ordering::Acquire) {
            lost = lost.or(Some(*first));
        }
    }
    // Nobody is made complete by what nobody has. It ends when the store has passed these entries and they go.
    match lost {
        Some(first) => Err(JournalError::Io {
            path: PathBuf::from(segment::file_name(first)),
            error: io::Error::other("an entry in it is good in no copy"),
        }),
        None => Ok(()),
    }
}

/// The first indexes of the closed segments that some folder has.
fn closed(folders: &[PathBuf], open: u64) -> Result<Vec<u64>, JournalError> {
    let mut firsts: Vec<u64> = Vec::new();
    for folder in folders {
        firsts
            .extend(segment::list(folder)?.into_iter().map(|(first, _)| first).filter(|first| *first < open));
    }
    firsts.sort_unstable();
    firsts.dedup();
    Ok(firsts)
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

/// The bytes of the entries from `first` to before `end`, each from a copy that has it.
fn assemble(scans: &[Option<Scan>], head: &SegmentHead, end: u64) -> Option<Vec<u8>> {
    let (mut out, mut previous) = (Vec::new(), head.previous);
    for index in head.first..end {
        let (found, scan) = scans.iter().flatten().find_map(|scan| {
            let found = scan.entries.iter().find(|found| found.head.index == index);
            found.filter(|found| found.head.previous == previous).map(|found| (*found, scan))
        })?;
        // Copies of one segment may have been begun with other salts.
        out.extend(entry::encode(head.salt, found.head, scan.payload(&found)).0);
        previous = found.hash;
    }
    Some(out)
}

/// What was done about one segment.
#[derive(Default)]
struct Filled {
    bytes: u64,
    rewritten: Vec<PathBuf>,
    /// Some entry is good in no copy.
    lost: bool,
}

fn fill(folders: &[PathBuf], first: u64, end: u64, kept: &Kept) -> Result<Filled, JournalError> {
    let path = |folder: &Path| folder.join(segment::file_name(first));
    let read = |folder: &Path| {
        forget_pages(&path(folder));
        Scan::read(&path(folder), first).ok()
    };
    let scans: Vec<Option<Scan>> = folders.iter().map(|folder| read(folder)).collect();
    let mut filled = Filled {
        bytes: scans.iter().flatten().map(|scan| scan.bytes.len() as u64).sum(),
        ..Filled::default()
    };
    let behind = || {
        let each = folders.iter().zip(&scans);
        each.filter(|(_, scan)| !scan.as_ref().is_some_and(|scan| is_whole(scan, first, end)))
    };
    if behind().next().is_none() || first < kept.load(Ordering::Acquire) {
        return Ok(filled);
    }
    let head = scans.iter().flatten().find_map(|scan| scan.head);
    let Some((head, entries)) = head.and_then(|head| Some((head, assemble(&scans, &head, end)?))) else {
        filled.lost = true;
        return Ok(filled);
    };
    for (folder, _) in behind() {
        segment::rewrite(folder, &head, &entries).map_err(JournalError::io(path(folder)))?;
        if !read(folder).is_some_and(|scan| is_whole(&scan, first, end)) {
            let error = io::Error::other("what was written is not what is read");
            return Err(JournalError::Io { path: path(folder), error });
        }
        filled.rewritten.push(path(folder));
        if first < kept.load(Ordering::Acquire) {
            give_up(std::slice::from_ref(folder), first);
        }
    }
    Ok(filled)
}

/// What reading all closed segments found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scrubbed {
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Files that were not as they should be, and are again.
    pub(crate) healed: Vec<PathBuf>,
    /// Segments of which entries are good in no copy.
    pub(crate) lost: Vec<String>,
}

/// Reads the closed segments of all complete copies from the disk, and writes anew what rotted. `pace` is told what was
/// read, and may end it.
///
/// # Errors
/// A disk says no, or `pace` does.
pub(crate) fn scrub(
    health: &JournalHealth,
    mut pace: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Scrubbed> {
    let folders = health.complete();
    let open = health.open.load(Ordering::Acquire);
    let mut scrubbed = Scrubbed::default();
    let firsts = closed(&folders, open)?;
    for (place, first) in firsts.iter().enumerate() {
        let end = firsts.get(place + 1).copied().unwrap_or(open);
        if *first < health.kept.load(Ordering::Acquire) {
            continue;
        }
        let filled = fill(&folders, *first, end, &health.kept)?;
        scrubbed.bytes += filled.bytes;
        scrubbed.healed.extend(filled.rewritten);
        if filled.lost && *first >= health.kept.load(Ordering::Acquire) {
            scrubbed.lost.push(segment::file_name(*first));
        }
        pace(filled.bytes)?;
    }
    Ok(scrubbed)
}

/// Has the next read come from the disk and not from memory, as far as the system lets us.
fn forget_pages(path: &Path) {
    if let Ok(file) = std::fs::File::open(path) {
        let _ = rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed);
    }
}
