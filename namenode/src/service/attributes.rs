//! Questions about access control lists and extended attributes.

use steadfs_common::acl::AclStatus;
use steadfs_common::xattr::{XAttr, XAttrName};
use steadfs_common::{FsPath, FsResult};
use steadfs_namenode_core::Caller;

use super::Service;

impl Service {
    /// Who may do what with a file or folder.
    ///
    /// # Errors
    /// As [`Service::status`]; NotFound.
    pub async fn acl_status(&self, caller: &Caller, path: &FsPath) -> FsResult<AclStatus> {
        let started = self.audit.start();
        let found = self.ask(caller, path, |reader, path| reader.acl_status(path)).await;
        self.audit.asked(&started, "get_acl_status", caller, path, &found);
        found
    }

    /// The extended attributes named, or all that the caller may see if none is named.
    ///
    /// # Errors
    /// As [`Service::status`]; NotFound; AccessDenied; XAttrNotFound.
    pub async fn xattrs(
        &self,
        caller: &Caller,
        path: &FsPath,
        names: Vec<XAttrName>,
    ) -> FsResult<Vec<XAttr>> {
        let started = self.audit.start();
        let found = self.ask(caller, path, move |reader, path| reader.xattrs(path, &names)).await;
        self.audit.asked(&started, "get_xattrs", caller, path, &found);
        found
    }

    /// The names of the extended attributes that the caller may see.
    ///
    /// # Errors
    /// As [`Service::status`]; NotFound; AccessDenied.
    pub async fn xattr_names(&self, caller: &Caller, path: &FsPath) -> FsResult<Vec<XAttrName>> {
        let started = self.audit.start();
        let found = self.ask(caller, path, |reader, path| reader.xattr_names(path)).await;
        self.audit.asked(&started, "list_xattrs", caller, path, &found);
        found
    }

    /// As [`Service::xattr_names`], with the values: HDFS tells them here too, and there are clients that take them from
    /// this list (the Go client does).
    ///
    /// # Errors
    /// As [`Service::xattr_names`].
    pub async fn listed_xattrs(&self, caller: &Caller, path: &FsPath) -> FsResult<Vec<XAttr>> {
        let started = self.audit.start();
        let found = self.ask(caller, path, |reader, path| reader.xattrs(path, &[])).await;
        self.audit.asked(&started, "list_xattrs", caller, path, &found);
        found
    }
}
