//! `docs/SEMANTICS.md` promises nothing without a test: every row of its tables names one that exists.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the repository").to_owned()
}

/// Adds the names that `declaration` begins in files below `folder` with this ending.
fn collect(folder: &Path, ending: &str, declaration: &str, prefix: &str, names: &mut HashSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository can be read") {
        let path = entry.expect("an entry of the repository can be read").path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden && !path.ends_with("target") {
            collect(&path, ending, declaration, prefix, names);
        } else if path.extension().is_some_and(|found| found == ending) {
            let text = std::fs::read_to_string(&path).expect("source is text");
            names.extend(text.lines().filter_map(|line| {
                let rest = line.split_once(declaration)?.1;
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                (!name.is_empty()).then(|| format!("{prefix}{name}"))
            }));
        }
    }
}

fn known_tests() -> HashSet<String> {
    let mut names = HashSet::new();
    collect(&root(), "rs", "fn ", "", &mut names);
    let suites =
        std::fs::read_dir(root().join("tests/conformance")).expect("the conformance suites are here");
    for entry in suites {
        let path = entry.expect("an entry of the repository can be read").path();
        let Some(suite) = path.file_name().and_then(|name| name.to_str()?.strip_suffix("_suite.py")) else {
            continue;
        };
        let text = std::fs::read_to_string(&path).expect("source is text");
        names.extend(text.lines().filter_map(|line| {
            let name = line.trim_start().strip_prefix("def ")?.split('(').next()?;
            Some(format!("{suite}:{name}"))
        }));
    }
    names
}

/// The last cell of each row of each table, the headings left out.
fn last_cells(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
        .filter_map(|line| line.trim_end_matches(['|', ' ']).rsplit(" | ").next())
        .filter(|cell| *cell != "test")
        .collect()
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let text = std::fs::read_to_string(root().join("docs/SEMANTICS.md")).expect("docs/SEMANTICS.md is here");
    let known = known_tests();
    let cells = last_cells(&text);
    assert!(cells.len() > 20, "the tables of docs/SEMANTICS.md were not found");
    for cell in cells {
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "this row of docs/SEMANTICS.md names no test: {cell}");
        for name in named {
            assert!(known.contains(name), "docs/SEMANTICS.md names `{name}`, which is no test here");
        }
    }
}
