//! Validated names and paths: later code never checks them again.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::error::{FsError, FsResult};
use crate::limits::{MAX_NAME_BYTES, MAX_PATH_CHARS, MAX_PATH_DEPTH};

/// The name of one entry in a folder: 1 to 255 bytes of UTF-8 without `/`, `:` or NUL, and neither `.` nor `..`.
///
/// Names with `:` are refused because a stock Hadoop client cannot list a folder that holds one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`FsErrorKind::InvalidPath`](crate::FsErrorKind::InvalidPath) or
    /// [`FsErrorKind::NameTooLong`](crate::FsErrorKind::NameTooLong).
    pub fn new(text: &str) -> FsResult<Self> {
        if text.len() > MAX_NAME_BYTES {
            return Err(FsError::name_too_long(text));
        }
        if text.is_empty() || text == "." || text == ".." || text.contains(['/', ':', '\0']) {
            return Err(FsError::invalid_path(text));
        }
        Ok(Self(text.into()))
    }

    /// The first of all names in byte order.
    #[must_use]
    pub fn smallest() -> Self {
        Self("\u{1}".into())
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// An absolute path whose components are [`Name`]s: at most 8,000 characters and 1,000 components.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FsPath(Vec<Name>);

impl FsPath {
    /// The root, `/`.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Checks `text`: absolute, no empty component (one `/` at the end is forgiven), no `.` or `..`.
    ///
    /// # Errors
    /// [`FsErrorKind::InvalidPath`](crate::FsErrorKind::InvalidPath),
    /// [`FsErrorKind::PathTooLong`](crate::FsErrorKind::PathTooLong) or
    /// [`FsErrorKind::NameTooLong`](crate::FsErrorKind::NameTooLong).
    pub fn parse(text: &str) -> FsResult<Self> {
        if text.len() > MAX_PATH_CHARS && text.chars().count() > MAX_PATH_CHARS {
            return Err(FsError::path_too_long(text));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(FsError::invalid_path(text));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return if text.len() <= 1 { Ok(Self::root()) } else { Err(FsError::invalid_path(text)) };
        }
        let names = rest
            .split('/')
            .map(|part| {
                Name::new(part).map_err(|error| match error.kind() {
                    crate::FsErrorKind::InvalidPath => FsError::invalid_path(text),
                    _ => error,
                })
            })
            .collect::<FsResult<Vec<_>>>()?;
        if names.len() > MAX_PATH_DEPTH {
            return Err(FsError::path_too_long(text));
        }
        Ok(Self(names))
    }

    /// The components, outermost first; none for the root.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last component; none for the root.
    #[must_use]
    pub fn file_name(&self) -> Option<&Name> {
        self.0.last()
    }

    /// The folder that holds this; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, parents) = self.0.split_last()?;
        Some(Self(parents.to_vec()))
    }

    /// This folder's entry `name`.
    #[must_use]
    pub fn join(&self, name: Name) -> Self {
        let mut names = self.0.clone();
        names.push(name);
        Self(names)
    }

    /// The first `depth` components.
    #[must_use]
    pub fn prefix(&self, depth: usize) -> Self {
        Self(self.0[..depth.min(self.0.len())].to_vec())
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl FromIterator<Name> for FsPath {
    /// The path of these components. The caller keeps to the bounds (they come from stored entries).
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

impl fmt::Display for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl fmt::Debug for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl std::str::FromStr for FsPath {
    type Err = FsError;

    fn from_str(text: &str) -> FsResult<Self> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::FsErrorKind;

    #[test]
    fn good_paths_print_as_they_came() {
        for text in ["/", "/a", "/a/b c/ü", "/.snap", "/a/...", "/-rf", "/a\nb", "/%2e%2e"] {
            assert_eq!(FsPath::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(FsPath::parse("/a/").unwrap().to_string(), "/a");
    }

    #[test]
    fn bad_paths_are_refused() {
        for text in ["", "a", "//", "/a//b", "/a/../b", "/.", "/a:b", "/a\0"] {
            assert_eq!(FsPath::parse(text).unwrap_err().kind(), FsErrorKind::InvalidPath, "{text:?}");
        }
    }

    #[test]
    fn bounds_hold_exactly() {
        let name = "n".repeat(255);
        assert!(FsPath::parse(&format!("/{name}")).is_ok());
        assert_eq!(FsPath::parse(&format!("/{name}n")).unwrap_err().kind(), FsErrorKind::NameTooLong);
        assert!(FsPath::parse(&"/a".repeat(1_000)).is_ok());
        assert_eq!(FsPath::parse(&"/a".repeat(1_001)).unwrap_err().kind(), FsErrorKind::PathTooLong);
        let wide = format!("/{}", vec!["ü".repeat(124); 64].join("/"));
        assert_eq!(wide.chars().count(), 8_000);
        assert!(FsPath::parse(&wide).is_ok());
        assert_eq!(FsPath::parse(&format!("{wide}ü")).unwrap_err().kind(), FsErrorKind::PathTooLong);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back(text in "\\PC{0,40}|(/[a-c.:/]{0,6}){0,6}") {
            if let Ok(path) = FsPath::parse(&text) {
                let printed = path.to_string();
                let slashed = format!("{printed}/");
                prop_assert!(printed == text || slashed == text);
                prop_assert_eq!(FsPath::parse(&printed).unwrap(), path);
            }
        }
    }
}
