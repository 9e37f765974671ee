//! What a person may type.

use clap::{Args, Subcommand};
use steadfs_client::{Bound, StorageType};
use steadfs_common::parse_bytes;

/// The address used where neither `--fs`, nor `STEADFS_URL`, nor a full URL in the path names one.
pub(crate) const DEFAULT_URL: &str = "hdfs://localhost:8020";

/// Which cluster, and as whom.
#[derive(Args, Debug, Clone)]
pub struct Connection {
    /// The file system to talk to [default: hdfs://localhost:8020]
    #[arg(long, global = true, env = "STEADFS_URL", value_name = "URL")]
    pub fs: Option<String>,
    /// Act as this user [default: the user of the operating system]
    #[arg(long, global = true, env = "HADOOP_USER_NAME", value_name = "NAME")]
    pub user: Option<String>,
    /// How long to go on trying to reach a namenode that does not answer (such as 2m)
    #[arg(long, global = true, env = "STEADFS_CONNECT_TIMEOUT", value_name = "TIME", default_value = "3s",
        value_parser = humantime::parse_duration)]
    pub connect_timeout: std::time::Duration,
}

/// `steadfs fs`: work with files and folders.
///
/// Remote paths are absolute (/data/x) or full URLs (hdfs://host:8020/data/x), and may hold the globs * ? [a-z] {a,b}.
#[derive(Args, Debug, Clone)]
pub struct FsArgs {
    /// Which cluster.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: FsCommand,
}

/// The commands of `steadfs fs`.
#[derive(Subcommand, Debug, Clone)]
pub enum FsCommand {
    /// List files and folders
    Ls(LsArgs),
    /// Print files to standard output
    Cat(CatArgs),
    /// Copy local files into the file system
    Put(PutArgs),
    /// Copy files out of the file system
    Get(GetArgs),
    /// Make folders
    Mkdir(MkdirArgs),
    /// Rename files and folders, or move them into a folder
    Mv(MvArgs),
    /// Copy files within the file system
    Cp(CpArgs),
    /// Remove files and folders
    Rm(RmArgs),
    /// Put aside what you threw away, and delete what you put aside long ago
    Expunge,
    /// Show everything known about files and folders
    Stat(PathsArgs),
    /// Show how much space folders take
    Du(DuArgs),
    /// Count folders, files and bytes, with their quotas
    Count(CountArgs),
    /// Show or change storage policies: on which types of storage new replicas go
    Policy(PolicyArgs),
    /// Show the capacity of the file system
    Df(DfArgs),
    /// Print the end of a file
    Tail(TailArgs),
    /// Create empty files, or set the times of existing ones to now
    Touch(TouchArgs),
    /// Append local files (- for standard input) to a file
    Append(AppendArgs),
    /// Cut files to a length
    Truncate(TruncateArgs),
    /// Append files of one folder to one of them without moving a byte, and remove the others
    Concat(ConcatArgs),
    /// Change permissions
    Chmod(ChmodArgs),
    /// Change owner and group
    Chown(ChownArgs),
    /// Change how many replicas files have
    Setrep(SetrepArgs),
    /// Print checksums of files, equal to those of hadoop fs -checksum
    Checksum(PathsArgs),
    /// Show folders as a tree
    Tree(TreeArgs),
    /// Show who may do what: owner, group, mode and access control list
    Getfacl(GetfaclArgs),
    /// Change access control lists
    Setfacl(SetfaclArgs),
    /// Show extended attributes
    Getfattr(GetfattrArgs),
    /// Set or remove an extended attribute
    Setfattr(SetfattrArgs),
}

/// Arguments of `ls`.
#[derive(Args, Debug, Clone)]
pub struct LsArgs {
    /// What to list
    #[arg(default_value = "/")]
    pub paths: Vec<String>,
    /// List folders below as well
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Mode, owner, size and time as well
    #[arg(short, long)]
    pub long: bool,
    /// Exact sizes in bytes, in long listings
    #[arg(short, long)]
    pub bytes: bool,
    /// The folder itself, not what it holds
    #[arg(short, long)]
    pub directory: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `cat`.
#[derive(Args, Debug, Clone)]
pub struct CatArgs {
    /// Files to print
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Begin at this byte (such as 64MiB)
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES", default_value = "0")]
    pub offset: u64,
    /// Print at most so much (such as 1MiB)
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    pub length: Option<u64>,
}

/// How files are written.
#[derive(Args, Debug, Clone, Default)]
pub struct WriteArgs {
    /// Replicas of each block [default: the server's]
    #[arg(long, value_name = "N")]
    pub replication: Option<u16>,
    /// Size of the blocks, such as 64MiB [default: the server's]
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    pub block_size: Option<u64>,
}

/// How much happens at once.
#[derive(Args, Debug, Clone)]
pub struct TransferArgs {
    /// Files (and blocks of a file) moved at the same time
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
    /// No progress bar
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `put`.
#[derive(Args, Debug, Clone)]
pub struct PutArgs {
    /// Local files or folders (- for standard input), then the remote destination
    #[arg(required = true, num_args = 2.., value_name = "SOURCE... DESTINATION")]
    pub paths: Vec<String>,
    /// Folders with all they hold
    #[arg(short, long)]
    pub recursive: bool,
    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// How much at once.
    #[command(flatten)]
    pub transfer: TransferArgs,
}

/// Arguments of `get`.
#[derive(Args, Debug, Clone)]
pub struct GetArgs {
    /// Remote files or folders, then the local destination (- for standard output)
    #[arg(required = true, num_args = 2.., value_name = "SOURCE... DESTINATION")]
    pub paths: Vec<String>,
    /// Folders with all they hold
    #[arg(short, long)]
    pub recursive: bool,
    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,
    /// How much at once.
    #[command(flatten)]
    pub transfer: TransferArgs,
}

/// Arguments of `mkdir`.
#[derive(Args, Debug, Clone)]
pub struct MkdirArgs {
    /// Folders to make
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Make missing parents, and do not mind if it exists
    #[arg(short, long)]
    pub parents: bool,
    /// Permissions, octal, such as 750
    #[arg(short, long, value_parser = crate::mode::parse_octal, value_name = "MODE")]
    pub mode: Option<u16>,
}

/// Arguments of `mv`.
#[derive(Args, Debug, Clone)]
pub struct MvArgs {
    /// Sources, then the destination
    #[arg(required = true, num_args = 2.., value_name = "SOURCE... DESTINATION")]
    pub paths: Vec<String>,
    /// Replace a file that exists
    #[arg(short, long)]
    pub force: bool,
}

/// Arguments of `cp`.
#[derive(Args, Debug, Clone)]
pub struct CpArgs {
    /// Sources, then the destination
    #[arg(required = true, num_args = 2.., value_name = "SOURCE... DESTINATION")]
    pub paths: Vec<String>,
    /// Folders with all they hold
    #[arg(short, long)]
    pub recursive: bool,
    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// How much at once.
    #[command(flatten)]
    pub transfer: TransferArgs,
}

/// Arguments of `rm`.
#[derive(Args, Debug, Clone)]
pub struct RmArgs {
    /// What to remove
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Folders with all they hold
    #[arg(short, long)]
    pub recursive: bool,
    /// Do not mind if there is nothing
    #[arg(short, long)]
    pub force: bool,
    /// Delete at once, and do not keep it in the trash
    #[arg(long, alias = "skipTrash")]
    pub skip_trash: bool,
}

/// Some remote paths.
#[derive(Args, Debug, Clone)]
pub struct PathsArgs {
    /// Files or folders
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `du`.
#[derive(Args, Debug, Clone)]
pub struct DuArgs {
    /// Files or folders
    #[arg(default_value = "/")]
    pub paths: Vec<String>,
    /// One line for each path given, not one for each thing in it
    #[arg(short, long)]
    pub summarize: bool,
    /// Exact sizes in bytes
    #[arg(short, long)]
    pub bytes: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `count`.
#[derive(Args, Debug, Clone)]
pub struct CountArgs {
    /// Files or folders
    #[arg(default_value = "/")]
    pub paths: Vec<String>,
    /// Quotas, and space by type of storage, as well
    #[arg(short, long)]
    pub quota: bool,
    /// Exact sizes in bytes
    #[arg(short, long)]
    pub bytes: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `policy`.
#[derive(Args, Debug, Clone)]
pub struct PolicyArgs {
    /// Files or folders whose policy is shown, if nothing is changed
    pub paths: Vec<String>,
    /// Give them this policy, such as ONE_SSD
    #[arg(long, value_name = "NAME", conflicts_with_all = ["unset", "list"])]
    pub set: Option<String>,
    /// Take their own policy away: they inherit that of the folder above
    #[arg(long, conflicts_with = "list")]
    pub unset: bool,
    /// Show the policies there are
    #[arg(long)]
    pub list: bool,
}

/// Arguments of `admin quota`.
#[derive(Args, Debug, Clone)]
pub struct QuotaArgs {
    /// Folders
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// So many files and folders at most, the folder itself included, or `none`
    #[arg(long, value_parser = crate::quotas::parse_names, value_name = "NUMBER")]
    pub names: Option<Bound>,
    /// So many bytes with all replicas at most (such as 10TiB), or `none`
    #[arg(long, value_parser = crate::quotas::parse_space, value_name = "BYTES")]
    pub space: Option<Bound>,
    /// The space on storage of this type alone: disk, ssd, archive, nvdimm, provided
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<StorageType>,
}

/// Arguments of `df`.
#[derive(Args, Debug, Clone)]
pub struct DfArgs {
    /// Exact sizes in bytes
    #[arg(short, long)]
    pub bytes: bool,
    /// As a JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tail`.
#[derive(Args, Debug, Clone)]
pub struct TailArgs {
    /// The file
    pub path: String,
    /// How much of the end, such as 4KiB
    #[arg(short = 'c', long, value_parser = parse_bytes, value_name = "BYTES", default_value = "1024")]
    pub bytes: u64,
    /// Go on as the file grows, until interrupted
    #[arg(short, long)]
    pub follow: bool,
}

/// Arguments of `touch`.
#[derive(Args, Debug, Clone)]
pub struct TouchArgs {
    /// Files
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Do not create what is not there
    #[arg(short = 'c', long)]
    pub no_create: bool,
}

/// Arguments of `append`.
#[derive(Args, Debug, Clone)]
pub struct AppendArgs {
    /// Local files (- for standard input), then the remote file, which is created if it is not there
    #[arg(required = true, num_args = 2.., value_name = "SOURCE... FILE")]
    pub paths: Vec<String>,
}

/// Arguments of `truncate`.
#[derive(Args, Debug, Clone)]
pub struct TruncateArgs {
    /// How much stays (such as 1MiB)
    #[arg(value_parser = parse_bytes, value_name = "BYTES")]
    pub length: u64,
    /// Files
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Come back only when it is done, and not while the datanodes cut the last block
    #[arg(short, long)]
    pub wait: bool,
}

/// Arguments of `concat`.
#[derive(Args, Debug, Clone)]
pub struct ConcatArgs {
    /// The file that grows
    pub target: String,
    /// Files of the same folder, in the order in which they follow
    #[arg(required = true)]
    pub sources: Vec<String>,
}

/// Arguments of `chmod`.
#[derive(Args, Debug, Clone)]
pub struct ChmodArgs {
    /// Octal (750, 1777) or symbolic (u+rwx,go-w)
    #[arg(value_parser = crate::mode::ModeChange::parse, allow_hyphen_values = true)]
    pub mode: crate::mode::ModeChange,
    /// Files or folders
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// All that folders hold as well
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// Arguments of `chown`.
#[derive(Args, Debug, Clone)]
pub struct ChownArgs {
    /// OWNER, OWNER:GROUP or :GROUP
    pub owner: String,
    /// Files or folders
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// All that folders hold as well
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// Arguments of `setrep`.
#[derive(Args, Debug, Clone)]
pub struct SetrepArgs {
    /// How many replicas
    #[arg(value_parser = clap::value_parser!(u16).range(1..=512))]
    pub replication: u16,
    /// Files, or folders for all files in them
    #[arg(required = true)]
    pub paths: Vec<String>,
}

/// Arguments of `tree`.
#[derive(Args, Debug, Clone)]
pub struct TreeArgs {
    /// The folder at the top
    #[arg(default_value = "/")]
    pub path: String,
    /// How deep
    #[arg(short = 'L', long, value_name = "DEPTH")]
    pub level: Option<usize>,
    /// Sizes as well
    #[arg(short, long)]
    pub size: bool,
}

/// Arguments of `getfacl`.
#[derive(Args, Debug, Clone)]
pub struct GetfaclArgs {
    /// Files or folders
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// All that folders hold as well
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// Arguments of `setfacl`. Lists are written as in Hadoop: user:ann:rw-,default:group:staff:r-x
#[derive(Args, Debug, Clone)]
#[command(group = clap::ArgGroup::new("change").required(true))]
pub struct SetfaclArgs {
    /// Files or folders
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Add entries, or give those that are there other permissions
    #[arg(short, long, group = "change", value_name = "LIST")]
    pub modify: Option<String>,
    /// Take entries away, named without permissions
    #[arg(short = 'x', long, group = "change", value_name = "LIST")]
    pub remove: Option<String>,
    /// Replace all entries: those of user, group and other must be among them
    #[arg(long, group = "change", value_name = "LIST")]
    pub set: Option<String>,
    /// Take all entries away but those of user, group and other
    #[arg(short = 'b', long, group = "change")]
    pub remove_all: bool,
    /// Take all default entries away
    #[arg(short = 'k', long, group = "change")]
    pub remove_default: bool,
    /// All that folders hold as well
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// Arguments of `getfattr`.
#[derive(Args, Debug, Clone)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct GetfattrArgs {
    /// Files or folders
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// This attribute, such as user.origin
    #[arg(short, long, group = "which")]
    pub name: Option<String>,
    /// All attributes
    #[arg(short, long, group = "which")]
    pub dump: bool,
    /// How values are shown: text, hex or base64 [default: text, or hex where it is none]
    #[arg(short, long, value_parser = crate::attributes::parse_encoding, value_name = "ENCODING")]
    pub encoding: Option<steadfs_client::xattr::XAttrEncoding>,
    /// All that folders hold as well
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// Arguments of `setfattr`.
#[derive(Args, Debug, Clone)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct SetfattrArgs {
    /// Files or folders
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Set this attribute, such as user.origin
    #[arg(short, long, group = "which")]
    pub name: Option<String>,
    /// Its value: text, 0x and hexadecimal digits, or 0s and Base64 [default: none]
    #[arg(short, long, requires = "name", allow_hyphen_values = true)]
    pub value: Option<String>,
    /// Remove this attribute
    #[arg(short = 'x', long, group = "which", value_name = "NAME")]
    pub remove: Option<String>,
}

/// `steadfs admin`: look after the cluster.
#[derive(Args, Debug, Clone)]
pub struct AdminArgs {
    /// Which cluster.
    #[command(flatten)]
    pub connection: Connection,
    /// As JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// The commands of `steadfs admin`.
#[derive(Subcommand, Debug, Clone)]
pub enum AdminCommand {
    /// The cluster at a glance; exit code 1 if anything is wrong
    Report,
    /// Bound what lies in and below folders
    Quota(QuotaArgs),
    /// Every datanode: state, space, blocks, last heartbeat
    Datanodes,
    /// Ask something of datanodes themselves
    #[command(subcommand)]
    Datanode(DatanodeCommand),
    /// Show or change safe mode
    #[command(subcommand)]
    Safemode(SafemodeCommand),
    /// Check files: which miss which blocks, and where their replicas are; exit code 1 if any is not healthy
    Fsck(FsckArgs),
    /// Have what datanodes hold copied elsewhere, so that they can be taken away
    Decommission(DecommissionArgs),
    /// Have datanodes down for a while without all they hold being copied
    Maintenance(MaintenanceArgs),
    /// Have datanodes serve again
    Recommission(NodeArgs),
    /// Have replicas moved until all datanodes are about equally full; `--stop` ends it, also if nobody waits any more
    Balance(BalanceArgs),
    /// Whether datanodes can be stopped at the same time: every block has enough live replicas elsewhere; exit code 1 if not
    SafeToStop(NodeArgs),
    /// Have the namenode read its hosts files again
    RefreshNodes,
    /// Files that are open for writing
    OpenFiles(OpenFilesArgs),
    /// Flush the namenode's store; safe mode must be on
    SaveNamespace,
    /// Begin a new segment of the namenode's journal
    RollJournal,
    /// Copy the namespace into a new folder here, while it is served; `steadfs namenode restore` puts it back
    Backup {
        /// A folder that is not there yet
        folder: std::path::PathBuf,
    },
    /// How the namenode's own data is: copies of the journal, findings; exit code 1 if anything is wrong
    DataHealth,
    /// Have the namenode read journal and store now, and make good what rotted
    Scrub,
    /// Blocks that no file has and that are kept, because they were made after a restored state
    Kept {
        /// Let them go: datanodes delete them
        #[arg(long)]
        delete: bool,
    },
    /// Have the namenode write a report on datanodes and blocks to a file in its folder `reports`
    SaveReport {
        /// A plain file name
        file: String,
    },
    /// How many bytes a second each datanode may use to move replicas (such as 10MiB)
    BalancerBandwidth {
        /// Bytes
        #[arg(value_parser = parse_bytes, value_name = "BYTES")]
        bytes_per_second: u64,
    },
}

/// `admin datanode`.
#[derive(Subcommand, Debug, Clone)]
pub enum DatanodeCommand {
    /// Have datanodes read their configuration again and take volumes into service and out of it; exit code 1 if one could
    /// not do all of it
    Reconfigure {
        /// Datanodes: host name or address, and the RPC port if it is not 9867
        #[arg(required = true, value_name = "HOST[:PORT]")]
        datanodes: Vec<String>,
    },
}

/// Datanodes by name.
#[derive(Args, Debug, Clone)]
pub struct NodeArgs {
    /// Datanodes: uuid, address, address:port, host name or Kubernetes node
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    /// The names are those of Kubernetes nodes, and mean all datanodes there
    #[arg(long = "node")]
    pub by_node: bool,
}

/// Whether to wait until datanodes have left.
#[derive(Args, Debug, Clone)]
pub struct WaitArgs {
    /// Come back only when all that others lack is elsewhere
    #[arg(short, long)]
    pub wait: bool,
    /// The longest to wait (such as 10m); exit code 1 if it took longer
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME", requires = "wait")]
    pub timeout: Option<std::time::Duration>,
}

/// Arguments of `decommission`.
#[derive(Args, Debug, Clone)]
pub struct DecommissionArgs {
    /// Which.
    #[command(flatten)]
    pub nodes: NodeArgs,
    /// How long.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Arguments of `maintenance`.
#[derive(Args, Debug, Clone)]
pub struct MaintenanceArgs {
    /// Which.
    #[command(flatten)]
    pub nodes: NodeArgs,
    /// After how long they serve again without being told (such as 2h)
    #[arg(long = "for", visible_alias = "duration", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub duration: Option<std::time::Duration>,
    /// When they serve again without being told (such as 2026-01-31T18:00:00Z)
    #[arg(long, value_parser = humantime::parse_rfc3339_weak, value_name = "TIME", conflicts_with = "duration")]
    pub until: Option<std::time::SystemTime>,
    /// How long.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Arguments of `balance`.
#[derive(Args, Debug, Clone)]
pub struct BalanceArgs {
    /// How far a datanode's use may differ from that of all together, in percent of its space
    #[arg(long, default_value_t = 10.0, value_parser = parse_threshold, value_name = "PERCENT")]
    pub threshold: f64,
    /// Bytes a second of each move (such as 10MiB); otherwise what `balancer-bandwidth` says
    #[arg(long, value_parser = parse_bytes, default_value = "0", hide_default_value = true, value_name = "BYTES")]
    pub bandwidth: u64,
    /// Come back at once; the namenode goes on
    #[arg(long)]
    pub no_wait: bool,
    /// Only tell how far it is
    #[arg(long, conflicts_with_all = ["stop", "no_wait"])]
    pub status: bool,
    /// End what was ordered
    #[arg(long, conflicts_with = "no_wait")]
    pub stop: bool,
}

/// A difference in percent that balance may aim at.
fn parse_threshold(text: &str) -> Result<f64, String> {
    let percent = text.trim_end_matches('%').trim_end().parse::<f64>().ok();
    percent.filter(|percent| (0.1..=100.0).contains(percent)).ok_or_else(|| "0.1 to 100 percent".to_owned())
}

/// Arguments of `open-files`.
#[derive(Args, Debug, Clone)]
pub struct OpenFilesArgs {
    /// At and below this
    #[arg(default_value = "/")]
    pub path: String,
    /// Only those that keep a datanode from leaving
    #[arg(long)]
    pub blocking: bool,
}

/// What to do with safe mode.
#[derive(Subcommand, Debug, Clone, Copy)]
pub enum SafemodeCommand {
    /// Show whether the namenode is in safe mode, and why
    Get,
    /// Refuse changes until told otherwise
    Enter,
    /// Accept changes
    Leave,
}

/// Arguments of `fsck`.
#[derive(Args, Debug, Clone)]
pub struct FsckArgs {
    /// A file or folder
    #[arg(default_value = "/")]
    pub path: String,
    /// Healthy files as well
    #[arg(short, long)]
    pub all: bool,
    /// Not the replicas of files, but whether the namespace is sound in itself
    #[arg(long, conflicts_with_all = ["path", "all"])]
    pub namespace: bool,
    /// As --namespace, and put right what can be
    #[arg(long, conflicts_with_all = ["path", "all"])]
    pub repair: bool,
}
