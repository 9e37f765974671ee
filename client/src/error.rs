//! Errors of the file system where the standard library wants its own.

use std::io;

use steadfs_common::{FsError, FsErrorKind};

/// `error` as an error of the standard library: the nearest kind, and itself inside.
pub(crate) fn into_io(error: FsError) -> io::Error {
    use FsErrorKind as K;
    let kind = match error.kind() {
        K::NotFound | K::ReplicaNotFound => io::ErrorKind::NotFound,
        K::AlreadyExists => io::ErrorKind::AlreadyExists,
        K::AccessDenied => io::ErrorKind::PermissionDenied,
        K::IsADirectory => io::ErrorKind::IsADirectory,
        K::NotADirectory | K::ParentNotDirectory => io::ErrorKind::NotADirectory,
        K::NotEmpty | K::TargetNotEmpty => io::ErrorKind::DirectoryNotEmpty,
        K::InvalidPath | K::InvalidArgument | K::NameTooLong | K::PathTooLong => io::ErrorKind::InvalidInput,
        K::Checksum => io::ErrorKind::InvalidData,
        K::Timeout => io::ErrorKind::TimedOut,
        K::Unreachable => io::ErrorKind::ConnectionRefused,
        K::NoSpace | K::NoDatanode | K::NoDatanodeYet => io::ErrorKind::StorageFull,
        K::SpaceQuota | K::NamespaceQuota => io::ErrorKind::QuotaExceeded,
        K::Unsupported => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
