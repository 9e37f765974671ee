//! The check of the file system for our own tools.

use std::sync::Arc;

use steadfs_common::{FsPath, FsResult};
use steadfs_namenode_core::Caller;
use steadfs_namenode_core::record::FileBody;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::fsck_item::Item;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::convert::{block, locations};
use crate::blocks::Blocks;
use crate::service::{FileStatus, Found, LocatedBlock, Service, Walk};

type Out = Sender<Result<pb::FsckItem, Status>>;

/// One check.
pub(crate) struct Fsck {
    service: Arc<Service>,
    blocks: Arc<Blocks>,
    caller: Caller,
    /// Healthy files are told as well.
    all: bool,
    summary: pb::FsckSummary,
}

/// What a block lacks.
#[derive(Default)]
struct Verdict {
    missing: bool,
    corrupt: bool,
    under: bool,
    over: bool,
}

impl Fsck {
    pub(crate) fn new(service: Arc<Service>, blocks: Arc<Blocks>, caller: Caller, all: bool) -> Self {
        Self { service, blocks, caller, all, summary: pb::FsckSummary::default() }
    }

    /// Walks everything at and below `top`; ends early if nobody listens any more.
    pub(crate) async fn run(mut self, top: FsPath, out: &Out) -> FsResult<()> {
        let mut walk = Walk::new(Arc::clone(&self.service), self.caller.clone(), top).await?;
        while let Some(Found { path, status }) = walk.next().await? {
            let Some(status) = status.filter(|status| !status.inode.is_directory()) else {
                self.summary.directories += 1;
                continue;
            };
            if let Some(found) = self.check(&path, &status)
                && out.send(Ok(pb::FsckItem { item: Some(Item::File(found)) })).await.is_err()
            {
                return Ok(());
            }
        }
        self.summary.healthy = self.summary.missing == 0 && self.summary.corrupt == 0;
        let _ = out.send(Ok(pb::FsckItem { item: Some(Item::Summary(self.summary)) })).await;
        Ok(())
    }

    /// Counts a file, and says what is to be told of it.
    fn check(&mut self, path: &FsPath, status: &FileStatus) -> Option<pb::FsckFile> {
        let file = status.inode.file()?;
        self.summary.files += 1;
        self.summary.bytes += file.length;
        self.summary.open_files += u64::from(file.under_construction);
        let located = status.blocks.as_ref();
        let mut told = Vec::new();
        for (at, found) in located.into_iter().flat_map(|blocks| blocks.blocks.iter().enumerate()) {
            // The last block of a file being written is where its pipeline is.
            let building = located.is_some_and(|blocks| {
                !blocks.last_complete && blocks.under_construction && at + 1 == blocks.blocks.len()
            });
            self.summary.blocks += 1;
            let (verdict, found) = self.judge(found, file, building);
            self.summary.missing += u64::from(verdict.missing);
            self.summary.corrupt += u64::from(verdict.corrupt);
            self.summary.under_replicated += u64::from(verdict.under);
            self.summary.over_replicated += u64::from(verdict.over);
            if self.all || verdict.missing || verdict.corrupt || verdict.under {
                told.push(found);
            }
        }
        (self.all || !told.is_empty()).then(|| pb::FsckFile {
            path: path.to_string(),
            length: file.length,
            replication: file.replication().into(),
            under_construction: file.under_construction,
            blocks: told,
        })
    }

    fn judge(&self, found: &LocatedBlock, file: &FileBody, building: bool) -> (Verdict, pb::FsckBlock) {
        let wanted = usize::from(file.replication());
        let (good, bad) = if building {
            (found.locations.clone(), Vec::new())
        } else {
            self.blocks.replicas(found.block.id)
        };
        let verdict = if building {
            Verdict::default()
        } else {
            Verdict {
                missing: good.is_empty(),
                corrupt: !bad.is_empty(),
                under: !good.is_empty() && good.len() < wanted,
                over: good.len() > wanted,
            }
        };
        let told = pb::FsckBlock {
            block: Some(block(found.block)),
            wanted: file.replication().into(),
            live: locations(&good),
            corrupt: locations(&bad),
        };
        (verdict, told)
    }
}
