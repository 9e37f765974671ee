//! What lies on a volume when the datanode starts.
//!
//! A data file's folder says the replica's state, a checksum file's name its stamp. A crash in the middle of a change leaves
//! one of these, and nothing else:
//! * both files in one folder, perhaps with a checksum file of an older stamp beside them, or alone in the other folder;
//! * the data file among those being written and its checksum file among the finalized ones (finalizing stopped half way);
//! * the data file among the finalized ones, already cut, and its new checksum file among those being written (a truncation).
//!
//! So a data file takes the checksum file that fits its length (and its last chunk, where several do: a truncation inside of
//! a chunk leaves as many checksums), in its own folder if there is one, of the newest stamp; the others go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use steadfs_common::{BlockId, ChecksumKind, ChecksumSpec, GenStamp};

use crate::core::footprint;
use crate::disk::NamedFile;
use crate::layout::{self, FileName, Place};
use crate::map::Slot;
use crate::replica::{Files, OpenReplica, State};
use crate::volume::Volume;
use crate::{ReplicaState, StoreError, StoreResult, meta};

/// Bytes verified at a time.
const STEP_BYTES: u64 = 1 << 20;
/// Largest chunk whose prefixes are tried one by one.
const MAX_PREFIX_CHUNK: usize = 8 << 10;

/// A replica that was found.
pub(crate) struct Found {
    pub(crate) id: BlockId,
    pub(crate) len: u64,
    pub(crate) slot: Slot,
}

impl Found {
    fn finalized(&self) -> Option<(BlockId, GenStamp)> {
        match self.slot {
            Slot::Finalized { stamp, .. } => Some((self.id, stamp)),
            Slot::Open(_) => None,
        }
    }
}

/// A checksum file that was found, and where.
type MetaFiles = BTreeMap<BlockId, Vec<(GenStamp, Place)>>;

/// What lies on a volume.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) replicas: Vec<Found>,
    /// Those of them that are known to be bad.
    pub(crate) bad: Vec<(BlockId, GenStamp)>,
}

/// Finds all replicas of a volume. Wipes copies that were on their way in.
pub(crate) fn scan(volume: &Arc<Volume>) -> StoreResult<Contents> {
    wipe(volume)?;
    let mut scan = Scan {
        volume,
        found: Vec::new(),
        bare: Vec::new(),
        orphans: MetaFiles::new(),
        marks: Vec::new(),
        bad: Vec::new(),
        strange: 0,
    };
    scan.folder(layout::folder(&volume.root, Place::Rbw), Place::Rbw)?;
    let base = layout::folder(&volume.root, Place::Finalized);
    for outer in scan.subfolders(&base)? {
        for inner in scan.subfolders(&outer)? {
            scan.folder(inner, Place::Finalized)?;
        }
    }
    scan.pair_across_folders()?;
    scan.match_marks()?;
    if scan.strange > 0 {
        tracing::warn!(volume = %volume.root.display(), files = scan.strange, "files that are not ours lie among the replicas; they are left alone");
    }
    Ok(Contents { replicas: scan.found, bad: scan.bad })
}

fn wipe(volume: &Volume) -> StoreResult<()> {
    let folder = layout::folder(&volume.root, Place::Tmp);
    for (name, is_dir) in volume.disk.list(&folder)? {
        if !is_dir && layout::parse(&name).is_some() {
            volume.disk.remove(&folder.join(name))?;
        }
    }
    Ok(())
}

struct Scan<'a> {
    volume: &'a Arc<Volume>,
    found: Vec<Found>,
    /// Data files without a checksum file that fits in their folder.
    bare: Vec<(BlockId, Place, u64)>,
    orphans: MetaFiles,
    /// What was written down of bad replicas.
    marks: Vec<(BlockId, GenStamp)>,
    bad: Vec<(BlockId, GenStamp)>,
    strange: usize,
}

impl Scan<'_> {
    fn subfolders(&mut self, base: &std::path::Path) -> StoreResult<Vec<PathBuf>> {
        self.volume.settle_folder(base)?;
        let mut folders = Vec::new();
        for (name, is_dir) in self.volume.disk.list(base)? {
            if is_dir && name.starts_with("subdir") {
                folders.push(base.join(name));
            } else {
                self.strange += 1;
            }
        }
        Ok(folders)
    }

    /// Reads one folder of replicas and pairs what lies in it.
    fn folder(&mut self, path: PathBuf, place: Place) -> StoreResult<()> {
        self.volume.settle_folder(&path)?;
        let mut data = Vec::new();
        let mut metas: BTreeMap<BlockId, Vec<GenStamp>> = BTreeMap::new();
        for (name, is_dir) in self.volume.disk.list(&path)? {
            let id = match layout::parse(&name) {
                Some(FileName::Data(id) | FileName::Meta(id, _)) if !is_dir => id,
                Some(FileName::Bad(id, stamp)) if !is_dir && place == Place::Finalized => {
                    self.marks.push((id, stamp));
                    continue;
                }
                _ => {
                    self.strange += 1;
                    continue;
                }
            };
            if layout::folder_of(&self.volume.root, place, id) != path {
                self.strange += 1;
            } else if let Some(FileName::Meta(_, stamp)) = layout::parse(&name) {
                metas.entry(id).or_default().push(stamp);
            } else {
                data.push(id);
            }
        }
        for id in data {
            let len = self.volume.disk.len_of(&layout::data_path(&self.volume.root, place, id))?;
            let stamps = metas.remove(&id).unwrap_or_default();
            if let &[stamp] = stamps.as_slice()
                && place == Place::Rbw
            {
                self.add(id, place, len, stamp)?;
            } else if let &[stamp] = stamps.as_slice()
                && !self.orphans.contains_key(&id)
                && fits(self.volume, id, place, stamp, len)?
            {
                self.add(id, place, len, stamp)?;
            } else {
                self.orphans.entry(id).or_default().extend(stamps.into_iter().map(|stamp| (stamp, place)));
                self.bare.push((id, place, len));
            }
        }
        for (id, stamps) in metas {
            self.orphans.entry(id).or_default().extend(stamps.into_iter().map(|stamp| (stamp, place)));
        }
        Ok(())
    }

    /// Whether the last checksum of a file that fits is that of the data file's last chunk.
    fn fits_last_chunk(
        &self,
        id: BlockId,
        place: Place,
        (stamp, at): (GenStamp, Place),
        len: u64,
    ) -> StoreResult<bool> {
        let (root, disk) = (&self.volume.root, &self.volume.disk);
        let file = disk.open(layout::meta_path(root, at, id, stamp), false)?;
        let Some(spec) = header(self.volume, &file)? else { return Ok(false) };
        let Some(last) = len.checked_sub(1).filter(|_| spec.kind != ChecksumKind::Null) else {
            return Ok(true);
        };
        let start = last - last % u64::from(spec.bytes_per_checksum);
        let data = disk.open(layout::data_path(root, place, id), false)?;
        let (mut bytes, mut sum) = (vec![0; (len - start) as usize], vec![0; spec.kind.size()]);
        let read = disk
            .read_at(&data, &mut bytes, start)
            .and_then(|()| disk.read_at(&file, &mut sum, meta::HEADER_BYTES + spec.checksum_bytes(start)));
        Ok(read.is_ok() && spec.verify(&bytes, &sum).is_ok())
    }

    fn pair_across_folders(&mut self) -> StoreResult<()> {
        for (id, place, len) in std::mem::take(&mut self.bare) {
            let metas = self.orphans.remove(&id).unwrap_or_default();
            let mut best = None;
            let compared = place == Place::Finalized && metas.len() > 1;
            for (stamp, at) in &metas {
                let fits = fits(self.volume, id, *at, *stamp, len)?
                    && (!compared || self.fits_last_chunk(id, place, (*stamp, *at), len)?);
                let rank = (fits, *at == place, *stamp);
                if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                    best = Some((rank, *at));
                }
            }
            let Some(((fits, _, stamp), at)) = best else {
                tracing::warn!(block = %id, len, "a block file has no checksum file; it is left alone and not served");
                continue;
            };
            if !fits && place == Place::Finalized {
                tracing::error!(block = %id, len, "the checksum file of a finalized block does not fit it");
                self.bad.push((id, stamp));
            }
            if at != place {
                let root = &self.volume.root;
                self.volume.disk.rename(
                    &layout::meta_path(root, at, id, stamp),
                    &layout::meta_path(root, place, id, stamp),
                )?;
                self.volume.sync_folder(place, id)?;
            }
            self.add(id, place, len, stamp)?;
            self.remove_metas(id, metas.into_iter().filter(|meta| *meta != (stamp, at)))?;
        }
        for (id, metas) in std::mem::take(&mut self.orphans) {
            self.remove_metas(id, metas.into_iter())?;
        }
        Ok(())
    }

    /// Keeps the marks of replicas that are here; one that was replaced since has none.
    fn match_marks(&mut self) -> StoreResult<()> {
        let finalized: BTreeSet<(BlockId, GenStamp)> = match self.marks.is_empty() {
            true => BTreeSet::new(),
            false => self.found.iter().filter_map(Found::finalized).collect(),
        };
        for (id, stamp) in std::mem::take(&mut self.marks) {
            if finalized.contains(&(id, stamp)) {
                self.bad.push((id, stamp));
            } else {
                self.volume.disk.remove(&layout::bad_path(&self.volume.root, id, stamp))?;
            }
        }
        Ok(())
    }

    fn remove_metas(&self, id: BlockId, metas: impl Iterator<Item = (GenStamp, Place)>) -> StoreResult<()> {
        for (stamp, place) in metas {
            self.volume.disk.remove(&layout::meta_path(&self.volume.root, place, id, stamp))?;
        }
        Ok(())
    }

    fn add(&mut self, id: BlockId, place: Place, len: u64, stamp: GenStamp) -> StoreResult<()> {
        if place == Place::Finalized {
            self.found.push(Found { id, len, slot: Slot::Finalized { stamp, len } });
            return Ok(());
        }
        let (spec, good) = self.good_prefix(id, stamp, len)?;
        if good < len {
            tracing::info!(block = %id, len, good, "a replica that was being written verifies only up to here");
        }
        let mut state = State::new(ReplicaState::Rwr, stamp, spec, good);
        state.acked = 0;
        state.counted = footprint(good);
        let open = OpenReplica::new(id, self.volume.clone(), state);
        self.found.push(Found { id, len: good, slot: Slot::Open(open) });
        Ok(())
    }

    /// Bytes of a replica being written that match their checksums, from its start on.
    fn good_prefix(&self, id: BlockId, stamp: GenStamp, len: u64) -> StoreResult<(ChecksumSpec, u64)> {
        let root = &self.volume.root;
        let file = self.volume.disk.open(layout::meta_path(root, Place::Rbw, id, stamp), false)?;
        // A checksum file without a whole header covers nothing.
        let Some(spec) = header(self.volume, &file)? else { return Ok((ChecksumSpec::DEFAULT, 0)) };
        if spec.kind == ChecksumKind::Null {
            return Ok((spec, len));
        }
        let data = self.volume.disk.open(layout::data_path(root, Place::Rbw, id), false)?;
        let sums = (self.volume.disk.len(&file)? - meta::HEADER_BYTES) / spec.kind.size() as u64;
        let chunk = u64::from(spec.bytes_per_checksum);
        let covered = len.min(sums.saturating_mul(chunk));
        let step = STEP_BYTES.next_multiple_of(chunk);
        let mut at = 0;
        while at < covered {
            let to = (at + step).min(covered);
            let mut bytes = vec![0; (to - at) as usize];
            let mut expected = vec![0; spec.checksum_bytes(to - at) as usize];
            let read = self.volume.disk.read_at(&data, &mut bytes, at).and_then(|()| {
                self.volume.disk.read_at(&file, &mut expected, meta::HEADER_BYTES + spec.checksum_bytes(at))
            });
            if let Err(error @ StoreError::Io { .. }) = read {
                // A sector that cannot be read ends the good bytes; what lies before it still counts.
                tracing::warn!(block = %id, %error, "a replica that was being written cannot be read to its end");
                return Ok((spec, at));
            }
            if let Err(bad) = spec.verify(&bytes, &expected) {
                let end = (bad + chunk as usize).min(bytes.len());
                let index = bad / chunk as usize * spec.kind.size();
                let inside =
                    good_inside(spec.kind, &bytes[bad..end], &expected[index..index + spec.kind.size()]);
                return Ok((spec, at + (bad + inside) as u64));
            }
            at = to;
        }
        Ok((spec, covered))
    }
}

/// Whether a checksum file is as long as a finalized replica of `len` bytes needs it, as far as its kind says.
pub(crate) fn fits(
    volume: &Volume,
    id: BlockId,
    place: Place,
    stamp: GenStamp,
    len: u64,
) -> StoreResult<bool> {
    let path = layout::meta_path(&volume.root, place, id, stamp);
    let found = volume.disk.len_of(&path)?;
    // The usual kind, without opening the file.
    if found == meta::file_len(ChecksumSpec::DEFAULT, len) {
        return Ok(true);
    }
    let file = volume.disk.open(path, false)?;
    Ok(header(volume, &file)?.is_some_and(|spec| meta::file_len(spec, len) == found))
}

/// Whether all bytes of a finalized replica match their checksums.
pub(crate) fn verify(volume: &Volume, files: &Files, spec: ChecksumSpec, len: u64) -> StoreResult<bool> {
    if volume.disk.len(&files.data)? != len || volume.disk.len(&files.meta)? != meta::file_len(spec, len) {
        return Ok(false);
    }
    let step = STEP_BYTES.next_multiple_of(u64::from(spec.bytes_per_checksum));
    let mut at = 0;
    while at < len {
        let to = (at + step).min(len);
        let mut bytes = vec![0; (to - at) as usize];
        let mut sums = vec![0; spec.checksum_bytes(to - at) as usize];
        volume.disk.read_at(&files.data, &mut bytes, at)?;
        volume.disk.read_at(&files.meta, &mut sums, meta::HEADER_BYTES + spec.checksum_bytes(at))?;
        if spec.verify(&bytes, &sums).is_err() {
            return Ok(false);
        }
        at = to;
    }
    Ok(true)
}

fn header(volume: &Volume, file: &NamedFile) -> StoreResult<Option<ChecksumSpec>> {
    if volume.disk.len(file)? < meta::HEADER_BYTES {
        return Ok(None);
    }
    let mut header = meta::Header::default();
    volume.disk.read_at(file, &mut header, 0)?;
    Ok(meta::decode(&header))
}

/// The longest part of a chunk, from its start, that its checksum covers: bytes after a sync may have reached the disk
/// before their checksum did.
fn good_inside(kind: ChecksumKind, chunk: &[u8], sum: &[u8]) -> usize {
    if chunk.len() > MAX_PREFIX_CHUNK {
        return 0;
    }
    (1..chunk.len()).rev().find(|len| kind.of(&chunk[..*len]).to_be_bytes() == sum).unwrap_or(0)
}
