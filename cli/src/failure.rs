//! What went wrong, in one line that says what to do.

use std::fmt;
use std::io;

use steadfs_client::{FsError, FsErrorKind};

/// Why a command, or its part for one path, failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads our output any more: the end, and no failure to speak of.
    Pipe,
    /// The arguments do not go together.
    Usage(String),
    /// The file system said no, about this path if there is one.
    Remote(Option<String>, FsError),
    /// The local machine said no.
    Local(String, io::Error),
    /// A sentence.
    Other(String),
}

pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }

    /// For `map_err`: an error about `path`.
    pub(crate) fn at(path: impl Into<String>) -> impl FnOnce(FsError) -> Self {
        |error| Self::Remote(Some(path.into()), error)
    }

    /// For `map_err`: an error about the local `path`.
    pub(crate) fn local(path: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |error| Self::Local(path.into(), error)
    }
}

impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        Self::Remote(None, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Pipe => "nobody reads the output".to_owned(),
            Self::Usage(text) | Self::Other(text) => text.clone(),
            Self::Local(path, error) => format!("{path}: {}", local_sentence(error)),
            Self::Remote(path, error) => remote_sentence(path.as_deref(), error),
        };
        // One line, whatever a server or a name holds.
        for character in text.trim_end().chars() {
            if character.is_control() { write!(f, " ")? } else { write!(f, "{character}")? }
        }
        Ok(())
    }
}

/// The system's words without its number.
fn local_sentence(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

fn remote_sentence(path: Option<&str>, error: &FsError) -> String {
    let message = error.message();
    let sentence = match path {
        None => message.to_owned(),
        // "File does not exist: /x" reads better as "/x: File does not exist".
        Some(path) => match message.strip_suffix(path).and_then(|front| front.strip_suffix(": ")) {
            Some(front) => format!("{path}: {front}"),
            None if message.contains(path) => message.to_owned(),
            None => format!("{path}: {message}"),
        },
    };
    match remedy(error.kind(), path) {
        Some(remedy) => format!("{sentence} ({remedy})"),
        None => sentence,
    }
}

/// What to do about it, where the sentence does not say so itself.
fn remedy(kind: FsErrorKind, path: Option<&str>) -> Option<String> {
    let parent = || {
        let parent = path?.trim_end_matches('/').rsplit_once('/').map_or("/", |(parent, _)| parent);
        Some(if parent.is_empty() { "/" } else { parent }.to_owned())
    };
    Some(match kind {
        FsErrorKind::NotFound => format!("look around with: steadfs fs ls {}", parent()?),
        FsErrorKind::AccessDenied => "act as another user with --user, or ask the owner for chmod".into(),
        FsErrorKind::SafeMode => "steadfs admin safemode get tells why".into(),
        FsErrorKind::NoDatanode | FsErrorKind::NoDatanodeYet => {
            "steadfs admin datanodes shows who is up and how full".into()
        }
        FsErrorKind::NotEmpty => "with -r it goes with all it holds".into(),
        FsErrorKind::AlreadyBeingCreated => "wait until its writer has closed it".into(),
        FsErrorKind::SpaceQuota | FsErrorKind::NamespaceQuota => {
            "remove something, or ask for a larger quota".into()
        }
        FsErrorKind::InvalidPath => return None,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: Option<&str>, error: FsError) -> String {
        Failure::Remote(path.map(str::to_owned), error).to_string()
    }

    #[test]
    fn the_path_comes_first_and_the_remedy_last() {
        assert_eq!(
            shown(Some("/a/x"), FsError::not_found("/a/x")),
            "/a/x: File does not exist (look around with: steadfs fs ls /a)"
        );
        assert_eq!(
            shown(Some("/x"), FsError::not_found("/x")),
            "/x: File does not exist (look around with: steadfs fs ls /)"
        );
        let denied = FsError::denied("Permission denied: user=u, access=WRITE, inode=\"/x\"".into());
        assert!(shown(Some("/x"), denied).starts_with("Permission denied: user=u"));
        assert_eq!(shown(Some("/x"), FsError::refused("no")), "/x: no");
    }

    #[test]
    fn an_error_is_one_line() {
        let text = shown(None, FsError::refused("first\nsecond\r\n"));
        assert_eq!(text, "first second");
    }

    #[test]
    fn local_errors_have_no_numbers() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(Failure::Local("x".into(), error).to_string(), "x: No such file or directory");
    }
}
