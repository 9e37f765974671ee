//! Who asks.

use std::net::IpAddr;
use std::sync::Arc;

use steadfs_common::limits::MAX_PRINCIPAL_BYTES;
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::Caller;
use steadfs_namenode_core::command::{Door, Origin};

use super::Service;
use crate::config::NamenodeConfig;

/// Groups that a call may name at most.
const MAX_NAMED_GROUPS: usize = 32;

/// What a call says of who makes it.
#[derive(Clone, Debug, Default)]
pub struct Claim<'a> {
    /// Whose rights it has.
    pub user: &'a str,
    /// Who makes it, if it is made for `user`.
    pub real_user: Option<&'a str>,
    /// Groups that the user is in beside those that are known here, as the caller says: he names himself, too.
    pub groups: Vec<String>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// What the client says that it does.
    pub context: Option<&'a str>,
    /// Where it came in.
    pub door: Door,
}

impl Service {
    /// Who asks: resolves the user's groups and whether it is a superuser, and whether one may act for the other.
    /// Completes at once for a user seen lately.
    ///
    /// # Errors
    /// InvalidArgument: a name is empty or too long, or there are too many groups; Unauthorized: the one may not act for the
    /// other.
    pub async fn identify(&self, claim: Claim<'_>) -> FsResult<Caller> {
        check_name(claim.user)?;
        let groups = self.all_groups(claim.user, claim.groups).await?;
        if let Some(real) = claim.real_user {
            check_name(real)?;
            self.proxies.check(real, claim.user, &groups, claim.address).await?;
        }
        let superuser = claim.user == self.own.user
            || (claim.user == self.superuser && !self.superuser.is_empty())
            || groups.contains(&self.settings.supergroup);
        let origin = Origin {
            real_user: claim.real_user.map(Arc::from),
            context: claim.context.map(Arc::from),
            door: claim.door,
        };
        let (user, address) = (claim.user.to_owned(), claim.address);
        Ok(Caller { user, groups, superuser, address, origin })
    }

    /// The groups that are known here and those that the caller names, which never make a superuser of him.
    async fn all_groups(&self, user: &str, named: Vec<String>) -> FsResult<Vec<String>> {
        if named.len() > MAX_NAMED_GROUPS {
            return Err(FsError::invalid_argument(format!(
                "a call names {} groups: {MAX_NAMED_GROUPS} are the most",
                named.len()
            )));
        }
        let mut groups = self.groups.of(user).await.to_vec();
        for group in named {
            check_name(&group)?;
            if group != self.settings.supergroup && !groups.contains(&group) {
                groups.push(group);
            }
        }
        Ok(groups)
    }

    /// As [`Service::identify`], of one who acts for himself from within.
    ///
    /// # Errors
    /// As [`Service::identify`].
    pub async fn caller(&self, user: &str, address: Option<IpAddr>) -> FsResult<Caller> {
        self.identify(Claim { user, address, ..Claim::default() }).await
    }

    /// The groups of any user, the primary one first.
    ///
    /// # Errors
    /// InvalidArgument: the name is empty or too long.
    pub async fn groups_of(&self, user: &str) -> FsResult<Vec<String>> {
        check_name(user)?;
        Ok(self.groups.of(user).await.to_vec())
    }

    /// Forgets which groups users are in, and reads the map of the configuration file again.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser; Io: the file cannot be read, and then nothing has changed.
    pub async fn refresh_groups(&self, caller: &Caller) -> FsResult<()> {
        self.refresh(caller, "refreshUserToGroupsMappings", |service, config| {
            service.groups.refresh(config.map(|config| &config.users));
        })
        .await
    }

    /// Reads again who may act for whom.
    ///
    /// # Errors
    /// As [`Service::refresh_groups`].
    pub async fn refresh_proxy_users(&self, caller: &Caller) -> FsResult<()> {
        self.refresh(caller, "refreshSuperUserGroupsConfiguration", |service, config| {
            if let Some(config) = config {
                service.proxies.refresh(&config.users.proxies);
            }
        })
        .await
    }

    async fn refresh(
        &self,
        caller: &Caller,
        operation: &'static str,
        take: impl FnOnce(&Self, Option<&NamenodeConfig>),
    ) -> FsResult<()> {
        if !caller.superuser && self.settings.permissions {
            let user = &caller.user;
            return Err(FsError::denied(format!(
                "Access denied for user {user}. Superuser privilege is required for operation {operation}"
            )));
        }
        let config = match &self.config_file {
            Some(file) => {
                let file = file.clone();
                let read = self.pool.run(move || NamenodeConfig::load(&file)).await;
                Some(read.map_err(|error| FsError::new(FsErrorKind::Io, format!("{error:#}")))?)
            }
            None => None,
        };
        take(self, config.as_ref());
        tracing::info!(user = caller.user, operation, "the configuration was read again");
        Ok(())
    }
}

fn check_name(user: &str) -> FsResult<()> {
    if user.is_empty() || user.len() > MAX_PRINCIPAL_BYTES || user.contains('\0') {
        return Err(FsError::invalid_argument(format!(
            "A user name has 1 to {MAX_PRINCIPAL_BYTES} bytes and no NUL"
        )));
    }
    Ok(())
}
