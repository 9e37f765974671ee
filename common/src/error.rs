//! What can go wrong, once for all doors.
//!
//! An [`FsError`] is an outcome of HDFS and the sentence HDFS has for it. Doors translate the kind by total tables
//! ([`FsErrorKind::hadoop_class`], [`FsErrorKind::errno`], and the gRPC code in `steadfs-proto`), and pass the sentence on
//! as it is, so that a user reads the same words at every door.

use std::borrow::Cow;
use std::fmt;

/// What a refusal for safe mode says if that ends by itself, without an operator: the namenode is starting.
pub const SAFE_MODE_ENDS: &str = "Safe mode will be turned off automatically";

/// The result of an operation on the file system.
pub type FsResult<T> = Result<T, FsError>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $class:literal, $errno:literal;)*) => {
        /// Every outcome that is not success. The numbers are sent and stored: a retired one is never used again.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u16)]
        pub enum FsErrorKind {
            $($(#[$doc])* $name = $number,)*
        }

        impl FsErrorKind {
            /// All kinds, for tests of the tables.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The kind with this number; none if a newer server has one that we do not know.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The exception that a Hadoop client expects for it.
            #[must_use]
            pub const fn hadoop_class(self) -> &'static str {
                match self {
                    $(Self::$name => $class,)*
                }
            }

            /// The errno (of Linux) that a mount answers with.
            #[must_use]
            pub const fn errno(self) -> i32 {
                match self {
                    $(Self::$name => $errno,)*
                }
            }
        }
    };
}

kinds! {
    /// No file or folder there.
    NotFound = 1, "java.io.FileNotFoundException", 2;
    /// Something is there already.
    AlreadyExists = 2, "org.apache.hadoop.fs.FileAlreadyExistsException", 17;
    /// A component on the way is a file (calls that create).
    ParentNotDirectory = 3, "org.apache.hadoop.fs.ParentNotDirectoryException", 20;
    /// A folder was needed, a file is there.
    NotADirectory = 4, "org.apache.hadoop.fs.PathIsNotDirectoryException", 20;
    /// A file was needed, a folder is there. HDFS says "not found" here.
    IsADirectory = 5, "java.io.FileNotFoundException", 21;
    /// The folder holds something.
    NotEmpty = 6, "org.apache.hadoop.fs.PathIsNotEmptyDirectoryException", 39;
    /// The caller may not.
    AccessDenied = 7, "org.apache.hadoop.security.AccessControlException", 13;
    /// The path is not one.
    InvalidPath = 8, "org.apache.hadoop.fs.InvalidPathException", 22;
    /// A name is longer than 255 bytes.
    NameTooLong = 9, "org.apache.hadoop.hdfs.protocol.FSLimitException$PathComponentTooLongException", 36;
    /// A path is longer or deeper than allowed.
    PathTooLong = 10, "java.io.IOException", 36;
    /// A folder is full.
    TooManyEntries = 11, "org.apache.hadoop.hdfs.protocol.FSLimitException$MaxDirectoryItemsExceededException", 28;
    /// An argument makes no sense.
    InvalidArgument = 12, "org.apache.hadoop.HadoopIllegalArgumentException", 22;
    /// HDFS's rules refuse it with a plain `IOException`.
    Refused = 13, "java.io.IOException", 5;
    /// The namenode is in safe mode.
    SafeMode = 14, "org.apache.hadoop.hdfs.server.namenode.SafeModeException", 30;
    /// The caller does not hold the file's lease, or the file is not open.
    LeaseExpired = 15, "org.apache.hadoop.hdfs.server.namenode.LeaseExpiredException", 116;
    /// Somebody else is writing the file.
    AlreadyBeingCreated = 16, "org.apache.hadoop.hdfs.protocol.AlreadyBeingCreatedException", 16;
    /// The file's last writer is being cleared away; try again.
    RecoveryInProgress = 17, "org.apache.hadoop.hdfs.protocol.RecoveryInProgressException", 11;
    /// The block before is not yet on enough datanodes; try again.
    NotReplicatedYet = 18, "org.apache.hadoop.hdfs.server.namenode.NotReplicatedYetException", 11;
    /// No datanode can take a block.
    NoDatanode = 19, "java.io.IOException", 28;
    /// The quota of names is used up.
    NamespaceQuota = 20, "org.apache.hadoop.hdfs.protocol.NSQuotaExceededException", 122;
    /// The quota of bytes is used up.
    SpaceQuota = 21, "org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", 122;
    /// HDFS knows the operation, and does not do it.
    Unsupported = 22, "java.lang.UnsupportedOperationException", 95;
    /// A method that this server does not have.
    NoSuchMethod = 23, "org.apache.hadoop.ipc.RpcNoSuchMethodException", 38;
    /// A protocol that this server does not have.
    NoSuchProtocol = 24, "org.apache.hadoop.ipc.RpcNoSuchProtocolException", 38;
    /// A message that cannot be understood.
    InvalidRequest = 25, "org.apache.hadoop.ipc.RpcServerException", 22;
    /// The datanode has no such replica.
    ReplicaNotFound = 26, "org.apache.hadoop.hdfs.server.datanode.ReplicaNotFoundException", 2;
    /// This namenode is not the one that serves.
    Standby = 27, "org.apache.hadoop.ipc.StandbyException", 11;
    /// Not now; the same call may succeed later.
    Retriable = 28, "org.apache.hadoop.ipc.RetriableException", 11;
    /// Bytes do not match their checksum on any replica.
    Checksum = 29, "org.apache.hadoop.fs.ChecksumException", 5;
    /// No replica of a block can be had.
    BlockMissing = 30, "org.apache.hadoop.hdfs.BlockMissingException", 5;
    /// The server cannot be reached or went away.
    Unreachable = 31, "java.net.ConnectException", 111;
    /// The deadline passed.
    Timeout = 32, "java.net.SocketTimeoutException", 110;
    /// The datanode is not registered, or belongs to another cluster.
    NotRegistered = 33, "org.apache.hadoop.hdfs.protocol.UnregisteredNodeException", 1;
    /// The disk or a file failed.
    Io = 34, "java.io.IOException", 5;
    /// The disk is full.
    NoSpace = 35, "org.apache.hadoop.util.DiskChecker$DiskOutOfSpaceException", 28;
    /// The folder that a rename would replace holds something: HDFS throws another exception than for a removal.
    TargetNotEmpty = 100, "java.io.IOException", 39;
    /// Somebody else has changed the file's content meanwhile.
    ContentChanged = 90, "java.io.IOException", 116;
    /// The server is stopping.
    Stopping = 36, "org.apache.hadoop.ipc.RetriableException", 11;
    /// An access control list that is none.
    InvalidAcl = 60, "org.apache.hadoop.hdfs.protocol.AclException", 22;
    /// No such extended attribute.
    XAttrNotFound = 61, "org.apache.hadoop.hdfs.protocol.XAttrNotFoundException", 61;
    /// An extended attribute is there already, and the call may not replace it.
    XAttrExists = 62, "java.io.IOException", 17;
    /// No extended attribute to replace or to remove.
    XAttrMissing = 63, "java.io.IOException", 61;
    /// An inode has as many extended attributes as it may.
    TooManyXAttrs = 68, "java.io.IOException", 28;
    /// The caller may not act for the user that it names.
    Unauthorized = 50, "org.apache.hadoop.security.authorize.AuthorizationException", 1;
    /// A token that this server did not give, or that is over.
    InvalidToken = 51, "org.apache.hadoop.security.token.SecretManager$InvalidToken", 1;
    /// A path that does not begin at the root. HDFS fails an assertion here.
    NotAbsolute = 52, "java.lang.AssertionError", 22;
    /// The quota of bytes on a type of storage is used up.
    TypeQuota = 64, "org.apache.hadoop.hdfs.protocol.QuotaByStorageTypeExceededException", 122;
    /// A value that makes no sense, where HDFS throws Java's own exception.
    IllegalArgument = 65, "java.lang.IllegalArgumentException", 22;
    /// HDFS could do it, and is not set up to.
    UnsupportedAction = 66, "org.apache.hadoop.hdfs.server.namenode.UnsupportedActionException", 95;
    /// About snapshots.
    Snapshot = 67, "org.apache.hadoop.hdfs.protocol.SnapshotException", 95;
    /// A failover tool asks for what a single namenode cannot do.
    ServiceFailed = 95, "org.apache.hadoop.ha.ServiceFailedException", 95;
    /// No datanode has registered: the namenode has just begun, or all are away. HDFS does not tell it from one that is full.
    NoDatanodeYet = 200, "java.io.IOException", 28;
}

/// What went wrong and the sentence for it.
#[derive(Clone, PartialEq, Eq)]
pub struct FsError {
    kind: FsErrorKind,
    message: Cow<'static, str>,
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for FsError {}

/// The part of a long text that a message shows.
fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 200;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl FsError {
    /// An error of `kind` that reads `message`. Prefer a constructor below where there is one.
    pub fn new(kind: FsErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Which outcome it is.
    #[must_use]
    pub const fn kind(&self) -> FsErrorKind {
        self.kind
    }

    /// The sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `File does not exist: <path>`
    pub fn not_found(path: impl fmt::Display) -> Self {
        Self::new(FsErrorKind::NotFound, format!("File does not exist: {path}"))
    }

    /// `Path is not a file: <path>`
    pub fn not_a_file(path: impl fmt::Display) -> Self {
        Self::new(FsErrorKind::IsADirectory, format!("Path is not a file: {path}"))
    }

    /// `<path> (is not a directory)`
    pub fn parent_not_directory(path: impl fmt::Display) -> Self {
        Self::new(FsErrorKind::ParentNotDirectory, format!("{path} (is not a directory)"))
    }

    /// `` `<path> is non empty': Directory is not empty ``
    pub fn not_empty(path: impl fmt::Display) -> Self {
        Self::new(FsErrorKind::NotEmpty, format!("`{path} is non empty': Directory is not empty"))
    }

    /// An [`FsErrorKind::AlreadyExists`] with its own sentence.
    pub fn exists(message: String) -> Self {
        Self::new(FsErrorKind::AlreadyExists, message)
    }

    /// An [`FsErrorKind::AccessDenied`] with its own sentence.
    pub fn denied(message: String) -> Self {
        Self::new(FsErrorKind::AccessDenied, message)
    }

    /// A plain refusal (`java.io.IOException`) with its own sentence.
    pub fn refused(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FsErrorKind::Refused, message)
    }

    /// An argument that makes no sense.
    pub fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FsErrorKind::InvalidArgument, message)
    }

    /// `Invalid path name …`, with what a path must be.
    pub fn invalid_path(text: &str) -> Self {
        Self::new(
            FsErrorKind::InvalidPath,
            format!(
                "Invalid path name `{}`: a path is absolute, its names are not empty, `.` or `..`, and hold no `:`",
                shown(text)
            ),
        )
    }

    /// A component past 255 bytes.
    pub fn name_too_long(text: &str) -> Self {
        Self::new(
            FsErrorKind::NameTooLong,
            format!(
                "The maximum path component name limit of {} in a directory is exceeded: limit={} length={}",
                shown(text),
                crate::limits::MAX_NAME_BYTES,
                text.len()
            ),
        )
    }

    /// A path past 8,000 characters or 1,000 components.
    pub fn path_too_long(text: &str) -> Self {
        Self::new(
            FsErrorKind::PathTooLong,
            format!(
                "Pathname too long. Limit {} characters, {} levels: {}",
                crate::limits::MAX_PATH_CHARS,
                crate::limits::MAX_PATH_DEPTH,
                shown(text)
            ),
        )
    }

    /// Whether the same call may succeed a moment later without anybody doing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            FsErrorKind::RecoveryInProgress
                | FsErrorKind::NotReplicatedYet
                | FsErrorKind::Standby
                | FsErrorKind::Retriable
                | FsErrorKind::Unreachable
                | FsErrorKind::Timeout
                | FsErrorKind::Stopping
        )
    }
}

impl From<std::io::Error> for FsError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound => FsErrorKind::NotFound,
            Io::AlreadyExists => FsErrorKind::AlreadyExists,
            Io::PermissionDenied => FsErrorKind::AccessDenied,
            Io::StorageFull | Io::QuotaExceeded => FsErrorKind::NoSpace,
            Io::TimedOut => FsErrorKind::Timeout,
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::BrokenPipe
            | Io::HostUnreachable
            | Io::NetworkUnreachable => FsErrorKind::Unreachable,
            _ => FsErrorKind::Io,
        };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_are_unique() {
        for kind in FsErrorKind::ALL {
            assert_eq!(FsErrorKind::from_number(*kind as u16), Some(*kind));
            assert!(kind.errno() > 0);
            assert!(kind.hadoop_class().contains('.'));
        }
        assert_eq!(FsErrorKind::from_number(0), None);
        assert_eq!(FsErrorKind::from_number(9_999), None);
    }

    #[test]
    fn long_texts_are_cut_in_messages() {
        assert!(FsError::invalid_path(&"ü".repeat(9_000)).message().len() < 700);
    }
}
