//! Sums, quotas and storage policies.

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult};
use steadfs_namenode_core::namespace::read::{ContentSummary, Reader};
use steadfs_namenode_core::namespace::subtree::Walk;
use steadfs_namenode_core::policy::{self, StoragePolicy};
use steadfs_namenode_core::{Caller, Command};

use super::Service;

/// Rows that a walk looks at before it lets others use its thread.
const WALK_STEP: usize = 10_000;

/// What HDFS says where nobody moves replicas to the storage that their files' policies want.
const NO_SATISFIER: &str = "Cannot request to satisfy storage policy when storage policy satisfier feature has been \
     disabled by admin. Seek for an admin help to enable it or use Mover tool.";

impl Service {
    /// Sums over a file or a tree. A caller who is no superuser must be allowed to look into every folder of it.
    ///
    /// # Errors
    /// As [`Service::status`]; NotFound.
    pub async fn content_summary(&self, caller: &Caller, path: &FsPath) -> FsResult<ContentSummary> {
        let started = self.audit.start();
        let summed = self.sums(caller, path, |reader, path| reader.content_summary(path)).await;
        self.audit.asked(&started, "content_summary", caller, path, &summed);
        summed
    }

    /// As [`Service::content_summary`], for whoever asks for the quotas.
    ///
    /// # Errors
    /// As [`Service::content_summary`].
    pub async fn quota_usage(&self, caller: &Caller, path: &FsPath) -> FsResult<ContentSummary> {
        let started = self.audit.start();
        let summed = self.sums(caller, path, |reader, path| reader.quota_usage(path)).await;
        self.audit.asked(&started, "quota_usage", caller, path, &summed);
        summed
    }

    async fn sums(
        &self,
        caller: &Caller,
        path: &FsPath,
        ask: impl Fn(&Reader<'_>, &FsPath) -> FsResult<ContentSummary> + Send + 'static,
    ) -> FsResult<ContentSummary> {
        let sums = self.ask(caller, path, ask).await?;
        // Most callers are superusers or ask of a folder without folders.
        if sums.directories > 1 && !caller.superuser && self.settings.permissions {
            self.check_readable(caller, path).await?;
        }
        Ok(sums)
    }

    /// Walks over the folders at and below `path`, off the threads that serve calls.
    async fn check_readable(&self, caller: &Caller, path: &FsPath) -> FsResult<()> {
        let view = self.store.view();
        let begun = {
            let (view, caller, settings, path) =
                (view.clone(), caller.clone(), self.settings.clone(), path.clone());
            self.pool.run(move || Walk::to_read(&*view, &caller, &settings, &path)).await
        };
        let Some(mut walk) = begun else { return Ok(()) };
        loop {
            let (view, caller, settings) = (view.clone(), caller.clone(), self.settings.clone());
            let step = move || {
                let done = walk.step(&*view, &caller, &settings, WALK_STEP);
                (walk, done)
            };
            let (back, done) = self.pool.run(step).await;
            walk = back;
            if done?.is_some() {
                return Ok(());
            }
        }
    }

    /// The storage policy that a file or folder has or inherits; none if it has none, which is as good as HOT.
    ///
    /// # Errors
    /// As [`Service::status`]; AccessDenied: the caller may not read it; NotFound.
    pub async fn storage_policy(
        &self,
        caller: &Caller,
        path: &FsPath,
    ) -> FsResult<Option<&'static StoragePolicy>> {
        let started = self.audit.start();
        let found = self.ask(caller, path, |reader, path| reader.storage_policy(path)).await;
        self.audit.asked(&started, "get_storage_policy", caller, path, &found);
        Ok(policy::by_id(found?))
    }

    /// Gives a file or folder a storage policy, or with none takes its own away.
    ///
    /// # Errors
    /// As [`Service::submit`].
    pub async fn set_storage_policy(
        &self,
        caller: &Caller,
        path: FsPath,
        policy: Option<String>,
    ) -> FsResult<()> {
        self.submit(caller, None, Command::SetStoragePolicy { path, policy }).await.map(|_| ())
    }

    /// Replicas that lie on another storage than their file's policy wants are not moved.
    ///
    /// # Errors
    /// Always UnsupportedAction, in HDFS's words.
    pub fn satisfy_storage_policy(&self, caller: &Caller, path: &FsPath) -> FsResult<()> {
        let started = self.audit.start();
        let refused = Err(FsError::new(FsErrorKind::UnsupportedAction, NO_SATISFIER));
        self.audit.changed(&started, "satisfy_storage_policy", caller, path, &refused);
        refused
    }
}
