//! How far the namenode was when it was heard last: kept on every volume, so that a namenode that was started on older data
//! is known after a restart of the datanode too.

use steadfs_common::{FsErrorKind, StorageId};

use crate::identity::{is_sealed, seal};
use crate::layout::HEARD_FILE;
use crate::volume::Volume;
use crate::{Store, StoreResult};

/// Version of the file. 1: the first.
const VERSION: u32 = 1;
/// Longest file that is read.
const MAX_BYTES: u64 = 4 << 10;

/// How far a namenode is. Ordered: a higher incarnation counts more than all else, since an operator has accepted that what
/// came after is lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Heard {
    /// How often an operator has taken an older state for the true one.
    pub incarnation: u64,
    /// Raised at each start of the namenode.
    pub epoch: u64,
    /// The last transaction that was durable.
    pub transaction: u64,
}

impl Heard {
    /// Whether a namenode that is here may be obeyed by who has heard `self`.
    #[must_use]
    pub fn allows(&self, now: &Self) -> bool {
        (now.incarnation, now.epoch) >= (self.incarnation, self.epoch)
    }

    /// What is to be remembered after `now` was heard too.
    #[must_use]
    pub fn and(self, now: Self) -> Self {
        if now.incarnation != self.incarnation {
            return self.max(now);
        }
        Self { epoch: self.epoch.max(now.epoch), transaction: self.transaction.max(now.transaction), ..self }
    }

    fn encode(self) -> String {
        seal(format!(
            "# How far the namenode was when it was heard last. Do not remove: it guards against a namenode on older data.\n\
             version = {VERSION}\nincarnation = {}\nepoch = {}\ntransaction = {}\n",
            self.incarnation, self.epoch, self.transaction
        ))
    }

    fn decode(text: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let mut fields = text.lines().filter_map(|line| line.split_once(" = "));
            fields.find(|(key, _)| *key == name)?.1.parse().ok()
        };
        if !is_sealed(text) || field("version")? != u64::from(VERSION) {
            return None;
        }
        Some(Self {
            incarnation: field("incarnation")?,
            epoch: field("epoch")?,
            transaction: field("transaction")?,
        })
    }
}

/// What came of noting something on all volumes: nothing is wrong if one took it, or there was only no room.
///
/// # Errors
/// The last one that was not for lack of room, if no volume took it.
pub fn enough(outcomes: impl IntoIterator<Item = StoreResult<()>>) -> StoreResult<()> {
    let (mut taken, mut failure) = (false, None);
    for outcome in outcomes {
        match outcome {
            Ok(()) => taken = true,
            Err(error) => {
                tracing::warn!(%error, "it could not be written down how far the namenode is");
                if error.kind() != FsErrorKind::NoSpace {
                    failure = Some(error);
                }
            }
        }
    }
    match failure {
        Some(error) if !taken => Err(error),
        _ => Ok(()),
    }
}

fn read(volume: &Volume) -> Option<Heard> {
    let file = volume.disk.open(volume.root.join(HEARD_FILE), false).ok()?;
    let len = volume.disk.len(&file).ok().filter(|len| *len <= MAX_BYTES)?;
    let mut bytes = vec![0; len as usize];
    volume.disk.read_at(&file, &mut bytes, 0).ok()?;
    Heard::decode(std::str::from_utf8(&bytes).ok()?)
}

impl Store {
    /// The farthest that any volume knows a namenode of its cluster to have been; nothing where none does, or what was
    /// written down cannot be read.
    #[must_use]
    pub fn heard(&self) -> Heard {
        let known = self.core.volumes.serving().iter().filter_map(|volume| read(volume)).collect::<Vec<_>>();
        known.into_iter().fold(Heard::default(), Heard::and)
    }

    /// Writes down on a volume how far the namenode is; nothing, if the volume does not serve.
    ///
    /// # Errors
    /// The disk; the volume is looked at.
    pub fn note_heard_on(&self, storage: StorageId, heard: Heard) -> StoreResult<()> {
        let Some(volume) = self.core.volumes.find(storage).filter(|volume| !volume.is_out()) else {
            return Ok(());
        };
        let noted = volume.disk.replace(&volume.root.join(HEARD_FILE), heard.encode().as_bytes());
        self.core.watch(&volume, noted)
    }

    /// Writes down on every volume how far the namenode is. One that takes it is enough: [`Self::heard`] asks them all. Full
    /// disks keep what they knew.
    ///
    /// # Errors
    /// No volume took it, and not all for lack of room.
    pub fn note_heard(&self, heard: Heard) -> StoreResult<()> {
        let volumes = self.volumes_in_service().into_iter();
        enough(volumes.map(|storage| self.note_heard_on(storage, heard)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARD: Heard = Heard { incarnation: 1, epoch: 7, transaction: 900 };

    #[test]
    fn it_comes_back_and_damage_is_noticed() {
        let text = HEARD.encode();
        assert_eq!(Heard::decode(&text), Some(HEARD));
        assert_eq!(Heard::decode(&text.replace("900", "901")), None);
        assert_eq!(Heard::decode(&text[..text.len() / 2]), None);
        // Golden: the first version.
        let golden = "# How far the namenode was when it was heard last. Do not remove: it guards against a namenode on older \
                      data.\nversion = 1\nincarnation = 1\nepoch = 7\ntransaction = 900\n";
        assert_eq!(text, seal(golden.to_owned()));
    }

    #[test]
    fn an_older_namenode_is_not_obeyed_unless_an_operator_said_so() {
        let at = |incarnation, epoch, transaction| Heard { incarnation, epoch, transaction };
        assert!(HEARD.allows(&at(1, 7, 900)) && HEARD.allows(&at(1, 8, 0)) && HEARD.allows(&at(2, 1, 1)));
        assert!(!HEARD.allows(&at(1, 6, 9_000)) && !HEARD.allows(&at(0, 9, 9_000)));
        assert_eq!(HEARD.and(at(1, 8, 50)), at(1, 8, 900));
        assert_eq!(HEARD.and(at(2, 1, 5)), at(2, 1, 5));
        assert_eq!(HEARD.and(at(0, 9, 9_000)), HEARD);
    }
}
