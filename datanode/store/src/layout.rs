//! Where files lie below a volume's folder, and what they are called.
//!
//! ```text
//! steadfs-volume                              whose folder this is
//! lock                                        held by the process that uses it
//! finalized/subdir3/subdir17/blk_1073741825   a finalized replica
//! finalized/…/blk_1073741825_1001.meta        its checksums, and its generation stamp
//! finalized/…/blk_1073741825_1001.bad         why it is known to be bad, if it is
//! scan                                        how far the check of all replicas has got
//! heard                                       how far the namenode was when it was heard last
//! rbw/                                        replicas being written, or waiting to be recovered
//! tmp/                                        copies on their way in; wiped at start
//! ```

use std::path::{Path, PathBuf};

use steadfs_common::{BlockId, GenStamp};

/// The file that says whose folder a volume is.
pub(crate) const IDENTITY_FILE: &str = "steadfs-volume";
/// The file that is locked while a process uses the volume.
pub(crate) const LOCK_FILE: &str = "lock";
/// The file that a check of the volume writes and removes.
pub(crate) const PROBE_FILE: &str = "probe";

/// The file that says how far the check of all replicas has got.
pub(crate) const SCAN_FILE: &str = "scan";

/// The file that says how far the namenode was when it was heard last.
pub(crate) const HEARD_FILE: &str = "heard";

/// The three folders that replicas lie in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Finalized,
    Rbw,
    Tmp,
}

pub(crate) fn folder(root: &Path, place: Place) -> PathBuf {
    root.join(match place {
        Place::Finalized => "finalized",
        Place::Rbw => "rbw",
        Place::Tmp => "tmp",
    })
}

/// The folder of a replica: finalized ones are spread over 32 × 32 folders, 256 neighbours in each, as HDFS does it.
pub(crate) fn folder_of(root: &Path, place: Place, id: BlockId) -> PathBuf {
    let base = folder(root, place);
    match place {
        Place::Finalized => {
            base.join(format!("subdir{}", (id.0 >> 16) & 31)).join(format!("subdir{}", (id.0 >> 8) & 31))
        }
        Place::Rbw | Place::Tmp => base,
    }
}

/// How many folders finalized replicas are spread over.
pub(crate) const FOLDERS: u16 = 32 * 32;

/// The folder of finalized replicas with this number, below [`FOLDERS`].
pub(crate) fn numbered_folder(root: &Path, number: u16) -> PathBuf {
    let base = folder(root, Place::Finalized);
    base.join(format!("subdir{}", number >> 5)).join(format!("subdir{}", number & 31))
}

/// The first run of 256 blocks, from run `run` on, whose replicas lie in folder `number`. A run is a block id divided by 256.
pub(crate) fn next_run(run: u64, number: u16) -> u64 {
    let (outer, inner) = (u64::from(number >> 5), u64::from(number & 31));
    // Bits 0 to 4 of a run are the inner folder, bits 8 to 12 the outer one; those between and above are free.
    let mut next = (run & !31) | inner;
    if next < run {
        next = next.saturating_add(32);
    }
    let at = (next >> 8) & 31;
    if at == outer {
        return next;
    }
    let block = next & !((1 << 13) - 1);
    let first = block | (outer << 8) | inner;
    if at < outer { first } else { first.saturating_add(1 << 13) }
}

pub(crate) fn data_name(id: BlockId) -> String {
    format!("blk_{}", id.0 as i64)
}

pub(crate) fn meta_name(id: BlockId, stamp: GenStamp) -> String {
    format!("blk_{}_{}.meta", id.0 as i64, stamp.0)
}

pub(crate) fn data_path(root: &Path, place: Place, id: BlockId) -> PathBuf {
    folder_of(root, place, id).join(data_name(id))
}

pub(crate) fn meta_path(root: &Path, place: Place, id: BlockId, stamp: GenStamp) -> PathBuf {
    folder_of(root, place, id).join(meta_name(id, stamp))
}

/// The file that says that a finalized replica is bad.
pub(crate) fn bad_path(root: &Path, id: BlockId, stamp: GenStamp) -> PathBuf {
    folder_of(root, Place::Finalized, id).join(bad_name(id, stamp))
}

fn bad_name(id: BlockId, stamp: GenStamp) -> String {
    format!("blk_{}_{}.bad", id.0 as i64, stamp.0)
}

/// What a file's name says that it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileName {
    Data(BlockId),
    Meta(BlockId, GenStamp),
    /// The replica of this stamp is known to be bad.
    Bad(BlockId, GenStamp),
}

/// Reads a name; none if we would not have written it so.
pub(crate) fn parse(name: &str) -> Option<FileName> {
    let rest = name.strip_prefix("blk_")?;
    let parsed = if let Some(rest) = rest.strip_suffix(".meta") {
        let (id, stamp) = id_and_stamp(rest)?;
        FileName::Meta(id, stamp)
    } else if let Some(rest) = rest.strip_suffix(".bad") {
        let (id, stamp) = id_and_stamp(rest)?;
        FileName::Bad(id, stamp)
    } else {
        FileName::Data(BlockId(rest.parse::<i64>().ok()? as u64))
    };
    let ours = match parsed {
        FileName::Data(id) => data_name(id),
        FileName::Meta(id, stamp) => meta_name(id, stamp),
        FileName::Bad(id, stamp) => bad_name(id, stamp),
    };
    (ours == name).then_some(parsed)
}

fn id_and_stamp(text: &str) -> Option<(BlockId, GenStamp)> {
    let (id, stamp) = text.split_once('_')?;
    Some((BlockId(id.parse::<i64>().ok()? as u64), GenStamp(stamp.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let (id, stamp) = (BlockId(1_073_741_825), GenStamp(1_001));
        assert_eq!(parse("blk_1073741825"), Some(FileName::Data(id)));
        assert_eq!(parse("blk_1073741825_1001.meta"), Some(FileName::Meta(id, stamp)));
        assert_eq!(parse(&bad_name(id, stamp)), Some(FileName::Bad(id, stamp)));
        assert_eq!(parse(&data_name(BlockId(u64::MAX))), Some(FileName::Data(BlockId(u64::MAX))));
        assert_eq!(
            data_path(Path::new("/v"), Place::Finalized, BlockId(0x2_0301)),
            Path::new("/v/finalized/subdir2/subdir3/blk_131841")
        );
    }

    #[test]
    fn the_runs_of_a_folder_follow_each_other() {
        for number in [0, 1, 31, 32, 500, FOLDERS - 1] {
            let of = |run: u64| folder_of(Path::new("/v"), Place::Finalized, BlockId(run << 8));
            let here = numbered_folder(Path::new("/v"), number);
            let all: Vec<u64> = (0..40_000).filter(|run| of(*run) == here).collect();
            let mut walked = Vec::new();
            let mut run = next_run(0, number);
            while run < 40_000 {
                walked.push(run);
                run = next_run(run + 1, number);
            }
            assert_eq!(walked, all, "{number}");
        }
    }

    #[test]
    fn what_we_did_not_write_is_not_ours() {
        for name in [
            "blk_",
            "blk_01",
            "blk_+1",
            "blk_1.meta",
            "blk_1_2",
            "blk_1_02.meta",
            "blk_1.bad",
            "blk_x",
            "VERSION",
            "blk_1 ",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
