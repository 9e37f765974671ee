//! Paths in URLs.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use steadfs_common::FsPath;

use super::error::RestError;

/// Where WebHDFS begins.
pub const PREFIX: &str = "/webhdfs/v1";

/// What may stand in the value of a parameter; as in Hadoop's addresses, a port is written plainly.
const IN_VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
const IN_PATH: &AsciiSet = &IN_VALUE.add(b':').remove(b'/');

/// The path of the file system that a URL's path names.
///
/// # Errors
/// It does not begin with [`PREFIX`], or is no path.
pub fn path(url_path: &str) -> Result<FsPath, RestError> {
    let rest = url_path.strip_prefix(PREFIX).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let rest = rest.ok_or_else(|| RestError::argument(format!("The path does not begin with {PREFIX}")))?;
    match decoded(rest)?.as_str() {
        "" => Ok(FsPath::root()),
        path => Ok(FsPath::parse(path)?),
    }
}

/// `http://host:port/webhdfs/v1/path?…` with these parameters.
#[must_use]
pub fn url(authority: &str, path: &FsPath, parameters: &[(&str, &str)]) -> String {
    let path = path.to_string();
    let mut url = format!("http://{authority}{PREFIX}{}", utf8_percent_encode(&path, IN_PATH));
    for (at, (name, value)) in parameters.iter().enumerate() {
        let before = if at == 0 { '?' } else { '&' };
        write!(url, "{before}{name}={}", utf8_percent_encode(value, IN_VALUE)).expect("text takes all");
    }
    url
}

/// `hdfs://host:port/path`.
#[must_use]
pub fn file_url(authority: &str, path: &FsPath) -> String {
    format!("hdfs://{authority}{}", utf8_percent_encode(&path.to_string(), IN_PATH))
}

/// Undoes percent-encoding.
pub(super) fn decoded(text: &str) -> Result<String, RestError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| RestError::argument("The URL is not UTF-8 when decoded"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_root_and_strange_names() {
        assert_eq!(path("/webhdfs/v1").unwrap(), FsPath::root());
        assert_eq!(path("/webhdfs/v1/").unwrap(), FsPath::root());
        assert_eq!(path("/webhdfs/v1/a%20b+c/%C3%BC").unwrap().to_string(), "/a b+c/ü");
        for bad in
            ["/webhdfs/v2/a", "/webhdfs/v1a", "/webhdfs/v1/a//b", "/webhdfs/v1/%ff", "/webhdfs/v1/../x"]
        {
            assert_eq!(path(bad).unwrap_err().status(), 400, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_path_comes_back_from_its_url(name in "[^/:\\x00]{1,40}", user in "\\PC{0,20}") {
            prop_assume!(name != "." && name != ".." && name.len() < 255);
            let named = FsPath::parse(&format!("/d/{name}")).unwrap();
            let url = url("h:1", &named, &[("op", "OPEN"), ("x", &user)]);
            let (front, query) = url.strip_prefix("http://h:1").unwrap().split_once('?').unwrap();
            prop_assert_eq!(path(front).unwrap(), named);
            let query = super::super::Query::parse(query).unwrap();
            prop_assert_eq!(query.text("x"), user);
        }
    }
}
