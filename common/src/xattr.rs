//! Extended attributes: namespaces, names and how values are written.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::{FsError, FsResult};

/// The namespaces of extended attributes. The numbers are HDFS's and are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum XAttrNamespace {
    /// For whoever may read or write the file.
    User = 0,
    /// For superusers.
    Trusted = 1,
    /// The namenode's own, for security.
    Security = 2,
    /// The namenode's own.
    System = 3,
    /// System attributes that show below `/.reserved/raw` alone.
    Raw = 4,
}

impl XAttrNamespace {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::User, Self::Trusted, Self::Security, Self::System, Self::Raw];

    /// The namespace with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::User),
            1 => Some(Self::Trusted),
            2 => Some(Self::Security),
            3 => Some(Self::System),
            4 => Some(Self::Raw),
            _ => None,
        }
    }

    /// What stands before the dot of a name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Trusted => "trusted",
            Self::Security => "security",
            Self::System => "system",
            Self::Raw => "raw",
        }
    }
}

/// The full name of an extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct XAttrName {
    /// Who may see and set it.
    pub namespace: XAttrNamespace,
    /// Its name without the namespace.
    pub name: String,
}

impl XAttrName {
    /// Reads `user.name`; the namespace in any case.
    ///
    /// # Errors
    /// InvalidArgument, in Hadoop's words.
    pub fn parse(text: &str) -> FsResult<Self> {
        let unknown = || {
            FsError::invalid_argument(
                "An XAttr name must be prefixed with user/trusted/security/system/raw, followed by a '.'",
            )
        };
        let (word, name) = text.split_once('.').filter(|(word, _)| word.len() >= 3).ok_or_else(unknown)?;
        let namespace = XAttrNamespace::ALL.into_iter().find(|known| known.word().eq_ignore_ascii_case(word));
        let namespace = namespace.ok_or_else(unknown)?;
        if name.is_empty() {
            return Err(FsError::invalid_argument("XAttr name cannot be empty."));
        }
        Ok(Self { namespace, name: name.to_owned() })
    }
}

impl fmt::Display for XAttrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace.word(), self.name)
    }
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XAttr {
    /// Its name.
    pub name: XAttrName,
    /// Its bytes; none are as good as empty ones.
    pub value: Vec<u8>,
}

/// What a call that sets an attribute may do: both for "whatever is there".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XAttrFlags {
    /// Set one that is not there.
    pub create: bool,
    /// Change one that is there.
    pub replace: bool,
}

impl XAttrFlags {
    /// Sets the attribute, whatever is there.
    pub const SET: Self = Self { create: true, replace: true };
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XAttrEncoding {
    /// In quotation marks.
    Text,
    /// `0x` and hexadecimal digits.
    Hex,
    /// `0s` and Base64.
    Base64,
}

impl XAttrEncoding {
    /// The encoding with this name, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let known = [("text", Self::Text), ("hex", Self::Hex), ("base64", Self::Base64)];
        known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, encoding)| encoding)
    }

    /// Writes a value as Hadoop does.
    #[must_use]
    pub fn encode(self, value: &[u8]) -> String {
        match self {
            Self::Text => format!("\"{}\"", String::from_utf8_lossy(value)),
            Self::Hex => {
                let digits = value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                format!("0x{digits}")
            }
            Self::Base64 => format!("0s{}", BASE64.encode(value)),
        }
    }

    /// Reads a value as Hadoop does: what it begins with tells how it is written; anything else is the text itself.
    ///
    /// # Errors
    /// Refused: bad digits.
    pub fn decode(text: &str) -> FsResult<Vec<u8>> {
        let prefixed = |prefix: &str| {
            let head = text.get(..2)?;
            head.eq_ignore_ascii_case(prefix).then(|| &text[2..])
        };
        if let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            return Ok(quoted.as_bytes().to_vec());
        }
        if let Some(digits) = prefixed("0x") {
            return decode_hex(digits);
        }
        if let Some(coded) = prefixed("0s") {
            return BASE64.decode(coded).map_err(|error| FsError::refused(format!("Not Base64: {error}")));
        }
        Ok(text.as_bytes().to_vec())
    }
}

fn decode_hex(digits: &str) -> FsResult<Vec<u8>> {
    if !digits.chars().count().is_multiple_of(2) {
        return Err(FsError::refused("Odd number of characters."));
    }
    let mut value = Vec::with_capacity(digits.len() / 2);
    for (index, digit) in digits.chars().enumerate() {
        let nibble = digit.to_digit(16).ok_or_else(|| {
            FsError::refused(format!("Illegal hexadecimal character {digit} at index {index}"))
        })? as u8;
        match value.last_mut() {
            Some(last) if index % 2 == 1 => *last |= nibble,
            _ => value.push(nibble << 4),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_hadoop_reads_them() {
        let name = XAttrName::parse("USER.a.b").unwrap();
        assert_eq!((name.namespace, name.name.as_str()), (XAttrNamespace::User, "a.b"));
        assert_eq!(name.to_string(), "user.a.b");
        for bad in ["bad", "foo.bar", ".x", "us.x", ""] {
            assert!(
                XAttrName::parse(bad).unwrap_err().message().starts_with("An XAttr name must be prefixed")
            );
        }
        assert_eq!(XAttrName::parse("user.").unwrap_err().message(), "XAttr name cannot be empty.");
        for namespace in XAttrNamespace::ALL {
            assert_eq!(XAttrNamespace::from_number(namespace as u8), Some(namespace));
        }
        assert_eq!(XAttrNamespace::from_number(5), None);
    }

    #[test]
    fn values_are_written_in_three_ways() {
        let value = [0x74, 0x65, 0x78, 0x74];
        for (encoding, text) in [
            (XAttrEncoding::Text, "\"text\""),
            (XAttrEncoding::Hex, "0x74657874"),
            (XAttrEncoding::Base64, "0sdGV4dA=="),
        ] {
            assert_eq!(encoding.encode(&value), text);
            assert_eq!(XAttrEncoding::decode(text).unwrap(), value);
        }
        assert_eq!(XAttrEncoding::decode("plain").unwrap(), b"plain");
        assert_eq!(XAttrEncoding::decode("0X0aFF").unwrap(), [10, 255]);
        assert_eq!(XAttrEncoding::decode("").unwrap(), b"");
        for bad in ["0x1", "0xgg", "0s!"] {
            assert!(XAttrEncoding::decode(bad).is_err());
        }
        assert_eq!(XAttrEncoding::from_word("BASE64"), Some(XAttrEncoding::Base64));
        assert_eq!(XAttrEncoding::from_word("rot13"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            for encoding in [XAttrEncoding::Hex, XAttrEncoding::Base64] {
                prop_assert_eq!(XAttrEncoding::decode(&encoding.encode(&value)).unwrap(), value.clone());
            }
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*") {
            let _ = XAttrEncoding::decode(&text);
            let _ = XAttrName::parse(&text);
        }
    }
}
