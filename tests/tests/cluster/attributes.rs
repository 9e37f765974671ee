//! Access control lists and extended attributes through our client, WebHDFS and the shell, and over a restart.

use serde_json::json;
use steadfs_client::acl::ScopedAclEntry;
use steadfs_client::xattr::{XAttrFlags, XAttrName};
use steadfs_client::{AclChange, Client, ClientOptions, FsErrorKind, current_user};
use steadfs_tests::TestCluster;

use crate::webhdfs::Web;

fn entries(text: &str) -> Vec<ScopedAclEntry> {
    ScopedAclEntry::parse_list(text, true).unwrap()
}

async fn shown(client: &Client, path: &str) -> String {
    let status = client.acl(path).await.unwrap();
    status.entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_the_same_through_every_door_and_after_a_restart() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let bob = Client::connect_with(&test.cluster.url(), ClientOptions::for_user("bob")).await?;
    client.mkdirs_with("/d", 0o750, true).await?;
    assert_eq!(bob.mkdirs("/d/x").await.unwrap_err().kind(), FsErrorKind::AccessDenied);
    let change = AclChange::Modify(entries("user:bob:rwx,default:user:bob:r-x"));
    client.change_acl("/d", &change).await?;
    bob.mkdirs("/d/x").await?;

    let both = "user:bob:rwx,group::r-x,default:user::rwx,default:user:bob:r-x,default:group::r-x,\
                default:mask::r-x,default:other::---";
    let test = test.restart().await?;
    let client = test.client().await?;
    assert_eq!(shown(&client, "/d").await, both);
    // Made with 777 before the umask of 022: the defaults take the umask's place.
    assert_eq!(client.stat("/d/x").await?.mode, 0o750);
    assert!(client.stat("/d/x").await?.has_acl && !client.stat("/").await?.has_acl);

    let web = Web::of(&test);
    let me = current_user();
    let status = web.follow(&me, "GET", "/d", "op=GETACLSTATUS").await?.json();
    assert_eq!(status["AclStatus"]["entries"], json!(both.split(',').collect::<Vec<_>>()));
    assert_eq!(status["AclStatus"]["permission"], "770");
    assert_eq!(web.follow(&me, "GET", "/d", "op=GETFILESTATUS").await?.json()["FileStatus"]["aclBit"], true);
    let query = "op=REMOVEACLENTRIES&aclspec=default:user:bob:,default:mask::";
    assert_eq!(web.follow(&me, "PUT", "/d", query).await?.status, 200);
    assert_eq!(web.follow(&me, "PUT", "/d", "op=REMOVEDEFAULTACL").await?.status, 200);
    assert_eq!(shown(&client, "/d").await, "user:bob:rwx,group::r-x");
    let refused = web.follow(&me, "PUT", "/d", "op=REMOVEACLENTRIES&aclspec=mask::").await?.error();
    let words = "Invalid ACL: mask is required and cannot be deleted. Path: /d";
    assert_eq!(refused, (403, "AclException".into(), words.into()));
    let refused = client.change_acl("/d", &AclChange::Set(entries("user:bob:rwx"))).await.unwrap_err();
    assert_eq!(refused.kind(), FsErrorKind::InvalidAcl);
    client.change_acl("/d", &AclChange::Remove).await?;
    assert_eq!((shown(&client, "/d").await.as_str(), client.stat("/d").await?.mode), ("", 0o750));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_the_same_through_every_door_and_after_a_restart() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    client.mkdirs("/d").await?;
    let name = |text: &str| XAttrName::parse(text).unwrap();
    client.set_xattr("/d", &name("user.a"), Some(b"\x00\xff"), XAttrFlags::SET).await?;
    client.set_xattr("/d", &name("trusted.t"), None, XAttrFlags { create: true, replace: false }).await?;
    let test = test.restart().await?;
    let client = test.client().await?;
    assert_eq!(client.xattr("/d", &name("user.a")).await?, b"\x00\xff".as_slice());
    assert_eq!(client.xattr_names("/d").await?, [name("trusted.t"), name("user.a")]);
    let bob = Client::connect_with(&test.cluster.url(), ClientOptions::for_user("bob")).await?;
    assert_eq!(bob.xattrs("/d").await?, [(name("user.a"), b"\x00\xff".as_slice().into())]);
    let kind = |result: steadfs_client::FsResult<()>| result.unwrap_err().kind();
    let (known, only_new) = (name("user.a"), XAttrFlags { create: true, replace: false });
    assert_eq!(kind(client.set_xattr("/d", &known, None, only_new).await), FsErrorKind::XAttrExists);
    assert_eq!(kind(client.remove_xattr("/d", &name("user.none")).await), FsErrorKind::XAttrMissing);
    assert_eq!(client.xattr("/d", &name("user.none")).await.unwrap_err().kind(), FsErrorKind::XAttrNotFound);
    assert_eq!(kind(bob.remove_xattr("/d", &name("user.a")).await), FsErrorKind::AccessDenied);

    let web = Web::of(&test);
    let me = current_user();
    let query = "op=SETXATTR&xattr.name=user.w&xattr.value=0x0102&flag=CREATE";
    assert_eq!(web.follow(&me, "PUT", "/d", query).await?.status, 200);
    let found = web.follow(&me, "GET", "/d", "op=GETXATTRS&encoding=hex").await?.json();
    let all = json!([
        { "name": "user.w", "value": "0x0102" },
        { "name": "trusted.t", "value": null },
        { "name": "user.a", "value": "0x00ff" },
    ]);
    assert_eq!(found["XAttrs"], all);
    let names = web.follow(&me, "GET", "/d", "op=LISTXATTRS").await?.json();
    assert_eq!(names["XAttrNames"], r#"["user.w","trusted.t","user.a"]"#);
    let removed = web.follow(&me, "PUT", "/d", "op=REMOVEXATTR&xattr.name=user.w").await?;
    assert_eq!(removed.status, 200);
    let refused = web.follow(&me, "PUT", "/d", "op=SETXATTR&xattr.name=user.w&xattr.value=x").await?.error();
    let words = "Required param flag for op: SETXATTR is null or empty";
    assert_eq!(refused, (400, "IllegalArgumentException".into(), words.into()));
    test.stop().await;
    Ok(())
}
