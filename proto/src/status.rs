//! Errors over gRPC: a code for whoever only knows gRPC, and the kind and sentence for our own clients.

use prost::Message;
use steadfs_common::{FsError, FsErrorKind};
use tonic::{Code, Status};

use crate::steadfs::ErrorDetail;

/// Longest sentence in the details, in bytes: details are a header, and peers take 16 KiB of headers.
const MAX_DETAIL_BYTES: usize = 4 << 10;
/// Longest sentence in the status itself; percent-encoding may triple it.
const MAX_STATUS_BYTES: usize = 512;

/// `text` cut to at most `limit` bytes, between characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// The gRPC code of an outcome.
#[must_use]
pub const fn code(kind: FsErrorKind) -> Code {
    use FsErrorKind as K;
    match kind {
        K::NotFound | K::ReplicaNotFound | K::XAttrNotFound | K::XAttrMissing => Code::NotFound,
        K::AlreadyExists | K::XAttrExists => Code::AlreadyExists,
        K::ParentNotDirectory
        | K::NotADirectory
        | K::IsADirectory
        | K::NotEmpty
        | K::TargetNotEmpty
        | K::Refused
        | K::LeaseExpired
        | K::AlreadyBeingCreated
        | K::NotRegistered => Code::FailedPrecondition,
        K::AccessDenied | K::Unauthorized | K::InvalidToken => Code::PermissionDenied,
        K::InvalidPath
        | K::NotAbsolute
        | K::NameTooLong
        | K::PathTooLong
        | K::InvalidArgument
        | K::IllegalArgument
        | K::InvalidAcl
        | K::InvalidRequest => Code::InvalidArgument,
        K::TooManyEntries
        | K::TooManyXAttrs
        | K::NamespaceQuota
        | K::SpaceQuota
        | K::TypeQuota
        | K::NoDatanode
        | K::NoDatanodeYet
        | K::NoSpace => Code::ResourceExhausted,
        K::SafeMode
        | K::RecoveryInProgress
        | K::NotReplicatedYet
        | K::Standby
        | K::Retriable
        | K::Unreachable
        | K::Stopping => Code::Unavailable,
        K::Unsupported
        | K::ServiceFailed
        | K::UnsupportedAction
        | K::Snapshot
        | K::NoSuchMethod
        | K::NoSuchProtocol => Code::Unimplemented,
        K::Checksum | K::BlockMissing => Code::DataLoss,
        K::ContentChanged => Code::Aborted,
        K::Timeout => Code::DeadlineExceeded,
        K::Io => Code::Internal,
    }
}

/// The error as a gRPC status, with the kind in its details. A sentence past 4 KiB is cut.
#[must_use]
pub fn to_status(error: &FsError) -> Status {
    let detail = ErrorDetail {
        kind: u32::from(error.kind() as u16),
        message: cut(error.message(), MAX_DETAIL_BYTES).to_owned(),
    };
    Status::with_details(
        code(error.kind()),
        cut(error.message(), MAX_STATUS_BYTES),
        detail.encode_to_vec().into(),
    )
}

/// The error that a server sent, or what the absence of an answer from one amounts to.
#[must_use]
pub fn from_status(status: &Status) -> FsError {
    if !status.details().is_empty()
        && let Ok(detail) = ErrorDetail::decode(status.details())
        && let Some(kind) = u16::try_from(detail.kind).ok().and_then(FsErrorKind::from_number)
    {
        return FsError::new(kind, detail.message);
    }
    let kind = match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Aborted => FsErrorKind::Unreachable,
        Code::DeadlineExceeded => FsErrorKind::Timeout,
        Code::Unimplemented => FsErrorKind::NoSuchMethod,
        Code::InvalidArgument | Code::OutOfRange => FsErrorKind::InvalidRequest,
        Code::NotFound => FsErrorKind::NotFound,
        Code::AlreadyExists => FsErrorKind::AlreadyExists,
        Code::PermissionDenied | Code::Unauthenticated => FsErrorKind::AccessDenied,
        Code::ResourceExhausted => FsErrorKind::Retriable,
        Code::FailedPrecondition => FsErrorKind::Refused,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => FsErrorKind::Io,
    };
    FsError::new(
        kind,
        if status.message().is_empty() { status.code().description() } else { status.message() }.to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_and_comes_back() {
        for kind in FsErrorKind::ALL {
            assert_ne!(code(*kind), Code::Unknown, "{kind:?}");
            let error = FsError::new(*kind, "Ünicode /a/b");
            assert_eq!(from_status(&to_status(&error)), error);
        }
    }

    #[test]
    fn long_sentences_are_cut_between_characters() {
        let error = FsError::not_found("ü".repeat(8_000));
        let status = to_status(&error);
        assert!(status.message().len() <= MAX_STATUS_BYTES);
        let back = from_status(&status);
        assert!(back.message().len() <= MAX_DETAIL_BYTES && error.message().starts_with(back.message()));
    }

    #[test]
    fn a_foreign_status_has_a_kind_too() {
        let error = from_status(&Status::unavailable("connection refused"));
        assert_eq!((error.kind(), error.message()), (FsErrorKind::Unreachable, "connection refused"));
        assert_eq!(
            from_status(&Status::with_details(Code::Ok, "", vec![1, 2].into())).kind(),
            FsErrorKind::Io
        );
    }
}
