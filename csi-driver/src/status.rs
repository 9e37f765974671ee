//! Failures in the words of the interface.

use steadfs_client::FsErrorKind;
use tonic::{Code, Status};

use crate::volumes::{Failure, Outcome};

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let (code, text) = match failure {
            Failure::Invalid(text) => (Code::InvalidArgument, text),
            Failure::Exists(text) => (Code::AlreadyExists, text),
            Failure::NotFound(text) => (Code::NotFound, text),
            Failure::Range(text) => (Code::OutOfRange, text),
            Failure::Precondition(text) => (Code::FailedPrecondition, text),
            Failure::Busy(text) => (Code::Aborted, text),
            Failure::Exhausted(text) => (Code::ResourceExhausted, text),
            Failure::Cluster(error) => (code_of(error.kind()), error.message().to_owned()),
            Failure::Local(error) => (Code::Internal, format!("{error:#}")),
        };
        // The sidecars write one line into an event.
        Self::new(code, text.replace('\n', " "))
    }
}

/// What the one who asks should do: `Unavailable` is asked again, the others need somebody's help.
fn code_of(kind: FsErrorKind) -> Code {
    use FsErrorKind as Kind;
    match kind {
        Kind::Unreachable
        | Kind::Timeout
        | Kind::Retriable
        | Kind::Standby
        | Kind::Stopping
        | Kind::SafeMode => Code::Unavailable,
        Kind::NotFound => Code::NotFound,
        Kind::AccessDenied => Code::PermissionDenied,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NoSpace => Code::ResourceExhausted,
        _ => Code::Internal,
    }
}

/// The answer of a call.
pub(crate) fn answer<T>(outcome: Outcome<T>) -> Result<tonic::Response<T>, Status> {
    outcome.map(tonic::Response::new).map_err(|failure| {
        let status = Status::from(failure);
        tracing::warn!(code = ?status.code(), reason = status.message(), "refused");
        status
    })
}
