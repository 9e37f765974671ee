//! What a failed call means to a program.

use fuser::Errno;
use steadfs_common::{FsError, FsErrorKind};

/// The result of an operation on the mount.
pub(crate) type Answer<T> = Result<T, Errno>;

/// The errno for an error of the client library. What means "try again later" to a Hadoop client has been tried again
/// until the deadline, so here it is an I/O error.
pub(crate) fn errno(error: &FsError) -> Errno {
    match error.kind() {
        FsErrorKind::Unreachable
        | FsErrorKind::Timeout
        | FsErrorKind::Standby
        | FsErrorKind::Retriable
        | FsErrorKind::Stopping
        | FsErrorKind::NotReplicatedYet
        | FsErrorKind::LeaseExpired
        | FsErrorKind::NotRegistered
        | FsErrorKind::ReplicaNotFound => Errno::EIO,
        // A program that is told EAGAIN would spin.
        FsErrorKind::RecoveryInProgress => Errno::EBUSY,
        kind => Errno::from_i32(kind.errno()),
    }
}

/// As [`errno`], and notes what cannot be told by a number.
pub(crate) fn failed(what: &'static str, error: &FsError) -> Errno {
    let errno = errno(error);
    if errno.code() == Errno::EIO.code() {
        tracing::warn!(%error, "{what}");
    } else {
        tracing::debug!(%error, "{what}");
    }
    errno
}

/// The errno of a failed operation on a local file.
pub(crate) fn local(what: &'static str, error: &std::io::Error) -> Errno {
    tracing::warn!(%error, "{what}");
    error.raw_os_error().map_or(Errno::EIO, Errno::from_i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asks_a_program_to_spin() {
        for kind in FsErrorKind::ALL {
            let errno = errno(&FsError::new(*kind, "x"));
            assert_ne!(errno.code(), Errno::EAGAIN.code(), "{kind:?}");
            assert!(errno.code() > 0);
        }
    }

    #[test]
    fn users_see_what_they_expect() {
        for (kind, expected) in [
            (FsErrorKind::NotFound, Errno::ENOENT),
            (FsErrorKind::NotEmpty, Errno::ENOTEMPTY),
            (FsErrorKind::AccessDenied, Errno::EACCES),
            (FsErrorKind::SpaceQuota, Errno::EDQUOT),
            (FsErrorKind::NoDatanode, Errno::ENOSPC),
            (FsErrorKind::SafeMode, Errno::EROFS),
            (FsErrorKind::Unreachable, Errno::EIO),
        ] {
            assert_eq!(errno(&FsError::new(kind, "x")).code(), expected.code(), "{kind:?}");
        }
    }
}
