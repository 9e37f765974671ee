//! Setting quotas and storage policies.

use steadfs_common::StorageType;
use steadfs_namenode_core::Reply;
use steadfs_namenode_core::command::Command;
use steadfs_namenode_core::namespace::quota::Bound;
use steadfs_wire::webhdfs::RestError;

use super::{Answer, Asked, done};

/// What a quota is that is left out: it stays.
const KEEP: i64 = i64::MAX;

pub(super) async fn set_quota(asked: &Asked, operation: &str) -> Answer {
    let number = |name| Ok::<_, RestError>(asked.query.long(name, -1)?.unwrap_or(KEEP));
    let space = number("storagespacequota")?;
    let (names, kind) = if operation == "SETQUOTA" {
        (number("namespacequota")?, None)
    } else {
        (KEEP, Some(storage_type(asked.query.required("storagetype", operation)?)?))
    };
    let (names, space) = Bound::pair(names, space)?;
    done(asked.submit(Command::SetQuota { path: asked.path.clone(), names, space, kind }).await?)
}

fn storage_type(name: &str) -> Result<StorageType, RestError> {
    name.parse().map_err(|_| {
        let shown: String = name.to_uppercase().chars().take(50).collect();
        RestError::argument(format!("No enum constant org.apache.hadoop.fs.StorageType.{shown}"))
    })
}

pub(super) async fn set_policy(asked: &Asked) -> Answer {
    let Some(name) = asked.query.optional("storagepolicy") else {
        return Err(RestError::argument("Storage policy name is empty."));
    };
    asked.service.set_storage_policy(&asked.caller, asked.path.clone(), Some(name.to_owned())).await?;
    done(Reply::Done)
}
