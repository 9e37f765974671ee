//! How a volume may be used, and the options of its mount.

use std::ffi::OsString;

use steadfs_proto::csi::VolumeCapability;
use steadfs_proto::csi::volume_capability::AccessType;
use steadfs_proto::csi::volume_capability::access_mode::Mode;

use crate::parameters::{self, Refused};

/// A use of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) mode: Mode,
    /// A group of the programs on the volume (`fsGroup`).
    pub(crate) group: Option<u32>,
    /// Options of the mount, as `steadfs mount` takes them.
    pub(crate) options: Vec<OsString>,
    pub(crate) read_only: bool,
}

/// Mount options that say what is so anyway, or what the kubelet adds.
const PASSED_OVER: [&str; 12] = [
    "",
    "rw",
    "defaults",
    "nosuid",
    "nodev",
    "noatime",
    "nodiratime",
    "relatime",
    "async",
    "exec",
    "bind",
    "_netdev",
];

impl Use {
    /// Reads one; refused are blocks, unknown modes and options.
    pub(crate) fn read(capability: Option<&VolumeCapability>) -> Result<Self, Refused> {
        let capability = capability.ok_or("a volume capability is missing")?;
        let mount = match &capability.access_type {
            Some(AccessType::Mount(mount)) => mount,
            Some(AccessType::Block(_)) => {
                return Err(
                    "a volume is a folder and cannot be a block device: say volumeMode: Filesystem".into()
                );
            }
            None => return Err("the volume capability has no access type".into()),
        };
        let mode = capability.access_mode.as_ref().map_or(Mode::Unknown, |mode| mode.mode());
        if mode == Mode::Unknown {
            return Err("the volume capability has no access mode that is known".into());
        }
        let group = Some(mount.volume_mount_group.as_str()).filter(|group| !group.is_empty());
        let group =
            group.map(|group| group.parse().map_err(|_| format!("`{group}` is not the number of a group")));
        let mut read = Self { mode, group: group.transpose()?, options: Vec::new(), read_only: false };
        for flag in &mount.mount_flags {
            for option in flag.split(',') {
                read.option(option.trim())?;
            }
        }
        read.read_only |= matches!(mode, Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly);
        Ok(read)
    }

    fn option(&mut self, option: &str) -> Result<(), Refused> {
        let wrong = |why: &str| format!("the mount option `{option}`: {why}");
        let number = |value: &str| value.parse::<u32>().map_err(|_| wrong("write a number"));
        match option.split_once('=') {
            _ if PASSED_OVER.contains(&option) => {}
            None if option == "ro" => self.read_only = true,
            Some(("cache_ttl_ms", value)) => self.add("--cache-ttl-ms", number(value)?.to_string()),
            Some(("wait_seconds", value)) => self.add("--wait-seconds", number(value)?.to_string()),
            Some(("block_size", value)) => {
                let bytes = parameters::block_size(value).map_err(|why| wrong(&why))?;
                self.add("--block-size", bytes.to_string());
            }
            Some(("user", value)) => {
                let user = parameters::principal(value).map_err(|why| wrong(&why))?;
                self.add("--user", user);
            }
            _ => return Err(wrong("known are ro, cache_ttl_ms=, wait_seconds=, block_size=, user=")),
        }
        Ok(())
    }

    /// Name and value are one argument, so that no value is taken for another option.
    fn add(&mut self, name: &str, value: String) {
        self.options.push(format!("{name}={value}").into());
    }

    /// Whether one program at a time may have it.
    pub(crate) fn is_single(&self) -> bool {
        self.mode == Mode::SingleNodeSingleWriter
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use steadfs_proto::csi::volume_capability::{AccessMode, BlockVolume, MountVolume};

    use super::*;

    fn capability(flags: &[&str], group: &str, mode: Mode) -> VolumeCapability {
        VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume {
                fs_type: String::new(),
                mount_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
                volume_mount_group: group.into(),
            })),
            access_mode: Some(AccessMode { mode: mode.into() }),
        }
    }

    #[test]
    fn options_are_known_ones() {
        let flags = ["noatime,cache_ttl_ms=5", "user=etl", "block_size=64Mi"];
        let read = Use::read(Some(&capability(&flags, "2000", Mode::MultiNodeMultiWriter))).unwrap();
        assert_eq!(
            read.options,
            ["--cache-ttl-ms=5", "--user=etl", "--block-size=67108864"].map(OsString::from)
        );
        assert_eq!((read.group, read.read_only), (Some(2000), false));
        let read = Use::read(Some(&capability(&["ro"], "", Mode::SingleNodeWriter))).unwrap();
        assert!(read.read_only);
        let read = Use::read(Some(&capability(&[], "", Mode::MultiNodeReaderOnly))).unwrap();
        assert!(read.read_only);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for flag in
            ["allow_other", "fd=3", "user=a b", "cache_ttl_ms=x", "memory=9Gi", "--user=x", "local=/etc"]
        {
            let refused = Use::read(Some(&capability(&[flag], "", Mode::SingleNodeWriter))).unwrap_err();
            assert!(refused.contains(flag), "{refused}");
        }
        assert!(Use::read(Some(&capability(&[], "-1", Mode::SingleNodeWriter))).is_err());
        assert!(Use::read(Some(&capability(&[], "", Mode::Unknown))).is_err());
        assert!(Use::read(None).is_err());
        let block = VolumeCapability {
            access_type: Some(AccessType::Block(BlockVolume {})),
            ..capability(&[], "", Mode::SingleNodeWriter)
        };
        assert!(Use::read(Some(&block)).unwrap_err().contains("Filesystem"));
    }

    proptest! {
        #[test]
        fn an_option_is_one_argument_that_begins_with_its_name(flag in "(user|block_size|cache_ttl_ms)=.{0,20}|.{0,20}") {
            if let Ok(read) = Use::read(Some(&capability(&[&flag], "", Mode::SingleNodeWriter))) {
                for option in read.options {
                    let option = option.to_str().unwrap().to_owned();
                    let (name, value) = option.split_once('=').unwrap();
                    prop_assert!(["--user", "--block-size", "--cache-ttl-ms", "--wait-seconds"].contains(&name));
                    prop_assert!(!value.contains([',', ' ', '\n', '\0', '/']));
                }
            }
        }
    }
}
