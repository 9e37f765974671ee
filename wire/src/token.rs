//! The identifier of a delegation token: who owns it, who may renew it, how long it lasts.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use steadfs_common::{FsError, FsErrorKind, FsResult};

/// The only version there is.
const VERSION: u8 = 0;
/// The longest name that is read, in bytes.
const MAX_NAME_BYTES: usize = 64 << 10;

/// A delegation token's identifier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DelegationToken {
    /// Whom it lets in.
    pub owner: String,
    /// Who may renew it.
    pub renewer: String,
    /// Who got it for the owner, if that was another.
    pub real_user: String,
    /// When it was given out, in milliseconds since 1970.
    pub issue_date: i64,
    /// When it ends at the latest, in milliseconds since 1970.
    pub max_date: i64,
    /// Its number.
    pub sequence_number: i32,
    /// The key that signed it.
    pub master_key_id: i32,
}

impl fmt::Display for DelegationToken {
    /// As Hadoop shows it in its messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "(token for {}: HDFS_DELEGATION_TOKEN owner={}, renewer={}, realUser={}, issueDate={}, maxDate={}, \
             sequenceNumber={}, masterKeyId={})",
            self.owner,
            self.owner,
            self.renewer,
            self.real_user,
            self.issue_date,
            self.max_date,
            self.sequence_number,
            self.master_key_id
        )
    }
}

impl DelegationToken {
    /// Reads the identifier of a token in the form that stands in URLs.
    ///
    /// # Errors
    /// As [`DelegationToken::parse`].
    pub fn from_url(text: &str) -> FsResult<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| cut_off())?;
        let mut input = Input(&bytes);
        let length = usize::try_from(input.long()?).map_err(|_| cut_off())?;
        Self::parse(input.0.get(..length).ok_or_else(cut_off)?)
    }

    /// Reads an identifier.
    ///
    /// # Errors
    /// Refused: it is of another version; Io: it is cut off.
    pub fn parse(bytes: &[u8]) -> FsResult<Self> {
        let mut input = Input(bytes);
        let version = input.byte()?;
        if version != VERSION {
            let version = version.cast_signed();
            return Err(FsError::refused(format!("Unknown version of delegation token {version}")));
        }
        Ok(Self {
            owner: input.text()?,
            renewer: input.text()?,
            real_user: input.text()?,
            issue_date: input.long()?,
            max_date: input.long()?,
            sequence_number: input.int()?,
            master_key_id: input.int()?,
        })
    }
}

/// Values as Hadoop's `WritableUtils` writes them.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> FsResult<u8> {
        let (first, rest) = self.0.split_first().ok_or_else(cut_off)?;
        self.0 = rest;
        Ok(*first)
    }

    /// One byte for -112 to 127; else a byte that tells sign and count, and so many bytes, highest first.
    fn long(&mut self) -> FsResult<i64> {
        let first = self.byte()?.cast_signed();
        if first >= -112 {
            return Ok(first.into());
        }
        let (count, negative) =
            if first < -120 { (-120 - i16::from(first), true) } else { (-112 - i16::from(first), false) };
        let mut value = 0_u64;
        for _ in 0..count {
            value = value << 8 | u64::from(self.byte()?);
        }
        let value = value.cast_signed();
        Ok(if negative { !value } else { value })
    }

    fn int(&mut self) -> FsResult<i32> {
        i32::try_from(self.long()?).map_err(|_| cut_off())
    }

    fn text(&mut self) -> FsResult<String> {
        let length = usize::try_from(self.long()?).ok().filter(|length| *length <= MAX_NAME_BYTES);
        let (text, rest) = length.and_then(|length| self.0.split_at_checked(length)).ok_or_else(cut_off)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| cut_off())
    }
}

fn cut_off() -> FsError {
    FsError::new(FsErrorKind::Io, "The identifier of a delegation token is cut off or damaged")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes_of_hadoop() {
        let bytes =
            b"\x00\x03ann\x03bob\x00\x8a\x01\x9a\xa5\xb6\xc7\xd8\x8a\x01\x9e\xa5\xb6\xc7\xd8\x05\x8f\xc8";
        let token = DelegationToken::parse(bytes).unwrap();
        let (owner, renewer, real) = (&*token.owner, &*token.renewer, &*token.real_user);
        assert_eq!((owner, renewer, real), ("ann", "bob", ""));
        assert_eq!((token.issue_date, token.max_date), (0x019a_a5b6_c7d8, 0x019e_a5b6_c7d8));
        assert_eq!((token.sequence_number, token.master_key_id), (5, 200));
        let other = DelegationToken::parse(&[1, 2]).unwrap_err();
        assert_eq!(other.message(), "Unknown version of delegation token 1");
        for cut in 0..bytes.len() {
            assert!(DelegationToken::parse(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_token_of_a_url_is_read() {
        let text = "HAAEcm9vdARyb290AIoBofzw1jGKAaIg_VoxDQIUMpGhkzxZzZgiYPsccaxHG-gQdjoSV0VCSERGUyBkZWxlZ2F0aW9u\
                    DzEyNy4wLjAuMToyMTMyMA";
        let token = DelegationToken::from_url(text).unwrap();
        assert_eq!((&*token.owner, &*token.renewer, token.sequence_number), ("root", "root", 13));
        for bad in ["", "bogus", "AAAAAA", "HAAE", "!!"] {
            assert!(DelegationToken::from_url(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_of_a_url_panics(text in "\\PC{0,60}") {
            let _ = DelegationToken::from_url(&text);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = DelegationToken::parse(&bytes);
            let _ = DelegationToken::parse(&[&[0], &bytes[..]].concat());
        }
    }
}
