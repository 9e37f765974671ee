//! Files that mounts have open when their names go.

use steadfs_namenode_core::locks::SessionId;

use super::*;
use crate::service::locks::NamedOpen;

const NOTHING_GONE: [InodeId; 0] = [];

impl Bench {
    async fn session(&self, who: &Caller) -> SessionId {
        self.service.open_lock_session(who, "mount".into()).await.unwrap().id
    }

    /// A mount's user has these files open. Gives those of which the namenode says that they are gone.
    async fn opens(&self, who: &Caller, id: SessionId, files: &[InodeId]) -> Vec<InodeId> {
        let named = NamedOpen { files: files.to_vec(), ..NamedOpen::default() };
        self.service.keep_open(who, id, named).await.unwrap().1
    }

    /// After a start a mount says again what it has open: all of it.
    async fn names_all(&self, who: &Caller, id: SessionId, files: &[InodeId]) -> Vec<InodeId> {
        let edge = |begins, ended| NamedOpen { begins, ended, ..NamedOpen::default() };
        self.service.keep_open(who, id, edge(true, false)).await.unwrap();
        let gone = self.opens(who, id, files).await;
        self.service.keep_open(who, id, edge(false, true)).await.unwrap();
        gone
    }

    async fn is_there(&self, file: InodeId) -> bool {
        let at = path(&format!("/.reserved/.inodes/{file}"));
        match self.service.status(&root(), &at).await {
            Ok(found) => found.is_some(),
            Err(error) => {
                assert_eq!(error.kind(), FsErrorKind::NotFound);
                false
            }
        }
    }

    async fn delete_tree(&self) {
        let delete = Command::Delete { path: path("/tree"), recursive: true };
        assert_eq!(self.submit(delete).await, Ok(Reply::Bool(true)));
    }

    async fn file_of_ann(&self) -> InodeId {
        self.mkdirs("/tree").await.unwrap();
        let file = self.create("/tree/file", "c").await;
        let command = Command::SetOwner { path: path("/tree/file"), owner: Some("ann".into()), group: None };
        self.submit(command).await.unwrap();
        file
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_in_a_deleted_tree_is_there_before_the_tree_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    let ann = user("ann");
    let file = bench.file_of_ann().await;
    let session = bench.session(&ann).await;
    assert_eq!(bench.opens(&ann, session, &[file]).await, NOTHING_GONE);
    bench.delete_tree().await;
    assert!(!bench.is_there(file).await, "nothing leads to it until somebody sees to it");
    bench.service.keep_all_lost().await.unwrap();
    assert!(bench.is_there(file).await);
    bench.service.reclaim().await.unwrap();
    assert!(bench.is_there(file).await);
    bench.service.close_lock_session(&ann, session).await.unwrap();
    bench.service.let_go().await.unwrap();
    assert!(!bench.is_there(file).await);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_in_a_deleted_tree_outlives_a_restart_before_the_tree_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    let (ann, bob) = (user("ann"), user("bob"));
    let file = bench.file_of_ann().await;
    let (session, other) = (bench.session(&ann).await, bench.session(&bob).await);
    assert_eq!(bench.opens(&ann, session, &[file]).await, NOTHING_GONE);
    bench.delete_tree().await;
    let bench = Bench::start(bench.stop().await).await.unwrap();
    bench.service.reclaim().await.unwrap();
    // Somebody else cannot bring back what was deleted.
    assert_eq!(bench.names_all(&bob, other, &[file]).await, [file]);
    assert_eq!(bench.names_all(&ann, session, &[file]).await, NOTHING_GONE);
    assert!(bench.is_there(file).await);
    bench.service.reclaim().await.unwrap();
    bench.service.let_go().await.unwrap();
    assert!(bench.is_there(file).await);
    bench.service.close_lock_session(&ann, session).await.unwrap();
    bench.service.let_go().await.unwrap();
    assert!(!bench.is_there(file).await);
    bench.stop().await;
}
