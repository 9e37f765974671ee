//! What a user of the library may choose.

use std::time::Duration;

use steadfs_common::limits::MAX_PACKET_BYTES;

use crate::ChecksumSpec;

/// How a [`Client`](crate::Client) behaves. The defaults suit a cluster in one data centre.
///
/// ```
/// use std::time::Duration;
/// use steadfs_client::ClientOptions;
///
/// let options = ClientOptions { call_timeout: Duration::from_secs(5), ..ClientOptions::for_user("alice") };
/// assert_eq!(options.user, "alice");
/// ```
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Who acts. Default: the variable `HADOOP_USER_NAME`, then the operating system's user.
    pub user: String,
    /// Groups that the user is in beside those that the namenode knows of: a mount in a pod knows them from the kubelet. Names
    /// of visible ASCII without commas. Default none.
    pub groups: Vec<String>,
    /// The name under which leases are held. Default: one of its own for every client. A program that goes on with the
    /// open files of one that died takes the same.
    pub name: Option<String>,
    /// Bits that new files and folders do not get when no exact mode is asked for. Default 022.
    pub umask: u16,
    /// How long [`Client::connect`](crate::Client::connect) tries, and each connection to a datanode takes at most.
    /// Default 10 s.
    pub connect_timeout: Duration,
    /// The deadline of one call, all its repetitions included. Default 60 s.
    pub call_timeout: Duration,
    /// The deadline of one attempt of a call. Default 20 s.
    pub attempt_timeout: Duration,
    /// Whether what a namenode refuses because it is only just starting is asked again until the call's deadline.
    /// Default no: it is told at once, as HDFS does.
    pub wait_for_start: bool,
    /// How long a datanode may say nothing while it is read or written. Default 60 s.
    pub data_timeout: Duration,
    /// A writer whose pipeline has acked nothing for about this long goes on without its first datanode, if it has others;
    /// none to wait for [`Self::data_timeout`]. Datanodes watch those behind them. Default 10 s, three times that for what is
    /// to be on disk first.
    pub stalled_after: Option<Duration>,
    /// A reader that has waited this long for a datanode asks another one that has the block as well, and takes what comes
    /// first; none to wait for the first alone. Default 500 ms.
    pub hedge_after: Option<Duration>,
    /// How long a reader waits before it asks for locations anew, once no replica could be read; doubles each of three
    /// times, up to 3 s. Default 400 ms.
    pub location_wait: Duration,
    /// Bytes that a sequential reader fetches ahead at most. Default 4 MiB.
    pub read_ahead: usize,
    /// Blocks that one large [`Reader::read_at`](crate::Reader::read_at) fetches at the same time. Default 4.
    pub parallel_blocks: usize,
    /// Bytes of file data in one packet to a datanode; rounded down to whole checksum chunks. Default 128 KiB.
    pub packet_bytes: usize,
    /// Packets written but not yet acknowledged, at most, by each writer. Default 80.
    pub packets_in_flight: usize,
    /// How often a block is asked for anew when its pipeline cannot be set up. Default 3.
    pub block_retries: u32,
    /// How often a pipeline is mended without any packet getting through in between. Default 5.
    pub pipeline_retries: u32,
    /// What happens when a datanode of a pipeline fails.
    pub replace_datanode: ReplaceDatanode,
    /// The checksums of new files. Default CRC32C over 512 bytes.
    pub checksum: ChecksumSpec,
}

/// Whether a failed datanode of a write pipeline gets a successor while the block is still written.
/// (After that the namenode sees to it anyway.)
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplaceDatanode {
    /// Go on with those that are left.
    Never,
    /// As HDFS does by default: files of three replicas and more, when half of the pipeline or more is gone, or when
    /// somebody may already rely on the bytes (after a flush, or in an append). If no datanode can be had, go on with
    /// those that are left.
    #[default]
    Default,
    /// Always, and fail if no datanode can be had.
    Always,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self::for_user(current_user())
    }
}

impl ClientOptions {
    /// The defaults, acting as `user`.
    #[must_use]
    pub fn for_user(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            groups: Vec::new(),
            name: None,
            umask: 0o022,
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(60),
            attempt_timeout: Duration::from_secs(20),
            wait_for_start: false,
            data_timeout: Duration::from_secs(60),
            stalled_after: Some(Duration::from_secs(10)),
            hedge_after: Some(Duration::from_millis(500)),
            location_wait: Duration::from_millis(400),
            read_ahead: 4 << 20,
            parallel_blocks: 4,
            packet_bytes: 128 << 10,
            packets_in_flight: 80,
            block_retries: 3,
            pipeline_retries: 5,
            replace_datanode: ReplaceDatanode::Default,
            checksum: ChecksumSpec::DEFAULT,
        }
    }

    /// Bytes of data in a full packet under `checksum`: whole chunks, at least one, within the wire's bound.
    pub(crate) fn packet_data(&self, checksum: ChecksumSpec) -> usize {
        let chunk = checksum.bytes_per_checksum as usize;
        (self.packet_bytes.min(MAX_PACKET_BYTES / 2) / chunk).max(1) * chunk
    }
}

/// `HADOOP_USER_NAME`, else the user that the process runs as.
#[must_use]
pub fn current_user() -> String {
    let named = |variable: &str| std::env::var(variable).ok().filter(|name| !name.is_empty());
    named("HADOOP_USER_NAME")
        .or_else(system_user)
        .or_else(|| named("USER"))
        .unwrap_or_else(|| "nobody".into())
}

/// The name that the password file has for the process's user id.
fn system_user() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?;
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_holds_whole_chunks() {
        let mut options = ClientOptions::for_user("x");
        options.packet_bytes = 1_000;
        assert_eq!(options.packet_data(ChecksumSpec::DEFAULT), 512);
        options.packet_bytes = 0;
        assert_eq!(options.packet_data(ChecksumSpec::DEFAULT), 512);
        options.packet_bytes = usize::MAX;
        assert_eq!(options.packet_data(ChecksumSpec::DEFAULT), MAX_PACKET_BYTES / 2);
    }

    #[test]
    fn somebody_is_always_acting() {
        assert!(!current_user().is_empty());
    }
}
