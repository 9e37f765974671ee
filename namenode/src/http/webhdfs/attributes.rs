//! Access control lists and extended attributes.

use serde_json::{Value, json};
use steadfs_common::acl::{AclStatus, ScopedAclEntry};
use steadfs_common::xattr::{XAttr, XAttrEncoding};
use steadfs_namenode_core::acl::AclChange;
use steadfs_namenode_core::command::Command;

use super::{Answer, Asked, done, json};

const STICKY: u16 = 0o1000;

/// `GETACLSTATUS`
pub(super) async fn acl_status(asked: &Asked) -> Answer {
    let status = asked.service.acl_status(&asked.caller, &asked.path).await?;
    Ok(json(&json!({ "AclStatus": acl_shape(&status) })))
}

fn acl_shape(status: &AclStatus) -> Value {
    let entries: Vec<String> = status.entries.iter().map(ScopedAclEntry::to_string).collect();
    json!({
        "entries": entries,
        "group": status.group,
        "owner": status.owner,
        "permission": format!("{:o}", status.mode),
        "stickyBit": status.mode & STICKY != 0,
    })
}

/// The operations that change a list.
pub(super) async fn change_acl(asked: &Asked, operation: &str) -> Answer {
    let spec = |permissions| asked.query.acl_spec(operation, permissions);
    let change = match operation {
        "MODIFYACLENTRIES" => AclChange::Modify(spec(true)?),
        "REMOVEACLENTRIES" => AclChange::RemoveEntries(spec(false)?),
        "REMOVEDEFAULTACL" => AclChange::RemoveDefault,
        "REMOVEACL" => AclChange::Remove,
        _ => AclChange::Set(spec(true)?),
    };
    done(asked.submit(Command::SetAcl { path: asked.path.clone(), change }).await?)
}

/// `GETXATTRS`
pub(super) async fn attributes(asked: &Asked, operation: &str) -> Answer {
    let (encoding, names) = (asked.query.xattr_encoding(operation)?, asked.query.xattr_names()?);
    let found = asked.service.xattrs(&asked.caller, &asked.path, names).await?;
    let shapes: Vec<Value> = found.iter().map(|attribute| attribute_shape(attribute, encoding)).collect();
    Ok(json(&json!({ "XAttrs": shapes })))
}

fn attribute_shape(attribute: &XAttr, encoding: XAttrEncoding) -> Value {
    let value = (!attribute.value.is_empty()).then(|| encoding.encode(&attribute.value));
    json!({ "name": attribute.name.to_string(), "value": value })
}

/// `LISTXATTRS`: the names are JSON within JSON.
pub(super) async fn attribute_names(asked: &Asked) -> Answer {
    let names = asked.service.xattr_names(&asked.caller, &asked.path).await?;
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    Ok(json(&json!({ "XAttrNames": json!(names).to_string() })))
}

/// `SETXATTR`
pub(super) async fn set_attribute(asked: &Asked, operation: &str) -> Answer {
    let command = Command::SetXAttr {
        path: asked.path.clone(),
        name: asked.query.xattr_name(operation)?,
        value: asked.query.xattr_value()?,
        flags: asked.query.xattr_flags(operation)?,
    };
    done(asked.submit(command).await?)
}

/// `REMOVEXATTR`
pub(super) async fn remove_attribute(asked: &Asked, operation: &str) -> Answer {
    let name = asked.query.xattr_name(operation)?;
    done(asked.submit(Command::RemoveXAttr { path: asked.path.clone(), name }).await?)
}
