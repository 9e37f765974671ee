//! Which operations stand in the audit log, and under which names: those that HDFS writes.

use std::borrow::Cow;

/// When an operation is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Whenever it was carried out, and when it was denied.
    Always,
    /// Only when it was denied.
    Denied,
    /// Never: it is part of another operation, or the namenode's own.
    Never,
}

/// How an operation is written down.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The value of `cmd=`.
    pub(super) command: Cow<'static, str>,
    pub(super) when: When,
    /// Whether it is about a path. One about the whole cluster has `src=null`.
    pub(super) about_a_path: bool,
}

/// How `operation` is written down. What is not in the table has its own name in Java's manner (`set_owner` is
/// `setOwner`) and is always written.
pub(super) fn named(operation: &str) -> Named {
    let (command, when) = match operation {
        "status" | "file_link_status" => ("getfileinfo", When::Always),
        "located_status" | "locations" => ("open", When::Always),
        "list" | "batched_list" => ("listStatus", When::Always),
        "set_x_attr" | "set_xattr" => ("setXAttr", When::Always),
        "get_x_attrs" | "get_xattrs" => ("getXAttrs", When::Always),
        "list_x_attrs" | "list_xattrs" => ("listXAttrs", When::Always),
        "remove_x_attr" | "remove_xattr" => ("removeXAttr", When::Always),
        "enter_safe_mode" => return cluster("safemode_enter"),
        "leave_safe_mode" => return cluster("safemode_leave"),
        "get_safe_mode" => return cluster("safemode_get"),
        "force_exit_safe_mode" => return cluster("safemode_force_exit"),
        "report" | "datanode_report" => return cluster("datanodeReport"),
        "slow_datanode_report" => return cluster("slowDataNodesReport"),
        "roll_edits" => return cluster("rollEditLog"),
        "restore_failed_storage" => return cluster("checkRestoreFailedStorage"),
        "roll_edit_log"
        | "datanodeReport"
        | "slowDataNodesReport"
        | "getDatanodeStorageReport"
        | "listEncryptionZones"
        | "getErasureCodingPolicies"
        | "getErasureCodingCodecs"
        | "finalizeUpgrade"
        | "save_namespace"
        | "refresh_nodes"
        | "finalize_upgrade"
        | "meta_save"
        | "set_balancer_bandwidth"
        | "balance"
        | "list_open_files" => return cluster_of(operation),
        "is_file_closed" | "recover_lease" | "get_storage_policy" => (operation, When::Denied),
        "format"
        | "add_block"
        | "stage"
        | "drop_staged"
        | "open_lock_session"
        | "close_lock_session"
        | "abandon_block"
        | "complete"
        | "fsync"
        | "update_block_for_pipeline"
        | "update_pipeline"
        | "expire_lease"
        | "commit_block_synchronization"
        | "touch_access_time"
        | "reclaim"
        | "forget_calls"
        | "renew_lease"
        | "report_bad_replicas"
        | "additional_datanode" => (operation, When::Never),
        _ => (operation, When::Always),
    };
    Named { command: in_javas_manner(command), when, about_a_path: true }
}

fn cluster(command: &'static str) -> Named {
    Named { command: command.into(), when: When::Always, about_a_path: false }
}

fn cluster_of(operation: &str) -> Named {
    Named { command: in_javas_manner(operation), when: When::Always, about_a_path: false }
}

/// `set_owner` as `setOwner`.
fn in_javas_manner(name: &str) -> Cow<'static, str> {
    let mut out = String::with_capacity(name.len());
    let mut raise = false;
    for c in name.chars() {
        match c {
            '_' => raise = true,
            c if raise => {
                out.push(c.to_ascii_uppercase());
                raise = false;
            }
            c => out.push(c),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_hdfs() {
        for (operation, command) in [
            ("status", "getfileinfo"),
            ("list", "listStatus"),
            ("locations", "open"),
            ("set_owner", "setOwner"),
            ("set_replication", "setReplication"),
            ("set_times", "setTimes"),
            ("content_summary", "contentSummary"),
            ("check_access", "checkAccess"),
            ("get_acl_status", "getAclStatus"),
            ("set_x_attr", "setXAttr"),
            ("mkdirs", "mkdirs"),
            ("remove_default_acl", "removeDefaultAcl"),
            ("unset_storage_policy", "unsetStoragePolicy"),
            ("quota_usage", "quotaUsage"),
            ("set_space_quota", "setSpaceQuota"),
        ] {
            let named = named(operation);
            assert_eq!((&*named.command, named.when, named.about_a_path), (command, When::Always, true));
        }
        for (operation, command) in [
            ("enter_safe_mode", "safemode_enter"),
            ("report", "datanodeReport"),
            ("meta_save", "metaSave"),
            ("roll_edits", "rollEditLog"),
        ] {
            let named = named(operation);
            assert_eq!((&*named.command, named.about_a_path), (command, false));
        }
        assert_eq!(named("add_block").when, When::Never);
        assert_eq!(named("is_file_closed").when, When::Denied);
    }
}
