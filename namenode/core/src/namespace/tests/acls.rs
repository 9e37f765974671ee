//! Access control lists: what they let, and what they are handed on to.

use steadfs_common::FsErrorKind;
use steadfs_common::acl::ScopedAclEntry;

use super::world::{World, chmod, chown, create, delete, mkdirs, path, rename, user};
use crate::acl::AclChange;
use crate::command::RenameMode;
use crate::event::{EventKind, MetadataChange};
use crate::namespace::read::{Action, Reader};
use crate::namespace::subtree::{Clearance, Walk};
use crate::{Command, Reply};

fn modify(at: &str, list: &str) -> Command {
    let change = AclChange::Modify(ScopedAclEntry::parse_list(list, true).unwrap());
    Command::SetAcl { path: path(at), change }
}

fn reader(world: &World) -> Reader<'_> {
    static ROOT: std::sync::LazyLock<crate::Caller> = std::sync::LazyLock::new(|| user("hdfs"));
    Reader { view: &world.view, caller: &ROOT, settings: &world.settings }
}

/// The entries beyond the mode, and the mode.
fn acl(world: &World, at: &str) -> (String, u16) {
    let status = reader(world).acl_status(&path(at)).unwrap();
    let entries: Vec<_> = status.entries.iter().map(ToString::to_string).collect();
    (entries.join(","), status.mode)
}

fn unmasked(at: &str, masked: u16, before: u16) -> Command {
    Command::Mkdirs { path: path(at), mode: masked, unmasked: Some(before), create_parent: true }
}

#[test]
fn named_users_and_groups_may_what_the_mask_lets() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o700).unwrap();
    assert_eq!(world.kind("bob", &mkdirs("/open/d/x", 0o755)), FsErrorKind::AccessDenied);
    world.run("ann", &modify("/open/d", "user:bob:rwx,group:dev:r-x")).unwrap();
    world.mkdirs("bob", "/open/d/x", 0o755).unwrap();
    let may = |world: &World, who: &str, action| {
        let caller = user(who);
        let reader = Reader { view: &world.view, caller: &caller, settings: &world.settings };
        reader.check_access(&path("/open/d"), action).is_ok()
    };
    assert!(may(&world, "eve", Action::READ_EXECUTE) && !may(&world, "eve", Action::WRITE));
    assert_eq!(acl(&world, "/open/d"), ("user:bob:rwx,group::---,group:dev:r-x".into(), 0o770));
    // A chmod of the group's bits is one of the mask.
    world.run("ann", &chmod("/open/d", 0o750)).unwrap();
    assert!(may(&world, "bob", Action::READ_EXECUTE) && !may(&world, "bob", Action::WRITE));
    assert_eq!(
        world.words("bob", &mkdirs("/open/d/y", 0o755)),
        "Permission denied: user=bob, access=WRITE, inode=\"/open/d\":ann:supergroup:drwxr-x---"
    );
    world.run("ann", &chmod("/open/d", 0o700)).unwrap();
    assert!(!may(&world, "bob", Action::READ) && !may(&world, "eve", Action::READ));
    assert_eq!(acl(&world, "/open/d"), ("user:bob:rwx,group::---,group:dev:r-x".into(), 0o700));
}

#[test]
fn owners_and_superusers_change_lists() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    assert_eq!(
        world.words("bob", &modify("/open/d", "user:bob:rwx")),
        "Permission denied. user=bob is not the owner of inode=/open/d"
    );
    world.run("hdfs", &modify("/open/d", "user:bob:rwx")).unwrap();
    assert_eq!(
        world.words("ann", &modify("/open/none", "user:bob:rwx")),
        "Directory/File does not exist /open/none"
    );
    let changed = world.inode("/open/d").unwrap().changed;
    world.run("ann", &modify("/open/d", "user:bob:rwx")).unwrap();
    assert_eq!(world.inode("/open/d").unwrap().changed, changed, "the same again changes nothing");
    world.run("hdfs", &chown("/open/d", "eve")).unwrap();
    assert_eq!(acl(&world, "/open/d").0, "user:bob:rwx,group::r-x");
    world.run("eve", &Command::SetAcl { path: path("/open/d"), change: AclChange::Remove }).unwrap();
    assert_eq!(acl(&world, "/open/d"), (String::new(), 0o755));
    let missing = reader(&world).acl_status(&path("/open/none")).unwrap_err();
    assert_eq!(missing.message(), "cannot find /open/none");
    // Whoever may pass the folders above may look, whatever the mode says.
    world.run("eve", &chmod("/open/d", 0)).unwrap();
    let bob = user("bob");
    let reader = Reader { view: &world.view, caller: &bob, settings: &world.settings };
    assert!(reader.acl_status(&path("/open/d")).is_ok());
}

#[test]
fn what_is_made_in_a_folder_inherits_its_defaults() {
    const DEFAULT: &str =
        "default:user::rwx,default:user:bob:rwx,default:group::r-x,default:mask::rwx,default:other::---";
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o750).unwrap();
    world.run("ann", &modify("/open/d", "default:user:bob:rwx")).unwrap();
    assert_eq!(acl(&world, "/open/d"), (DEFAULT.into(), 0o750));
    // A client that tells the mode before its umask gets that: the defaults take the umask's place.
    world.run("ann", &unmasked("/open/d/new", 0o755, 0o777)).unwrap();
    assert_eq!(acl(&world, "/open/d/new"), (format!("user:bob:rwx,group::r-x,{DEFAULT}"), 0o770));
    world.run("ann", &mkdirs("/open/d/old", 0o755)).unwrap();
    assert_eq!(acl(&world, "/open/d/old"), (format!("user:bob:rwx,group::r-x,{DEFAULT}"), 0o750));
    // Folders on the way begin alike, and need not be filled by their mask's grace.
    world.run("ann", &unmasked("/open/d/p/q/r", 0o700, 0o700)).unwrap();
    for at in ["/open/d/p", "/open/d/p/q", "/open/d/p/q/r"] {
        assert_eq!(acl(&world, at), (format!("user:bob:rwx,group::r-x,{DEFAULT}"), 0o700));
    }
    // A file gets no defaults; the folders above it that it makes take their mode from the folder that was there.
    world.run("ann", &create("/open/d/s/t/f", "c1")).unwrap();
    assert_eq!(acl(&world, "/open/d/s/t"), (format!("user:bob:rwx,group::r-x,{DEFAULT}"), 0o750));
    assert_eq!(acl(&world, "/open/d/s/t/f"), ("user:bob:rwx,group::r-x".into(), 0o640));
    // Moving in hands nothing on.
    world.mkdirs("ann", "/open/plain", 0o755).unwrap();
    world.run("ann", &rename("/open/plain", "/open/d/plain", RenameMode::Classic)).unwrap();
    assert_eq!(acl(&world, "/open/d/plain"), (String::new(), 0o755));
    world.run("ann", &rename("/open/d/new", "/open/new", RenameMode::Classic)).unwrap();
    assert!(acl(&world, "/open/new").0.starts_with("user:bob:rwx,"), "moving out takes nothing away");
}

#[test]
fn a_file_that_is_overwritten_begins_anew() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[10]);
    world.run("ann", &modify("/open/f", "user:bob:rwx")).unwrap();
    let mut again = create("/open/f", "c1");
    if let Command::Create { overwrite, .. } = &mut again {
        *overwrite = true;
    }
    world.run("ann", &again).unwrap();
    assert_eq!(acl(&world, "/open/f"), (String::new(), 0o644));
}

#[test]
fn deleting_a_tree_asks_the_lists_in_it() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/t", 0o777).unwrap();
    world.mkdirs("ann", "/open/t/a", 0o777).unwrap();
    world.mkdirs("ann", "/open/t/a/b", 0o755).unwrap();
    world.run("ann", &modify("/open/t/a", "user:bob:r-x")).unwrap();
    let refused = world.run("bob", &delete("/open/t", true)).unwrap_err();
    assert_eq!(
        refused.message(),
        "Permission denied: user=bob, access=ALL, inode=\"/open/t/a\":ann:supergroup:drwxrwxrwx"
    );
    // A walk that was made before the list changed is made again.
    world.run("ann", &modify("/open/t/a", "user:bob:rwx")).unwrap();
    let (bob, command) = (user("bob"), delete("/open/t", true));
    let mut walk = Walk::begin(&world.view, &bob, &world.settings, &command).unwrap();
    let clearance = walk.step(&world.view, &bob, &world.settings, 100).unwrap();
    assert!(matches!(clearance, Some(Clearance::Walked { .. })));
    world.run("ann", &modify("/open/t/a", "user:bob:r-x")).unwrap();
    world.clearance = clearance;
    assert_eq!(world.kind("bob", &command), FsErrorKind::AccessDenied);
    world.run("ann", &modify("/open/t/a", "user:bob:rwx")).unwrap();
    assert_eq!(world.run("bob", &command).unwrap(), Reply::Bool(true));
}

#[test]
fn who_follows_is_told_the_whole_list() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o750).unwrap();
    world.run("ann", &modify("/open/d", "user:bob:rwx,default:user:bob:r--")).unwrap();
    let told = |world: &World| match &world.events.last().unwrap().events[0].kind {
        EventKind::Metadata(MetadataChange::Acl { access, default }) => (access.len(), default.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&world), (5, 5));
    world.run("ann", &Command::SetAcl { path: path("/open/d"), change: AclChange::Remove }).unwrap();
    assert_eq!(told(&world), (0, 0));
}

#[test]
fn safe_mode_refuses_lists_and_attributes_in_hdfs_words() {
    use steadfs_common::xattr::{XAttrFlags, XAttrName};
    let mut world = World::new();
    world.safe_mode = Some("why".into());
    let name = XAttrName::parse("user.a").unwrap();
    let change = |change| Command::SetAcl { path: path("/open"), change };
    let set =
        Command::SetXAttr { path: path("/open"), name: name.clone(), value: None, flags: XAttrFlags::SET };
    for (command, what) in [
        (change(AclChange::Modify(Vec::new())), "modify ACL entries on /open"),
        (change(AclChange::RemoveEntries(Vec::new())), "remove ACL entries on /open"),
        (change(AclChange::RemoveDefault), "remove default ACL entries on /open"),
        (change(AclChange::Remove), "remove ACL on /open"),
        (change(AclChange::Set(Vec::new())), "set ACL on /open"),
        (set, "set XAttr on /open"),
        (Command::RemoveXAttr { path: path("/open"), name }, "remove XAttr entry on /open"),
    ] {
        let words = world.words("hdfs", &command);
        assert_eq!(words, format!("Cannot {what}. Name node is in safe mode.\nwhy"));
    }
}
