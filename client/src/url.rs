//! Addresses of file systems.

use std::fmt;
use std::str::FromStr;

use steadfs_common::{FsError, FsPath, FsResult};

/// The port of a namenode where a URL names none.
pub const DEFAULT_PORT: u16 = 8020;
const SCHEME: &str = "hdfs://";

/// Where a namenode listens: `hdfs://host:port`.
///
/// ```
/// use steadfs_client::FsUrl;
///
/// let url: FsUrl = "hdfs://namenode".parse()?;
/// assert_eq!((url.host(), url.port()), ("namenode", 8020));
/// assert_eq!(url.to_string(), "hdfs://namenode:8020");
/// # Ok::<(), steadfs_client::FsError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FsUrl {
    host: String,
    port: u16,
}

impl FsUrl {
    /// The host as written, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Splits `hdfs://host:port/a/b` into the file system and the path; without a path, that is `/`.
    /// Nothing in the path is percent-decoded: Hadoop does not either.
    ///
    /// # Errors
    /// `InvalidArgument` for what is not such a URL, and the errors of [`FsPath::parse`].
    pub fn split(text: &str) -> FsResult<(Self, FsPath)> {
        let wrong = |why: &str| {
            FsError::invalid_argument(format!(
                "`{text}` is not a file system URL ({why}): write hdfs://host:port"
            ))
        };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| wrong("it does not begin with hdfs://"))?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if authority.contains(['@', '?', '#', ' ', '%']) {
            return Err(wrong("it holds more than a host and a port"));
        }
        let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
            let (host, rest) = bracketed.split_once(']').ok_or_else(|| wrong("`]` is missing"))?;
            (
                host,
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':').ok_or_else(|| wrong("`:` is missing"))?)
                },
            )
        } else {
            authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(digits) => match digits.parse() {
                Ok(port) if port > 0 && !digits.starts_with('+') => port,
                _ => return Err(wrong("the port is not a number from 1 to 65535")),
            },
        };
        Ok((Self { host: host.to_owned(), port }, FsPath::parse(path)?))
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for FsUrl {
    type Err = FsError;

    fn from_str(text: &str) -> FsResult<Self> {
        let (url, path) = Self::split(text)?;
        if path.is_root() {
            return Ok(url);
        }
        Err(FsError::invalid_argument(format!("`{text}` names a path: the file system is {url}")))
    }
}

impl fmt::Display for FsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use steadfs_common::FsErrorKind;

    use super::*;

    #[test]
    fn hosts_ports_and_paths() {
        for (text, host, port, path) in [
            ("hdfs://nn", "nn", 8020, "/"),
            ("hdfs://nn/", "nn", 8020, "/"),
            ("hdfs://10.0.0.1:9000/a/b c", "10.0.0.1", 9000, "/a/b c"),
            ("hdfs://[::1]:1/x%20y", "::1", 1, "/x%20y"),
            ("hdfs://[fe80::1]", "fe80::1", 8020, "/"),
        ] {
            let (url, rest) = FsUrl::split(text).unwrap();
            assert_eq!((url.host(), url.port(), rest.to_string().as_str()), (host, port, path), "{text}");
            assert_eq!(url.to_string().parse::<FsUrl>().unwrap(), url);
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_a_reason() {
        for text in [
            "",
            "nn:8020",
            "http://nn",
            "hdfs://",
            "hdfs:///a",
            "hdfs://:8020",
            "hdfs://nn:0",
            "hdfs://nn:65536",
            "hdfs://nn:+1",
            "hdfs://u@nn",
            "hdfs://[::1",
            "hdfs://[::1]8020",
            "hdfs://a:b:c",
            "hdfs://nn?x",
        ] {
            let error = FsUrl::split(text).unwrap_err();
            assert_eq!(error.kind(), FsErrorKind::InvalidArgument, "{text}");
            assert!(error.message().contains("hdfs://host:port"), "{text}");
        }
        assert_eq!(FsUrl::split("hdfs://nn/a/../b").unwrap_err().kind(), FsErrorKind::InvalidPath);
        assert!("hdfs://nn/a".parse::<FsUrl>().is_err());
    }
}
