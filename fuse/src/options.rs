//! The command lines of `steadfs mount`, `steadfs umount` and `mount.steadfs`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches};
use steadfs_client::{ClientOptions, FsPath, FsResult, FsUrl};

use crate::open::{PACKET_BYTES, PACKETS};
use crate::ops::Settings;

/// Size of the blocks of files made through a mount: one block is what is passed through, and a volume with less room takes
/// none.
const BLOCK_SIZE: &str = "1GiB";

/// What a server takes of memory beside `--memory`, in bytes: its program, threads and names. So much is counted for each
/// volume of a node.
pub const SERVER_TAKES: u64 = 48 << 20;
/// A server that has grown by so much beyond `--memory` is replaced, where servers share the memory of a pod.
pub(crate) const SERVER_MAY_TAKE: u64 = 4 * SERVER_TAKES;

/// Mount a folder of a cluster
#[derive(Args, Clone, Debug)]
pub struct MountArgs {
    /// The cluster and, if not all of it is wanted, the folder: hdfs://host:port[/folder]
    pub(crate) url: String,
    /// The folder of this machine where it shall appear
    pub(crate) mountpoint: PathBuf,
    /// Refuse all changes
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Act as this user for everybody [default: each as the name of its uid]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Let other users than the one who mounts see the mount
    #[arg(long)]
    pub(crate) allow_other: bool,
    /// How long the kernel may rely on names and attributes that it has been told
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    pub(crate) cache_ttl_ms: u64,
    /// Stay in the foreground, with the log on the standard error; end with ctrl-C
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Where bytes wait that are not written in order
    #[arg(long, value_name = "FOLDER", default_value = "/var/tmp/steadfs-staging")]
    pub(crate) staging: PathBuf,
    /// How many may wait there
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = steadfs_common::parse_bytes)]
    pub(crate) staging_bytes: u64,
    /// Memory for bytes being read and written
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = steadfs_common::parse_bytes)]
    pub(crate) memory: u64,
    /// Size of the blocks of new files; a file of one block is read at the speed of the local disk
    #[arg(long, value_name = "SIZE", default_value = BLOCK_SIZE, value_parser = steadfs_common::parse_bytes)]
    pub(crate) block_size: u64,
    /// Replicas of new files [default: the cluster's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) replication: Option<u16>,
    /// Groups, by number, that everybody on this mount belongs to
    #[arg(long, value_name = "GID", value_delimiter = ',')]
    pub(crate) groups: Vec<u32>,
    /// Where datanodes of this machine open the sockets that give descriptors of their replicas
    #[arg(long, value_name = "FOLDER", default_value = steadfs_client::LOCAL_FOLDER)]
    pub(crate) local: PathBuf,
    /// How long operations wait for a cluster that does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait_seconds: u64,
    /// Where the log goes [default: /run/steadfs/mount-….log]
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Which process of a mount this is
    #[arg(long, hide = true, value_enum, default_value_t = Role::Command)]
    pub(crate) role: Role,
    /// The process that a server ends with
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) parent: Option<u32>,
    /// Hold a mount that is there: a server gives what its holder had
    #[arg(long, hide = true)]
    pub(crate) adopt: bool,
}

/// The processes of a mount.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// What the user started: checks, starts the holder, and waits until the mount is there.
    Command,
    /// Holds the kernel's descriptor and starts servers.
    Holder,
    /// Answers the kernel's requests.
    Server,
}

/// Unmount
#[derive(Args, Clone, Debug)]
pub struct UmountArgs {
    /// The folder where it appears
    pub(crate) mountpoint: PathBuf,
    /// Take it away even if programs use it; they keep what they have open
    #[arg(long)]
    pub(crate) lazy: bool,
}

impl MountArgs {
    /// Where the cluster is, and which folder of it.
    pub(crate) fn source(&self) -> FsResult<(FsUrl, FsPath)> {
        FsUrl::split(&self.url)
    }

    /// Where the bytes of one mount are staged.
    pub(crate) fn staging_of(&self, mount: [u8; 16]) -> PathBuf {
        self.staging.join(uuid::Uuid::from_bytes(mount).to_string())
    }

    pub(crate) fn client_options(&self) -> ClientOptions {
        let options = self.user.clone().map_or_else(ClientOptions::default, ClientOptions::for_user);
        let call_timeout = Duration::from_secs(self.wait_seconds.max(1));
        let groups = self.groups.iter().map(|number| crate::users::group_here(*number)).collect();
        ClientOptions {
            groups,
            call_timeout,
            wait_for_start: true,
            packet_bytes: PACKET_BYTES,
            packets_in_flight: PACKETS,
            ..options
        }
    }

    pub(crate) fn settings(&self) -> FsResult<Settings> {
        Ok(Settings {
            folder: self.source()?.1,
            user: self.user.clone(),
            read_only: self.read_only,
            ttl: Duration::from_millis(self.cache_ttl_ms),
            staging: self.staging.clone(),
            staging_bytes: self.staging_bytes,
            local: self.local.clone(),
            memory_bytes: self.memory,
            block_size: self.block_size,
            replication: self.replication,
        })
    }

    /// The mount that these arguments of `steadfs mount` ask for, without the program's and the command's name.
    ///
    /// # Errors
    /// An argument is unknown, missing, or has no value that makes sense.
    pub fn from_line(line: impl IntoIterator<Item = OsString>) -> anyhow::Result<Self> {
        let command =
            Self::augment_args(clap::Command::new("mount").no_binary_name(true).disable_help_flag(true));
        let matches = command.try_get_matches_from(line).map_err(refused)?;
        Self::from_arg_matches(&matches).map_err(refused)
    }

    /// The arguments again, for [`MountArgs::from_line`].
    pub(crate) fn line(&self) -> Vec<OsString> {
        self.for_role(Role::Command).split_off(1)
    }

    /// The folder of the cluster that is mounted.
    ///
    /// # Errors
    /// The URL makes no sense.
    pub fn folder(&self) -> FsResult<FsPath> {
        Ok(self.source()?.1)
    }

    /// Replicas of new files, if they are said.
    #[must_use]
    pub fn replication(&self) -> Option<u16> {
        self.replication
    }

    /// The groups that everybody on the mount is in, by number.
    #[must_use]
    pub fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// The same mount, with these groups beside those that it has.
    #[must_use]
    pub fn with_groups(mut self, groups: &[u32]) -> Self {
        self.groups.extend(groups);
        self.groups.sort_unstable();
        self.groups.dedup();
        self
    }

    /// The arguments that make another process of the same mount.
    pub(crate) fn for_role(&self, role: Role) -> Vec<OsString> {
        let mut line: Vec<OsString> =
            vec!["mount".into(), self.url.clone().into(), self.mountpoint.clone().into()];
        let mut add = |name: &str, value: OsString| line.extend([name.into(), value]);
        add("--cache-ttl-ms", self.cache_ttl_ms.to_string().into());
        add("--staging", self.staging.clone().into());
        add("--local", self.local.clone().into());
        add("--staging-bytes", self.staging_bytes.to_string().into());
        add("--memory", self.memory.to_string().into());
        add("--block-size", self.block_size.to_string().into());
        add("--wait-seconds", self.wait_seconds.to_string().into());
        if let Some(user) = &self.user {
            add("--user", user.into());
        }
        if let Some(replication) = self.replication {
            add("--replication", replication.to_string().into());
        }
        for group in &self.groups {
            add("--groups", group.to_string().into());
        }
        if let Some(parent) = self.parent {
            add("--parent", parent.to_string().into());
        }
        if let Some(log) = &self.log {
            add("--log", log.clone().into());
        }
        match role {
            Role::Command => {}
            Role::Holder => add("--role", "holder".into()),
            Role::Server => add("--role", "server".into()),
        }
        for (flag, set) in [
            ("--read-only", self.read_only),
            ("--allow-other", self.allow_other),
            ("--foreground", self.foreground),
            ("--adopt", self.adopt),
        ] {
            if set {
                line.push(flag.into());
            }
        }
        line
    }
}

/// What is wrong with a command line, in one line.
fn refused(error: clap::Error) -> anyhow::Error {
    let text = error.to_string();
    anyhow::anyhow!("{}", text.lines().next().unwrap_or_default().trim_start_matches("error: "))
}

/// The command line of `steadfs mount` that says what that of `mount.steadfs` says, which `mount -t steadfs` and
/// `/etc/fstab` use: `mount.steadfs SOURCE MOUNTPOINT [-sfnv] [-o OPTION[,OPTION…]]`. None if it is called by another name.
#[must_use]
pub fn as_mount_helper(line: &[OsString]) -> Option<Vec<OsString>> {
    let name = std::path::Path::new(line.first()?).file_name()?;
    if name != "mount.steadfs" {
        return None;
    }
    let mut translated: Vec<OsString> = vec!["steadfs".into(), "mount".into()];
    let mut arguments = line[1..].iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("-o") => {
                let options = arguments.next().map(|options| options.to_string_lossy().into_owned());
                options
                    .unwrap_or_default()
                    .split(',')
                    .for_each(|option| translated.extend(helper_option(option)));
            }
            Some("-t") => {
                arguments.next();
            }
            Some(flag) if flag.starts_with('-') && !flag.starts_with("--") => {}
            _ => translated.push(argument.clone()),
        }
    }
    Some(translated)
}

/// One mount option. Those that are for `mount` itself, or say what is so anyway, are passed over.
fn helper_option(option: &str) -> Vec<OsString> {
    const OTHERS: [&str; 17] = [
        "", "rw", "defaults", "auto", "noauto", "user", "nouser", "users", "_netdev", "nofail", "nosuid",
        "nodev", "suid", "dev", "exec", "noatime", "relatime",
    ];
    match option.split_once('=') {
        _ if OTHERS.contains(&option) || option.starts_with("x-") => Vec::new(),
        None if option == "ro" => vec!["--read-only".into()],
        None => vec![format!("--{}", option.replace('_', "-")).into()],
        Some((name, value)) => vec![format!("--{}={value}", name.replace('_', "-")).into()],
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    enum Line {
        Mount(MountArgs),
    }

    fn line(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_documents_tell_what_a_server_takes() {
        let told = format!("{} MiB", SERVER_TAKES >> 20);
        for text in [include_str!("../../docs/MOUNT.md"), include_str!("../../docs/KUBERNETES.md")] {
            let told = text.contains(&told) && text.contains("grown by four times");
            assert!(told && SERVER_MAY_TAKE == 4 * SERVER_TAKES, "another figure");
        }
    }

    #[test]
    fn the_other_processes_get_the_same_options() {
        let given = "steadfs mount hdfs://nn/a /mnt --read-only --user ann --allow-other --cache-ttl-ms 7 --memory 64MiB --replication 2 --groups 5,6";
        let Line::Mount(args) = Line::try_parse_from(line(given)).unwrap();
        let mut server = vec![OsString::from("steadfs")];
        server.extend(args.for_role(Role::Server));
        let Line::Mount(server) = Line::try_parse_from(server).unwrap();
        assert_eq!(server.role, Role::Server);
        assert_eq!(format!("{:?}", MountArgs { role: Role::Command, ..server }), format!("{args:?}"));
        assert_eq!(args.memory, 64 << 20);
    }

    #[test]
    fn fstab_says_the_same() {
        let helper = "/sbin/mount.steadfs hdfs://nn/a /mnt -s -o rw,_netdev,ro,allow_other,cache_ttl_ms=5,user=x,x-systemd.automount";
        let translated = as_mount_helper(&line(helper)).unwrap();
        let Line::Mount(args) = Line::try_parse_from(translated).unwrap_or_else(|error| panic!("{error}"));
        assert!(args.read_only && args.allow_other);
        assert_eq!((args.cache_ttl_ms, args.user.as_deref()), (5, Some("x")));
        assert!(as_mount_helper(&line("/usr/bin/steadfs mount a b")).is_none());
    }
}
