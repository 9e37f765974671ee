//! What an operator asks.

use std::sync::Arc;

use steadfs_common::FsResult;
use steadfs_proto::convert::path;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::admin_server::Admin;
use steadfs_proto::steadfs::safe_mode_request::Action;
use steadfs_proto::to_status;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::cluster_report;
use super::fsck::Fsck;
use super::{caller, reply};
use crate::blocks::Blocks;
use crate::service::Service;

/// Findings that wait for a slow reader; the check waits beyond that.
const FSCK_QUEUE: usize = 16;

pub(super) struct AdminDoor {
    pub(super) service: Arc<Service>,
    pub(super) blocks: Arc<Blocks>,
}

#[tonic::async_trait]
impl Admin for AdminDoor {
    type FsckStream = ReceiverStream<Result<pb::FsckItem, Status>>;

    async fn report(&self, request: Request<pb::Empty>) -> Result<Response<pb::ClusterReport>, Status> {
        let work = async {
            let who = caller(&self.service, &request).await?;
            self.service.report(&who).await.map(cluster_report)
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
}
