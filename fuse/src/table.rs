//! The machine's table of mounts.

use std::io;
use std::path::{Path, PathBuf};

/// The kind of our mounts in the table.
pub const KIND: &str = "fuse.steadfs";

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// `major:minor` of the file system.
    pub device: String,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// What kind of file system it is.
    pub kind: String,
}

/// The topmost mount at `mountpoint`. Reads a table of the kernel and touches no mount.
///
/// # Errors
/// The table cannot be read.
pub fn find(mountpoint: &Path) -> io::Result<Option<Row>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?, mountpoint))
}

/// Where the file system `device` (`major:minor`) is mounted.
///
/// # Errors
/// The table cannot be read.
pub fn all(device: &str) -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let rows = table.lines().filter_map(row).filter(|row| row.device == device);
    Ok(rows.map(|row| row.mountpoint).collect())
}

fn parse(table: &str, mountpoint: &Path) -> Option<Row> {
    table.lines().rev().filter_map(row).find(|row| row.mountpoint == mountpoint)
}

fn row(line: &str) -> Option<Row> {
    let (left, right) = line.split_once(" - ")?;
    let fields: Vec<&str> = left.split(' ').collect();
    Some(Row {
        mountpoint: PathBuf::from(unescaped(fields.get(4)?)),
        device: fields[2].to_owned(),
        kind: right.split(' ').next().unwrap_or_default().to_owned(),
    })
}

/// Spaces, tabs, newlines and backslashes are written as three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_is_found() {
        let table = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                     40 22 0:45 / /mnt/a\\040b rw,nosuid shared:1 - tmpfs x rw\n\
                     41 40 0:46 / /mnt/a\\040b rw - fuse.steadfs hdfs://nn rw,user_id=0\n";
        let row = parse(table, Path::new("/mnt/a b")).unwrap();
        assert_eq!((row.device.as_str(), row.kind.as_str()), ("0:46", KIND));
        assert_eq!(parse(table, Path::new("/mnt")), None);
        assert_eq!(parse(table, Path::new("/")).unwrap().kind, "ext4");
    }
}
