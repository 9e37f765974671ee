//! What changes the namespace.

use serde_json::json;
use steadfs_common::{FsError, FsErrorKind, FsPath, Millis};
use steadfs_namenode_core::Reply;
use steadfs_namenode_core::command::{Command, RenameMode};
use steadfs_wire::token::DelegationToken;
use steadfs_wire::webhdfs::RestError;

use crate::service::Service;

use super::{Answer, Asked, attributes, done, json, quotas, redirect, truth};

const PUT: &[&str] = &[
    "CREATE",
    "MKDIRS",
    "CREATESYMLINK",
    "RENAME",
    "SETREPLICATION",
    "SETOWNER",
    "SETPERMISSION",
    "SETTIMES",
    "RENEWDELEGATIONTOKEN",
    "CANCELDELEGATIONTOKEN",
    "MODIFYACLENTRIES",
    "REMOVEACLENTRIES",
    "REMOVEDEFAULTACL",
    "REMOVEACL",
    "SETACL",
    "SETXATTR",
    "REMOVEXATTR",
    "ALLOWSNAPSHOT",
    "DISALLOWSNAPSHOT",
    "CREATESNAPSHOT",
    "RENAMESNAPSHOT",
    "SETSTORAGEPOLICY",
    "SATISFYSTORAGEPOLICY",
    "ENABLEECPOLICY",
    "DISABLEECPOLICY",
    "SETECPOLICY",
    "SETQUOTA",
    "SETQUOTABYSTORAGETYPE",
];
const POST: &[&str] = &["APPEND", "CONCAT", "TRUNCATE", "UNSETSTORAGEPOLICY", "UNSETECPOLICY"];
const DELETE: &[&str] = &["DELETE", "DELETESNAPSHOT"];

pub(super) async fn put(asked: Asked) -> Answer {
    let operation = asked.query.operation(PUT, "PUT")?;
    let path = asked.path.clone();
    match operation {
        "CREATE" => redirect::create(&asked),
        "MKDIRS" => {
            let mode = asked.query.permission(0o755)?;
            let unmasked = asked.query.unmasked_permission()?;
            asked.submit(Command::Mkdirs { path, mode, unmasked, create_parent: true }).await?;
            Ok(json(&json!({ "boolean": true })))
        }
        "CREATESYMLINK" => Err(symlinks()),
        "RENAME" => rename(&asked).await,
        "SETREPLICATION" => {
            let replication = asked.query.replication()?;
            let replication = replication.unwrap_or_else(|| asked.service.defaults().replication);
            truth(asked.submit(Command::SetReplication { path, replication }).await?)
        }
        "SETOWNER" => {
            let named = |name| asked.query.optional(name).map(str::to_owned);
            let (owner, group) = (named("owner"), named("group"));
            if owner.is_none() && group.is_none() {
                return Err(RestError::argument("Both owner and group are empty."));
            }
            done(asked.submit(Command::SetOwner { path, owner, group }).await?)
        }
        "SETPERMISSION" => {
            let mode = asked.query.permission(0o755)?;
            done(asked.submit(Command::SetPermission { path, mode }).await?)
        }
        "SETTIMES" => {
            let time = |name| {
                let time = asked.query.long(name, -1)?;
                Ok::<_, RestError>(time.and_then(|time| u64::try_from(time).ok()).map(Millis))
            };
            let (mtime, atime) = (time("modificationtime")?, time("accesstime")?);
            done(asked.submit(Command::SetTimes { path, mtime, atime }).await?)
        }
        "MODIFYACLENTRIES" | "REMOVEACLENTRIES" | "REMOVEDEFAULTACL" | "REMOVEACL" | "SETACL" => {
            attributes::change_acl(&asked, operation).await
        }
        "SETQUOTA" | "SETQUOTABYSTORAGETYPE" => quotas::set_quota(&asked, operation).await,
        "SETSTORAGEPOLICY" => quotas::set_policy(&asked).await,
        "SATISFYSTORAGEPOLICY" => {
            asked.service.satisfy_storage_policy(&asked.caller, &path)?;
            done(Reply::Done)
        }
        "RENEWDELEGATIONTOKEN" | "CANCELDELEGATIONTOKEN" => {
            let token = DelegationToken::from_url(asked.query.required("token", operation)?)?;
            Err(if operation == "RENEWDELEGATIONTOKEN" {
                asked.service.refused_renewal(&asked.caller, &token).into()
            } else {
                Service::refused_cancellation(&token).into()
            })
        }
        "SETXATTR" => attributes::set_attribute(&asked, operation).await,
        "REMOVEXATTR" => attributes::remove_attribute(&asked, operation).await,
        _ => Err(RestError::unsupported(operation)),
    }
}

/// As a namenode says that has them switched off, which is how they come.
fn symlinks() -> RestError {
    FsError::new(FsErrorKind::Unsupported, "Symlinks not supported").into()
}

/// Without options the first form of HDFS, which answers a truth value; with them the second, which has errors.
async fn rename(asked: &Asked) -> Answer {
    const NAME: &str = "renameoptions";
    let (from, to) = (asked.path.clone(), asked.path_in("destination", "RENAME")?);
    let Some(options) = asked.query.optional(NAME) else {
        let command = Command::Rename { from, to, mode: RenameMode::Classic, to_trash: false };
        return truth(asked.submit(command).await?);
    };
    let (mut mode, mut to_trash) = (RenameMode::NoReplace, false);
    for option in options.split(',') {
        match option.trim().to_ascii_uppercase().as_str() {
            "NONE" => {}
            "OVERWRITE" => mode = RenameMode::Overwrite,
            "TO_TRASH" => to_trash = true,
            other => {
                let shown: String = other.chars().take(50).collect();
                let problem = format!("No enum constant org.apache.hadoop.fs.Options.Rename.{shown}");
                return Err(RestError::parameter(NAME, &problem));
            }
        }
    }
    done(asked.submit(Command::Rename { from, to, mode, to_trash }).await?)
}

pub(super) async fn post(asked: Asked) -> Answer {
    let operation = asked.query.operation(POST, "POST")?;
    match operation {
        "APPEND" => redirect::to_a_replica(&asked, operation).await,
        "CONCAT" => {
            let names = asked
                .query
                .required("sources", operation)?
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty());
            let sources = names.map(FsPath::parse).collect::<Result<_, _>>()?;
            done(asked.submit(Command::Concat { target: asked.path.clone(), sources }).await?)
        }
        "TRUNCATE" => {
            asked.query.required("newlength", operation)?;
            let length = asked.query.unsigned("newlength", 0)?.unwrap_or(0);
            let client = format!("WebHDFS_{}", uuid::Uuid::new_v4());
            truth(asked.submit(Command::Truncate { path: asked.path.clone(), length, client }).await?)
        }
        "UNSETSTORAGEPOLICY" => {
            asked.service.set_storage_policy(&asked.caller, asked.path.clone(), None).await?;
            done(Reply::Done)
        }
        _ => Err(RestError::unsupported(operation)),
    }
}

pub(super) async fn delete(asked: Asked) -> Answer {
    let operation = asked.query.operation(DELETE, "DELETE")?;
    if operation != "DELETE" {
        return Err(RestError::unsupported(operation));
    }
    let recursive = asked.query.truth("recursive", false)?;
    truth(asked.submit(Command::Delete { path: asked.path.clone(), recursive }).await?)
}
