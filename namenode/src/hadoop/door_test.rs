//! The door over a whole namenode, as a stock client sees it: bytes on a socket.

use bytes::Bytes;
use prost::Message;
use steadfs_proto::hadoop::*;

use super::door_harness::*;

#[tokio::test]
async fn a_tree_is_made_listed_moved_and_removed() {
    let server = start().await;
    let mut client = Client::connect(&server, ROOT).await;
    assert_eq!(client.stat("/a").await, None);
    assert!(client.mkdirs("/a/b/").await.unwrap());
    let folder = client.stat("/a/b").await.unwrap();
    assert_eq!(
        (folder.file_type, folder.permission.perm),
        (hdfs_file_status_proto::FileType::IsDir as i32, 0o755)
    );
    assert_eq!((&*folder.owner, &*folder.group), (ROOT, "supergroup"));

    let file = client.create("/a/f").await.unwrap();
    assert!(file.file_id() > 16_385);
    assert!(client.complete("/a/f", None, file.file_id).await);
    assert!(client.complete("/a/f", None, file.file_id).await, "complete may be repeated");
    let blocks = client.locations("/a/f").await.unwrap();
    assert!(blocks.blocks.is_empty() && blocks.last_block.is_none());
    assert!(!blocks.under_construction && !blocks.is_last_block_complete);

    let page = client.list("/a", "", true).await.unwrap();
    assert_eq!((names(&page), page.remaining_entries), (vec!["b", "f"], 0));
    assert!(page.partial_listing[0].locations.is_none() && page.partial_listing[1].locations.is_some());
    assert_eq!(names(&client.list("/a", "b", false).await.unwrap()), ["f"]);
    assert_eq!(names(&client.list("/a/f", "", false).await.unwrap()), [""]);
    assert!(client.list("/none", "", false).await.is_none());

    let classic = RenameRequestProto { src: "/a/f".into(), dst: "/a/b".into() };
    assert!(client.call::<RenameResponseProto>("rename", &classic).await.unwrap().result);
    assert!(!client.call::<RenameResponseProto>("rename", &classic).await.unwrap().result);
    let second = Rename2RequestProto {
        src: "/a/b/f".into(),
        dst: "/a/g".into(),
        overwrite_dest: false,
        move_to_trash: None,
    };
    client.call::<Rename2ResponseProto>("rename2", &second).await.unwrap();
    assert_eq!(class(client.call::<Rename2ResponseProto>("rename2", &second).await), "FileNotFoundException");
    assert_eq!(client.stat("/a/g").await.unwrap().file_id, file.file_id);

    let delete = |recursive| DeleteRequestProto { src: "/a".into(), recursive };
    let refused = client.call::<DeleteResponseProto>("delete", &delete(false)).await;
    assert_eq!(class(refused), "PathIsNotEmptyDirectoryException");
    assert!(client.call::<DeleteResponseProto>("delete", &delete(true)).await.unwrap().result);
    assert!(!client.call::<DeleteResponseProto>("delete", &delete(true)).await.unwrap().result);
    server.stop().await;
}

#[tokio::test]
async fn attributes_are_set_and_kept() {
    let server = start().await;
    let mut client = Client::connect(&server, ROOT).await;
    let file = client.create("/f").await.unwrap();
    client.complete("/f", None, file.file_id).await;
    let mode =
        SetPermissionRequestProto { src: "/f".into(), permission: FsPermissionProto { perm: 0o106_640 } };
    client.call::<SetPermissionResponseProto>("setPermission", &mode).await.unwrap();
    let owner = SetOwnerRequestProto {
        src: "/f".into(),
        username: Some("alice".into()),
        groupname: Some(String::new()),
    };
    client.call::<SetOwnerResponseProto>("setOwner", &owner).await.unwrap();
    let times = SetTimesRequestProto { src: "/f".into(), mtime: 1_000, atime: u64::MAX };
    client.call::<SetTimesResponseProto>("setTimes", &times).await.unwrap();
    let copies = SetReplicationRequestProto { src: "/f".into(), replication: 2 };
    assert!(client.call::<SetReplicationResponseProto>("setReplication", &copies).await.unwrap().result);
    let status = client.stat("/f").await.unwrap();
    assert_eq!((status.permission.perm, &*status.owner, &*status.group), (0o640, "alice", "supergroup"));
    assert_eq!((status.modification_time, status.block_replication), (1_000, Some(2)));
    assert!(status.access_time > 1_000);

    let access = CheckAccessRequestProto { path: "/f".into(), mode: 4 };
    let mut bob = Client::connect_as(&server, "bob", None, *b"bobsbobsbobsbobs").await;
    assert_eq!(
        class(bob.call::<CheckAccessResponseProto>("checkAccess", &access).await),
        "AccessControlException"
    );
    let mut alice = Client::connect_as(&server, "alice", None, *b"alicealicealice0").await;
    alice.call::<CheckAccessResponseProto>("checkAccess", &access).await.unwrap();
    let acl = GetAclStatusRequestProto { src: "/f".into() };
    let acl = alice.call::<GetAclStatusResponseProto>("getAclStatus", &acl).await.unwrap().result;
    assert_eq!((&*acl.owner, acl.sticky, acl.permission.unwrap().perm), ("alice", false, 0o640));
    server.stop().await;
}

#[tokio::test]
async fn what_is_refused_has_hadoops_own_class() {
    let server = start().await;
    let mut root = Client::connect(&server, ROOT).await;
    let mut alice = Client::connect_as(&server, "alice", None, *b"alicealicealice0").await;
    root.mkdirs("/d").await.unwrap();
    root.create("/f").await.unwrap();
    let denied = alice.mkdirs("/d/x").await.unwrap_err();
    assert_eq!(denied.0, "org.apache.hadoop.security.AccessControlException");
    assert!(
        denied.1.starts_with("Permission denied: user=alice, access=WRITE, inode=\"/d\""),
        "{}",
        denied.1
    );
    assert_eq!(class(root.mkdirs("/f").await), "FileAlreadyExistsException");
    assert_eq!(class(root.mkdirs("/f/x").await), "ParentNotDirectoryException");
    assert_eq!(class(root.mkdirs("relative").await), "InvalidPathException");
    assert_eq!(class(root.mkdirs("/a:b").await), "InvalidPathException");
    assert_eq!(class(root.create("/f").await), "AlreadyBeingCreatedException");
    assert_eq!(class(root.create("/d").await), "FileAlreadyExistsException");
    assert_eq!(class(root.locations("/none").await), "FileNotFoundException");
    assert_eq!(class(root.locations("/d").await), "FileNotFoundException");
    let negative = GetBlockLocationsRequestProto { src: "/f".into(), offset: u64::MAX, length: 1 };
    let refused = root.call::<GetBlockLocationsResponseProto>("getBlockLocations", &negative).await;
    assert_eq!(class(refused), "HadoopIllegalArgumentException");
    let concat = ConcatRequestProto { trg: "/f".into(), srcs: vec!["/g".into()] };
    let refused = root.call::<ConcatResponseProto>("concat", &concat).await;
    assert_eq!(class(refused), "HadoopIllegalArgumentException", "it is being written");
    let truncate =
        |new_length| TruncateRequestProto { src: "/f".into(), new_length, client_name: "another".into() };
    let negative = root.call::<TruncateResponseProto>("truncate", &truncate(u64::MAX)).await;
    assert_eq!(class(negative), "HadoopIllegalArgumentException");
    let open = root.call::<TruncateResponseProto>("truncate", &truncate(0)).await;
    assert_eq!(class(open), "AlreadyBeingCreatedException");
    assert_eq!(class(root.locations("/.reserved/.inodes/99").await), "FileNotFoundException");
    let coded = CreateRequestProto { ec_policy_name: Some("RS-6-3-1024k".into()), ..create("/ec") };
    assert_eq!(
        class(root.call::<CreateResponseProto>("create", &coded).await),
        "UnsupportedOperationException"
    );
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_understood_fails_that_call_alone() {
    let server = start().await;
    let mut client = Client::connect(&server, ROOT).await;
    let unknown = client.raw(CLIENT, "getMoon", (1, 0), Vec::new()).await.unwrap_err();
    assert_eq!(unknown.0, "org.apache.hadoop.ipc.RpcNoSuchMethodException");
    assert!(unknown.1.contains("getMoon"));
    let foreign =
        client.raw("org.apache.hadoop.ha.ZKFCProtocol", "cedeActive", (2, 0), Vec::new()).await.unwrap_err();
    assert_eq!(foreign.0, "org.apache.hadoop.ipc.RpcNoSuchProtocolException");
    let missing = client.raw(CLIENT, "delete", (3, 0), b"\x0a\x01/".to_vec()).await.unwrap_err();
    assert_eq!(missing.1, "Cannot read DeleteRequestProto: `recursive` is missing");
    for (call, garbage) in
        [b"\xff".to_vec(), b"\x0a\x7f/".to_vec(), vec![0x0a; 1_000]].into_iter().enumerate()
    {
        let call = i32::try_from(call).unwrap() + 4;
        client.raw(CLIENT, "getFileInfo", (call, 0), garbage).await.unwrap_err();
    }
    let mut masked = Client::connect_as(&server, ROOT, Some("mallory"), [7; 16]).await;
    let refused = masked.mkdirs("/m").await.unwrap_err();
    assert_eq!(refused.1, "User: mallory is not allowed to impersonate root");
    assert!(client.mkdirs("/still/served").await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_call_is_answered_like_the_first() {
    let server = start().await;
    let mut client = Client::connect(&server, ROOT).await;
    let first = client.repeat::<CreateResponseProto>("create", (1, 0), &create("/f")).await.unwrap();
    let again = client.repeat::<CreateResponseProto>("create", (1, 1), &create("/f")).await.unwrap();
    assert_eq!(first.fs.unwrap().file_id, again.fs.unwrap().file_id);
    client.calls = 10;
    assert!(client.complete("/f", None, None).await);
    let rename = Rename2RequestProto {
        src: "/f".into(),
        dst: "/g".into(),
        overwrite_dest: false,
        move_to_trash: None,
    };
    client.repeat::<Rename2ResponseProto>("rename2", (2, 0), &rename).await.unwrap();
    client.repeat::<Rename2ResponseProto>("rename2", (2, 1), &rename).await.unwrap();
    let delete = DeleteRequestProto { src: "/g".into(), recursive: true };
    for (call, result) in [((3, 0), true), ((3, 1), true), ((4, 0), false)] {
        assert_eq!(
            client.repeat::<DeleteResponseProto>("delete", call, &delete).await.unwrap().result,
            result
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn tools_get_the_answers_that_let_them_go_on() {
    let server = start().await;
    let mut client = Client::connect(&server, ROOT).await;
    let defaults =
        client.call::<GetServerDefaultsResponseProto>("getServerDefaults", &GetServerDefaultsRequestProto {});
    let defaults = defaults.await.unwrap().server_defaults;
    assert_eq!(
        (defaults.replication, defaults.bytes_per_checksum, defaults.write_packet_size),
        (1, 512, 65_536)
    );
    assert_eq!(defaults.key_provider_uri.as_deref(), Some(""));
    assert_eq!(defaults.encrypt_data_transfer, Some(false));

    let safe =
        SetSafeModeRequestProto { action: SafeModeActionProto::SafemodeGet as i32, checked: Some(true) };
    assert!(!client.call::<SetSafeModeResponseProto>("setSafeMode", &safe).await.unwrap().result);
    client.call::<GetFsStatsResponseProto>("getFsStats", &GetFsStatusRequestProto {}).await.unwrap();
    client.call::<MsyncResponseProto>("msync", &MsyncRequestProto {}).await.unwrap();
    let state =
        client.call::<HaServiceStateResponseProto>("getHAServiceState", &HaServiceStateRequestProto {}).await;
    assert_eq!(state.unwrap().state, HaServiceStateProto::Active as i32);
    let policies = client
        .call::<GetStoragePoliciesResponseProto>("getStoragePolicies", &GetStoragePoliciesRequestProto {});
    assert!(policies.await.unwrap().policies.iter().any(|policy| policy.name == "HOT"));
    let policy = GetStoragePolicyRequestProto { path: "/".into() };
    let policy = client.call::<GetStoragePolicyResponseProto>("getStoragePolicy", &policy).await.unwrap();
    assert_eq!(policy.storage_policy.policy_id, 7);
    let token = GetDelegationTokenRequestProto { renewer: "yarn".into() };
    assert_eq!(
        client.call::<GetDelegationTokenResponseProto>("getDelegationToken", &token).await.unwrap().token,
        None
    );
    let txid = client.call::<GetCurrentEditLogTxidResponseProto>(
        "getCurrentEditLogTxid",
        &GetCurrentEditLogTxidRequestProto {},
    );
    assert!(txid.await.unwrap().txid >= 0);
    let corrupt = ListCorruptFileBlocksRequestProto { path: "/".into(), cookie: None };
    let corrupt =
        client.call::<ListCorruptFileBlocksResponseProto>("listCorruptFileBlocks", &corrupt).await.unwrap();
    assert!(corrupt.corrupt.files.is_empty());

    client.mkdirs("/a").await.unwrap();
    client.mkdirs("/b/c").await.unwrap();
    let batch = GetBatchedListingRequestProto {
        paths: vec!["/b".into(), "/none".into(), "/".into()],
        start_after: Bytes::new(),
        need_location: false,
    };
    let batch = client.call::<GetBatchedListingResponseProto>("getBatchedListing", &batch).await.unwrap();
    assert_eq!((batch.has_more, batch.listings.len()), (false, 3));
    assert_eq!(batch.listings[1].exception.as_ref().unwrap().class_name, "java.io.FileNotFoundException");
    assert_eq!((batch.listings[2].parent_idx, batch.listings[2].partial_listing.len()), (2, 2));
    let summary = GetContentSummaryRequestProto { path: "/".into() };
    let summary =
        client.call::<GetContentSummaryResponseProto>("getContentSummary", &summary).await.unwrap().summary;
    assert_eq!((summary.directory_count, summary.file_count, summary.quota), (4, 0, i64::MAX.unsigned_abs()));

    for path in ["/b", "/none/deeper"] {
        let zone = GetEzForPathRequestProto { src: path.into() };
        let zone = client.call::<GetEzForPathResponseProto>("getEZForPath", &zone).await.unwrap();
        assert_eq!(zone.zone, None, "{path}");
    }
    let groups = GetGroupsForUserRequestProto { user: "alice".into() }.encode_to_vec();
    let mappings = "org.apache.hadoop.tools.GetUserMappingsProtocol";
    let groups = client.raw(mappings, "getGroupsForUser", (900, 0), groups).await.unwrap();
    assert_eq!(decode::<GetGroupsForUserResponseProto>(groups).unwrap().groups, ["staff"]);
    let ha =
        client.raw("org.apache.hadoop.ha.HAServiceProtocol", "getServiceStatus", (901, 0), Vec::new()).await;
    assert_eq!(
        decode::<GetServiceStatusResponseProto>(ha.unwrap()).unwrap().ready_to_become_active,
        Some(true)
    );
    server.stop().await;
}

fn add_block(src: &str, file_id: Option<u64>, previous: Option<ExtendedBlockProto>) -> AddBlockRequestProto {
    AddBlockRequestProto {
        src: src.into(),
        client_name: HOLDER.into(),
        previous,
        file_id,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_file_of_two_blocks_is_written_read_and_appended_to() {
    let server = start().await;
    let mut client = Client::connect(&server, ROOT).await;
    let mut node = Pretender::register(&server).await;
    let file = client.create("/f").await.unwrap();

    let first = client.call::<AddBlockResponseProto>("addBlock", &add_block("/f", file.file_id, None)).await;
    let first = first.unwrap().block;
    assert_eq!((first.locs.len(), &first.storage_i_ds[..]), (1, &[node.storage.clone()][..]));
    assert_eq!((first.locs[0].id.datanode_uuid.as_str(), first.offset), (&*node.uuid, 0));
    let again = client.call::<AddBlockResponseProto>("addBlock", &add_block("/f", file.file_id, None)).await;
    assert_eq!(again.unwrap().block.b.block_id, first.b.block_id, "a repeated addBlock gets the same block");

    let open = client.locations("/f").await.unwrap();
    assert!(open.under_construction && !open.is_last_block_complete);
    assert_eq!((open.file_length, open.last_block.unwrap().b.block_id), (0, first.b.block_id));

    let full = ExtendedBlockProto { num_bytes: Some(1_024), ..first.b.clone() };
    node.received(&full).await;
    let second = add_block("/f", file.file_id, Some(full.clone()));
    let second = client.call::<AddBlockResponseProto>("addBlock", &second).await.unwrap().block;
    assert_eq!(second.offset, 1_024);
    let last = ExtendedBlockProto { num_bytes: Some(100), ..second.b.clone() };
    node.received(&last).await;
    assert!(client.complete("/f", Some(last.clone()), file.file_id).await);
    assert_eq!(client.stat("/f").await.unwrap().length, 1_124);

    let blocks = client.locations("/f").await.unwrap();
    assert_eq!((blocks.file_length, blocks.blocks.len(), blocks.is_last_block_complete), (1_124, 2, true));
    assert_eq!(blocks.blocks[1].locs[0].id.xfer_port, 9_866);
    let listed = client.list("/f", "", true).await.unwrap();
    assert_eq!(listed.partial_listing[0].locations.as_ref().unwrap().blocks.len(), 2);

    let append = AppendRequestProto { src: "/f".into(), client_name: HOLDER.into(), flag: Some(4) };
    let opened = client.call::<AppendResponseProto>("append", &append).await.unwrap();
    let partial = opened.block.unwrap();
    assert_eq!((partial.b.block_id, partial.b.num_bytes), (last.block_id, Some(100)));
    assert_eq!((opened.stat.unwrap().file_id, partial.storage_i_ds.len()), (file.file_id, 1));
    let stamp = UpdateBlockForPipelineRequestProto { block: partial.b.clone(), client_name: HOLDER.into() };
    let stamp =
        client.call::<UpdateBlockForPipelineResponseProto>("updateBlockForPipeline", &stamp).await.unwrap();
    let renewed = stamp.block.b;
    assert!(renewed.generation_stamp > partial.b.generation_stamp);
    let pipeline = UpdatePipelineRequestProto {
        client_name: HOLDER.into(),
        old_block: partial.b.clone(),
        new_block: ExtendedBlockProto { num_bytes: Some(100), ..renewed.clone() },
        new_nodes: vec![partial.locs[0].id.clone()],
        storage_i_ds: partial.storage_i_ds.clone(),
    };
    client.call::<UpdatePipelineResponseProto>("updatePipeline", &pipeline).await.unwrap();
    let fsync = FsyncRequestProto {
        src: "/f".into(),
        client: HOLDER.into(),
        last_block_length: Some(150),
        file_id: None,
    };
    client.call::<FsyncResponseProto>("fsync", &fsync).await.unwrap();
    assert_eq!(client.stat("/f").await.unwrap().length, 1_174);
    let closed = IsFileClosedRequestProto { src: "/f".into() };
    assert!(!client.call::<IsFileClosedResponseProto>("isFileClosed", &closed).await.unwrap().result);
    let renew = RenewLeaseRequestProto { client_name: HOLDER.into(), namespaces: Vec::new() };
    client.call::<RenewLeaseResponseProto>("renewLease", &renew).await.unwrap();
    let last = ExtendedBlockProto { num_bytes: Some(200), ..renewed };
    node.received(&last).await;
    assert!(client.complete("/f", Some(last), file.file_id).await);
    assert_eq!(client.stat("/f").await.unwrap().length, 1_224);
    server.stop().await;
}

#[tokio::test]
async fn operators_see_datanodes_and_readers_report_bad_replicas() {
    let server = start().await;
    let mut client = Client::connect(&server, ROOT).await;
    let mut node = Pretender::register(&server).await;
    for (kind, count) in [(DatanodeReportTypeProto::Live, 1), (DatanodeReportTypeProto::Dead, 0)] {
        let request = GetDatanodeReportRequestProto { r#type: kind as i32 };
        let report =
            client.call::<GetDatanodeReportResponseProto>("getDatanodeReport", &request).await.unwrap();
        assert_eq!(report.di.len(), count);
    }
    let request = GetDatanodeStorageReportRequestProto { r#type: DatanodeReportTypeProto::All as i32 };
    let report =
        client.call::<GetDatanodeStorageReportResponseProto>("getDatanodeStorageReport", &request).await;
    assert_eq!(report.unwrap().datanode_storage_reports[0].storage_reports[0].storage_uuid, node.storage);

    let file = client.create("/f").await.unwrap();
    let block = client.call::<AddBlockResponseProto>("addBlock", &add_block("/f", file.file_id, None)).await;
    let block = block.unwrap().block;
    let last = ExtendedBlockProto { num_bytes: Some(10), ..block.b.clone() };
    node.received(&last).await;
    assert!(client.complete("/f", Some(last), file.file_id).await);
    let mut bad = client.locations("/f").await.unwrap().blocks.remove(0);
    assert!(!bad.corrupt);
    // As readers send it: the node, not the storage.
    bad.storage_i_ds.clear();
    bad.storage_types.clear();
    let report = ReportBadBlocksRequestProto { blocks: vec![bad] };
    client.call::<ReportBadBlocksResponseProto>("reportBadBlocks", &report).await.unwrap();
    assert!(client.locations("/f").await.unwrap().blocks[0].corrupt);

    let abandoned = client.create("/g").await.unwrap();
    let block =
        client.call::<AddBlockResponseProto>("addBlock", &add_block("/g", abandoned.file_id, None)).await;
    let abandon = AbandonBlockRequestProto {
        b: block.unwrap().block.b,
        src: "/g".into(),
        holder: HOLDER.into(),
        file_id: abandoned.file_id,
    };
    client.call::<AbandonBlockResponseProto>("abandonBlock", &abandon).await.unwrap();
    assert!(client.complete("/g", None, abandoned.file_id).await);
    server.stop().await;
}
