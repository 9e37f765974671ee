//! The arrows between crates are those of the table in `docs/ARCHITECTURE.md`, and no others.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Crate folder → folders it may depend on; `None` may depend on all.
type Table = BTreeMap<String, Option<BTreeSet<String>>>;

#[test]
fn crates_depend_on_each_other_as_the_table_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let table = read_table(&std::fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap());
    assert!(table.len() > 10, "the table was not found: {table:?}");
    let wrong = wrong_edges(&table, &edges(root));
    assert!(wrong.is_empty(), "not in the table of docs/ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn an_arrow_too_many_is_seen() {
    let table = read_table(
        "| crate | owns | may depend on | must not |\n| --- | --- | --- | --- |\n| `a` | x | – | y |\n| `b`, `c` | x | a | y |\n",
    );
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(wrong_edges(&table, &[edge("b", "a"), edge("c", "a")]), Vec::<String>::new());
    assert_eq!(wrong_edges(&table, &[edge("a", "b"), edge("d", "a")]), ["a -> b", "d -> a"]);
}

fn wrong_edges(table: &Table, edges: &[(String, String)]) -> Vec<String> {
    let allowed = |from: &String, to: &String| match table.get(from) {
        Some(Some(list)) => list.contains(to),
        Some(None) => true,
        None => false,
    };
    edges.iter().filter(|(from, to)| !allowed(from, to)).map(|(from, to)| format!("{from} -> {to}")).collect()
}

/// Reads the rows of the table that begins with `| crate |`. In its cells `core` and `store` are short for
/// `namenode/core` and `datanode/store`.
fn read_table(text: &str) -> Table {
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| crate |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut table = Table::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let list = |cell: &str| -> BTreeSet<String> {
            let names = cell.split(',').map(|name| name.trim().trim_matches('`'));
            names.filter(|name| !matches!(*name, "" | "–" | "-")).map(long_name).collect()
        };
        let may = (cells[3] != "all").then(|| list(cells[3]));
        for name in list(cells[1]) {
            table.insert(name, may.clone());
        }
    }
    table
}

fn long_name(name: &str) -> String {
    match name {
        "core" => "namenode/core".into(),
        "store" => "datanode/store".into(),
        _ => name.into(),
    }
}

/// All arrows between the crates of the workspace, by folder, also those of tests and build scripts.
fn edges(root: &Path) -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let folder = |path: &str| Path::new(path).strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let from = folder(package["manifest_path"].as_str().unwrap().trim_end_matches("/Cargo.toml"));
        for dependency in package["dependencies"].as_array().unwrap() {
            if let Some(path) = dependency["path"].as_str() {
                edges.push((from.clone(), folder(path)));
            }
        }
    }
    edges
}
