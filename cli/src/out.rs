//! Standard output: gathered, written by a thread that may block, quiet when nobody listens.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;
use steadfs_client::Millis;
use steadfs_daemon::pool::DiskPool;

use crate::failure::{Failure, Outcome};

/// Written out when so much has gathered.
const GATHER_BYTES: usize = 64 << 10;

/// Where lines and bytes go.
pub(crate) struct Out {
    pool: DiskPool,
    gathered: Vec<u8>,
}

impl Out {
    pub(crate) fn new(pool: DiskPool) -> Self {
        Self { pool, gathered: Vec::new() }
    }

    /// A line of text.
    pub(crate) async fn line(&mut self, text: impl Display) -> Outcome<()> {
        writeln!(self.gathered, "{text}").expect("a vector grows as needed");
        self.written_if_large().await
    }

    /// A line of JSON.
    pub(crate) async fn json(&mut self, value: &impl Serialize) -> Outcome<()> {
        serde_json::to_writer(&mut self.gathered, value).expect("our values are plain data");
        self.gathered.push(b'\n');
        self.written_if_large().await
    }

    /// Bytes as they are.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.gathered.extend_from_slice(bytes);
        self.written_if_large().await
    }

    async fn written_if_large(&mut self) -> Outcome<()> {
        if self.gathered.len() >= GATHER_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Writes out what has gathered.
    pub(crate) async fn flush(&mut self) -> Outcome<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let bytes = Arc::new(std::mem::take(&mut self.gathered));
        let written = self.pool.run(move || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&bytes).and_then(|()| stdout.flush())
        });
        written.await.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Pipe,
            _ => Failure::Local("standard output".into(), error),
        })
    }
}

/// `2026-11-21 02:43`, in UTC; a dash where there is no time.
pub(crate) fn minute(time: Millis) -> String {
    if time.0 == 0 {
        return "-".into();
    }
    let text = rfc3339(time);
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

/// `2026-11-21T02:43:00.123Z`.
pub(crate) fn rfc3339(time: Millis) -> String {
    // Past the year 9999 the format has no name for it.
    const LAST: u64 = 253_402_300_799_999;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(time.0.min(LAST));
    humantime::format_rfc3339_millis(time).to_string()
}

/// A size as asked for: exact, or for people.
pub(crate) fn size(bytes: u64, exact: bool) -> String {
    if exact { bytes.to_string() } else { steadfs_common::format_bytes(bytes) }
}

/// A name as a line can show it: control characters escaped.
pub(crate) fn printable(name: &str) -> String {
    name.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// Columns of equal width: text to the left, numbers (by `right`) to the right, two spaces between.
pub(crate) fn table(head: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    use comfy_table::{CellAlignment, Table, presets};
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_bounded() {
        assert_eq!(minute(Millis(0)), "-");
        assert_eq!(minute(Millis(1_763_692_980_123)), "2025-11-21 02:43");
        assert_eq!(rfc3339(Millis(1_763_692_980_123)), "2025-11-21T02:43:00.123Z");
        assert!(rfc3339(Millis(u64::MAX)).starts_with("9999-12-31"));
    }

    #[test]
    fn tables_are_aligned_without_trailing_spaces() {
        let text = table(
            &["name", "size"],
            &[1],
            vec![vec!["a".into(), "5".into()], vec!["long".into(), "1000".into()]],
        );
        assert_eq!(text, "NAME  SIZE\na        5\nlong  1000");
    }

    #[test]
    fn names_cannot_forge_lines() {
        assert_eq!(printable("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(printable("ü b"), "ü b");
    }
}
