//! The hosts files, in the forms that HDFS reads.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;

use serde::Deserialize;
use steadfs_common::{FsError, FsErrorKind, FsResult, Millis};
use steadfs_namenode_core::blocks::{Host, MAX_DATANODES, Roster, Wish};

use crate::config::HostsConfig;

/// The largest hosts file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// The most hosts that a file may name.
const MAX_HOSTS: usize = 4 * MAX_DATANODES;

/// A host in a combined file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostEntry {
    host_name: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    admin_state: EntryState,
    #[serde(default, rename = "maintenanceExpireTimeInMS")]
    maintenance_expires: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum EntryState {
    #[default]
    Normal,
    #[serde(alias = "DECOMMISSION_INPROGRESS")]
    Decommissioned,
    #[serde(alias = "ENTERING_MAINTENANCE")]
    InMaintenance,
}

/// Reads what the files say of datanodes. Blocks: on files, and on names that are resolved.
///
/// # Errors
/// A file cannot be read or understood: named, with the line.
pub(super) fn read(config: &HostsConfig) -> FsResult<Roster> {
    let named = |path: &Path| !path.as_os_str().is_empty();
    let mut roster = Roster::default();
    if named(&config.combined_file) {
        combined(&config.combined_file, &mut roster)?;
    }
    if named(&config.include_file) {
        roster.included = lines(&config.include_file)?;
    }
    if named(&config.exclude_file) {
        let excluded = lines(&config.exclude_file)?;
        roster.hosts = excluded.into_iter().map(|host| (host, Wish::Decommission)).collect();
    }
    Ok(roster)
}

fn unreadable(path: &Path, problem: &dyn std::fmt::Display) -> FsError {
    FsError::refused(format!("hosts file {}: {problem}", path.display()))
}

fn content(path: &Path) -> FsResult<String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 > MAX_FILE_BYTES => {
            Err(unreadable(path, &format_args!("larger than {MAX_FILE_BYTES} bytes")))
        }
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(FsError::new(
            FsErrorKind::NotFound,
            format!("{} (No such file or directory)", path.display()),
        )),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Hosts separated by blanks and line ends; `#` begins a comment.
fn lines(path: &Path) -> FsResult<Vec<Host>> {
    let text = content(path)?;
    let words = text.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace());
    let mut hosts = Vec::new();
    for word in words {
        let (name, port) =
            split(word).ok_or_else(|| unreadable(path, &format_args!("`{word}` is no host")))?;
        hosts.push(host(path, name, port, hosts.len())?);
    }
    Ok(hosts)
}

/// A host and its port, of `host`, `host:port`, `[v6]:port` or a bare v6 address.
fn split(word: &str) -> Option<(&str, Option<u16>)> {
    if word.parse::<IpAddr>().is_ok() {
        return Some((word, None));
    }
    match word.rsplit_once(':') {
        None => Some((word, None)),
        Some((name, port)) => {
            let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
            port.parse().ok().map(|port| (name, Some(port)))
        }
    }
}

fn host(path: &Path, name: &str, port: Option<u16>, before: usize) -> FsResult<Host> {
    if before >= MAX_HOSTS {
        return Err(unreadable(path, &format_args!("more than {MAX_HOSTS} hosts")));
    }
    let addresses = match name.parse() {
        Ok(ip) => vec![ip],
        // A name may be a Kubernetes node, or stand in no directory: then it is compared as it is.
        Err(_) => {
            (name, 0).to_socket_addrs().map(|found| found.map(|at| at.ip()).collect()).unwrap_or_default()
        }
    };
    Ok(Host { name: name.to_ascii_lowercase(), addresses, port: port.filter(|port| *port != 0) })
}

/// A combined file: an array of objects or, as older releases wrote it, one object after the other.
fn combined(path: &Path, roster: &mut Roster) -> FsResult<()> {
    let text = content(path)?;
    let wrong = |error: serde_json::Error| unreadable(path, &error);
    let entries: Vec<HostEntry> = if text.trim().is_empty() {
        Vec::new()
    } else if text.trim_start().starts_with('[') {
        serde_json::from_str(&text).map_err(wrong)?
    } else {
        serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().map_err(wrong)?
    };
    // As in HDFS: only a file that names a host in service keeps others out.
    let closed = entries.iter().any(|entry| entry.admin_state == EntryState::Normal);
    for (at, entry) in entries.into_iter().enumerate() {
        let host = host(path, &entry.host_name, Some(entry.port), at)?;
        if closed {
            roster.included.push(host.clone());
        }
        let wish = match entry.admin_state {
            EntryState::Normal => Wish::InService,
            EntryState::Decommissioned => Wish::Decommission,
            EntryState::InMaintenance => Wish::Maintenance { until: expiry(entry.maintenance_expires) },
        };
        roster.hosts.push((host, wish));
    }
    Ok(())
}

/// Hadoop writes its largest number for "until told otherwise".
fn expiry(millis: Option<u64>) -> Option<Millis> {
    millis.filter(|millis| *millis < i64::MAX as u64).map(Millis)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn include(text: &str) -> FsResult<Vec<Host>> {
        let (_folder, path) = written(text);
        read(&HostsConfig { include_file: path, ..HostsConfig::default() }).map(|roster| roster.included)
    }

    #[test]
    fn hosts_stand_one_a_line_or_several_with_comments() {
        let hosts = include("10.0.0.1 # the first\n\n#nobody\n10.0.0.2:9866\t::1\n[::2]:7\n").unwrap();
        let shown: Vec<_> = hosts.iter().map(|host| (host.name.as_str(), host.port)).collect();
        assert_eq!(shown, [("10.0.0.1", None), ("10.0.0.2", Some(9866)), ("::1", None), ("::2", Some(7))]);
        assert!(hosts.iter().all(|host| host.addresses.len() == 1));
        assert!(include("").unwrap().is_empty());
        assert!(include("host:port").unwrap_err().message().contains("`host:port` is no host"));
    }

    #[test]
    fn a_combined_file_is_an_array_or_a_sequence() {
        for text in [
            r#"[{"hostName":"10.0.0.1","port":1,"adminState":"DECOMMISSIONED"},
                {"hostName":"10.0.0.2","adminState":"IN_MAINTENANCE","maintenanceExpireTimeInMS":5,"upgradeDomain":"u"}]"#,
            r#"{"hostName":"10.0.0.1","port":1,"adminState":"DECOMMISSIONED"}
               {"hostName":"10.0.0.2","adminState":"IN_MAINTENANCE","maintenanceExpireTimeInMS":5}"#,
        ] {
            let (_folder, path) = written(text);
            let roster = read(&HostsConfig { combined_file: path, ..HostsConfig::default() }).unwrap();
            assert!(roster.included.is_empty(), "no host in service is named: all others are admitted");
            let wishes: Vec<Wish> = roster.hosts.iter().map(|(_, wish)| *wish).collect();
            assert_eq!(wishes, [Wish::Decommission, Wish::Maintenance { until: Some(Millis(5)) }]);
            assert_eq!(roster.hosts[0].0.port, Some(1));
        }
        let (_folder, path) = written(r#"[{"hostName":"10.0.0.1"}]"#);
        let roster = read(&HostsConfig { combined_file: path, ..HostsConfig::default() }).unwrap();
        assert_eq!(roster.included.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let missing = HostsConfig { exclude_file: "/nowhere/hosts".into(), ..HostsConfig::default() };
        let error = read(&missing).unwrap_err();
        assert_eq!(error.message(), "/nowhere/hosts (No such file or directory)");
        let (_folder, path) = written("[{]");
        let error = read(&HostsConfig { combined_file: path, ..HostsConfig::default() }).unwrap_err();
        assert!(error.message().contains("line 1"), "{error}");
    }
}
