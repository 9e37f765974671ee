//! Paths in requests. Stock clients send clean ones; what HDFS says to others is said here.

use std::borrow::Cow;

use steadfs_common::limits::{MAX_PATH_CHARS, MAX_PATH_DEPTH};
use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult};

/// Characters of a path from outside that an answer repeats.
const SHOWN_CHARS: usize = 200;

/// What a path is wanted for that shall be there afterwards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A file.
    Create,
    /// Folders.
    Mkdirs,
    /// What has another name now.
    Rename,
}

/// The path of something that should be there. Empty components are forgiven.
///
/// # Errors
/// NotAbsolute; NotFound: nothing can have such a path.
pub(super) fn path(text: &str) -> FsResult<FsPath> {
    maybe(text)?.ok_or_else(|| FsError::not_found(shown(text)))
}

/// As [`path`]; none if nothing can have such a path.
///
/// # Errors
/// NotAbsolute.
pub(super) fn maybe(text: &str) -> FsResult<Option<FsPath>> {
    if !text.starts_with('/') {
        let message = format!("Absolute path required, but got '{}'", shown(text));
        return Err(FsError::new(FsErrorKind::NotAbsolute, message));
    }
    Ok(FsPath::parse(&without_empty(text)).ok())
}

/// The path of something new.
///
/// # Errors
/// InvalidPath; PathTooLong; NameTooLong.
pub(super) fn new(text: &str, purpose: Purpose) -> FsResult<FsPath> {
    let parsed = FsPath::parse(text).and_then(|path| match path.names() {
        [top, below @ ..]
            if purpose == Purpose::Create
                && top.as_str() == ".reserved"
                && !below.first().is_some_and(|name| matches!(name.as_str(), "raw" | ".inodes")) =>
        {
            Err(FsError::invalid_path(text))
        }
        _ => Ok(path),
    });
    parsed.map_err(|error| match error.kind() {
        FsErrorKind::InvalidPath => {
            let what = match purpose {
                Purpose::Create => "",
                Purpose::Mkdirs | Purpose::Rename => "Invalid file name: ",
            };
            let message = format!("Invalid path name {what}{}", shown(text));
            FsError::new(FsErrorKind::InvalidPath, message)
        }
        FsErrorKind::PathTooLong => {
            let operation = match purpose {
                Purpose::Create => "create",
                Purpose::Mkdirs => "mkdirs",
                Purpose::Rename => "rename",
            };
            let message = format!(
                "{operation}: Pathname too long.  Limit {MAX_PATH_CHARS} characters, {MAX_PATH_DEPTH} levels."
            );
            FsError::new(FsErrorKind::PathTooLong, message)
        }
        _ => error,
    })
}

fn without_empty(text: &str) -> Cow<'_, str> {
    if !text.contains("//") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for part in text.split('/').filter(|part| !part.is_empty()) {
        out.push('/');
        out.push_str(part);
    }
    if out.is_empty() { Cow::Borrowed("/") } else { Cow::Owned(out) }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hdfs_says_to_odd_paths() {
        assert_eq!(path("/a//b///").unwrap().to_string(), "/a/b");
        assert_eq!(path("//").unwrap(), FsPath::root());
        let relative = path("a/b").unwrap_err();
        assert_eq!(relative.message(), "Absolute path required, but got 'a/b'");
        assert_eq!(relative.kind().hadoop_class(), "java.lang.AssertionError");
        for odd in ["/a/../b", "/a/./b", "/a:b", "/a\0b"] {
            assert_eq!(maybe(odd).unwrap(), None, "{odd}");
            assert_eq!(path(odd).unwrap_err().kind(), FsErrorKind::NotFound);
        }
        for (odd, purpose, says) in [
            ("/a//b", Purpose::Create, "Invalid path name /a//b"),
            ("/.reserved/x", Purpose::Create, "Invalid path name /.reserved/x"),
            ("/a:b", Purpose::Mkdirs, "Invalid path name Invalid file name: /a:b"),
            ("a", Purpose::Rename, "Invalid path name Invalid file name: a"),
        ] {
            let error = new(odd, purpose).unwrap_err();
            assert_eq!((error.kind(), error.message()), (FsErrorKind::InvalidPath, says));
        }
        let long = "/x".repeat(1_200);
        assert_eq!(maybe(&long).unwrap(), None);
        assert_eq!(
            new(&long, Purpose::Mkdirs).unwrap_err().message(),
            "mkdirs: Pathname too long.  Limit 8000 characters, 1000 levels."
        );
        assert_eq!(new("/t/", Purpose::Mkdirs).unwrap().to_string(), "/t");
    }
}
