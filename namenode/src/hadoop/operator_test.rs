//! Operators' calls over a whole namenode, as stock tools make them.

use steadfs_proto::hadoop::datanode_info_proto::AdminState;
use steadfs_proto::hadoop::*;

use super::door_harness::*;

async fn safe_mode(client: &mut Client, action: SafeModeActionProto) -> Result<bool, Thrown> {
    let request = SetSafeModeRequestProto { action: action as i32, checked: None };
    client.call::<SetSafeModeResponseProto>("setSafeMode", &request).await.map(|answer| answer.result)
}

#[tokio::test]
async fn the_namespace_is_saved_in_safe_mode_and_the_journal_rolled_outside() {
    let server = start().await;
    let mut client = Client::connect(&server, ROOT).await;
    let save = SaveNamespaceRequestProto::default();
    let Err(Thrown(_, message)) = client.call::<SaveNamespaceResponseProto>("saveNamespace", &save).await
    else {
        panic!("it should be refused")
    };
    assert!(message.starts_with("Safe mode should be turned ON"), "{message}");
    assert!(safe_mode(&mut client, SafeModeActionProto::SafemodeEnter).await.unwrap());
    let saved = client.call::<SaveNamespaceResponseProto>("saveNamespace", &save).await.unwrap();
    assert!(saved.saved());
    let again = SaveNamespaceRequestProto { time_window: Some(3_600), tx_gap: Some(1_000) };
    assert!(!client.call::<SaveNamespaceResponseProto>("saveNamespace", &again).await.unwrap().saved());
    let roll = RollEditsRequestProto {};
    assert_eq!(class(client.call::<RollEditsResponseProto>("rollEdits", &roll).await), "SafeModeException");
    assert!(!safe_mode(&mut client, SafeModeActionProto::SafemodeForceExit).await.unwrap());
    let first = client.call::<RollEditsResponseProto>("rollEdits", &roll).await.unwrap();
    assert!(client.mkdirs("/a").await.unwrap());
    let second = client.call::<RollEditsResponseProto>("rollEdits", &roll).await.unwrap();
    assert!(second.new_segment_tx_id > first.new_segment_tx_id);
    server.stop().await;
}

#[tokio::test]
async fn only_superusers_operate_and_are_told_of_what() {
    let server = start().await;
    let mut client = Client::connect(&server, "bob").await;
    let denied = |operation: &str| {
        format!("Access denied for user bob. Superuser privilege is required for operation {operation}")
    };
    let Err(Thrown(kind, message)) =
        client.call::<RefreshNodesResponseProto>("refreshNodes", &RefreshNodesRequestProto {}).await
    else {
        panic!("bob may not")
    };
    assert!(
        kind.ends_with("AccessControlException") && message.starts_with(&denied("refreshNodes")),
        "{message}"
    );
    let request = MetaSaveRequestProto { filename: "x".into() };
    let Err(Thrown(_, message)) = client.call::<MetaSaveResponseProto>("metaSave", &request).await else {
        panic!("bob may not")
    };
    assert!(message.starts_with(&denied("metaSave")), "{message}");
    let Err(Thrown(_, message)) = safe_mode(&mut client, SafeModeActionProto::SafemodeEnter).await else {
        panic!("bob may not")
    };
    assert!(message.starts_with(&denied("safemode_enter")), "{message}");
    assert!(!safe_mode(&mut client, SafeModeActionProto::SafemodeGet).await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn open_files_are_listed_by_page_and_path() {
    let server = start().await;
    let mut client = Client::connect(&server, ROOT).await;
    client.mkdirs("/a").await.unwrap();
    client.create("/a/one").await.unwrap();
    let two = client.create("/two").await.unwrap();
    let ask = |id: i64, path: &str| ListOpenFilesRequestProto {
        id,
        types: vec![OpenFilesTypeProto::AllOpenFiles as i32],
        path: Some(path.into()),
    };
    let all = client.call::<ListOpenFilesResponseProto>("listOpenFiles", &ask(0, "/")).await.unwrap();
    let paths: Vec<_> = all.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!((paths, all.has_more), (vec!["/a/one", "/two"], false));
    assert_eq!(all.entries[0].client_name, HOLDER);
    let below = client.call::<ListOpenFilesResponseProto>("listOpenFiles", &ask(0, "/a")).await.unwrap();
    assert_eq!(below.entries.len(), 1);
    let last = i64::try_from(two.file_id()).unwrap();
    let after = client.call::<ListOpenFilesResponseProto>("listOpenFiles", &ask(last, "/")).await.unwrap();
    assert!(after.entries.is_empty() && !after.has_more);
    server.stop().await;
}

#[tokio::test]
async fn a_datanode_is_decommissioned_by_name_and_that_is_kept() {
    let server = start().await;
    let pretender = Pretender::register(&server).await;
    let service = server.service();
    let root = service.own_caller().clone();
    let wish = steadfs_namenode_core::blocks::Wish::Decommission;
    let uuid = service.set_node_wish(&root, &pretender.uuid, wish).await.unwrap();
    assert_eq!(uuid.to_string(), pretender.uuid);
    assert!(service.set_node_wish(&root, "nobody", wish).await.is_err());
    let mut client = Client::connect(&server, ROOT).await;
    let ask = GetDatanodeReportRequestProto { r#type: DatanodeReportTypeProto::All as i32 };
    let mut leaves = async || {
        let report = client.call::<GetDatanodeReportResponseProto>("getDatanodeReport", &ask).await.unwrap();
        client.call::<RefreshNodesResponseProto>("refreshNodes", &RefreshNodesRequestProto {}).await.unwrap();
        // It has no replicas to give away first, so it may be done at any moment.
        let state = report.di[0].admin_state();
        matches!(state, AdminState::DecommissionInprogress | AdminState::Decommissioned)
    };
    assert!(leaves().await);
    assert!(leaves().await, "what was ordered by name is no matter of the hosts files");
    server.stop().await;
}

#[tokio::test]
async fn a_report_is_written_where_reports_are() {
    let server = start().await;
    let mut client = Client::connect(&server, ROOT).await;
    let path = server.service().save_report(server.service().own_caller(), "meta.txt").await.unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.starts_with("1 files and directories, 0 blocks = 1 total filesystem objects\n"), "{text}");
    let odd = MetaSaveRequestProto { filename: "../meta.txt".into() };
    assert!(client.call::<MetaSaveResponseProto>("metaSave", &odd).await.is_err());
    server.stop().await;
}
