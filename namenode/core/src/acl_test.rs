use proptest::prelude::*;
use steadfs_common::{InodeId, Millis, TxId};

use super::*;
use crate::record::{FileBody, InodeKind, Layout};

fn inode(mode: u16, kind: InodeKind) -> Inode {
    Inode {
        id: InodeId(1),
        parent: InodeId(1),
        name: None,
        owner: "bruce".into(),
        group: "users".into(),
        mode,
        mtime: Millis(0),
        atime: Millis(0),
        changed: TxId(0),
        acl: None,
        has_xattrs: false,
        storage_policy: 0,
        kind,
    }
}

fn folder(mode: u16) -> Inode {
    inode(mode, InodeKind::Directory { children: 0, quota: None })
}

fn file(mode: u16) -> Inode {
    let layout = Layout::Replicated { replication: 1 };
    let body =
        FileBody { layout, length: 0, blocks: 0, block_size: 1, under_construction: false, content: TxId(0) };
    inode(mode, InodeKind::File(body))
}

fn spec(text: &str) -> Vec<ScopedAclEntry> {
    ScopedAclEntry::parse_list(text, true).unwrap()
}

fn keys(text: &str) -> Vec<ScopedAclEntry> {
    ScopedAclEntry::parse_list(text, false).unwrap()
}

fn shown(list: &[ScopedAclEntry]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn try_change(inode: &mut Inode, what: &AclChange) -> Result<(), String> {
    change(inode, &"/p".parse().unwrap(), what).map_err(|error| {
        assert_eq!(error.kind(), FsErrorKind::InvalidAcl);
        error.message().to_owned()
    })
}

/// The whole list after some changes.
fn after(mut inode: Inode, changes: &[AclChange]) -> String {
    for change in changes {
        try_change(&mut inode, change).unwrap();
    }
    shown(&logical(&inode))
}

fn modify(text: &str) -> AclChange {
    AclChange::Modify(spec(text))
}

fn set(text: &str) -> AclChange {
    AclChange::Set(spec(text))
}

fn drop_entries(text: &str) -> AclChange {
    AclChange::RemoveEntries(keys(text))
}

#[test]
fn entries_are_added_in_hdfs_order_with_a_mask_of_all() {
    assert_eq!(
        after(folder(0o750), &[modify("group:sales:-wx,user:diana:r-x,user:bob:r--,group:admins:---")]),
        "user::rwx,user:bob:r--,user:diana:r-x,group::r-x,group:admins:---,group:sales:-wx,mask::rwx,other::---"
    );
    assert_eq!(after(folder(0o750), &[]), "user::rwx,group::r-x,other::---");
    assert_eq!(after(folder(0o750), &[modify("")]), "user::rwx,group::r-x,other::---");
    assert_eq!(
        after(file(0o640), &[modify("user::rwx,user:diana:r-x")]),
        "user::rwx,user:diana:r-x,group::r--,mask::r-x,other::---"
    );
}

#[test]
fn the_mode_holds_owner_mask_and_others() {
    let mut inode = folder(0o1750);
    try_change(&mut inode, &modify("user:bob:rwx")).unwrap();
    assert_eq!(inode.mode, 0o1770);
    assert_eq!(shown(&extended(&inode)), "user:bob:rwx,group::r-x");
    inode.mode = 0o1700;
    assert_eq!(shown(&logical(&inode)), "user::rwx,user:bob:rwx,group::r-x,mask::---,other::---");
    try_change(&mut inode, &AclChange::Remove).unwrap();
    assert_eq!((inode.mode, inode.acl), (0o1750, None));
}

#[test]
fn a_mask_that_is_given_counts() {
    assert_eq!(
        after(folder(0o750), &[modify("user:bob:rwx,mask::r--")]),
        "user::rwx,user:bob:rwx,group::r-x,mask::r--,other::---"
    );
    // Any other change of the scope makes a new one.
    assert_eq!(
        after(folder(0o750), &[modify("user:bob:rwx,mask::r--"), modify("user:bob:r-x")]),
        "user::rwx,user:bob:r-x,group::r-x,mask::r-x,other::---"
    );
    // One of the other scope leaves it.
    assert_eq!(
        after(folder(0o750), &[modify("user:bob:rwx,mask::r--"), modify("default:user:bob:r-x")]),
        "user::rwx,user:bob:rwx,group::r-x,mask::r--,other::---,default:user::rwx,default:user:bob:r-x,\
         default:group::rwx,default:mask::rwx,default:other::---"
            .replace("default:group::rwx,default:mask::rwx", "default:group::r-x,default:mask::r-x")
    );
    // A mask alone is kept too.
    assert_eq!(after(file(0o754), &[modify("mask::r--")]), "user::rwx,group::r-x,mask::r--,other::r--");
}

#[test]
fn default_entries_that_are_missing_are_those_of_access() {
    assert_eq!(
        after(folder(0o750), &[modify("default:user:bob:rwx")]),
        "user::rwx,group::r-x,other::---,default:user::rwx,default:user:bob:rwx,default:group::r-x,\
         default:mask::rwx,default:other::---"
    );
    assert_eq!(
        after(folder(0o750), &[modify("default:group::--x,default:mask::r--")]),
        "user::rwx,group::r-x,other::---,default:user::rwx,default:group::--x,default:mask::r--,\
         default:other::---"
    );
    let mut inode = folder(0o750);
    try_change(&mut inode, &modify("default:user:bob:rwx")).unwrap();
    assert_eq!(inode.mode, 0o750, "an access list that is a mode's stays in the mode");
    assert!(inode.acl.unwrap().access.is_empty());
}

#[test]
fn entries_are_taken_away() {
    let begun = "user:bob:rwx,user:diana:r-x,group:sales:rw-";
    assert_eq!(
        after(folder(0o750), &[modify(begun), drop_entries("user:bob,group:sales")]),
        "user::rwx,user:diana:r-x,group::r-x,mask::r-x,other::---"
    );
    assert_eq!(
        after(folder(0o750), &[modify(begun), drop_entries("user:nobody")]),
        "user::rwx,user:bob:rwx,user:diana:r-x,group::r-x,group:sales:rw-,mask::rwx,other::---"
    );
    // A mask goes with the last name only if it is named itself.
    assert_eq!(
        after(folder(0o750), &[modify("user:bob:rwx"), drop_entries("user:bob")]),
        "user::rwx,group::r-x,mask::r-x,other::---"
    );
    assert_eq!(
        after(folder(0o750), &[modify("user:bob:rwx"), drop_entries("user:bob,mask:")]),
        "user::rwx,group::r-x,other::---"
    );
    // A default entry of the base comes back from the access list.
    assert_eq!(
        after(
            folder(0o750),
            &[modify("default:user::r--,default:user:bob:rwx"), drop_entries("default:user:")]
        ),
        "user::rwx,group::r-x,other::---,default:user::rwx,default:user:bob:rwx,default:group::r-x,\
         default:mask::rwx,default:other::---"
    );
    assert_eq!(
        after(
            folder(0o750),
            &[
                modify("user:bob:r--,default:user:bob:rwx"),
                drop_entries("default:user:,default:user:bob,default:group:,default:mask:,default:other:")
            ]
        ),
        "user::rwx,user:bob:r--,group::r-x,mask::r-x,other::---"
    );
    assert_eq!(
        after(folder(0o750), &[modify("user:bob:r--,default:user:bob:rwx"), AclChange::RemoveDefault]),
        "user::rwx,user:bob:r--,group::r-x,mask::r-x,other::---"
    );
    assert_eq!(
        after(folder(0o750), &[modify("user:bob:rwx,default:user:bob:rwx"), AclChange::Remove]),
        "user::rwx,group::r-x,other::---"
    );
    assert_eq!(
        after(folder(0o750), &[AclChange::Remove, AclChange::RemoveDefault]),
        "user::rwx,group::r-x,other::---"
    );
}

#[test]
fn each_scope_is_replaced_by_itself() {
    let both = "user:bob:rwx,default:user:bob:r-x";
    assert_eq!(
        after(folder(0o750), &[modify(both), set("user::rw-,user:eve:-wx,group::---,other::r--")]),
        "user::rw-,user:eve:-wx,group::---,mask::-wx,other::r--,default:user::rwx,default:user:bob:r-x,\
         default:group::r-x,default:mask::r-x,default:other::---"
    );
    assert_eq!(
        after(folder(0o750), &[modify(both), set("default:user:eve:rwx")]),
        "user::rwx,user:bob:rwx,group::r-x,mask::rwx,other::---,default:user::rwx,default:user:eve:rwx,\
         default:group::r-x,default:mask::rwx,default:other::---"
    );
    assert_eq!(after(folder(0o750), &[modify(both), set("")]), "user::rwx,group::r-x,other::---");
    assert_eq!(
        after(file(0o640), &[set("user::rwx,group::r-x,other::--x")]),
        "user::rwx,group::r-x,other::--x"
    );
}

#[test]
fn what_is_no_list_is_refused_in_hdfs_words() {
    let refused = |mut inode: Inode, changes: &[AclChange], words: &str| {
        let (last, first) = changes.split_last().unwrap();
        for change in first {
            try_change(&mut inode, change).unwrap();
        }
        let before = inode.clone();
        assert_eq!(try_change(&mut inode, last).unwrap_err(), format!("{words} Path: /p"));
        assert_eq!(inode, before);
    };
    let bob = modify("user:bob:rwx");
    let mask = "Invalid ACL: mask is required and cannot be deleted.";
    refused(folder(0o750), &[bob.clone(), drop_entries("mask:")], mask);
    refused(folder(0o750), &[modify("default:user:bob:rwx"), drop_entries("default:mask:")], mask);
    let base = "Invalid ACL: the user, group and other entries are required.";
    refused(folder(0o750), &[drop_entries("user:")], base);
    refused(folder(0o750), &[drop_entries("group:")], base);
    refused(folder(0o750), &[drop_entries("other:")], base);
    refused(folder(0o750), &[set("user:bob:rwx")], base);
    refused(folder(0o750), &[set("user::rwx,group::r-x,mask::rwx")], base);
    let named = "Invalid ACL: this entry type must not have a name:";
    refused(folder(0o750), &[modify("mask:x:rwx")], &format!("{named} mask:x:rwx."));
    refused(folder(0o750), &[modify("other:x:r--")], &format!("{named} other:x:r--."));
    let twice = "Invalid ACL: multiple entries with same scope, type and name.";
    refused(folder(0o750), &[modify("user:bob:rwx,user:bob:r--")], twice);
    refused(folder(0o750), &[set("user::rwx,user::r-x,group::r-x,other::---")], twice);
    let path = "Invalid ACL: only directories may have a default ACL. Path: /p";
    refused(file(0o640), &[modify("default:user:bob:rwx")], path);
    refused(file(0o640), &[set("user::rwx,group::r--,other::---,default:user:bob:rwx")], path);
}

#[test]
fn of_entries_named_twice_the_one_that_hdfs_finds_counts() {
    let begun = "user:ann:rwx,group:g:r--";
    let changed = |text| after(file(0o644), &[modify(begun), modify(text)]);
    assert!(changed("user:ann:--x,user:ann:r--").contains("user:ann:--x,"));
    assert!(changed("user:ann:--x,user:ann:r--,user:ann:-w-").contains("user:ann:r--,"));
}

#[test]
fn a_scope_holds_32_entries() {
    let users = |scope: &str, count: usize| {
        (0..count).map(|user| format!("{scope}user:u{user}:r--")).collect::<Vec<_>>().join(",")
    };
    let mut inode = folder(0o750);
    // With owner, group, mask and others.
    try_change(&mut inode, &modify(&users("", 28))).unwrap();
    assert_eq!(
        try_change(&mut inode, &modify("user:one:r--")).unwrap_err(),
        "Invalid ACL: ACL has 33 access entries, which exceeds maximum of 32. Path: /p"
    );
    try_change(&mut inode, &modify(&users("default:", 28))).unwrap();
    assert_eq!(extended(&inode).len(), 61);
    assert_eq!(
        try_change(&mut inode, &modify(&users("default:", 29))).unwrap_err(),
        "Invalid ACL: ACL has 33 default entries, which exceeds maximum of 32. Path: /p"
    );
    assert_eq!(
        try_change(&mut inode, &set(&users("default:", 33))).unwrap_err(),
        "Invalid ACL: ACL has 33 default entries, which exceeds maximum of 32. Path: /p"
    );
}

#[test]
fn what_is_made_begins_with_the_defaults_cut_by_its_mode() {
    let mut parent = folder(0o750);
    try_change(&mut parent, &modify("default:user:bob:rwx,default:mask::r-x")).unwrap();
    let made = |mode: u16, unmasked: Option<u16>, directory: bool| {
        let mut child = if directory { folder(0) } else { file(0) };
        (child.mode, child.acl) = inherited(&parent, Modes { masked: mode, unmasked }, directory);
        shown(&logical(&child))
    };
    let defaults =
        "default:user::rwx,default:user:bob:rwx,default:group::r-x,default:mask::r-x,default:other::---";
    assert_eq!(made(0o644, None, false), "user::rw-,user:bob:rwx,group::r-x,mask::r--,other::---");
    assert_eq!(made(0o700, Some(0o777), false), "user::rwx,user:bob:rwx,group::r-x,mask::r-x,other::---");
    assert_eq!(
        made(0o700, Some(0o777), true),
        format!("user::rwx,user:bob:rwx,group::r-x,mask::r-x,other::---,{defaults}")
    );

    let mut parent = folder(0o750);
    try_change(&mut parent, &modify("default:user::rwx,default:group::rwx,default:other::rwx")).unwrap();
    assert_eq!(inherited(&parent, Modes { masked: 0o644, unmasked: None }, false), (0o644, None));
    assert_eq!(inherited(&parent, Modes { masked: 0o644, unmasked: Some(0o1666) }, false), (0o1666, None));
    let (mode, acl) = inherited(&parent, Modes { masked: 0o700, unmasked: Some(0o1777) }, true);
    assert_eq!((mode, acl.unwrap().default.len()), (0o1777, 3));
}

#[test]
fn without_defaults_the_masked_mode_counts() {
    let modes = Modes { masked: 0o640, unmasked: Some(0o666) };
    assert_eq!(inherited(&folder(0o777), modes, false), (0o640, None));
    let mut parent = folder(0o777);
    try_change(&mut parent, &modify("user:bob:rwx")).unwrap();
    assert_eq!(inherited(&parent, modes, true), (0o640, None));
}

/// Who may do what with an inode of `bruce` and `users` with this list. The cases are those of HDFS's own tests.
#[test]
fn the_first_entry_that_fits_decides_and_groups_add_up() {
    let may = |list: &str, user: &str, groups: &[&str], wanted: u8| {
        let mut inode = file(0);
        try_change(&mut inode, &set(list)).unwrap();
        let acl = inode.acl.expect("more than a mode");
        let of = (inode.owner.as_str(), inode.group.as_str(), inode.mode);
        grants(&acl.access, of, user, |group| groups.contains(&group), wanted)
    };
    let list = "user::---,user:diana:rwx,group::rw-,group:sales:r-x,group:execs:-w-,mask::rwx,other::r--";
    assert!(!may(list, "bruce", &["users"], 4), "the owner has its own entry, whatever the groups");
    assert!(may(list, "diana", &[], 7));
    assert!(may(list, "clark", &["users"], 6) && !may(list, "clark", &["users"], 1));
    assert!(may(list, "clark", &["users", "sales"], 1), "any group that lets");
    assert!(!may(list, "clark", &["users", "sales"], 7), "but one of them all of it");
    assert!(may(list, "eve", &[], 4) && !may(list, "eve", &[], 2));
    let masked = "user::rwx,user:diana:rwx,group::rwx,group:sales:rwx,mask::r--,other::rwx";
    assert!(may(masked, "bruce", &[], 7), "the mask is not for the owner");
    assert!(may(masked, "diana", &[], 4) && !may(masked, "diana", &[], 2));
    assert!(!may(masked, "clark", &["users"], 2) && !may(masked, "clark", &["sales"], 1));
    assert!(may(masked, "eve", &[], 7), "nor for others");
    let denied = "user::rwx,user:diana:---,group::r--,group:sales:---,mask::rwx,other::rwx";
    assert!(!may(denied, "diana", &["users"], 4), "a user's entry is the user's last word");
    assert!(!may(denied, "clark", &["sales"], 4), "a group's entry keeps from being others");
    let only_mask = "user::rwx,group::rwx,mask::r--,other::rwx";
    assert!(!may(only_mask, "clark", &["users"], 2));
}

fn some_change() -> impl Strategy<Value = AclChange> {
    let entry = (any::<bool>(), 0..4_u8, prop::option::weighted(0.6, "[abc]"), 0..8_u8).prop_map(
        |(default, kind, name, permission)| ScopedAclEntry {
            scope: if default { AclScope::Default } else { AclScope::Access },
            entry: AclEntry { kind: AclKind::from_number(kind).unwrap(), name, permission },
        },
    );
    let entries = prop::collection::vec(entry, 0..6);
    prop_oneof![
        5 => entries.clone().prop_map(AclChange::Modify),
        3 => entries.clone().prop_map(AclChange::RemoveEntries),
        2 => entries.prop_map(AclChange::Set),
        1 => Just(AclChange::RemoveDefault),
        1 => Just(AclChange::Remove),
    ]
}

proptest! {
    #[test]
    fn a_list_stays_one_whatever_is_changed(
        mode in 0..0o2000_u16, directory in any::<bool>(), changes in prop::collection::vec(some_change(), 1..12),
    ) {
        let mut inode = if directory { folder(mode) } else { file(mode) };
        for what in &changes {
            let before = inode.clone();
            if try_change(&mut inode, what).is_err() {
                prop_assert_eq!(&inode, &before);
            }
            let list = logical(&inode);
            prop_assert_eq!(validated(list.clone()).unwrap(), list.clone(), "in order and complete");
            let sticky = 0o1000;
            prop_assert_eq!(inode.mode & sticky, mode & sticky);
            // What is stored says the same when it is put together and stored again.
            let mut again = inode.clone();
            store(&mut again, &"/p".parse().unwrap(), &list).unwrap();
            prop_assert_eq!(&again, &inode);
            let names = list.iter().any(|entry| entry.scope == AclScope::Access && entry.entry.name.is_some());
            prop_assert!(!names || inode.acl.as_ref().is_some_and(|acl| !acl.access.is_empty()));
        }
    }

    #[test]
    fn no_child_may_more_than_it_asks_for(
        changes in prop::collection::vec(some_change(), 1..6), mode in 0..0o1000_u16, directory in any::<bool>(),
    ) {
        let mut parent = folder(0o750);
        for what in &changes {
            let _ = try_change(&mut parent, what);
        }
        let (made, acl) = inherited(&parent, Modes { masked: mode, unmasked: None }, directory);
        prop_assert_eq!(made & !mode & 0o777, 0);
        let mut child = if directory { folder(made) } else { file(made) };
        child.acl = acl;
        let list = logical(&child);
        prop_assert_eq!(validated(list.clone()).unwrap(), list);
    }
}
