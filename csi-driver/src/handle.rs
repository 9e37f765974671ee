//! Handles: what Kubernetes calls a volume.
//!
//! `v1:KEY:INODE:TOKEN` for a volume that the driver made: the key finds its entry, the inode its folder, and the token,
//! drawn at random when the volume was made, must be the one that is written on both. Nothing of a handle becomes part of a
//! path before it has this form; a handle that was made up finds nothing, or something with another token.
//!
//! Whatever does not begin with a version is the handle of a static volume, which an administrator named as he liked.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use steadfs_client::InodeId;

const VERSION: &str = "v1";
/// Hexadecimal digits of a key and of a token.
const DIGITS: usize = 32;

/// What the entry of a volume is called: a digest of the volume's name, so that any name will do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(String);

impl Key {
    /// Of the volume with this name.
    pub(crate) fn of(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        Self(digest.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        is_hexadecimal(text).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What proves that a handle was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        is_hexadecimal(text).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The handle of a volume that the driver made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) key: Key,
    pub(crate) inode: InodeId,
    pub(crate) token: Token,
}

/// It is no handle that the driver gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoHandle;

impl FromStr for Handle {
    type Err = NoHandle;

    fn from_str(text: &str) -> Result<Self, NoHandle> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(NoHandle);
        let (version, key, inode, token) = (next()?, next()?, next()?, next()?);
        if version != VERSION || parts.next().is_some() {
            return Err(NoHandle);
        }
        let number: u64 = inode.parse().map_err(|_| NoHandle)?;
        // As it is given out, and in no other way: a volume has one handle.
        if number.to_string() != inode {
            return Err(NoHandle);
        }
        Ok(Self {
            key: Key::parse(key).ok_or(NoHandle)?,
            inode: InodeId(number),
            token: Token::parse(token).ok_or(NoHandle)?,
        })
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}:{}:{}:{}", self.key, self.inode.0, self.token)
    }
}

/// Whether a handle looks like one of ours, of whatever version: it is never that of a static volume.
pub(crate) fn is_versioned(handle: &str) -> bool {
    let version = handle.split(':').next().unwrap_or_default();
    handle.contains(':')
        && version.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn is_hexadecimal(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_handle_comes_back_and_fits_the_interface() {
        let handle = Handle { key: Key::of("pvc-1"), inode: InodeId(u64::MAX), token: Token::random() };
        let text = handle.to_string();
        assert_eq!(text.parse(), Ok(handle));
        // The interface allows 128 bytes.
        assert!(text.len() <= 128, "{text}");
        assert!(
            is_versioned(&text) && is_versioned("v2:x") && !is_versioned("v1") && !is_versioned("data:x")
        );
    }

    proptest! {
        #[test]
        fn what_is_made_up_is_no_handle(text in "v1:[0-9a-f./]{30,34}:[0-9+ -]{1,22}:[0-9a-fA-F/]{31,33}|.{0,64}") {
            if let Ok(handle) = text.parse::<Handle>() {
                // Nothing that means something in a path, and one spelling alone.
                prop_assert_eq!(handle.to_string(), text.clone());
                prop_assert!(!text.contains('/') && !text.contains('.'));
            }
        }
    }
}
