//! Where files lie below a volume's folder, and what they are called.
//!
//! ```text
//! steadfs-volume                              whose folder this is
//! lock                                        held by the process that uses it
//! finalized/subdir3/subdir17/blk_1073741825   a finalized replica
//! finalized/…/blk_1073741825_1001.meta        its checksums, and its generation stamp
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

/// What a file's name says that it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileName {
    Data(BlockId),
    Meta(BlockId, GenStamp),
}

/// Reads a name; none if we would not have written it so.
pub(crate) fn parse(name: &str) -> Option<FileName> {
    let rest = name.strip_prefix("blk_")?;
    let parsed = match rest.strip_suffix(".meta") {
        None => FileName::Data(BlockId(rest.parse::<i64>().ok()? as u64)),
        Some(rest) => {
            let (id, stamp) = rest.split_once('_')?;
            FileName::Meta(BlockId(id.parse::<i64>().ok()? as u64), GenStamp(stamp.parse().ok()?))
        }
    };
    let ours = match parsed {
        FileName::Data(id) => data_name(id),
        FileName::Meta(id, stamp) => meta_name(id, stamp),
    };
    (ours == name).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let (id, stamp) = (BlockId(1_073_741_825), GenStamp(1_001));
        assert_eq!(parse("blk_1073741825"), Some(FileName::Data(id)));
        assert_eq!(parse("blk_1073741825_1001.meta"), Some(FileName::Meta(id, stamp)));
        assert_eq!(parse(&data_name(BlockId(u64::MAX))), Some(FileName::Data(BlockId(u64::MAX))));
        assert_eq!(
            data_path(Path::new("/v"), Place::Finalized, BlockId(0x2_0301)),
            Path::new("/v/finalized/subdir2/subdir3/blk_131841")
        );
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
            "blk_x",
            "VERSION",
            "blk_1 ",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
