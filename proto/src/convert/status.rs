//! An [`FsError`] as a gRPC status and back: the kind and the sentence travel in the status details.

use bytes::Bytes;
use prost::Message;
use steadfs_common::{FsError, FsErrorKind};
use tonic::{Code, Status};

use crate::steadfs::ErrorDetail;

/// Longest sentence in the details, in bytes: details are a header, and clients take 16 KiB of headers.
pub const MAX_DETAIL_BYTES: usize = 4 << 10;
/// Longest sentence in the status itself; percent-encoding may triple it.
const MAX_STATUS_BYTES: usize = 512;

/// The gRPC code that each outcome has. Clients of ours read the details; the code is for everybody else's tools.
#[must_use]
pub const fn code_of(kind: FsErrorKind) -> Code {
    match kind {
        FsErrorKind::NotFound | FsErrorKind::ReplicaNotFound => Code::NotFound,
        FsErrorKind::AlreadyExists => Code::AlreadyExists,
        FsErrorKind::ParentNotDirectory
        | FsErrorKind::NotADirectory
        | FsErrorKind::IsADirectory
        | FsErrorKind::NotEmpty
        | FsErrorKind::Refused
        | FsErrorKind::LeaseExpired
        | FsErrorKind::NotRegistered => Code::FailedPrecondition,
        FsErrorKind::AccessDenied => Code::PermissionDenied,
        FsErrorKind::InvalidPath
        | FsErrorKind::NameTooLong
        | FsErrorKind::PathTooLong
        | FsErrorKind::InvalidArgument
        | FsErrorKind::InvalidRequest => Code::InvalidArgument,
        FsErrorKind::TooManyEntries
        | FsErrorKind::NoDatanode
        | FsErrorKind::NamespaceQuota
        | FsErrorKind::SpaceQuota
        | FsErrorKind::NoSpace => Code::ResourceExhausted,
        FsErrorKind::AlreadyBeingCreated | FsErrorKind::RecoveryInProgress => Code::Aborted,
        FsErrorKind::SafeMode
        | FsErrorKind::NotReplicatedYet
        | FsErrorKind::Standby
        | FsErrorKind::Retriable
        | FsErrorKind::Unreachable
        | FsErrorKind::Stopping => Code::Unavailable,
        FsErrorKind::Unsupported | FsErrorKind::NoSuchMethod | FsErrorKind::NoSuchProtocol => Code::Unimplemented,
        FsErrorKind::Checksum | FsErrorKind::BlockMissing => Code::DataLoss,
        FsErrorKind::Timeout => Code::DeadlineExceeded,
        FsErrorKind::Io => Code::Internal,
    }
}

/// The kind that stands for a status without our details (a proxy's, or tonic's own).
const fn kind_of(code: Code) -> FsErrorKind {
    match code {
        Code::NotFound => FsErrorKind::NotFound,
        Code::AlreadyExists => FsErrorKind::AlreadyExists,
        Code::PermissionDenied | Code::Unauthenticated => FsErrorKind::AccessDenied,
        Code::InvalidArgument | Code::OutOfRange => FsErrorKind::InvalidRequest,
        Code::FailedPrecondition => FsErrorKind::Refused,
        // A peer that went away shows as `Unknown` or `Cancelled` as often as `Unavailable`.
        Code::Unavailable | Code::Unknown | Code::Cancelled => FsErrorKind::Unreachable,
        Code::Aborted | Code::ResourceExhausted => FsErrorKind::Retriable,
        Code::DeadlineExceeded => FsErrorKind::Timeout,
        Code::Unimplemented => FsErrorKind::NoSuchMethod,
        Code::DataLoss => FsErrorKind::Checksum,
        Code::Ok | Code::Internal => FsErrorKind::Io,
    }
}

/// `text` cut to at most `limit` bytes, between characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// The status that carries `error`. A sentence past [`MAX_DETAIL_BYTES`] is cut.
#[must_use]
pub fn to_status(error: &FsError) -> Status {
    let detail =
        ErrorDetail { kind: error.kind() as u32, message: cut(error.message(), MAX_DETAIL_BYTES).to_owned() };
    Status::with_details(
        code_of(error.kind()),
        cut(error.message(), MAX_STATUS_BYTES),
        Bytes::from(detail.encode_to_vec()),
    )
}

/// The error that a status carries. Without details of ours, or with a kind that only a newer server knows, the code
/// decides the kind.
#[must_use]
pub fn from_status(status: &Status) -> FsError {
    let detail = match status.details() {
        [] => None,
        bytes => ErrorDetail::decode(bytes).ok().filter(|detail| detail.kind != 0),
    };
    match detail {
        Some(detail) => {
            let known = u16::try_from(detail.kind).ok().and_then(FsErrorKind::from_number);
            FsError::new(known.unwrap_or(kind_of(status.code())), detail.message)
        }
        None => FsError::new(kind_of(status.code()), status.message().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_with_its_sentence() {
        for kind in FsErrorKind::ALL {
            let error = FsError::new(*kind, format!("what happened to /ü/{}", *kind as u16));
            let status = to_status(&error);
            assert_ne!(status.code(), Code::Ok);
            assert_eq!(from_status(&status), error);
        }
    }

    #[test]
    fn a_status_without_details_keeps_its_meaning() {
        let error = from_status(&Status::new(Code::Unavailable, "tcp connect error"));
        assert_eq!((error.kind(), error.message()), (FsErrorKind::Unreachable, "tcp connect error"));
        let garbage = Status::with_details(Code::NotFound, "gone", Bytes::from_static(b"\xff\xff\xff"));
        assert_eq!(from_status(&garbage).kind(), FsErrorKind::NotFound);
    }

    #[test]
    fn a_kind_of_a_newer_server_falls_back_to_the_code() {
        let detail = ErrorDetail { kind: 60_000, message: "new".into() };
        let status = Status::with_details(Code::PermissionDenied, "new", Bytes::from(detail.encode_to_vec()));
        assert_eq!(from_status(&status), FsError::new(FsErrorKind::AccessDenied, "new"));
    }

    #[test]
    fn long_sentences_are_cut_between_characters() {
        let error = FsError::not_found("ü".repeat(8_000));
        let status = to_status(&error);
        assert!(status.message().len() <= MAX_STATUS_BYTES);
        let back = from_status(&status);
        assert!(back.message().len() <= MAX_DETAIL_BYTES);
        assert!(error.message().starts_with(back.message()));
    }
}
