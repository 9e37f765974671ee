//! Two hundred seeds, and the proof that a seed decides everything.

#![cfg(test)]

use std::path::Path;
use std::process::{Command, Output};

/// As many as planted bugs are looked for with.
const SEEDS: &str = "200";

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_steadfs-sim")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn nothing_acknowledged_is_lost_whatever_goes_wrong() {
    let ran = simulate(&["--seeds", SEEDS, "--jobs", "2", "--all"]);
    let failed: Vec<String> = {
        let out = text(&ran);
        let lines: Vec<&str> = out.lines().collect();
        let is_failure = |at: &usize| lines[*at].contains("FAILED");
        (0..lines.len()).filter(is_failure).map(|at| lines[at..lines.len().min(at + 3)].join("\n")).collect()
    };
    assert!(ran.status.success(), "{}\n{}", failed.join("\n"), String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn a_seed_decides_everything() {
    for seed in ["3", "4"] {
        let (one, other) = (simulate(&["--seed", seed]), simulate(&["--seed", seed]));
        assert!(one.status.success(), "{}", text(&one));
        assert_eq!(text(&one), text(&other), "the same seed was run twice: a hash over all events differs");
    }
}

#[test]
fn planted_bugs_can_still_be_planted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut patches: Vec<_> =
        std::fs::read_dir(root.join("tests/planted")).unwrap().map(|item| item.unwrap().path()).collect();
    patches.sort();
    assert!(patches.len() >= 12, "{} planted bugs", patches.len());
    for patch in patches {
        let checked =
            Command::new("git").args(["apply", "--check"]).arg(&patch).current_dir(root).output().unwrap();
        assert!(
            checked.status.success(),
            "{} does not apply any more: make it again ({})",
            patch.display(),
            String::from_utf8_lossy(&checked.stderr)
        );
    }
}
