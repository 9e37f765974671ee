//! Reading configuration files.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration was not accepted. Its text is one line that names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not TOML, a key is unknown or missing, or a value is of the wrong kind.
    #[error("{}:{line}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
}

/// Reads a TOML file. Types that say `#[serde(deny_unknown_fields)]` have unknown keys refused by name.
///
/// # Errors
/// The file cannot be read, or a line of it is wrong.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    parse(&text, path)
}

/// Reads TOML from `text`; `path` is what errors name.
///
/// # Errors
/// A line of the text is wrong.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        let reason = error.message().trim().replace('\n', "; ");
        ConfigError::Content { path: path.to_path_buf(), line, reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Example {
        listen: String,
        #[serde(default)]
        threads: u32,
    }

    fn refused(text: &str) -> String {
        parse::<Example>(text, Path::new("node.toml")).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, "# a comment\nlisten = '127.0.0.1:0'\n").unwrap();
        assert_eq!(load::<Example>(&path).unwrap(), Example { listen: "127.0.0.1:0".into(), threads: 0 });
        let missing = load::<Example>(&folder.path().join("none.toml")).unwrap_err().to_string();
        assert!(missing.contains("none.toml") && missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        let unknown = refused("listen = 'a'\nthreds = 3\n");
        assert!(unknown.starts_with("node.toml:2: ") && unknown.contains("`threds`"), "{unknown}");
        let kind = refused("listen = 'a'\n\nthreads = 'three'\n");
        assert!(kind.starts_with("node.toml:3: "), "{kind}");
        let missing = refused("threads = 1\n");
        assert!(missing.contains("`listen`"), "{missing}");
        let syntax = refused("listen = 'a'\nthreads ==\n");
        assert!(syntax.starts_with("node.toml:2: ") && !syntax.contains('\n'), "{syntax}");
    }
}
