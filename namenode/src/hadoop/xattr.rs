//! Extended attributes.

use bytes::Bytes;
use steadfs_common::xattr::{XAttr, XAttrFlags, XAttrName, XAttrNamespace};
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::command::Command;
use steadfs_proto::hadoop::x_attr_proto::XAttrNamespaceProto;
use steadfs_proto::hadoop::{
    GetXAttrsRequestProto, GetXAttrsResponseProto, ListXAttrsRequestProto, ListXAttrsResponseProto,
    RemoveXAttrRequestProto, RemoveXAttrResponseProto, SetXAttrRequestProto, SetXAttrResponseProto,
    XAttrProto, XAttrSetFlagProto,
};

use super::{Asked, answers, convert};

/// An attribute as messages have it. A value without bytes is none.
pub(super) fn attribute(attribute: &XAttr) -> XAttrProto {
    let value = &attribute.value;
    XAttrProto { value: (!value.is_empty()).then(|| Bytes::copy_from_slice(value)), ..named(&attribute.name) }
}

fn named(name: &XAttrName) -> XAttrProto {
    let namespace = match name.namespace {
        XAttrNamespace::User => XAttrNamespaceProto::User,
        XAttrNamespace::Trusted => XAttrNamespaceProto::Trusted,
        XAttrNamespace::Security => XAttrNamespaceProto::Security,
        XAttrNamespace::System => XAttrNamespaceProto::System,
        XAttrNamespace::Raw => XAttrNamespaceProto::Raw,
    };
    XAttrProto { namespace: namespace as i32, name: name.name.clone(), value: None }
}

fn name(proto: &XAttrProto) -> FsResult<XAttrName> {
    let namespace = XAttrNamespaceProto::try_from(proto.namespace)
        .map_err(|_| FsError::new(FsErrorKind::InvalidRequest, "An XAttr has an unknown namespace"))?;
    let namespace = match namespace {
        XAttrNamespaceProto::User => XAttrNamespace::User,
        XAttrNamespaceProto::Trusted => XAttrNamespace::Trusted,
        XAttrNamespaceProto::Security => XAttrNamespace::Security,
        XAttrNamespaceProto::System => XAttrNamespace::System,
        XAttrNamespaceProto::Raw => XAttrNamespace::Raw,
    };
    if proto.name.is_empty() {
        return Err(FsError::invalid_argument("XAttr name cannot be empty."));
    }
    Ok(XAttrName { namespace, name: proto.name.clone() })
}

fn required(attribute: Option<XAttrProto>) -> FsResult<XAttrProto> {
    attribute.ok_or_else(|| FsError::new(FsErrorKind::InvalidRequest, "The request names no XAttr"))
}

pub(super) async fn set_x_attr(
    asked: Asked,
    request: SetXAttrRequestProto,
) -> FsResult<SetXAttrResponseProto> {
    let flags = request.flag();
    let has = |flag: XAttrSetFlagProto| flags & flag as u32 != 0;
    let attribute = required(request.x_attr)?;
    let command = Command::SetXAttr {
        path: convert::path(&request.src)?,
        name: name(&attribute)?,
        value: attribute.value.map(|value| value.to_vec()),
        flags: XAttrFlags {
            create: has(XAttrSetFlagProto::XattrCreate),
            replace: has(XAttrSetFlagProto::XattrReplace),
        },
    };
    answers::done(asked.submit_once(command).await?)?;
    Ok(SetXAttrResponseProto {})
}

pub(super) async fn remove_x_attr(
    asked: Asked,
    request: RemoveXAttrRequestProto,
) -> FsResult<RemoveXAttrResponseProto> {
    let name = name(&required(request.x_attr)?)?;
    let command = Command::RemoveXAttr { path: convert::path(&request.src)?, name };
    answers::done(asked.submit_once(command).await?)?;
    Ok(RemoveXAttrResponseProto {})
}

pub(super) async fn get_x_attrs(
    asked: Asked,
    request: GetXAttrsRequestProto,
) -> FsResult<GetXAttrsResponseProto> {
    let names = request.x_attrs.iter().map(name).collect::<FsResult<_>>()?;
    let found = asked.service.xattrs(&asked.caller, &convert::path(&request.src)?, names).await?;
    Ok(GetXAttrsResponseProto { x_attrs: found.iter().map(attribute).collect() })
}

pub(super) async fn list_x_attrs(
    asked: Asked,
    request: ListXAttrsRequestProto,
) -> FsResult<ListXAttrsResponseProto> {
    let found = asked.service.listed_xattrs(&asked.caller, &convert::path(&request.src)?).await?;
    Ok(ListXAttrsResponseProto { x_attrs: found.iter().map(attribute).collect() })
}
