//! Questions that are answered without looking anything up, and still stand in the audit log.

use steadfs_common::{FsPath, FsResult};
use steadfs_namenode_core::Caller;

use super::Service;
use super::types::FileStatus;

impl Service {
    /// As [`Service::status`], where the question has another name.
    ///
    /// # Errors
    /// As [`Service::status`].
    pub async fn status_as(
        &self,
        operation: &'static str,
        caller: &Caller,
        path: &FsPath,
    ) -> FsResult<Option<FileStatus>> {
        let started = self.audit.start();
        let found = self.ask(caller, path, |reader, path| {
            Ok(reader.stat(path)?.map(|inode| (reader.policy_of(&inode), inode)))
        });
        let found = found.await;
        self.audit.asked(&started, operation, caller, path, &found);
        Ok(found?.map(|(policy, inode)| FileStatus { inode, name: None, blocks: None, policy }))
    }

    /// What is at a path that the caller has just changed, which is no question of its own; none if there is nothing any more,
    /// or nothing that the caller may see.
    pub(crate) async fn status_after(&self, caller: &Caller, path: &FsPath) -> Option<FileStatus> {
        let found = self.ask(caller, path, |reader, path| {
            Ok(reader.stat(path)?.map(|inode| (reader.policy_of(&inode), inode)))
        });
        let (policy, inode) = found.await.ok()??;
        Some(FileStatus { inode, name: None, blocks: None, policy })
    }

    /// Notes a question about the cluster that anybody may ask.
    pub(crate) fn note_question(&self, operation: &'static str, caller: &Caller) {
        self.audit.asked(&self.audit.start(), operation, caller, &"/", &Ok(()));
    }

    /// Notes a question about the cluster that only superusers may ask.
    ///
    /// # Errors
    /// AccessDenied: the caller is none.
    pub(crate) fn operator_question(&self, operation: &'static str, caller: &Caller) -> FsResult<()> {
        let started = self.audit.start();
        let checked = self.check_operator(caller, operation);
        self.audit.asked(&started, operation, caller, &"/", &checked);
        checked
    }
}
