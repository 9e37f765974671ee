//! Whose folder a volume is: written at its first use, compared ever after.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use steadfs_common::{BlockPoolId, ChecksumKind, DatanodeUuid, StorageId};
use uuid::Uuid;

use crate::disk::Disk;
use crate::layout::{IDENTITY_FILE, LOCK_FILE};
use crate::{StoreError, StoreResult};

/// Version of the layout below a volume's folder. 1: the first.
const LAYOUT_VERSION: u32 = 1;
/// Longest identity file that is read.
const MAX_IDENTITY_BYTES: u64 = 16 << 10;

/// How long a start waits for the lock. A child that this process is starting holds it too, until its exec, and a process
/// that was killed holds it until it is gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How the line with the checksum of all lines before it begins.
const CHECK: &str = "check = ";
/// What helps against a damaged identity file.
const REMEDY: &str = "restore it from a copy, or give an empty folder";

/// Why an identity file cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Unreadable {
    /// The disk is to blame, not who configured it: other volumes may serve without this one.
    damaged: bool,
    why: String,
}

/// A text with a last line that tells its checksum.
pub(crate) fn seal(text: String) -> String {
    let check = ChecksumKind::Crc32c.of(text.as_bytes());
    text + &format!("{CHECK}{check:08x}\n")
}

/// Whether a text is as it was sealed.
pub(crate) fn is_sealed(text: &str) -> bool {
    text.find(CHECK).is_some_and(|at| {
        let check = ChecksumKind::Crc32c.of(&text.as_bytes()[..at]);
        u32::from_str_radix(text[at + CHECK.len()..].trim_end(), 16) == Ok(check)
    })
}

/// The cluster that a datanode belongs to, as its namenode named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// The cluster's id.
    pub cluster_id: String,
    /// The block pool.
    pub block_pool: BlockPoolId,
}

/// Who a datanode is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The datanode; drawn at its first start.
    pub uuid: DatanodeUuid,
    /// Its cluster; none until it has registered for the first time.
    pub cluster: Option<Cluster>,
}

/// What a volume's identity file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct VolumeIdentity {
    pub(crate) node: Identity,
    pub(crate) storage: StorageId,
}

impl VolumeIdentity {
    pub(crate) fn draw(node: Identity) -> Self {
        Self { node, storage: StorageId(Uuid::new_v4()) }
    }

    fn encode(&self) -> String {
        let mut text = format!(
            "# A volume of a SteadFS datanode. Do not edit: the replicas here are found by these names.\n\
             layout = {LAYOUT_VERSION}\ndatanode = {}\nstorage = {}\n",
            self.node.uuid, self.storage
        );
        if let Some(cluster) = &self.node.cluster {
            text += &format!("cluster = {}\nblock_pool = {}\n", cluster.cluster_id, cluster.block_pool);
        }
        seal(text)
    }

    fn decode(text: &str) -> Result<Self, Unreadable> {
        let damaged =
            |why: String| Unreadable { damaged: true, why: format!("{why}: it is damaged; {REMEDY}") };
        let field = |name: &str| {
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once(" = "))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim())
        };
        let needed =
            |name: &str| field(name).ok_or_else(|| damaged(format!("`{IDENTITY_FILE}` lacks `{name}`")));
        let wrong = |what: &str| damaged(format!("`{IDENTITY_FILE}` has no usable `{what}`"));
        let layout: u32 = needed("layout")?.parse().map_err(|_| wrong("layout"))?;
        if layout > LAYOUT_VERSION {
            let why = format!(
                "the folder has layout version {layout}, this program reads {LAYOUT_VERSION}: start the version of \
                 SteadFS that wrote it, or give an empty folder"
            );
            return Err(Unreadable { damaged: false, why });
        }
        // Files of the first version have no checksum.
        if text.contains(CHECK) && !is_sealed(text) {
            return Err(damaged(format!("`{IDENTITY_FILE}` does not match its checksum")));
        }
        if layout != LAYOUT_VERSION {
            return Err(wrong("layout"));
        }
        let cluster = match (field("cluster"), field("block_pool")) {
            (Some(id), Some(pool)) => {
                Some(Cluster { cluster_id: id.to_owned(), block_pool: BlockPoolId(pool.to_owned()) })
            }
            (None, None) => None,
            _ => return Err(damaged(format!("`{IDENTITY_FILE}` names only half of the cluster"))),
        };
        Ok(Self {
            node: Identity {
                uuid: needed("datanode")?.parse::<DatanodeUuid>().map_err(|_| wrong("datanode"))?,
                cluster,
            },
            storage: needed("storage")?.parse::<StorageId>().map_err(|_| wrong("storage"))?,
        })
    }

    /// What the folder says; none if nobody has used it yet.
    pub(crate) fn read(disk: &Disk, root: &Path) -> StoreResult<Option<Self>> {
        let path = root.join(IDENTITY_FILE);
        let file = match disk.open(path, false) {
            Ok(file) => file,
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return refuse_used(disk, root).map(|()| None);
            }
            Err(error) => return Err(error),
        };
        let damaged = |why: String| StoreError::Damaged { path: root.to_owned(), why };
        let len = disk.len(&file)?;
        if len > MAX_IDENTITY_BYTES {
            let why = format!("`{IDENTITY_FILE}` is {len} bytes long: it is not ours; {REMEDY}");
            return Err(damaged(why));
        }
        let mut bytes = vec![0; len as usize];
        disk.read_at(&file, &mut bytes, 0)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| damaged(format!("`{IDENTITY_FILE}` is not a text: it is damaged; {REMEDY}")))?;
        Self::decode(&text).map(Some).map_err(|unreadable| match unreadable {
            Unreadable { damaged: true, why } => damaged(why),
            Unreadable { damaged: false, why } => StoreError::Refused { path: root.to_owned(), why },
        })
    }

    pub(crate) fn write(&self, disk: &Disk, root: &Path) -> StoreResult<()> {
        disk.replace(&root.join(IDENTITY_FILE), self.encode().as_bytes())
    }
}

/// Whether names that a cluster calls itself by can be written down.
pub(crate) fn check_names(cluster: &Cluster) -> Result<(), String> {
    const MAX_NAME: usize = 255;
    for (what, name) in [("cluster id", &cluster.cluster_id), ("block pool", &cluster.block_pool.0)] {
        let fine = !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(|c| c.is_ascii_graphic());
        if !fine {
            return Err(format!("the namenode's {what} is not 1 to {MAX_NAME} printable characters"));
        }
    }
    Ok(())
}

/// Replicas without an identity file: somebody lost it, and a new identity would orphan them.
fn refuse_used(disk: &Disk, root: &Path) -> StoreResult<()> {
    let names = disk.list(root)?;
    match names.iter().find(|(name, _)| matches!(name.as_str(), "finalized" | "rbw" | "current" | "VERSION"))
    {
        None => Ok(()),
        Some((name, _)) => Err(StoreError::Refused {
            path: root.to_owned(),
            why: format!(
                "the folder holds `{name}` but no `{IDENTITY_FILE}`: it belongs to something else or has lost it; restore \
                 the file, or give an empty folder"
            ),
        }),
    }
}

/// Makes this process the only one that uses the folder, until the file is closed.
pub(crate) fn lock(root: &Path) -> StoreResult<File> {
    let path = root.join(LOCK_FILE);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| StoreError::io(&path, error))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Refused {
                    path: root.to_owned(),
                    why: "another process uses this folder: stop it, or give another folder".into(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io(&path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: Option<Cluster>) -> VolumeIdentity {
        VolumeIdentity::draw(Identity { uuid: DatanodeUuid(Uuid::new_v4()), cluster })
    }

    #[test]
    fn it_comes_back() {
        let cluster =
            Cluster { cluster_id: "CID-1".into(), block_pool: BlockPoolId("BP-1-127.0.0.1-1".into()) };
        for identity in [identity(None), identity(Some(cluster))] {
            assert_eq!(VolumeIdentity::decode(&identity.encode()), Ok(identity));
        }
    }

    #[test]
    fn newer_and_damaged_ones_are_refused_with_a_remedy() {
        let text = identity(None).encode();
        let unchecked = |text: &str| text[..text.find(CHECK).unwrap()].to_owned();
        let text = unchecked(&text);
        let why = |text: &str| VolumeIdentity::decode(text).unwrap_err();
        let newer = why(&text.replace("layout = 1", "layout = 2"));
        assert!(
            !newer.damaged && newer.why.contains("version 2") && newer.why.contains("empty folder"),
            "{newer:?}"
        );
        for (from, to, what) in [
            ("storage", "store", "lacks `storage`"),
            ("DS-", "../", "no usable `storage`"),
            ("layout", "cluster = x\nlayout", "half"),
        ] {
            let damaged = why(&text.replace(from, to));
            assert!(damaged.damaged && damaged.why.contains(what), "{damaged:?}");
        }
        assert!(why("").damaged && why(&text[..text.len() / 2]).damaged, "a file cut short");
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let before = identity(None);
        let text = before.encode();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            // A flip in the word before the checksum takes the checksum away, and is seen by the line that is left over.
            let read = VolumeIdentity::decode(&text);
            assert!(read.is_err() || read == Ok(before.clone()), "byte {at}: {text}");
        }
    }

    #[test]
    fn one_of_the_first_version_is_read() {
        let text = "# A volume of a SteadFS datanode. Do not edit: the replicas here are found by these names.\n\
                    layout = 1\ndatanode = 00000000-0000-0000-0000-000000000001\n\
                    storage = DS-00000000-0000-0000-0000-000000000002\ncluster = CID-1\nblock_pool = BP-1\n";
        let read = VolumeIdentity::decode(text).unwrap();
        assert_eq!(read.storage, StorageId(Uuid::from_u128(2)));
        assert_eq!(read.node.cluster.unwrap().cluster_id, "CID-1");
    }

    #[test]
    fn names_from_the_namenode_are_checked() {
        let cluster = |id: &str| Cluster { cluster_id: id.into(), block_pool: BlockPoolId("BP".into()) };
        assert!(check_names(&cluster("CID-ok")).is_ok());
        for bad in ["", "a\nb", "a b", &"x".repeat(256)] {
            assert!(check_names(&cluster(bad)).is_err(), "{bad:?}");
        }
    }
}
