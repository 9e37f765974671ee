//! Quotas and storage policies, with HDFS's words: what is expected here was said by HDFS 3.4.3.

use steadfs_common::{FsErrorKind, StorageType};

use super::world::{BLOCK, World, add_block, append, create, mkdirs, named, path, rename, user};
use crate::command::{BlockRef, RenameMode};
use crate::namespace::quota::Bound;
use crate::namespace::read::{ContentSummary, Reader};
use crate::namespace::subtree::Walk;
use crate::{Command, Reply};

fn quota(at: &str, names: Bound, space: Bound) -> Command {
    Command::SetQuota { path: path(at), names, space, kind: None }
}

fn type_quota(at: &str, kind: StorageType, space: Bound) -> Command {
    Command::SetQuota { path: path(at), names: Bound::Keep, space, kind: Some(kind) }
}

fn policy(at: &str, name: &str) -> Command {
    Command::SetStoragePolicy { path: path(at), policy: Some(name.into()) }
}

fn sums(world: &World, at: &str) -> ContentSummary {
    let root = user("hdfs");
    let reader = Reader { view: &world.view, caller: &root, settings: &world.settings };
    reader.content_summary(&path(at)).unwrap()
}

fn types(world: &World, at: &str) -> [u64; 2] {
    let types = sums(world, at).types;
    [types[StorageType::Ssd.index()], types[StorageType::Disk.index()]]
}

/// `/q` with a quota of names.
fn bounded(names: u64) -> World {
    let mut world = World::new();
    world.mkdirs("hdfs", "/q", 0o777).unwrap();
    world.run("hdfs", &quota("/q", Bound::Set(names), Bound::Keep)).unwrap();
    world
}

#[test]
fn names_are_bounded_and_the_first_beyond_is_told() {
    let mut world = bounded(3);
    world.mkdirs("ann", "/q/a", 0o755).unwrap();
    world.file("ann", "/q/b", &[]);
    let words =
        "The NameSpace quota (directories and files) of directory /q is exceeded: quota=3 file count=4";
    for command in [mkdirs("/q/c", 0o755), mkdirs("/q/a/b/c", 0o755), create("/q/d/e/f", "c1")] {
        assert_eq!(world.words("ann", &command), words);
        assert_eq!(world.kind("hdfs", &command), FsErrorKind::NamespaceQuota, "superusers too");
    }
    assert!(world.inode("/q/a/b").is_none(), "nothing is half made");
    let Command::Create { .. } = &create("/q/b", "c1") else { unreachable!() };
    let mut again = create("/q/b", "c1");
    if let Command::Create { overwrite, .. } = &mut again {
        *overwrite = true;
    }
    world.run("ann", &again).unwrap();
    world.run("hdfs", &quota("/q", Bound::Set(1), Bound::Keep)).unwrap();
    assert!(world.words("ann", &mkdirs("/q/c", 0o755)).ends_with("quota=1 file count=4"));
    world.run("hdfs", &quota("/q", Bound::Clear, Bound::Keep)).unwrap();
    world.mkdirs("ann", "/q/c", 0o755).unwrap();
}

#[test]
fn the_quota_that_the_first_new_folder_breaks_is_named() {
    let mut world = bounded(9);
    world.mkdirs("hdfs", "/q/in", 0o777).unwrap();
    world.run("hdfs", &quota("/q/in", Bound::Set(3), Bound::Keep)).unwrap();
    assert!(world.words("ann", &mkdirs("/q/in/1/2/3", 0o755)).contains("directory /q/in is exceeded"));
    world.run("hdfs", &quota("/q", Bound::Set(3), Bound::Keep)).unwrap();
    assert!(world.words("ann", &mkdirs("/q/in/1/2/3", 0o755)).contains("directory /q is exceeded"));
}

#[test]
fn a_moved_tree_counts_whole_and_only_where_it_is_new() {
    let mut world = bounded(2);
    world.mkdirs("hdfs", "/r/s/t", 0o777).unwrap();
    world.mkdirs("hdfs", "/q/x", 0o777).unwrap();
    let moved = rename("/r/s", "/q/s", RenameMode::Classic);
    let words =
        "The NameSpace quota (directories and files) of directory /q is exceeded: quota=2 file count=4";
    assert_eq!(world.words("hdfs", &moved), words);
    let over = rename("/r/s", "/q/x", RenameMode::Overwrite);
    assert!(world.words("hdfs", &over).ends_with("quota=2 file count=3"));
    world.run("hdfs", &rename("/r/s/t", "/q/x", RenameMode::Overwrite)).unwrap();
    world.run("hdfs", &quota("/q", Bound::Set(1), Bound::Keep)).unwrap();
    world.run("hdfs", &rename("/q/x", "/q/y", RenameMode::NoReplace)).unwrap();
}

#[test]
fn space_is_bounded_wherever_it_grows() {
    let mut world = World::new();
    world.mkdirs("hdfs", "/q", 0o777).unwrap();
    world.run("hdfs", &quota("/q", Bound::Keep, Bound::Set(3 * BLOCK))).unwrap();
    world.file("ann", "/q/f", &[10]);
    let open = world.create("ann", "/q/g").unwrap();
    let first = world.add_block(&open, None).unwrap();
    let last = BlockRef { length: 600, ..named(&first) };
    let words = "The DiskSpace quota of /q is exceeded: quota = 3000 B = 2.93 KB but diskspace consumed = 3220 B = \
                 3.14 KB";
    assert_eq!(world.words("ann", &add_block(&open, Some(last))), words);
    assert!(world.complete(&open, Some(last)).unwrap());
    assert_eq!(sums(&world, "/q").space, 1_220);
    world.run("hdfs", &quota("/q", Bound::Keep, Bound::Set(1_024))).unwrap();
    let append_new = Command::Append { path: path("/q/g"), client: "c1".into(), new_block: true };
    for grows in [
        append("/q/g", "c1"),
        append_new,
        Command::Truncate { path: path("/q/g"), length: 5, client: "c1".into() },
        Command::SetReplication { path: path("/q/g"), replication: 3 },
    ] {
        assert_eq!(world.kind("ann", &grows), FsErrorKind::SpaceQuota, "{grows:?}");
    }
    world.run("ann", &Command::SetReplication { path: path("/q/g"), replication: 1 }).unwrap();
    world.run("ann", &Command::Truncate { path: path("/q/g"), length: 0, client: "c1".into() }).unwrap();
    assert_eq!(sums(&world, "/q").space, 20);
}

#[test]
fn what_is_too_much_already_may_stay_and_be_joined() {
    let mut world = World::new();
    world.file("ann", "/open/a", &[100]);
    world.file("ann", "/open/b", &[200]);
    world.run("hdfs", &quota("/open", Bound::Set(1), Bound::Set(0))).unwrap();
    let joined = Command::Concat { target: path("/open/a"), sources: vec![path("/open/b")] };
    world.run("ann", &joined).unwrap();
    assert_eq!(sums(&world, "/open").names(), 2);
}

#[test]
fn quotas_are_set_in_hdfs_words() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[]);
    let set = |at: &str| quota(at, Bound::Set(5), Bound::Keep);
    let denied = |operation: &str| {
        format!("Access denied for user ann. Superuser privilege is required for operation {operation}")
    };
    assert_eq!(world.words("ann", &set("/open")), denied("setQuota"));
    let others = [
        (Bound::Clear, Bound::Keep, "clearQuota"),
        (Bound::Keep, Bound::Clear, "clearSpaceQuota"),
        (Bound::Keep, Bound::Set(1), "setSpaceQuota"),
    ];
    for (names, space, operation) in others {
        assert_eq!(world.words("ann", &quota("/open", names, space)), denied(operation));
    }
    assert_eq!(world.words("hdfs", &set("/open/f")), "`/open/f': Is not a directory");
    assert_eq!(world.kind("hdfs", &set("/open/f")), FsErrorKind::NotADirectory);
    assert_eq!(world.words("hdfs", &set("/none")), "Directory does not exist: /none");
    let both = Command::SetQuota {
        path: path("/open"),
        names: Bound::Set(5),
        space: Bound::Set(1),
        kind: Some(StorageType::Ssd),
    };
    assert_eq!(world.kind("hdfs", &both), FsErrorKind::UnsupportedAction);
    world.safe_mode = Some("It was turned on manually.".into());
    assert!(
        world
            .words("hdfs", &set("/open"))
            .starts_with("Cannot set quota on /open. Name node is in safe mode.")
    );
}

#[test]
fn the_owner_of_the_folder_above_may_be_let_to_set_quotas() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/mine/below", 0o755).unwrap();
    world.settings.owner_sets_quota = true;
    world.run("ann", &quota("/open/mine/below", Bound::Set(5), Bound::Keep)).unwrap();
    assert_eq!(
        world.kind("ann", &quota("/open/mine", Bound::Set(5), Bound::Keep)),
        FsErrorKind::AccessDenied
    );
    assert_eq!(world.kind("ann", &quota("/", Bound::Set(5), Bound::Keep)), FsErrorKind::AccessDenied);
}

#[test]
fn the_root_always_has_a_quota_of_names() {
    let mut world = World::new();
    assert_eq!(sums(&world, "/").quota.names, Some(i64::MAX as u64));
    world.run("hdfs", &quota("/", Bound::Set(9), Bound::Keep)).unwrap();
    assert_eq!(sums(&world, "/").quota.names, Some(9));
    world.run("hdfs", &quota("/", Bound::Clear, Bound::Keep)).unwrap();
    assert_eq!(sums(&world, "/").quota.names, Some(i64::MAX as u64));
}

#[test]
fn types_are_counted_by_policy_wherever_it_is_set() {
    let mut world = World::new();
    world.file("ann", "/open/d/e/f", &[100]);
    assert_eq!(types(&world, "/open/d"), [0, 0], "no policy, no type");
    world.run("hdfs", &policy("/open/d", "one_ssd")).unwrap();
    assert_eq!(types(&world, "/open/d/e/f"), [100, 100]);
    assert_eq!(types(&world, "/"), [100, 100]);
    world.run("hdfs", &policy("/open/d/e", "ALL_SSD")).unwrap();
    assert_eq!(types(&world, "/open"), [200, 0]);
    world.run("ann", &rename("/open/d/e/f", "/open/d/g", RenameMode::NoReplace)).unwrap();
    assert_eq!((types(&world, "/open/d"), types(&world, "/open/d/e")), ([100, 100], [0, 0]));
    world.run("ann", &Command::SetReplication { path: path("/open/d/g"), replication: 4 }).unwrap();
    assert_eq!(types(&world, "/open"), [100, 300]);
    world.run("ann", &policy("/open/d/g", "HOT")).unwrap();
    assert_eq!(types(&world, "/open"), [0, 400]);
    world.run("hdfs", &Command::SetStoragePolicy { path: path("/open/d"), policy: None }).unwrap();
    assert_eq!(types(&world, "/open"), [0, 400], "the file has its own");
}

#[test]
fn types_are_bounded() {
    let mut world = World::new();
    world.run("hdfs", &policy("/open", "ONE_SSD")).unwrap();
    world.run("hdfs", &type_quota("/open", StorageType::Ssd, Bound::Set(1_024))).unwrap();
    let file = world.file("ann", "/open/f", &[100]);
    let words =
        "Quota by storage type : SSD on path : /open is exceeded. quota = 1 KB but space consumed = 2.05 KB";
    let open = world.create("ann", "/open/g").unwrap();
    assert!(world.add_block(&open, None).is_err_and(|error| error.kind() == FsErrorKind::TypeQuota));
    world.run("hdfs", &type_quota("/open", StorageType::Ssd, Bound::Set(1_100))).unwrap();
    world.add_block(&open, None).unwrap();
    world.run("hdfs", &type_quota("/open", StorageType::Ssd, Bound::Set(1_024))).unwrap();
    let grown = append("/open/f", "c2");
    assert_eq!(world.kind("ann", &grown), FsErrorKind::TypeQuota);
    world.run("ann", &policy("/open/f", "HOT")).unwrap();
    world.run("ann", &grown).unwrap();
    assert_eq!(types(&world, "/open"), [BLOCK, 3 * BLOCK]);
    let third = world.create("ann", "/open/h").unwrap();
    let refused = world.run("ann", &add_block(&third, None)).unwrap_err();
    assert_eq!(refused.message(), words.replace("2.05", "1.95"));
    assert_eq!(file.storage_policy, 0);
}

#[test]
fn policies_are_set_in_hdfs_words() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[]);
    assert_eq!(world.words("ann", &policy("/open/f", "BAD")), "Cannot find a block policy with the name BAD");
    assert_eq!(world.words("ann", &policy("/none", "HOT")), "File/Directory does not exist: /none");
    assert!(world.words("eve", &policy("/open/f", "HOT")).contains("access=WRITE, inode=\"/open/f\""));
    let memory = "Policy BlockStoragePolicy{LAZY_PERSIST:15, storageTypes=[RAM_DISK, DISK], \
                  creationFallbacks=[DISK], replicationFallbacks=[DISK]} cannot be set after file creation.";
    assert_eq!(world.words("ann", &policy("/open/f", "LAZY_PERSIST")), memory);
    let mut lazy = create("/open/g", "c1");
    if let Command::Create { policy, .. } = &mut lazy {
        *policy = 15;
    }
    let Ok(Reply::File(file)) = world.run("ann", &lazy) else { panic!("not created") };
    assert_eq!(file.storage_policy, 15);
    let words = "Existing policy LAZY_PERSIST cannot be changed after file creation.";
    assert_eq!(world.words("ann", &policy("/open/g", "HOT")), words);
    if let Command::Create { policy, overwrite, .. } = &mut lazy {
        (*policy, *overwrite) = (99, true);
    }
    assert_eq!(world.kind("ann", &lazy), FsErrorKind::InvalidArgument);
    world.run("hdfs", &policy("/open", "COLD")).unwrap();
    let ann = user("ann");
    let reader = Reader { view: &world.view, caller: &ann, settings: &world.settings };
    assert_eq!(reader.storage_policy(&path("/open/f")).unwrap(), 2);
    assert_eq!(reader.list(&path("/open"), None, 9).unwrap().unwrap().policy, 2);
    assert_eq!(reader.storage_policy(&path("/")).unwrap(), 0);
}

#[test]
fn sums_want_leave_for_every_folder() {
    let mut world = World::new();
    world.mkdirs("hdfs", "/open/a/b", 0o755).unwrap();
    world.mkdirs("hdfs", "/open/c", 0o755).unwrap();
    let eve = user("eve");
    let walk = |world: &World, at: &str| {
        let mut walk = Walk::to_read(&world.view, &eve, &world.settings, &path(at)).unwrap();
        while walk.step(&world.view, &eve, &world.settings, 1)?.is_none() {}
        Ok::<_, steadfs_common::FsError>(())
    };
    assert!(walk(&world, "/").is_ok());
    world.run("hdfs", &super::world::chmod("/open/a/b", 0o700)).unwrap();
    let denied = walk(&world, "/").unwrap_err();
    assert!(denied.message().contains("access=READ_EXECUTE, inode=\"/open/a/b\""), "{denied}");
    assert!(walk(&world, "/open/c").is_ok());
    assert!(Walk::to_read(&world.view, &user("hdfs"), &world.settings, &path("/")).is_none());
}
