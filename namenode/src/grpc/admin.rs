//! What an operator asks.

use std::sync::Arc;

use steadfs_common::{FsPath, FsResult, InodeId};
use steadfs_proto::convert::{path, principal};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::admin_server::Admin;
use steadfs_proto::steadfs::safe_mode_request::Action;
use steadfs_proto::to_status;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::cluster_report;
use super::fsck::Fsck;
use super::health::Health;
use super::{caller, reply};
use crate::blocks::Blocks;
use crate::service::Service;

/// Findings that wait for a slow reader; the check waits beyond that.
const FSCK_QUEUE: usize = 16;

pub(super) struct AdminDoor {
    pub(super) service: Arc<Service>,
    pub(super) blocks: Arc<Blocks>,
    pub(super) health: Arc<Health>,
}

#[tonic::async_trait]
impl Admin for AdminDoor {
    type FsckStream = ReceiverStream<Result<pb::FsckItem, Status>>;

    async fn report(&self, request: Request<pb::Empty>) -> Result<Response<pb::ClusterReport>, Status> {
        let work = async {
            let who = caller(&self.service, &request).await?;
            let mut report = cluster_report(self.service.report(&who).await?);
            self.health.add_to(&mut report);
            Ok(report)
        };
        reply(work.await)
    }

    async fn safe_mode(
        &self,
        request: Request<pb::SafeModeRequest>,
    ) -> Result<Response<pb::SafeModeResponse>, Status> {
        let work = async {
            let who = caller(&self.service, &request).await?;
            match request.into_inner().action() {
                Action::Get => {}
                Action::Enter => drop(self.service.set_safe_mode(&who, true)?),
                Action::Leave => drop(self.service.set_safe_mode(&who, false)?),
            }
            let reason = self.service.safe_mode();
            Ok(pb::SafeModeResponse { on: reason.is_some(), reason: reason.unwrap_or_default() })
        };
        reply(work.await)
    }

    async fn fsck(&self, request: Request<pb::FsckRequest>) -> Result<Response<Self::FsckStream>, Status> {
        let begin = async {
            let who = caller(&self.service, &request).await?;
            let message = request.into_inner();
            FsResult::Ok((who, path(&message.path)?, message.all))
        };
        let (who, top, all) = begin.await.map_err(|error| to_status(&error))?;
        let (out, items) = tokio::sync::mpsc::channel(FSCK_QUEUE);
        let fsck = Fsck::new(Arc::clone(&self.service), Arc::clone(&self.blocks), who, all);
        tokio::spawn(async move {
            // The task ends with the call: the channel closes when the reader goes away.
            if let Err(error) = fsck.run(top, &out).await {
                let _ = out.send(Err(to_status(&error))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(items)))
    }

    async fn refresh_nodes(&self, request: Request<pb::Empty>) -> Result<Response<pb::Empty>, Status> {
        let work = async {
            let who = caller(&self.service, &request).await?;
            self.service.refresh_nodes(&who).await.map(|()| pb::Empty {})
        };
        reply(work.await)
    }

    async fn set_node_state(
        &self,
        request: Request<pb::SetNodeStateRequest>,
    ) -> Result<Response<pb::SetNodeStateResponse>, Status> {
        let work = async {
            let who = caller(&self.service, &request).await?;
            let message = request.into_inner();
            let wish = super::nodes::wish(message.wish(), message.until);
            let name = principal("node", &message.node)?;
            let uuid = self.service.set_node_wish(&who, &name, wish).await?;
            Ok(pb::SetNodeStateResponse { uuid: uuid.to_string() })
        };
        reply(work.await)
    }

    async fn open_files(
        &self,
        request: Request<pb::OpenFilesRequest>,
    ) -> Result<Response<pb::OpenFilesResponse>, Status> {
        let work = async {
            let who = caller(&self.service, &request).await?;
            let message = request.into_inner();
            let top = if message.path.is_empty() { FsPath::root() } else { path(&message.path)? };
            let page = self.service.open_files(&who, InodeId(message.after), &top, message.blocking).await?;
            let files = page.files.into_iter().map(|file| pb::OpenFile {
                inode: file.inode.0,
                path: file.path.to_string(),
                client: file.client,
                machine: file.machine,
            });
            Ok(pb::OpenFilesResponse { files: files.collect(), more: page.more })
        };
        reply(work.await)
    }

    async fn save_namespace(&self, request: Request<pb::Empty>) -> Result<Response<pb::Empty>, Status> {
        let work = async {
            let who = caller(&self.service, &request).await?;
            self.service.save_namespace(&who, 0, 0).await.map(|_| pb::Empty {})
        };
        reply(work.await)
    }

    async fn roll_journal(
        &self,
        request: Request<pb::Empty>,
    ) -> Result<Response<pb::RollJournalResponse>, Status> {
        let work = async {
            let who = caller(&self.service, &request).await?;
            let first = self.service.roll_journal(&who).await?;
            Ok(pb::RollJournalResponse { transaction: first.0 })
        };
        reply(work.await)
    }

    async fn save_report(
        &self,
        request: Request<pb::SaveReportRequest>,
    ) -> Result<Response<pb::SaveReportResponse>, Status> {
        let work = async {
            let who = caller(&self.service, &request).await?;
            let path = self.service.save_report(&who, &request.into_inner().file).await?;
            Ok(pb::SaveReportResponse { path: path.display().to_string() })
        };
        reply(work.await)
    }

    async fn set_balancer_bandwidth(
        &self,
        request: Request<pb::BandwidthRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        let work = async {
            let who = caller(&self.service, &request).await?;
            let bytes = i64::try_from(request.into_inner().bytes_per_second).unwrap_or(i64::MAX);
            self.service.set_balancer_bandwidth(&who, bytes).map(|()| pb::Empty {})
        };
        reply(work.await)
    }
}
