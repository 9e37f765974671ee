//! What an operator orders.

use steadfs_common::{FsPath, FsResult, InodeId};
use steadfs_proto::steadfs as pb;

use crate::Client;

/// Whether a datanode serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NodeState {
    /// It serves.
    #[default]
    Normal,
    /// Its replicas are being copied elsewhere, for good.
    Decommissioning,
    /// It can be taken away.
    Decommissioned,
    /// What only it holds is being copied elsewhere.
    EnteringMaintenance,
    /// It may be down for a while.
    InMaintenance,
}

impl NodeState {
    pub(crate) const fn of(state: pb::NodeState) -> Self {
        match state {
            pb::NodeState::Normal => Self::Normal,
            pb::NodeState::Decommissioning => Self::Decommissioning,
            pb::NodeState::Decommissioned => Self::Decommissioned,
            pb::NodeState::EnteringMaintenance => Self::EnteringMaintenance,
            pb::NodeState::InMaintenance => Self::InMaintenance,
        }
    }

    /// Whether it may be down without anything being wrong.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Decommissioned | Self::InMaintenance)
    }

    /// As people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "in service",
            Self::Decommissioning => "decommissioning",
            Self::Decommissioned => "decommissioned",
            Self::EnteringMaintenance => "entering maintenance",
            Self::InMaintenance => "in maintenance",
        }
    }
}

/// A file that is open for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// The file.
    pub inode: InodeId,
    /// Where it is.
    pub path: String,
    /// Who writes it.
    pub client: String,
    /// The host that it is written from.
    pub machine: String,
}

impl Client {
    /// Has the namenode read its hosts files again.
    ///
    /// # Errors
    /// `AccessDenied` unless the caller is a superuser; a file that cannot be read or understood is named.
    pub async fn refresh_nodes(&self) -> FsResult<()> {
        let call = self.inner.calls.admin(pb::Empty {}, |mut c, r| async move { c.refresh_nodes(r).await });
        call.await.map(|_| ())
    }

    /// A page of the files that are open for writing at and below `top`, by inode past `after`, and whether more follow;
    /// with `blocking` only those that keep a datanode from leaving.
    ///
    /// # Errors
    /// `AccessDenied` unless the caller is a superuser.
    pub async fn open_files(
        &self,
        top: &str,
        after: InodeId,
        blocking: bool,
    ) -> FsResult<(Vec<OpenFile>, bool)> {
        let path = FsPath::parse(top)?.to_string();
        let request = pb::OpenFilesRequest { after: after.0, path, blocking };
        let call = self.inner.calls.admin(request, |mut c, r| async move { c.open_files(r).await });
        let answer = call.await?;
        let files = answer.files.into_iter().map(|file| OpenFile {
            inode: InodeId(file.inode),
            path: file.path,
            client: file.client,
            machine: file.machine,
        });
        Ok((files.collect(), answer.more))
    }

    /// Flushes the namenode's store.
    ///
    /// # Errors
    /// `AccessDenied` unless the caller is a superuser; `Refused` unless safe mode is on.
    pub async fn save_namespace(&self) -> FsResult<()> {
        let call = self.inner.calls.admin(pb::Empty {}, |mut c, r| async move { c.save_namespace(r).await });
        call.await.map(|_| ())
    }

    /// Begins a new segment of the namenode's journal; gives the first transaction that it may hold.
    ///
    /// # Errors
    /// `AccessDenied` unless the caller is a superuser; `SafeMode`.
    pub async fn roll_journal(&self) -> FsResult<u64> {
        let call = self.inner.calls.admin(pb::Empty {}, |mut c, r| async move { c.roll_journal(r).await });
        Ok(call.await?.transaction)
    }

    /// Has the namenode write a report on datanodes and blocks to a file of its own; gives the file's path there.
    ///
    /// # Errors
    /// `AccessDenied` unless the caller is a superuser; `InvalidArgument` unless `file` is a plain name.
    pub async fn save_report(&self, file: &str) -> FsResult<String> {
        let request = pb::SaveReportRequest { file: file.to_owned() };
        let call = self.inner.calls.admin(request, |mut c, r| async move { c.save_report(r).await });
        Ok(call.await?.path)
    }

    /// Tells all live datanodes how many bytes a second they may use to move replicas.
    ///
    /// # Errors
    /// `AccessDenied` unless the caller is a superuser.
    pub async fn set_balancer_bandwidth(&self, bytes_per_second: u64) -> FsResult<()> {
        let request = pb::BandwidthRequest { bytes_per_second };
        let call =
            self.inner.calls.admin(request, |mut c, r| async move { c.set_balancer_bandwidth(r).await });
        call.await.map(|_| ())
    }
}
