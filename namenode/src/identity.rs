//! Whose data a folder holds: the file `VERSION` in each of `data_dirs`.
//!
//! A folder without it is formatted if it is empty. Formatting writes `FORMATTING` into every folder first and renames it
//! to `VERSION`, first folder first, when everything else is in place; nothing is acknowledged before that, so a start
//! that finds `FORMATTING` throws away what it marks and goes on. A lock file keeps a second process out.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use steadfs_common::ChecksumKind;
use uuid::Uuid;

/// Layout of the data folders. Raised when an older release could not read what a newer one wrote: it then says so, and
/// which release to start. What an older layout has is read, and its number raised before anything else is written.
///
/// 1: the first. 2: tables of sessions, storages and accepted losses, and `incarnation`.
const LAYOUT_VERSION: u32 = 2;
const OLDEST_LAYOUT: u32 = 1;
const VERSION: &str = "VERSION";
const FORMATTING: &str = "FORMATTING";
const LOCK: &str = "in_use.lock";
/// How long a start waits for the lock. A child that this process is starting holds it too, until its exec, and a process
/// that was killed holds it until it is gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// The only thing of others that an empty folder may hold: what `mkfs` leaves.
const LOST_AND_FOUND: &str = "lost+found";
/// The system's number for sectors that cannot be read.
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// Which cluster this is, and for how many lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster: `SFS-` and a UUID.
    pub cluster_id: String,
    /// The block pool: `BP-` and a UUID, as Hadoop's tools expect it.
    pub block_pool: String,
    /// Counts the starts of this namenode; a datanode refuses one that is behind what it heard before.
    pub epoch: u64,
    /// When an operator last accepted that what came after a backup is lost, in milliseconds since 1970; 0 for never. A
    /// datanode follows a higher one, whatever it heard before.
    pub incarnation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionFile {
    layout_version: u32,
    cluster_id: String,
    block_pool: String,
    #[serde(default)]
    incarnation: u64,
}

impl VersionFile {
    /// Whether both are of one cluster. The rest is made equal.
    fn is_kin(&self, other: &Self) -> bool {
        (&self.cluster_id, &self.block_pool) == (&other.cluster_id, &other.block_pool)
    }
}

/// Tells an unreadable file from one of a newer layout, which may have other keys.
#[derive(Deserialize)]
struct LayoutOnly {
    layout_version: u32,
}

/// The data folders, locked and known to be of one cluster.
#[derive(Debug)]
pub(crate) struct DataFolders {
    folders: Vec<PathBuf>,
    version: VersionFile,
    /// Folders in which `FORMATTING` is still to become `VERSION`.
    unfinished: Vec<PathBuf>,
    _locks: Vec<File>,
}

enum State {
    Empty,
    /// Its `VERSION` is not what was written: with why.
    Damaged(String),
    Formatting(VersionFile),
    Ready(VersionFile),
}

impl DataFolders {
    /// Locks the folders and reads whose they are; begins to format empty ones.
    pub(crate) fn open(folders: &[PathBuf]) -> anyhow::Result<Self> {
        let mut locks = Vec::new();
        for folder in folders {
            make(folder)
                .with_context(|| format!("data_dirs: cannot make the folder {}", folder.display()))?;
            locks.push(lock(folder)?);
        }
        let states = folders.iter().map(|folder| state(folder)).collect::<anyhow::Result<Vec<_>>>()?;
        let (version, unfinished) = decide(folders, &states)?;
        for (folder, state) in folders.iter().zip(&states) {
            let is_other = matches!(state, State::Ready(known) if *known != version);
            if is_other || matches!(state, State::Damaged(_)) {
                write_version(folder, &version)?;
            }
        }
        for folder in &unfinished {
            begin(folder, &version).with_context(|| format!("cannot format {}", folder.display()))?;
        }
        Ok(Self { folders: folders.to_vec(), version, unfinished, _locks: locks })
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.folders[0].join("store")
    }

    /// Where the copies of the journal are.
    pub(crate) fn journals(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| folder.join("journal")).collect()
    }

    /// The folders.
    pub(crate) fn all(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Notes, durably in every folder, that loss was accepted.
    pub(crate) fn set_incarnation(&mut self, incarnation: u64) -> anyhow::Result<()> {
        self.version.incarnation = incarnation;
        for folder in &self.folders {
            write_version(folder, &self.version)?;
        }
        Ok(())
    }

    /// Empty folders, locked, and marked as those of this cluster that is being restored. [`DataFolders::finish`] makes
    /// them whole.
    pub(crate) fn restore(folders: &[PathBuf], identity: &Identity) -> anyhow::Result<Self> {
        let version = VersionFile {
            layout_version: LAYOUT_VERSION,
            cluster_id: identity.cluster_id.clone(),
            block_pool: identity.block_pool.clone(),
            incarnation: identity.incarnation,
        };
        let mut locks = Vec::new();
        for folder in folders {
            make(folder)
                .with_context(|| format!("data_dirs: cannot make the folder {}", folder.display()))?;
            locks.push(lock(folder)?);
            let fresh = match state(folder)? {
                State::Empty => true,
                // An attempt of before, which was cut short.
                State::Formatting(known) => known == version,
                State::Ready(_) | State::Damaged(_) => false,
            };
            ensure!(
                fresh,
                "{} holds a namenode's data: a backup is restored into empty folders. Move what is there away; nothing was \
                 changed",
                folder.display()
            );
        }
        for folder in folders {
            begin(folder, &version).with_context(|| format!("cannot format {}", folder.display()))?;
        }
        Ok(Self { folders: folders.to_vec(), version, unfinished: folders.to_vec(), _locks: locks })
    }

    /// Whether everything is new: no folder was ready.
    pub(crate) fn is_new(&self) -> bool {
        self.unfinished.len() == self.folders.len()
    }

    /// Ends the formatting: from now on the folders hold what must not be lost.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        for folder in std::mem::take(&mut self.unfinished) {
            fs::rename(folder.join(FORMATTING), folder.join(VERSION))
                .and_then(|()| sync(&folder))
                .with_context(|| format!("cannot end the formatting of {}", folder.display()))?;
        }
        Ok(())
    }

    /// Who this is in the life `epoch`.
    pub(crate) fn identity(&self, epoch: u64) -> Identity {
        Identity {
            cluster_id: self.version.cluster_id.clone(),
            block_pool: self.version.block_pool.clone(),
            epoch,
            incarnation: self.version.incarnation,
        }
    }
}

/// What lies in folders that no namenode uses, which stay as they are.
pub(crate) struct Looked {
    /// Whose they are.
    pub(crate) identity: Identity,
    /// What is wrong with single files and folders; a start mends it.
    pub(crate) damaged: Vec<String>,
    _locks: Vec<File>,
}

/// Looks whose `folders` are, and holds their locks, so that no namenode starts meanwhile.
///
/// # Errors
/// They are in use, or a start would refuse them or format them.
pub(crate) fn look(folders: &[PathBuf]) -> anyhow::Result<Looked> {
    let mut locks = Vec::new();
    for path in folders.iter().map(|folder| folder.join(LOCK)) {
        match File::open(&path) {
            Ok(file) => {
                ensure!(
                    !matches!(try_lock(&file), Err(TryLockError::WouldBlock)),
                    "{} is in use by another process: stop the namenode first, or check a copy of the folder",
                    path.parent().unwrap_or(&path).display()
                );
                locks.push(file);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        }
    }
    let seen = |folder: &PathBuf| if folder.exists() { state(folder) } else { Ok(State::Empty) };
    let states = folders.iter().map(seen).collect::<anyhow::Result<Vec<_>>>()?;
    let (version, unfinished) = decide(folders, &states)?;
    ensure!(
        unfinished.len() < folders.len(),
        "none of these folders holds a namenode's data: name all of data_dirs, in their order"
    );
    let mut damaged = Vec::new();
    for (folder, state) in folders.iter().zip(&states) {
        match state {
            State::Damaged(why) => damaged.push(why.clone()),
            State::Ready(known) if known.incarnation != version.incarnation => {
                damaged.push(format!(
                    "{} is older than that of the other folder",
                    folder.join(VERSION).display()
                ));
            }
            State::Ready(_) => {}
            State::Empty | State::Formatting(_) => {
                damaged.push(format!("{} has no data: a start makes it a copy again", folder.display()));
            }
        }
    }
    let identity = Identity {
        cluster_id: version.cluster_id,
        block_pool: version.block_pool,
        epoch: 0,
        incarnation: version.incarnation,
    };
    Ok(Looked { identity, damaged, _locks: locks })
}

/// Makes a folder and those above it that are missing, and makes their names durable: what is synced in a folder is gone
/// all the same if a power cut takes the folder's own name.
fn make(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.exists()).collect();
    fs::create_dir_all(folder)?;
    for made in missing {
        // A relative path ends in one without a name: the working folder.
        let above = made.parent().filter(|above| !above.as_os_str().is_empty());
        sync(above.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match try_lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "{} is in use by another process: stop it, or name another folder in data_dirs",
                folder.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Locks a file, or finds it locked by another for all of `LOCK_PATIENCE`.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_PAUSE);
            }
            done => return done,
        }
    }
}

fn state(folder: &Path) -> anyhow::Result<State> {
    match read(&folder.join(VERSION))? {
        Read::Whole(version) => return Ok(State::Ready(version)),
        Read::Damaged(why) => return Ok(State::Damaged(why)),
        Read::Missing => {}
    }
    match read(&folder.join(FORMATTING))? {
        Read::Whole(version) => return Ok(State::Formatting(version)),
        // Nothing was acknowledged in a folder that was being formatted: it is so again.
        Read::Damaged(_) => return Ok(State::Empty),
        Read::Missing => {}
    }
    for item in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let name = item?.file_name();
        // A crash before anything was formatted leaves the lock and half a FORMATTING.
        let ours = [LOCK, LOST_AND_FOUND].iter().any(|known| name == *known) || is_temporary(&name);
        ensure!(
            ours,
            "{} holds `{}` but no VERSION file, so it is not a namenode's folder: name an empty folder in data_dirs, or \
             put the VERSION file back",
            folder.display(),
            name.to_string_lossy()
        );
    }
    Ok(State::Empty)
}

fn temporary() -> String {
    format!("{FORMATTING}.new")
}

fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.to_str() == Some(temporary().as_str())
}

/// What a file that says whose a folder is turned out to be.
enum Read {
    Whole(VersionFile),
    Damaged(String),
    Missing,
}

/// Begins the last line, behind which the CRC32C of all before stands. Files of layout 1 have none.
const LAST_LINE: &str = "# crc32c ";

fn encode(version: &VersionFile) -> anyhow::Result<String> {
    let text = toml::to_string(version)?;
    let crc = ChecksumKind::Crc32c.of(text.as_bytes());
    Ok(format!("{text}{LAST_LINE}{crc:08x}\n"))
}

fn read(path: &Path) -> anyhow::Result<Read> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Missing),
        Err(error) if error.raw_os_error() == Some(EIO) => {
            return Ok(Read::Damaged(format!("{} cannot be read: {error}", path.display())));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let damaged = |why: String| Ok(Read::Damaged(format!("{} is damaged: {why}", path.display())));
    let Ok(text) = String::from_utf8(bytes) else { return damaged("it is no text".into()) };
    if let Some((body, crc)) = text.rsplit_once(LAST_LINE)
        && crc != format!("{:08x}\n", ChecksumKind::Crc32c.of(body.as_bytes()))
    {
        return damaged("its checksum does not match".into());
    }
    let layout: LayoutOnly = match toml::from_str(&text) {
        Ok(layout) => layout,
        Err(error) => return damaged(error.message().to_owned()),
    };
    ensure!(
        (OLDEST_LAYOUT..=LAYOUT_VERSION).contains(&layout.layout_version),
        "{} says layout version {}, this release reads {OLDEST_LAYOUT} to {LAYOUT_VERSION}: start the release that wrote \
         it, or restore a backup that this release or an older one made",
        path.display(),
        layout.layout_version
    );
    match toml::from_str::<VersionFile>(&text) {
        // Without its last line it was cut short.
        Ok(_) if layout.layout_version > OLDEST_LAYOUT && !text.contains(LAST_LINE) => {
            damaged("it was cut short".into())
        }
        Ok(version) => Ok(Read::Whole(version)),
        Err(error) => damaged(error.message().to_owned()),
    }
}

/// Which cluster the folders are of, and which of them are still to be formatted.
fn decide(folders: &[PathBuf], states: &[State]) -> anyhow::Result<(VersionFile, Vec<PathBuf>)> {
    let mut ready: Option<(&PathBuf, &VersionFile)> = None;
    let mut begun = None;
    let mut unfinished = Vec::new();
    for (folder, state) in folders.iter().zip(states) {
        match state {
            State::Ready(version) => match ready {
                Some((other, known)) => ensure!(
                    known.is_kin(version),
                    "{} is of cluster {}, but {} of cluster {}: name folders of one cluster in data_dirs",
                    folder.display(),
                    version.cluster_id,
                    other.display(),
                    known.cluster_id
                ),
                None => ready = Some((folder, version)),
            },
            State::Formatting(version) => {
                begun = begun.or(Some(version));
                unfinished.push(folder.clone());
            }
            State::Empty => unfinished.push(folder.clone()),
            State::Damaged(_) => {}
        }
    }
    for state in states {
        let State::Damaged(why) = state else { continue };
        // The hashes of the journal tell whether it is of this cluster.
        ensure!(ready.is_some(), "{why}. Put back a copy of it from another of data_dirs");
        tracing::warn!("{why}: it is written anew");
    }
    if let Some((folder, version)) = ready {
        ensure!(
            !unfinished.contains(&folders[0]) || can_be_made_again(folders),
            "{} is empty, but {} is of cluster {}: the first of data_dirs holds the store, of which the others have no copy. \
             Put back its content, or name the folders in the order they had",
            folders[0].display(),
            folder.display(),
            version.cluster_id
        );
        for folder in &unfinished {
            tracing::warn!(folder = %folder.display(), "this data folder is new: the journal is copied into it");
        }
        let ready = states.iter().filter_map(|state| match state {
            State::Ready(version) => Some(version.incarnation),
            _ => None,
        });
        let incarnation = ready.max().unwrap_or(0);
        return Ok((
            VersionFile { layout_version: LAYOUT_VERSION, incarnation, ..version.clone() },
            unfinished,
        ));
    }
    let fresh = || VersionFile {
        layout_version: LAYOUT_VERSION,
        cluster_id: format!("SFS-{}", Uuid::new_v4()),
        block_pool: format!("BP-{}", Uuid::new_v4()),
        incarnation: 0,
    };
    Ok((begun.cloned().unwrap_or_else(fresh), unfinished))
}

/// Whether another folder has a copy of the store, or the journal from its beginning.
fn can_be_made_again(folders: &[PathBuf]) -> bool {
    folders[1..].iter().any(|folder| {
        folder.join(crate::backup::SECOND).join(crate::backup::manifest::FILE).exists()
            || crate::journal::begins_at_the_first(&folder.join("journal"))
    })
}

fn write_version(folder: &Path, version: &VersionFile) -> anyhow::Result<()> {
    crate::backup::files::replace(&folder.join(VERSION), encode(version)?.as_bytes())
}

/// Marks a folder as being formatted, and throws away what an earlier attempt left.
fn begin(folder: &Path, version: &VersionFile) -> anyhow::Result<()> {
    let temporary = folder.join(temporary());
    let mut file = File::create(&temporary)?;
    file.write_all(encode(version)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(FORMATTING))?;
    sync(folder)?;
    for leftover in ["store", "journal"] {
        match fs::remove_dir_all(folder.join(leftover)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let folders = vec![folder.path().join("a"), folder.path().join("b")];
        (folder, folders)
    }

    fn formatted(folders: &[PathBuf]) -> Identity {
        let mut data = DataFolders::open(folders).unwrap();
        assert!(data.is_new());
        data.finish().unwrap();
        data.identity(1)
    }

    #[test]
    fn an_empty_folder_is_formatted_once() {
        let (_keep, folders) = two();
        let first = formatted(&folders);
        assert!(first.cluster_id.starts_with("SFS-") && first.block_pool.starts_with("BP-"));
        let again = DataFolders::open(&folders).unwrap();
        assert!(!again.is_new());
        assert_eq!(again.identity(1), first);
    }

    #[test]
    fn a_second_process_is_refused() {
        let (_keep, folders) = two();
        let held = DataFolders::open(&folders).unwrap();
        let error = DataFolders::open(&folders[1..]).unwrap_err().to_string();
        assert!(error.contains("in use by another process"), "{error}");
        // As one does that ends just now.
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(held);
        });
        DataFolders::open(&folders).unwrap();
        ends.join().unwrap();
    }

    #[test]
    fn a_child_that_is_being_started_is_no_second_process() {
        let (_keep, folders) = two();
        formatted(&folders);
        let starts = std::thread::spawn(|| {
            for _ in 0..100 {
                std::process::Command::new("true").status().unwrap();
            }
        });
        while !starts.is_finished() {
            DataFolders::open(&folders).unwrap();
        }
        starts.join().unwrap();
    }

    #[test]
    fn a_half_made_format_is_completed() {
        let (_keep, folders) = two();
        let begun = DataFolders::open(&folders).unwrap().identity(1);
        fs::create_dir(folders[0].join("store")).unwrap();
        fs::write(folders[0].join("store").join("half"), "x").unwrap();
        assert_eq!(formatted(&folders), begun);
        assert!(!folders[0].join("store").exists());
    }

    #[test]
    fn a_crash_between_the_two_renames_is_completed() {
        let (_keep, folders) = two();
        let identity = formatted(&folders);
        fs::rename(folders[1].join(VERSION), folders[1].join(FORMATTING)).unwrap();
        let mut data = DataFolders::open(&folders).unwrap();
        assert!(!data.is_new());
        data.finish().unwrap();
        assert_eq!(data.identity(1), identity);
        assert!(folders[1].join(VERSION).exists());
    }

    #[test]
    fn a_new_second_disk_is_taken_and_a_new_first_one_refused() {
        let (_keep, folders) = two();
        let identity = formatted(&folders);
        fs::remove_dir_all(&folders[1]).unwrap();
        let mut data = DataFolders::open(&folders).unwrap();
        assert!(!data.is_new());
        data.finish().unwrap();
        assert_eq!(data.identity(1), identity);
        drop(data);
        fs::remove_dir_all(&folders[0]).unwrap();
        let error = DataFolders::open(&folders).unwrap_err().to_string();
        assert!(error.contains("holds the store"), "{error}");
    }

    #[test]
    fn an_older_layout_is_read_and_raised_and_an_older_release_is_told() {
        let (_keep, folders) = two();
        let identity = formatted(&folders);
        // As the first release wrote it.
        let old = format!(
            "layout_version = 1\ncluster_id = \"{}\"\nblock_pool = \"{}\"\n",
            identity.cluster_id, identity.block_pool
        );
        fs::write(folders[0].join(VERSION), &old).unwrap();
        fs::write(folders[1].join(VERSION), &old).unwrap();
        assert_eq!(DataFolders::open(&folders).unwrap().identity(1), identity);
        for folder in &folders {
            let text = fs::read_to_string(folder.join(VERSION)).unwrap();
            assert!(text.starts_with("layout_version = 2\n"), "{text}");
        }
    }

    #[test]
    fn a_damaged_version_file_is_written_anew_from_another_folder() {
        let (_keep, folders) = two();
        let identity = formatted(&folders);
        let path = folders[1].join(VERSION);
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, damaged).unwrap();
            // A bit of the number may make it a newer layout's: that is not for us to say.
            match DataFolders::open(&folders) {
                Ok(data) => assert_eq!(data.identity(1), identity),
                Err(error) => assert!(error.to_string().contains("layout version"), "bit {bit}: {error}"),
            }
        }
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(DataFolders::open(&folders).unwrap().identity(1), identity, "{cut} bytes");
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
        // What this file gives is an error of the disk.
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
        assert_eq!(DataFolders::open(&folders).unwrap().identity(1), identity);
        assert_eq!(fs::read(&path).unwrap(), whole);
        for folder in &folders {
            fs::write(folder.join(VERSION), &whole[..20]).unwrap();
        }
        let error = DataFolders::open(&folders).unwrap_err().to_string();
        assert!(error.contains("Put back a copy"), "{error}");
    }

    #[test]
    fn an_accepted_loss_is_known_in_all_folders() {
        let (_keep, folders) = two();
        formatted(&folders);
        let before = fs::read(folders[1].join(VERSION)).unwrap();
        DataFolders::open(&folders).unwrap().set_incarnation(7).unwrap();
        // As if the power had failed between the two.
        fs::write(folders[1].join(VERSION), before).unwrap();
        assert_eq!(DataFolders::open(&folders).unwrap().identity(1).incarnation, 7);
        assert_eq!(DataFolders::open(&folders[1..]).unwrap().identity(1).incarnation, 7);
    }

    #[test]
    fn foreign_folders_are_refused_with_reason_and_remedy() {
        let (_keep, folders) = two();
        let (_keep_other, other) = two();
        formatted(&folders);
        formatted(&other);
        let mixed = [folders[0].clone(), other[1].clone()];
        let error = DataFolders::open(&mixed).unwrap_err().to_string();
        assert!(error.contains("name folders of one cluster"), "{error}");

        let text = fs::read_to_string(folders[0].join(VERSION)).unwrap();
        let (body, _) = text.rsplit_once(LAST_LINE).unwrap();
        fs::write(folders[0].join(VERSION), body.replace("layout_version = 2", "layout_version = 9"))
            .unwrap();
        let error = DataFolders::open(&folders).unwrap_err().to_string();
        assert!(error.contains("start the release that wrote it"), "{error}");

        let busy = tempfile::tempdir().unwrap();
        fs::write(busy.path().join("thesis.tex"), "x").unwrap();
        let error = DataFolders::open(&[busy.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains("thesis.tex") && error.contains("empty folder"), "{error}");
    }
}
