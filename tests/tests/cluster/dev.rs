//! `steadfs dev` as a command.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use steadfs::dev::Endpoints;
use steadfs_client::Client;
use steadfs_tests::{LIMIT, verify, write};

use crate::BINARY;

/// A `steadfs dev` that is serving, and what it printed until then.
fn start(dir: &Path, more: &[&str]) -> (Child, Vec<String>) {
    let mut command = Command::new(BINARY);
    command.arg("dev").arg("--dir").arg(dir).args(["--port", "0", "--http-port", "0"]).args(more);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().starts_with("serving") {
            break;
        }
    }
    (child, lines)
}

fn endpoints(dir: &Path) -> Endpoints {
    serde_json::from_slice(&std::fs::read(dir.join("endpoints.json")).unwrap()).unwrap()
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

fn alive(pid: u32) -> bool {
    // A zombie has ended; it only waits for its parent.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_its_doors_and_has_its_files_again() -> anyhow::Result<()> {
    for mode in [&[][..], &["--processes"]] {
        let folder = tempfile::tempdir()?;
        let (mut child, lines) = start(folder.path(), mode);
        let doors = endpoints(folder.path());
        assert!(
            lines[0].ends_with(&doors.hdfs) && lines[1].ends_with(&format!("{}/", doors.http)),
            "{lines:?}"
        );
        assert_eq!((lines.len(), doors.datanodes.len()), (6, 3), "{lines:?}");
        assert_eq!(doors.namenode.pid == child.id(), mode.is_empty(), "a process of its own when asked for");
        let client = Client::connect(&doors.hdfs).await?;
        write(&client, "/file", 100_000).await?;
        signal(child.id(), "TERM");
        assert!(child.wait()?.success(), "SIGTERM ends it cleanly");
        assert!(!folder.path().join("endpoints.json").exists());

        let (mut child, _) = start(folder.path(), mode);
        let client = Client::connect(&endpoints(folder.path()).hdfs).await?;
        verify(&client, "/file", "/file", 100_000).await?;
        signal(child.id(), "INT");
        assert!(child.wait()?.success(), "ctrl-C ends it cleanly");
    }
    Ok(())
}

#[test]
fn children_die_with_their_parent() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _) = start(folder.path(), &["--processes", "--datanodes", "2"]);
    let doors = endpoints(folder.path());
    let pids: Vec<u32> = doors.datanodes.iter().map(|node| node.pid).chain([doors.namenode.pid]).collect();
    assert!(pids.iter().all(|pid| alive(*pid)));
    signal(child.id(), "KILL");
    child.wait().unwrap();
    wait_until("children outlive their parent", || !pids.iter().any(|pid| alive(*pid)));
}

/// What a `steadfs` that must not start says: one line.
fn refusal(arguments: &[&str]) -> String {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines()
        .rfind(|line| line.starts_with("steadfs: "))
        .unwrap_or_else(|| panic!("no reason in {text}"))
        .to_owned()
}

#[test]
fn what_cannot_start_says_why_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, port) = (taken.local_addr().unwrap(), taken.local_addr().unwrap().port().to_string());
    for mode in [&[][..], &["--processes"]] {
        let arguments = [&["dev", "--dir", dir, "--port", &port, "--http-port", "0"], mode].concat();
        let said = refusal(&arguments);
        assert!(said.contains(&format!("{address} is in use")), "{said}");
    }
    let said = refusal(&["dev", "--dir", dir, "--port", "0", "--http-port", "0", "--set", "dead_after=3"]);
    assert!(said.contains("`dead_after`"), "{said}");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "listen = '127.0.0.1:0'\nlissten = 3\n").unwrap();
    let said = refusal(&["namenode", "--config", file.to_str().unwrap()]);
    assert!(said.contains("node.toml:2") && said.contains("`lissten`"), "{said}");
    let said = refusal(&["datanode", "--config", "/no/such/file"]);
    assert!(said.contains("/no/such/file"), "{said}");
}

#[test]
fn one_folder_has_one_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let (mut child, _) = start(folder.path(), &["--datanodes", "1"]);
    let said = refusal(&["dev", "--dir", dir, "--port", "0", "--http-port", "0"]);
    assert!(said.contains("another cluster runs on"), "{said}");
    assert!(folder.path().join("endpoints.json").exists(), "the running cluster's endpoints stay");
    signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
}
