//! Sums, quotas and storage policies as our messages, and back.

use steadfs_common::{FsResult, StorageType};
use steadfs_namenode_core::command::Command;
use steadfs_namenode_core::namespace::quota::Bound;
use steadfs_namenode_core::namespace::read::ContentSummary;
use steadfs_proto::convert::{path, storage_kind, storage_type};
use steadfs_proto::steadfs as pb;

pub(super) fn content_summary(sums: &ContentSummary) -> pb::ContentSummaryResponse {
    let of = |kind: StorageType| {
        let (used, quota) = (sums.types[kind.index()], sums.quota.types[kind.index()]);
        (used > 0 || quota.is_some()).then(|| pb::TypeUsage { kind: storage_kind(kind).into(), used, quota })
    };
    pb::ContentSummaryResponse {
        length: sums.length,
        files: sums.files,
        directories: sums.directories,
        space: sums.space,
        name_quota: sums.quota.names,
        space_quota: sums.quota.space,
        types: StorageType::ALL.into_iter().filter_map(of).collect(),
    }
}

/// The command of a request, which leaves out what stays.
pub(super) fn set_quota(request: &pb::SetQuotaRequest) -> FsResult<Command> {
    const KEEP: i64 = i64::MAX;
    let (names, space) = Bound::pair(request.names.unwrap_or(KEEP), request.space.unwrap_or(KEEP))?;
    let kind = request.kind.map(|_| storage_type(request.kind()));
    Ok(Command::SetQuota { path: path(&request.path)?, names, space, kind })
}
