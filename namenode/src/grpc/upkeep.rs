//! The namenode's own data, as an operator asks for it.

use std::sync::Arc;

use steadfs_common::{BlockId, FsResult};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::backup_piece::Piece;
use steadfs_proto::steadfs::upkeep_server::Upkeep;
use steadfs_proto::to_status;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Answer, caller};
use crate::journal::CopyState;
use crate::service::{BackupPiece, Service};

/// Pieces on their way between two tasks.
const PIECES: usize = 2;

pub(super) struct UpkeepDoor {
    pub(super) service: Arc<Service>,
}

fn piece(piece: BackupPiece) -> pb::BackupPiece {
    let piece = match piece {
        BackupPiece::Part { file, data, crc32c } => {
            Piece::Part(pb::BackupPart { file, data: data.into(), crc32c })
        }
        BackupPiece::Manifest(bytes) => Piece::Manifest(bytes.into()),
    };
    pb::BackupPiece { piece: Some(piece) }
}

impl UpkeepDoor {
    fn health_now(&self) -> pb::HealthResponse {
        let health = self.service.health();
        let copy = |copy: crate::journal::CopyHealth| pb::JournalCopy {
            folder: copy.folder.display().to_string(),
            state: match copy.state {
                CopyState::Complete => "complete",
                CopyState::Filling => "filling",
                CopyState::Left(_) => "left",
            }
            .into(),
        };
        pb::HealthResponse {
            journal: health.journal().copies().into_iter().map(copy).collect(),
            problems: health.problems(),
            findings: health.findings(),
        }
    }
}

#[tonic::async_trait]
impl Upkeep for UpkeepDoor {
    type BackupStream = ReceiverStream<Result<pb::BackupPiece, Status>>;

    async fn backup(&self, request: Request<pb::Empty>) -> Answer<Self::BackupStream> {
        let begin = async {
            let who = caller(&self.service, &request).await?;
            self.service.backup(&who)
        };
        let mut pieces = begin.await.map_err(|error| to_status(&error))?;
        let (out, sent) = tokio::sync::mpsc::channel(PIECES);
        tokio::spawn(async move {
            // Ends with the backup, or when the reader goes away.
            while let Some(next) = pieces.recv().await {
                if out.send(next.map(piece).map_err(|error| to_status(&error))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(sent)))
    }

    async fn health(&self, request: Request<pb::Empty>) -> Answer<pb::HealthResponse> {
        answer!(self, request, |who, _message| {
            self.service.check_operator(&who, "health")?;
            FsResult::Ok(self.health_now())
        })
    }

    async fn scrub(&self, request: Request<pb::Empty>) -> Answer<pb::HealthResponse> {
        answer!(self, request, |who, _message| {
            self.service.scrub(&who).await?;
            FsResult::Ok(self.health_now())
        })
    }

    async fn kept(&self, request: Request<pb::KeptRequest>) -> Answer<pb::KeptResponse> {
        answer!(self, request, |who, message| {
            let kept = self.service.kept_blocks(&who, BlockId(message.after))?;
            let page = kept.page.into_iter().map(|(id, length)| pb::KeptBlock { id: id.0, length });
            FsResult::Ok(pb::KeptResponse { blocks: kept.blocks, bytes: kept.bytes, page: page.collect() })
        })
    }

    async fn forget_kept(&self, request: Request<pb::Empty>) -> Answer<pb::Empty> {
        answer!(self, request, |who, _message| self.service.forget_losses(&who).await.map(|()| pb::Empty {}))
    }

    async fn check_namespace(
        &self,
        request: Request<pb::CheckNamespaceRequest>,
    ) -> Answer<pb::CheckNamespaceResponse> {
        answer!(self, request, |who, message| {
            let checked = self.service.check_namespace(&who, message.repair).await?;
            FsResult::Ok(pb::CheckNamespaceResponse {
                inodes: checked.inodes,
                blocks: checked.blocks,
                problems: checked.problems,
                repaired: checked.repaired,
            })
        })
    }
}
