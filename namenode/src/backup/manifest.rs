//! The list of what a backup holds, and as of when: the file `BACKUP`, written last.
//!
//! Text (TOML), and behind it a line with the CRC32C of all before. Version 1: whose data it is, the journal position that
//! the store stands at, and of each file its name in the store, its name in the backup, its length and its CRC32C.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use steadfs_common::ChecksumKind;

use crate::store::Position;

/// Version of the format.
const FORMAT: u32 = 1;
/// The manifest's name.
pub const FILE: &str = "BACKUP";
/// Largest manifest that is read, in bytes: some hundred thousand files.
const MAX_BYTES: u64 = 64 << 20;
/// Longest name of a file in it, in bytes.
const MAX_NAME: usize = 200;
const LAST_LINE: &str = "# crc32c ";

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSum {
    /// Its name in the store's folder.
    pub name: String,
    /// Its name in the backup's folder `files`.
    pub stored: String,
    /// Its length.
    pub bytes: u64,
    /// The CRC32C of its bytes.
    pub crc32c: u32,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The cluster.
    pub cluster_id: String,
    /// The block pool.
    pub block_pool: String,
    /// How often loss was accepted before: see [`crate::identity::Identity`].
    pub incarnation: u64,
    /// The namenode's life that made it.
    pub epoch: u64,
    /// The journal position that the store stands at.
    pub position: Position,
    /// The last transaction in it.
    pub last_tx: u64,
    /// When it was made, in milliseconds since 1970.
    pub taken_ms: u64,
    /// The store's files.
    pub files: Vec<FileSum>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: u32,
    cluster_id: String,
    block_pool: String,
    incarnation: u64,
    epoch: u64,
    index: u64,
    /// Hexadecimal: TOML's numbers have a sign.
    hash: String,
    last_tx: u64,
    taken_ms: u64,
    #[serde(default)]
    files: Vec<FileSum>,
}

/// Tells an unreadable manifest from one of a newer format, which may have other keys.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Manifest {
    /// Its bytes.
    ///
    /// # Errors
    /// A number is beyond what the format holds.
    pub fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let mut text = toml::to_string(&Text {
            format: FORMAT,
            cluster_id: self.cluster_id.clone(),
            block_pool: self.block_pool.clone(),
            incarnation: self.incarnation,
            epoch: self.epoch,
            index: self.position.index,
            hash: format!("{:016x}", self.position.hash),
            last_tx: self.last_tx,
            taken_ms: self.taken_ms,
            files: self.files.clone(),
        })?;
        let crc = ChecksumKind::Crc32c.of(text.as_bytes());
        text += &format!("{LAST_LINE}{crc:08x}\n");
        Ok(text.into_bytes())
    }

    /// The manifest in these bytes.
    ///
    /// # Errors
    /// They are not one, were changed, or are of a newer release.
    pub fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(bytes).context("it is not a text")?;
        let (body, last) =
            text.rsplit_once(LAST_LINE).context("its last line is missing: it was cut short")?;
        let crc = format!("{:08x}\n", ChecksumKind::Crc32c.of(body.as_bytes()));
        ensure!(last == crc, "it was changed or cut short: its checksum does not match");
        let format = toml::from_str::<FormatOnly>(body)?.format;
        ensure!(
            format == FORMAT,
            "it has format {format}, this release reads {FORMAT}: restore it with the release that made it"
        );
        let Text {
            cluster_id, block_pool, incarnation, epoch, index, hash, last_tx, taken_ms, files, ..
        } = toml::from_str::<Text>(body)?;
        let hash = u64::from_str_radix(&hash, 16).context("its hash is no number")?;
        let manifest = Self {
            cluster_id,
            block_pool,
            incarnation,
            epoch,
            position: Position { index, hash },
            last_tx,
            taken_ms,
            files,
        };
        manifest.check_names()?;
        Ok(manifest)
    }

    fn check_names(&self) -> anyhow::Result<()> {
        let (mut names, mut stored) = (BTreeSet::new(), BTreeSet::new());
        for file in &self.files {
            for name in [&file.name, &file.stored] {
                ensure!(is_plain(name), "`{name}` is no plain file name");
            }
            ensure!(
                names.insert(&file.name) && stored.insert(&file.stored),
                "`{}` is named twice",
                file.name
            );
        }
        Ok(())
    }

    /// Reads the manifest of the backup in `folder`.
    ///
    /// # Errors
    /// There is none, or not a whole one.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let length = match std::fs::metadata(&path) {
            Ok(about) => about.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "{} holds no file `{FILE}`: it is no backup, or one that was cut short. Take another",
                folder.display()
            ),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        ensure!(length <= MAX_BYTES, "{} is {length} bytes long: it is not ours", path.display());
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::decode(&bytes).with_context(|| format!("{} cannot be used", path.display()))
    }
}

/// Whether a name leads nowhere but to a file in its folder.
fn is_plain(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            cluster_id: "SFS-1".into(),
            block_pool: "BP-1".into(),
            incarnation: 0,
            epoch: 3,
            position: Position { index: 300, hash: 0xfedc_ba98_7654_3210 },
            last_tx: 299,
            taken_ms: 1_763_692_980_123,
            files: vec![FileSum {
                name: "000012.sst".into(),
                stored: "000012.sst".into(),
                bytes: 5,
                crc32c: 7,
            }],
        }
    }

    const GOLDEN: &str = "format = 1\ncluster_id = \"SFS-1\"\nblock_pool = \"BP-1\"\nincarnation = 0\nepoch = 3\nindex = 300\n\
                          hash = \"fedcba9876543210\"\nlast_tx = 299\ntaken_ms = 1763692980123\n\n[[files]]\n\
                          name = \"000012.sst\"\nstored = \"000012.sst\"\nbytes = 5\ncrc32c = 7\n";

    #[test]
    fn golden_bytes() {
        let bytes = manifest().encode().unwrap();
        let golden = format!("{GOLDEN}# crc32c {:08x}\n", ChecksumKind::Crc32c.of(GOLDEN.as_bytes()));
        assert_eq!(String::from_utf8(bytes).unwrap(), golden);
        assert_eq!(Manifest::decode(golden.as_bytes()).unwrap(), manifest());
    }

    #[test]
    fn what_is_cut_changed_or_newer_is_refused() {
        let bytes = manifest().encode().unwrap();
        for cut in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..cut]).is_err(), "{cut} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&flipped).is_err(), "bit {bit}");
        }
        let newer = GOLDEN.replace("format = 1", "format = 2\nfuture = 1");
        let newer = format!("{newer}# crc32c {:08x}\n", ChecksumKind::Crc32c.of(newer.as_bytes()));
        let error = Manifest::decode(newer.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("the release that made it"), "{error}");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\\b", "x\n"] {
            let mut bad = manifest();
            bad.files[0].stored = name.into();
            assert!(Manifest::decode(&bad.encode().unwrap()).is_err(), "{name:?}");
        }
        let mut twice = manifest();
        twice.files.push(twice.files[0].clone());
        assert!(Manifest::decode(&twice.encode().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::decode(&bytes);
        }
    }
}
