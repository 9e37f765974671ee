//! `steadfs fs` and `steadfs admin` as a person or a script runs them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use steadfs_tests::{BLOCK, TestCluster, content};

use crate::BINARY;

/// A shell's worth of one cluster.
struct Shell {
    url: String,
}

impl Shell {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.args(line.split_whitespace()).env("STEADFS_URL", &self.url).env_remove("HADOOP_USER_NAME");
        command.env("STEADFS_CONNECT_TIMEOUT", "60s").stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        let output = self.command(line).output().unwrap();
        parts(output)
    }

    /// What a command prints that must succeed.
    fn ok(&self, line: &str) -> String {
        let (code, out, err) = self.run(line);
        assert_eq!((code, err.as_str()), (0, ""), "{line}: {out}");
        out
    }

    /// The one line of a command that must fail with `code`.
    fn fails(&self, code: i32, line: &str) -> String {
        let (got, out, err) = self.run(line);
        assert_eq!((got, out.as_str()), (code, ""), "{line}: {err}");
        assert_eq!(err.lines().count(), 1, "{line}: {err}");
        err.trim_end().to_owned()
    }

    fn json(&self, line: &str) -> Vec<Value> {
        self.ok(line).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn with_input(&self, line: &str, input: &[u8]) {
        let mut child = self.command(line).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        assert!(child.wait().unwrap().success(), "{line}");
    }
}

fn parts(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Runs `script`, which blocks, beside the cluster.
async fn with_shell(datanodes: u16, script: fn(&Shell, &Path)) -> anyhow::Result<()> {
    let test = TestCluster::in_process(datanodes).await?;
    let shell = Shell { url: test.cluster.url() };
    let folder = tempfile::tempdir()?;
    let place = folder.path().to_owned();
    let done = std::thread::spawn(move || script(&shell, &place));
    while !done.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    if let Err(panic) = done.join() {
        std::panic::resume_unwind(panic);
    }
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_in_and_come_out_whole() -> anyhow::Result<()> {
    with_shell(3, |shell, place| {
        let bytes = content("big", 3 * BLOCK as usize + 77);
        let (big, back) = (place.join("big"), place.join("back"));
        std::fs::write(&big, &bytes).unwrap();
        std::fs::write(place.join("empty"), "").unwrap();
        let at = |name: &str| place.join(name).display().to_string();
        shell.ok("fs mkdir -p /in/deep");
        shell.ok(&format!("fs put {} {} /in", at("big"), at("empty")));
        assert_eq!(shell.ok("fs ls /in"), "big\ndeep/\nempty\n");
        shell.ok(&format!("fs get /in/big {}", back.display()));
        assert_eq!(std::fs::read(&back).unwrap(), bytes);
        assert!(shell.fails(1, &format!("fs get /in/big {}", back.display())).contains("-f replaces it"));
        assert!(
            shell
                .fails(1, &format!("fs put {} /in/big", at("empty")))
                .ends_with("exists already (-f replaces it)")
        );
        shell.ok(&format!("fs put -f {} /in/big", at("empty")));
        assert_eq!(shell.json("fs stat --json /in/big")[0]["length"], 0);
        shell.with_input("fs put - /in/stdin", b"from a pipe\n");
        assert_eq!(shell.ok("fs cat /in/stdin /in/stdin"), "from a pipe\nfrom a pipe\n");
        assert_eq!(shell.ok("fs cat --offset 5 --length 1 /in/stdin"), "a");
        assert_eq!(shell.ok("fs get /in/stdin -"), "from a pipe\n");
        shell.with_input("fs append - /in/stdin", b"more\n");
        assert_eq!(shell.ok("fs tail -c 8 /in/stdin"), "pe\nmore\n");
        // Nothing half done is left, on either side.
        assert_eq!(shell.ok("fs ls -R /in"), "/in/big\n/in/deep/\n/in/empty\n/in/stdin\n");
        let left: Vec<_> =
            std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_are_moved_with_globs_and_recursion() -> anyhow::Result<()> {
    with_shell(3, |shell, place| {
        let tree = place.join("tree");
        std::fs::create_dir_all(tree.join("x/y")).unwrap();
        for (name, text) in [("a.csv", "1"), ("b.csv", "22"), ("c.txt", "333"), ("x/y/deep.csv", "4444")] {
            std::fs::write(tree.join(name), text).unwrap();
        }
        let tree = tree.display();
        assert!(shell.fails(1, &format!("fs put {tree} /")).contains("-r copies it"));
        shell.ok(&format!("fs put -r {tree} /"));
        assert_eq!(shell.ok("fs ls -d /tree/*.csv"), "/tree/a.csv\n/tree/b.csv\n");
        assert_eq!(shell.ok("fs cat /tree/{b,a}.csv"), "122");
        assert_eq!(shell.ok("fs cat /tree/*/?/*.csv"), "4444");
        shell.ok("fs cp -r /tree /copy");
        shell.ok("fs mv /copy/c.txt /copy/x");
        assert_eq!(
            shell.ok("fs tree /copy"),
            "/copy\n├── a.csv\n├── b.csv\n└── x/\n    ├── c.txt\n    └── y/\n        └── deep.csv\n\n2 folders, 4 files\n"
        );
        let back = place.join("back");
        shell.ok(&format!("fs get -r /copy {}", back.display()));
        assert_eq!(std::fs::read_to_string(back.join("x/y/deep.csv")).unwrap(), "4444");
        let usage = shell.json("fs du -s --json /copy");
        assert_eq!((&usage[0]["length"], &usage[0]["files"]), (&10.into(), &4.into()));
        assert!(shell.fails(1, "fs rm /copy").contains("-r removes it"));
        shell.ok("fs rm -r /copy/* /copy");
        assert!(shell.fails(1, "fs ls /copy").starts_with("steadfs fs ls: /copy: File does not exist (look around"));
        shell.ok("fs rm -f /copy /none*");
        assert!(shell.fails(1, "fs rm -r /").contains("the root"));
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_changed_and_users_told_apart() -> anyhow::Result<()> {
    with_shell(3, |shell, _| {
        shell.ok("fs touch /file");
        shell.ok("fs chmod u=rw,go= /file");
        shell.ok("fs chown bob:staff /file");
        shell.ok("fs setrep 2 /file");
        let status = &shell.json("fs stat --json /file")[0];
        for (field, value) in [("mode", "600"), ("owner", "bob"), ("group", "staff"), ("type", "file")] {
            assert_eq!(status[field], value);
        }
        assert_eq!(status["replication"], 2);
        assert_eq!(shell.ok("fs --user bob cat /file"), "");
        let denied = shell.fails(1, "fs --user eve cat /file");
        assert!(
            denied.starts_with("steadfs fs cat: ") && denied.contains("Permission denied: user=eve"),
            "{denied}"
        );
        assert_eq!(
            shell.ok("fs checksum /file"),
            "/file\tMD5-of-0MD5-of-0CRC32\t00000000000000000000000070bc8f4b72a86921468bf8e8441dce51\n"
        );
        assert!(shell.ok("fs df").starts_with("FILE SYSTEM"));
        assert!(shell.json("fs df --json")[0]["capacity"].as_u64() > Some(0));
        assert!(shell.ok("fs ls -l /").starts_with("-rw-------  2  bob  staff"));
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_in_one_line_with_their_code() -> anyhow::Result<()> {
    with_shell(1, |shell, _| {
        assert_eq!(
            shell.fails(1, "fs cat /no/such"),
            "steadfs fs cat: /no/such: File does not exist (look around with: steadfs fs ls /no)"
        );
        assert!(shell.fails(2, "fs ls relative").contains("absolute path"));
        assert!(shell.fails(2, "fs ls --fs http://x").contains("hdfs://host:port"));
        assert!(
            shell
                .fails(1, "fs ls --fs hdfs://127.0.0.1:1")
                .contains("cannot reach the namenode at hdfs://127.0.0.1:1")
        );
        assert!(shell.fails(1, "fs mkdir /a/b").contains("-p makes it"));
        assert!(shell.fails(1, "fs ls /x*").contains("nothing matches"));
        assert!(shell.fails(1, "fs mkdir /a:b").contains("Invalid path name"));
        assert_eq!(shell.run("fs cat").0, 2);
        // What works is done all the same.
        shell.with_input("fs put - /there", b"x");
        let (code, out, err) = shell.run("fs cat /there /none /there");
        assert_eq!((code, out.as_str(), err.lines().count()), (1, "xx", 1));
        // A full URL needs nothing else.
        let output = Command::new(BINARY)
            .args(["fs", "cat", &format!("{}/there", shell.url)])
            .env_remove("STEADFS_URL")
            .output();
        assert_eq!(parts(output.unwrap()).1, "x");
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_ends_it_quietly() -> anyhow::Result<()> {
    with_shell(1, |shell, place| {
        let big = place.join("big");
        std::fs::write(&big, content("big", 4 * BLOCK as usize)).unwrap();
        shell.ok(&format!("fs put {} /big", big.display()));
        let mut child =
            shell.command("fs cat /big").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let (code, _, err) = parts(child.wait_with_output().unwrap());
        assert_eq!((code, err.as_str()), (0, ""));
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_is_wrong() -> anyhow::Result<()> {
    let mut test = TestCluster::in_process(2).await?;
    let shell = Shell { url: test.cluster.url() };
    let client = test.client().await?;
    let mut writer = client.create("/file").replication(1).await?;
    writer.write_all("x").await?;
    writer.close().await?;
    let report = &shell.json("admin report --json")[0];
    assert_eq!((&report["healthy"], &report["live_datanodes"]), (&true.into(), &2.into()));
    assert!(shell.ok("admin fsck").starts_with("/: HEALTHY (1 files"));
    assert_eq!(shell.ok("admin datanodes").lines().count(), 3);
    assert_eq!(shell.ok("admin safemode get"), "safe mode is off\n");
    shell.ok("admin safemode enter");
    assert!(shell.fails(1, "fs touch /x").contains("safe mode"));
    assert_eq!(shell.ok("admin safemode leave"), "safe mode is off\n");
    let nodes = test.cluster.endpoints().datanodes;
    let holder = client.open("/file").await?.blocks(0..1).await?[0].replicas[0].datanode.clone();
    let holder = nodes.iter().position(|node| node.uuid == holder).expect("a datanode of this cluster");
    test.cluster.stop_datanode(holder).await;
    test.live_datanodes(1).await?;
    let (code, out, _) = shell.run("admin fsck /");
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("/file: 1 B, 1 blocks") && out.contains("MISSING"), "{out}");
    let (code, out, _) = shell.run("admin fsck --json /file");
    let file: Value = serde_json::from_str(out.lines().next().unwrap_or_default())?;
    assert_eq!((code, &file["blocks"][0]["missing"]), (1, &true.into()));
    let (code, out, _) = shell.run("admin report");
    assert!(code == 1 && out.contains("a datanode is down; blocks are missing"), "{out}");
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_attributes_look_as_in_hadoops_shell() -> anyhow::Result<()> {
    with_shell(1, |shell, _| {
        let me = steadfs_client::current_user();
        shell.ok("fs mkdir -m 750 /d");
        shell.ok("fs touch /d/f");
        shell.ok("fs setfacl -R -m user:bob:rwx,default:user:bob:r-x /d");
        let (head, listed) = (format!("# owner: {me}\n# group: supergroup\n"), shell.ok("fs getfacl -R /d"));
        let folder = format!(
            "# file: /d\n{head}user::rwx\nuser:bob:rwx\ngroup::r-x\nmask::rwx\nother::---\ndefault:user::rwx\n\
             default:user:bob:r-x\ndefault:group::r-x\ndefault:mask::r-x\ndefault:other::---\n\n"
        );
        let file = format!("# file: /d/f\n{head}user::rw-\nuser:bob:rwx\ngroup::r--\nmask::rwx\nother::r--\n\n");
        assert_eq!(listed, folder + &file);
        assert!(shell.ok("fs ls -l /").contains("drwxrwx---+"));
        shell.ok("fs setfacl -k /d");
        shell.ok("fs setfacl -x user:bob,mask: /d");
        shell.ok("fs setfacl -b /d/f");
        assert_eq!(shell.ok("fs getfacl /d").lines().count(), 7);
        assert!(shell.fails(1, "fs setfacl -x user: /d").contains("the user, group and other entries are required"));
        assert!(shell.fails(2, "fs setfacl -m user:bob /d").contains("Invalid <aclSpec> : user:bob"));

        shell.ok("fs setfattr -n user.a -v text /d/f");
        shell.ok("fs setfattr -n user.b -v 0x00ff /d/f");
        shell.ok("fs setfattr -n user.c /d/f");
        let all = "# file: /d/f\nuser.c\nuser.b=0x00ff\nuser.a=\"text\"\n";
        assert_eq!(shell.ok("fs getfattr -d /d/f"), all);
        assert_eq!(shell.ok("fs getfattr -n user.a -e base64 /d/f"), "# file: /d/f\nuser.a=0sdGV4dA==\n");
        shell.ok("fs setfattr -x user.a /d/f");
        assert!(shell.fails(1, "fs getfattr -n user.a /d/f").contains("was not found"));
        assert!(shell.fails(2, "fs setfattr -n none -v x /d/f").contains("must be prefixed"));
    })
    .await
}
