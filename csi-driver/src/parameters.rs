//! What a storage class may say of its volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use steadfs_client::FsPath;
use steadfs_common::limits::{MAX_PRINCIPAL_BYTES, MAX_REPLICATION};
use steadfs_common::{Name, parse_bytes};

/// Folders that a pattern may name at most, one below the other.
const MAX_PATTERN_DEPTH: usize = 8;
/// Longest folder name that is made of a volume's name.
const MAX_FOLDER_NAME: usize = 128;
/// Block sizes, in bytes: smallest and largest.
const BLOCK_SIZES: (u64, u64) = (1 << 20, 1 << 40);
/// Block size of volumes that do not say one, at most: as of any mount.
const LARGEST_BLOCK: u64 = 1 << 30;
/// Such a part of a volume is the largest block: a file being written takes room for a whole block.
const BLOCK_PART: u64 = 64;
/// Who the claim is, as the provisioner tells with `--extra-create-metadata`.
const CLAIM: &str = "csi.storage.k8s.io/pvc/name";
const NAMESPACE: &str = "csi.storage.k8s.io/pvc/namespace";
const VOLUME: &str = "csi.storage.k8s.io/pv/name";

/// What becomes of the folder when its volume is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnDelete {
    /// It goes, with all that it holds.
    #[default]
    Delete,
    /// It stays, as a folder like any other.
    Retain,
}

/// A volume as a storage class wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// Where the folder shall be.
    pub(crate) folder: FsPath,
    /// Replicas of files written through mounts; the cluster's choice if none.
    pub(crate) replication: Option<u16>,
    /// Size of their blocks in bytes; chosen by the volume's size if none.
    pub(crate) block_size: Option<u64>,
    /// A storage policy of the cluster.
    pub(crate) policy: Option<String>,
    /// Permission bits of the folder.
    pub(crate) mode: u16,
    /// Its owner and group, if not the driver's own.
    pub(crate) owner: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) on_delete: OnDelete,
}

/// Why parameters are refused: one line with the name of the parameter.
pub(crate) type Refused = String;

impl Parameters {
    /// Reads what a storage class says, of the volume called `name`, whose folder is below `parent` if the class does not
    /// say another.
    pub(crate) fn read(
        name: &str,
        parent: &FsPath,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Self, Refused> {
        let mut read = Self {
            folder: parent.clone(),
            replication: None,
            block_size: None,
            policy: None,
            mode: 0o777,
            owner: None,
            group: None,
            on_delete: OnDelete::default(),
        };
        let mut pattern = None;
        for (key, value) in parameters {
            match key.as_str() {
                "parent" => read.folder = folder(value).map_err(|why| wrong(key, value, &why))?,
                "subFolder" => pattern = Some(value.as_str()),
                "replication" => {
                    read.replication = Some(replication(value).map_err(|why| wrong(key, value, &why))?)
                }
                "blockSize" => {
                    read.block_size = Some(block_size(value).map_err(|why| wrong(key, value, &why))?)
                }
                "storagePolicy" => read.policy = Some(word(value).map_err(|why| wrong(key, value, &why))?),
                "mode" => read.mode = mode(value).map_err(|why| wrong(key, value, &why))?,
                "owner" => read.owner = Some(principal(value).map_err(|why| wrong(key, value, &why))?),
                "group" => read.group = Some(principal(value).map_err(|why| wrong(key, value, &why))?),
                "onDelete" => read.on_delete = on_delete(value).map_err(|why| wrong(key, value, &why))?,
                CLAIM | NAMESPACE | VOLUME => {}
                _ => {
                    return Err(format!(
                        "the storage class has a parameter `{key}` that is not known: known are {KNOWN}"
                    ));
                }
            }
        }
        let below = match pattern {
            Some(pattern) => {
                filled(pattern, name, parameters).map_err(|why| wrong("subFolder", pattern, &why))?
            }
            None => vec![Name::new(&folder_name(name)).map_err(|error| error.to_string())?],
        };
        for component in below {
            read.folder = read.folder.join(component);
        }
        Ok(read)
    }
}

/// What a storage class may say.
const KNOWN: &str = "parent, subFolder, replication, blockSize, storagePolicy, mode, owner, group, onDelete";

fn wrong(key: &str, value: &str, why: &str) -> Refused {
    format!("the parameter `{key}` is `{value}`: {why}")
}

/// An absolute path below the root, as it is written: nothing is resolved.
pub(crate) fn folder(text: &str) -> Result<FsPath, Refused> {
    if !text.starts_with('/') || text.split('/').any(|part| part == ".." || part == ".") {
        return Err("write an absolute path without `.` and `..`".into());
    }
    let path = FsPath::parse(text).map_err(|error| error.message().to_owned())?;
    match path.names().first() {
        None => {
            Err("the whole file system cannot be a volume, nor hold volumes directly: name a folder".into())
        }
        Some(first) if first.as_str() == ".reserved" => Err("it is reserved".into()),
        Some(_) => Ok(path),
    }
}

pub(crate) fn replication(text: &str) -> Result<u16, Refused> {
    let range = 1..=MAX_REPLICATION;
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("write a number from 1 to {MAX_REPLICATION}"))
}

/// As Kubernetes writes quantities (`128Mi`), and as we do (`128MiB`).
pub(crate) fn size(text: &str) -> Result<u64, Refused> {
    let ours =
        if text.ends_with(['K', 'M', 'G', 'T', 'P', 'i']) { format!("{text}B") } else { text.to_owned() };
    parse_bytes(&ours).map_err(|_| "write a size such as 128Mi".to_owned())
}

pub(crate) fn block_size(text: &str) -> Result<u64, Refused> {
    let bytes = size(text)?;
    // Whole checksum chunks.
    if bytes < BLOCK_SIZES.0 || bytes > BLOCK_SIZES.1 || !bytes.is_multiple_of(512) {
        return Err("write a size from 1Mi to 1Ti, in whole units of 512 bytes".into());
    }
    Ok(bytes)
}

pub(crate) fn mode(text: &str) -> Result<u16, Refused> {
    let octal = text.strip_prefix("0o").unwrap_or(text);
    let well = (3..=5).contains(&octal.len()) && octal.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u16::from_str_radix(octal, 8).ok().filter(|mode| well && *mode <= 0o1777);
    mode.ok_or_else(|| "write permissions in octal, such as 0770".into())
}

fn word(text: &str) -> Result<String, Refused> {
    let well =
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if well { Ok(text.to_owned()) } else { Err("write a name such as HOT".into()) }
}

pub(crate) fn principal(text: &str) -> Result<String, Refused> {
    let well = !text.is_empty()
        && text.len() <= MAX_PRINCIPAL_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b":,/=\\\"'".contains(&byte));
    if well {
        Ok(text.to_owned())
    } else {
        Err("write a name of visible ASCII without : , / = \\ and quotes".into())
    }
}

fn on_delete(text: &str) -> Result<OnDelete, Refused> {
    match text {
        "delete" => Ok(OnDelete::Delete),
        "retain" => Ok(OnDelete::Retain),
        _ => Err("write delete or retain".into()),
    }
}

/// A pattern with its variables filled in. What is filled in is one name, never more.
fn filled(pattern: &str, volume: &str, known: &BTreeMap<String, String>) -> Result<Vec<Name>, Refused> {
    let parts: Vec<&str> = pattern.split('/').collect();
    if parts.len() > MAX_PATTERN_DEPTH {
        return Err(format!("more than {MAX_PATTERN_DEPTH} folders below each other"));
    }
    let value = |variable: &str| -> Result<String, Refused> {
        let key = match variable {
            "pvc.name" => CLAIM,
            "pvc.namespace" => NAMESPACE,
            "pv.name" => return Ok(known.get(VOLUME).cloned().unwrap_or_else(|| volume.to_owned())),
            _ => return Err("variables are ${pvc.namespace}, ${pvc.name} and ${pv.name}".into()),
        };
        let said = known.get(key).cloned();
        said.ok_or_else(|| {
            format!("the provisioner does not say ${{{variable}}}: start it with --extra-create-metadata")
        })
    };
    parts.into_iter().map(|part| component(part, &value)).collect()
}

fn component(part: &str, value: &impl Fn(&str) -> Result<String, Refused>) -> Result<Name, Refused> {
    let mut out = String::new();
    let mut rest = part;
    while let Some((before, behind)) = rest.split_once("${") {
        let (variable, after) = behind.split_once('}').ok_or("a variable is not closed: ${…}")?;
        out.push_str(before);
        out.push_str(&value(variable)?);
        rest = after;
    }
    out.push_str(rest);
    Name::new(&out).map_err(|error| format!("`{out}` cannot be a folder's name: {}", error.message()))
}

/// A folder's name that tells the volume's, and is another one for another volume.
fn folder_name(volume: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if volume.len() <= MAX_FOLDER_NAME && volume.chars().all(plain) && !volume.starts_with('.') {
        return volume.to_owned();
    }
    let cleaned = volume.chars().take(MAX_FOLDER_NAME - 33).map(|c| if plain(c) { c } else { '_' });
    format!("_{}-{}", cleaned.collect::<String>(), crate::handle::Key::of(volume))
}

/// The block size for files of a volume of so many bytes.
pub(crate) fn block_size_for(capacity: Option<u64>) -> u64 {
    let Some(capacity) = capacity else { return LARGEST_BLOCK };
    let part = (capacity / BLOCK_PART).max(1);
    (1 << part.ilog2()).clamp(BLOCK_SIZES.0, LARGEST_BLOCK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<Parameters, Refused> {
        let parameters = parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Parameters::read("pvc-7", &FsPath::parse("/volumes").unwrap(), &parameters)
    }

    #[test]
    fn a_class_says_what_it_wants() {
        let plain = read(&[]).unwrap();
        assert_eq!((plain.folder.to_string().as_str(), plain.mode), ("/volumes/pvc-7", 0o777));
        let said = read(&[
            ("parent", "/teams/a"),
            ("subFolder", "${pvc.namespace}/x-${pvc.name}-${pv.name}"),
            ("replication", "2"),
            ("blockSize", "64Mi"),
            ("storagePolicy", "COLD"),
            ("mode", "0750"),
            ("owner", "etl"),
            ("group", "1000"),
            ("onDelete", "retain"),
            (CLAIM, "data"),
            (NAMESPACE, "jobs"),
        ])
        .unwrap();
        assert_eq!(said.folder.to_string(), "/teams/a/jobs/x-data-pvc-7");
        assert_eq!((said.replication, said.block_size, said.mode), (Some(2), Some(64 << 20), 0o750));
        assert_eq!((said.owner.as_deref(), said.group.as_deref()), (Some("etl"), Some("1000")));
        assert_eq!((said.policy.as_deref(), said.on_delete), (Some("COLD"), OnDelete::Retain));
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        for (key, value, said) in [
            ("replicas", "3", "`replicas`"),
            ("replication", "0", "from 1 to"),
            ("replication", "3,allow_other", "from 1 to"),
            ("blockSize", "12", "1Mi"),
            ("mode", "999", "octal"),
            ("mode", "04777", "octal"),
            ("owner", "a,b", "visible ASCII"),
            ("owner", "", "visible ASCII"),
            ("onDelete", "keep", "delete or retain"),
            ("parent", "volumes", "absolute"),
            ("parent", "/", "name a folder"),
            ("parent", "/a/../b", "`..`"),
            ("parent", "/.reserved/.inodes/1", "reserved"),
            ("subFolder", "../x", "folder's name"),
            ("subFolder", "/x", "folder's name"),
            ("subFolder", "a/${pvc.name}", "--extra-create-metadata"),
            ("subFolder", "${HOME}", "variables are"),
            ("subFolder", "${pv.name", "not closed"),
            ("storagePolicy", "HOT;x", "such as HOT"),
        ] {
            let refused = read(&[(key, value)]).unwrap_err();
            assert!(refused.contains(said) && refused.contains(key), "{key}={value}: {refused}");
        }
        let spliced = read(&[("subFolder", "${pvc.name}"), (CLAIM, "../../other")]).unwrap_err();
        assert!(spliced.contains("folder's name"), "{spliced}");
    }

    #[test]
    fn blocks_are_a_small_part_of_a_volume() {
        assert_eq!(block_size_for(None), 1 << 30);
        assert_eq!(block_size_for(Some(10 << 30)), 128 << 20);
        assert_eq!(block_size_for(Some(1 << 20)), 1 << 20);
        assert_eq!(block_size_for(Some(u64::MAX)), 1 << 30);
    }

    proptest! {
        #[test]
        fn no_name_or_pattern_leaves_its_parent(
            name in ".{1,200}", pattern in "[a.$/{}pvc]{0,20}|\\$\\{pvc.name\\}|.{0,20}", claim in ".{0,40}",
        ) {
            let parent = FsPath::parse("/volumes").unwrap();
            for with_pattern in [false, true] {
                let mut parameters = BTreeMap::from([(CLAIM.to_owned(), claim.clone())]);
                if with_pattern {
                    parameters.insert("subFolder".to_owned(), pattern.clone());
                }
                if let Ok(read) = Parameters::read(&name, &parent, &parameters) {
                    let names: Vec<_> = read.folder.names().iter().map(Name::as_str).collect();
                    prop_assert_eq!(names[0], "volumes");
                    prop_assert!(names.len() > 1 && names.len() <= 1 + MAX_PATTERN_DEPTH);
                    prop_assert!(names.iter().all(|n| !n.is_empty() && *n != "." && *n != ".." && !n.contains('/')));
                } else {
                    // A name alone is always good for a folder.
                    prop_assert!(with_pattern);
                }
            }
        }

        #[test]
        fn two_volumes_have_two_folders(a in ".{1,150}", b in ".{1,150}") {
            prop_assume!(a != b);
            prop_assert_ne!(folder_name(&a), folder_name(&b));
        }
    }
}
