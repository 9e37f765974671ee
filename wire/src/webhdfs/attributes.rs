//! Parameters of access control lists and extended attributes.

use steadfs_common::FsError;
use steadfs_common::acl::ScopedAclEntry;
use steadfs_common::xattr::{XAttrEncoding, XAttrFlags, XAttrName};

use super::error::RestError;
use super::query::Query;

/// Hadoop's pattern of a list of entries, for messages. Its inner brackets are a union of letters in Java.
const ACL_DOMAIN: &str = "^(default:)?(user|group|mask|other):[[A-Za-z_][A-Za-z0-9._-]]*:([rwx-]{3})?(,(default:)?\
                          (user|group|mask|other):[[A-Za-z_][A-Za-z0-9._-]]*:([rwx-]{3})?)*$";
const SPEC: &str = "aclspec";
const NAME: &str = "xattr.name";
/// Longest part of a value that a message repeats, in characters.
const SHOWN_CHARS: usize = 200;

impl Query {
    /// The entries in `aclspec`. With `permissions` each has some; without, each is only named.
    ///
    /// # Errors
    /// There are none, or they are not written as Hadoop wants them.
    pub fn acl_spec(&self, operation: &str, permissions: bool) -> Result<Vec<ScopedAclEntry>, RestError> {
        let text = self.required(SPEC, operation)?;
        if !text.split(',').all(is_entry) {
            let shown: String = text.chars().take(SHOWN_CHARS).collect();
            let problem = format!("Invalid value: \"{shown}\" does not belong to the domain {ACL_DOMAIN}");
            return Err(RestError::parameter(SPEC, &problem));
        }
        Ok(ScopedAclEntry::parse_list(text, permissions)?)
    }

    /// The attribute named in `xattr.name`.
    ///
    /// # Errors
    /// There is none, or it is no attribute's.
    pub fn xattr_name(&self, operation: &str) -> Result<XAttrName, RestError> {
        Ok(XAttrName::parse(self.required(NAME, operation)?)?)
    }

    /// All attributes named in `xattr.name`.
    ///
    /// # Errors
    /// One is no attribute's name.
    pub fn xattr_names(&self) -> Result<Vec<XAttrName>, RestError> {
        let names = self.all(NAME).filter(|name| !name.is_empty());
        names.map(|name| Ok(XAttrName::parse(name)?)).collect()
    }

    /// The value in `xattr.value`; none if it is not there.
    ///
    /// # Errors
    /// It begins as a coded value does, and is none.
    pub fn xattr_value(&self) -> Result<Option<Vec<u8>>, RestError> {
        let value = self.optional("xattr.value").map(XAttrEncoding::decode).transpose();
        // Hadoop tells the name of the class that could not read it.
        let named = |error: FsError| {
            FsError::new(
                error.kind(),
                format!("org.apache.commons.codec.DecoderException: {}", error.message()),
            )
        };
        Ok(value.map_err(named)?)
    }

    /// What the call in `flag` may do.
    ///
    /// # Errors
    /// There is no flag, or an unknown one.
    pub fn xattr_flags(&self, operation: &str) -> Result<XAttrFlags, RestError> {
        let mut flags = XAttrFlags { create: false, replace: false };
        for word in self.required("flag", operation)?.split(',') {
            match word.trim().to_ascii_uppercase().as_str() {
                "CREATE" => flags.create = true,
                "REPLACE" => flags.replace = true,
                other => {
                    let class = "org.apache.hadoop.fs.XAttrSetFlag";
                    return Err(RestError::parameter("flag", &unknown(class, other)));
                }
            }
        }
        Ok(flags)
    }

    /// How values are to be written.
    ///
    /// # Errors
    /// Nothing is said, or it is not known.
    pub fn xattr_encoding(&self, operation: &str) -> Result<XAttrEncoding, RestError> {
        let word = self.required("encoding", operation)?;
        XAttrEncoding::from_word(word).ok_or_else(|| {
            let class = "org.apache.hadoop.fs.XAttrCodec";
            RestError::parameter("encoding", &unknown(class, &word.to_ascii_uppercase()))
        })
    }
}

fn unknown(class: &str, word: &str) -> String {
    let shown: String = word.chars().take(SHOWN_CHARS).collect();
    format!("No enum constant {class}.{shown}")
}

/// Whether this is an entry of the domain: kind, name and, if any, three letters.
fn is_entry(entry: &str) -> bool {
    let entry = entry.strip_prefix("default:").unwrap_or(entry);
    let [kind, name, permission] = entry.split(':').collect::<Vec<_>>()[..] else { return false };
    matches!(kind, "user" | "group" | "mask" | "other")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && matches!(permission.len(), 0 | 3)
        && permission.bytes().all(|byte| matches!(byte, b'r' | b'w' | b'x' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(raw).unwrap()
    }

    fn words<T: std::fmt::Debug>(result: Result<T, RestError>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.status(), 400);
        error.message().to_owned()
    }

    #[test]
    fn lists_are_those_of_the_domain() {
        let spec = |text: &str| query(&format!("aclspec={text}")).acl_spec("SETACL", true);
        assert_eq!(spec("user:bob:rwx,default:group::r-x,user:1b:---").unwrap().len(), 3);
        for bad in ["user:bob", "bogus:bob:rwx", "user:bob:rwxx", "user:a b:rwx", "user:bob:rwx,", "default:"]
        {
            assert!(
                words(spec(bad)).contains("does not belong to the domain ^(default:)?(user|group"),
                "{bad}"
            );
        }
        assert_eq!(words(spec("user:bob:")), "Invalid <aclSpec> : user:bob:");
        assert_eq!(words(spec("")), "Required param aclspec for op: SETACL is null or empty");
        let named = query("aclspec=user:bob:,mask::").acl_spec("REMOVEACLENTRIES", false).unwrap();
        assert_eq!(named.len(), 2);
    }

    #[test]
    fn attributes_come_in_hadoops_parameters() {
        let query = query(
            "xattr.name=user.a&xattr.name=trusted.b&xattr.value=0x01ff&flag=create,REPLACE&encoding=Base64",
        );
        assert_eq!(query.xattr_name("SETXATTR").unwrap().to_string(), "user.a");
        assert_eq!(query.xattr_names().unwrap().len(), 2);
        assert_eq!(query.xattr_value().unwrap(), Some(vec![1, 255]));
        assert_eq!(query.xattr_flags("SETXATTR").unwrap(), XAttrFlags::SET);
        assert_eq!(query.xattr_encoding("GETXATTRS").unwrap(), XAttrEncoding::Base64);
    }

    #[test]
    fn what_is_missing_or_unknown_is_said_in_hadoops_words() {
        let query = query("flag=FOO&encoding=foo&xattr.name=bad");
        assert!(words(query.xattr_name("SETXATTR")).starts_with("An XAttr name must be prefixed"));
        assert!(
            words(query.xattr_flags("SETXATTR"))
                .ends_with("No enum constant org.apache.hadoop.fs.XAttrSetFlag.FOO")
        );
        assert!(
            words(query.xattr_encoding("GETXATTRS"))
                .ends_with("No enum constant org.apache.hadoop.fs.XAttrCodec.FOO")
        );
        let empty = Query::default();
        assert_eq!(
            words(empty.xattr_encoding("GETXATTRS")),
            "Required param encoding for op: GETXATTRS is null or empty"
        );
        assert_eq!(empty.xattr_value().unwrap(), None);
        assert_eq!(empty.xattr_names().unwrap(), []);
    }
}
