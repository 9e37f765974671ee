//! The audit log and the trash.

use steadfs_namenode_core::command::Door;

use super::*;

/// A superuser who calls through a door.
fn outside(name: &str, superuser: bool) -> Caller {
    let origin = Origin { door: Door::Hadoop, context: Some("CLI".into()), ..Origin::default() };
    Caller { origin, superuser, address: Some([10, 0, 0, 7].into()), ..user(name) }
}

/// What a line says, without what is the same in all: `allowed cmd src dst perm`.
fn short(line: &str) -> String {
    let field = |name: &str| {
        line.split('\t').find_map(|field| field.strip_prefix(name)).unwrap_or_else(|| panic!("{name} {line}"))
    };
    let allowed = line.rsplit("allowed=").next().unwrap().split('\t').next().unwrap();
    format!("{allowed} {} {} {} {}", field("cmd="), field("src="), field("dst="), field("perm="))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_has_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.audit.file = folder.path().join("audit.log");
    let bench = Bench::start(config).await.unwrap();
    let (hdfs, bob) = (outside("hdfs", true), outside("bob", false));
    let service = &bench.service;
    let done = async |command: Command| drop(service.submit(&hdfs, None, command).await);
    let mkdirs =
        |text: &str| Command::Mkdirs { path: path(text), mode: 0o755, unmasked: None, create_parent: true };
    let rename = |from: &str, to: &str, mode, to_trash| Command::Rename {
        from: path(from),
        to: path(to),
        mode,
        to_trash,
    };
    done(mkdirs("/t")).await;
    for name in ["/t/f", "/t/g"] {
        done(create(name, "c")).await;
        done(Command::Complete {
            file: FileRef { path: path(name), inode: None },
            client: "c".into(),
            last: None,
            times: NewTimes::default(),
        })
        .await;
    }
    done(Command::SetPermission { path: path("/t/f"), mode: 0o600 }).await;
    done(Command::SetOwner { path: path("/t/f"), owner: Some("bob".into()), group: Some("people".into()) })
        .await;
    done(Command::SetTimes { path: path("/t/f"), mtime: Some(Millis(1)), atime: None }).await;
    done(Command::SetReplication { path: path("/t/f"), replication: 2 }).await;
    done(rename("/t/g", "/t/h", RenameMode::Classic, false)).await;
    done(rename("/t/none", "/t/h", RenameMode::Classic, false)).await;
    done(rename("/t/h", "/t/g", RenameMode::Overwrite, false)).await;
    done(rename("/t/g", "/t/h", RenameMode::NoReplace, true)).await;
    done(delete("/t/none")).await;
    done(delete("/t/h")).await;
    drop(service.submit(&bob, None, mkdirs("/bobs")).await);
    drop(service.status(&hdfs, &path("/t/f")).await);
    drop(service.list(&hdfs, &path("/t"), b"", 0, false).await);
    drop(service.check_access(&bob, &path("/t/f"), 1).await);
    drop(service.set_safe_mode(&bob, true));
    drop(service.set_safe_mode(&hdfs, false));
    drop(service.report(&hdfs).await);
    // What the namenode does by itself, and what failed without being denied, has none.
    bench.mkdirs("/inside").await.unwrap();
    drop(service.content_summary(&hdfs, &path("/t/none")).await);
    service.close_audit().await;
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    assert!(text.lines().all(|line| line.contains("\tproto=rpc\tcallerContext=CLI")), "{text}");
    assert!(
        text.lines()
            .next()
            .unwrap()
            .contains("INFO FSNamesystem.audit: allowed=true\tugi=hdfs (auth:SIMPLE)\tip=/10.0.0.7\t")
    );
    let lines: Vec<String> = text.lines().map(short).collect();
    assert_eq!(
        lines,
        [
            "true mkdirs /t null hdfs:supergroup:rwxr-xr-x",
            "true create /t/f null hdfs:supergroup:rw-r--r--",
            "true create /t/g null hdfs:supergroup:rw-r--r--",
            "true setPermission /t/f null hdfs:supergroup:rw-------",
            "true setOwner /t/f null bob:people:rw-------",
            "true setTimes /t/f null bob:people:rw-------",
            "true setReplication /t/f null null",
            "true rename /t/g /t/h hdfs:supergroup:rw-r--r--",
            "true rename (options=[OVERWRITE]) /t/h /t/g hdfs:supergroup:rw-r--r--",
            "true rename (options=[TO_TRASH]) /t/g /t/h hdfs:supergroup:rw-r--r--",
            "false delete /t/none null null",
            "true delete /t/h null null",
            "false mkdirs /bobs null null",
            "true getfileinfo /t/f null null",
            "true listStatus /t null null",
            "false checkAccess /t/f null null",
            "false safemode_enter null null null",
            "true safemode_leave null null null",
            "true datanodeReport null null null",
        ]
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trash_is_put_aside_and_emptied() {
    const INTERVAL: Duration = Duration::from_secs(60);
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    bench.service.empty_trash(INTERVAL).await.unwrap();
    bench.mkdirs("/user/ann/.Trash/Current/user/ann/x").await.unwrap();
    bench.mkdirs("/user/ann/.Trash/mine").await.unwrap();
    bench.mkdirs("/user/bob/other").await.unwrap();
    bench.service.empty_trash(INTERVAL).await.unwrap();
    // 1,700,000,000 s after 1970.
    let aside = "/user/ann/.Trash/231114221320/user/ann/x";
    assert!(bench.exists(aside).await && !bench.exists("/user/ann/.Trash/Current").await);
    bench.mkdirs("/user/ann/.Trash/Current/y").await.unwrap();
    bench.service.empty_trash(INTERVAL).await.unwrap();
    assert!(bench.exists("/user/ann/.Trash/231114221320-1/y").await, "in the same second");
    bench.clock.advance(Duration::from_secs(61));
    bench.service.empty_trash(INTERVAL).await.unwrap();
    assert!(!bench.exists(aside).await && !bench.exists("/user/ann/.Trash/231114221320-1").await);
    // Made by a client whose clock on the wall shows ten hours less: no hour of the interval is lost.
    bench.mkdirs("/user/ann/.Trash/231114121420/x").await.unwrap();
    for (minutes, there) in [(60, true), (120, false)] {
        bench.clock.advance(Duration::from_secs(60 * minutes));
        bench.service.empty_trash(INTERVAL).await.unwrap();
        assert_eq!(bench.exists("/user/ann/.Trash/231114121420").await, there, "{minutes} minutes later");
    }
    assert!(bench.exists("/user/ann/.Trash/mine").await && bench.exists("/user/bob/other").await);
    bench.stop().await;
}
